"""Arrays of an Orbax checkpoint, read one at a time.

Orbax saves a tree as Zarr arrays, the key of each the names on the way to its leaf joined by dots,
in one OCDBT database or in a folder each. Its own readers open all arrays at once on an event loop
that is closed at the first damaged one: what the others still had to say comes out as tracebacks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedmap import limits
from seedmap.errors import UserError
from seedmap.trainer.storage.checkpoints import leaf_name

METADATA = "_METADATA"
ZARR = {".zarray": "zarr", "zarr.json": "zarr3"}
"""File with the shape of an array to TensorStore's driver for it."""
_STORED = ("jax.Array", "np.ndarray", "scalar")  # kinds of leaves that have an array


class StoredArray(NamedTuple):
    """An array that is not read yet.

    Attributes:
        shape: of the array.
        dtype: that it has there.
        read: reads it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def open_arrays(folder: Path) -> dict[str, StoredArray]:
    """Opens every array of an Orbax checkpoint.

    Args:
        folder: the folder with the checkpoint's `_METADATA`.

    Returns:
        Name of each array to the array.

    Raises:
        UserError: the folder is damaged, in TensorStore's words, or lacks an array that its
            `_METADATA` lists, or has too many; reading an array raises it too, where a part of it
            is missing.
    """
    import tensorstore

    about = _read_metadata(folder)
    files = {"driver": "file", "path": f"{folder.resolve()}/"}
    database = (folder / "manifest.ocdbt").is_file()
    store = {"driver": "ocdbt", "base": files} if database else files
    # Where parts that hold nothing but zeros were stored too, a part that is missing is lost.
    complete = about.get("store_array_data_equal_to_fill_value") is True
    keys = tensorstore.KvStore.open(store).result().list().result()
    limits.check_count("the folder", sum(key.rpartition(b"/")[2].decode() in ZARR for key in keys))
    opened = {}
    for name, _, file in sorted(key.decode().rpartition("/") for key in keys):
        if file in ZARR:
            under = name + "/" if database else files["path"] + name + "/"
            spec = {"driver": ZARR[file], "kvstore": store | {"path": under}}
            spec["fill_missing_data_reads"] = not complete
            array = tensorstore.open(spec, open=True).result()
            opened[name] = StoredArray(
                tuple(array.shape),
                array.dtype.numpy_dtype,
                lambda array=array: array.read().result(),
            )
    _check_complete(opened, about)
    return opened


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA
    if not path.is_file():
        raise UserError(f"it has no {METADATA}")
    try:
        about = limits.read_json(path)
    except UserError as error:
        raise UserError(f"its {METADATA} is not JSON: {error}") from None
    if not isinstance(about, dict) or not isinstance(about.get("tree_metadata"), dict):
        raise UserError(f"its {METADATA} describes no tree")
    return about


def _check_complete(opened: dict[str, Any], about: dict[str, Any]) -> None:
    """Raises UserError where an array that the metadata list is not there, or none is."""
    for entry in about["tree_metadata"].values():
        try:
            name = ".".join(str(key["key"]) for key in entry["key_metadata"])
            stored = entry["value_metadata"]["value_type"] in _STORED
        except (KeyError, TypeError):
            raise UserError(f"its {METADATA} describes no tree") from None
        if stored and name not in opened:
            raise UserError(f"it has no array {name!r}, which its {METADATA} lists")
    if not opened:
        raise UserError("it has no arrays")


def dotted(path: tuple[Any, ...]) -> str:
    """Names the array of a leaf: what its key path (`jax.tree_util`) holds, joined by dots."""
    return ".".join(map(leaf_name, path))
