"""Arrays of an Orbax checkpoint, read one at a time.

Orbax saves a tree as Zarr arrays, the key of each the names on the way to its leaf joined by dots,
in one OCDBT database or in a folder each. Its own readers open all arrays at once on an event loop
that is closed at the first damaged one: what the others still had to say comes out as tracebacks.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seedmap.errors import UserError
from seedmap.trainer.storage.checkpoints import leaf_name

METADATA = "_METADATA"
ZARR = {".zarray": "zarr", "zarr.json": "zarr3"}
"""File with the shape of an array to TensorStore's driver for it."""
_STORED = ("jax.Array", "np.ndarray", "scalar")  # kinds of leaves that have an array


def open_arrays(folder: Path) -> dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]]:
    """Opens every array of an Orbax checkpoint.

    Args:
        folder: the folder with the checkpoint's `_METADATA`.

    Returns:
        Name of each array to its shape and a function that reads it, with the dtype it has there.

    Raises:
        UserError: the folder is damaged, in TensorStore's words, or lacks an array that its
            `_METADATA` lists; reading an array raises it too, where a part of it is missing.
    """
    import tensorstore

    about = _read_metadata(folder)
    files = {"driver": "file", "path": f"{folder.resolve()}/"}
    database = (folder / "manifest.ocdbt").is_file()
    store = {"driver": "ocdbt", "base": files} if database else files
    # Where parts that hold nothing but zeros were stored too, a part that is missing is lost.
    complete = about.get("store_array_data_equal_to_fill_value") is True
    keys = tensorstore.KvStore.open(store).result().list().result()
    opened = {}
    for name, _, file in sorted(key.decode().rpartition("/") for key in keys):
        if file in ZARR:
            under = name + "/" if database else files["path"] + name + "/"
            spec = {"driver": ZARR[file], "kvstore": store | {"path": under}}
            spec["fill_missing_data_reads"] = not complete
            array = tensorstore.open(spec, open=True).result()
            opened[name] = (tuple(array.shape), lambda array=array: _read(array))
    _check_complete(opened, about)
    return opened


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA
    if not path.is_file():
        raise UserError(f"it has no {METADATA}")
    try:
        about = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
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


def _read(array: Any) -> np.ndarray:
    needed = array.size * array.dtype.numpy_dtype.itemsize
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise UserError(f"{needed / 1e9:.3g} GB, more than the {memory / 1e9:.3g} GB of memory")
    return array.read().result()


def dotted(path: tuple[Any, ...]) -> str:
    """Names the array of a leaf: what its key path (`jax.tree_util`) holds, joined by dots."""
    return ".".join(map(leaf_name, path))
