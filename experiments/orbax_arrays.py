"""Arrays of an Orbax checkpoint, read one at a time.

Orbax saves a tree as Zarr arrays, the key of each the names on the way to its leaf joined by dots,
in one OCDBT database or in a folder each. Its own readers open all arrays at once on an event loop
that is closed at the first damaged one: what the others still had to say comes out as tracebacks.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ZARR = {".zarray": "zarr", "zarr.json": "zarr3"}
"""File with the shape of an array to TensorStore's driver for it."""


def open_arrays(folder: Path) -> dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]]:
    """Opens every array of an Orbax checkpoint.

    Args:
        folder: the folder with the checkpoint's `_METADATA`.

    Returns:
        Name of each array to its shape and a function that reads it, with the dtype it has there.

    Raises:
        ValueError: the folder is damaged, in TensorStore's words; reading an array raises it too.
    """
    import tensorstore

    files = {"driver": "file", "path": f"{folder.resolve()}/"}
    database = (folder / "manifest.ocdbt").is_file()
    store = {"driver": "ocdbt", "base": files} if database else files
    keys = tensorstore.KvStore.open(store).result().list().result()
    opened = {}
    for place, _, file in sorted(key.decode().rpartition("/") for key in keys):
        if file in ZARR:
            under = place + "/" if database else files["path"] + place + "/"
            spec = {"driver": ZARR[file], "kvstore": store | {"path": under}}
            array = tensorstore.open(spec, open=True).result()
            opened[place] = (tuple(array.shape), lambda array=array: array.read().result())
    return opened


def dotted(path: tuple[Any, ...]) -> str:
    """Name of the array of a leaf: what its key path (`jax.tree_util`) holds, joined by dots."""
    return ".".join(
        str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path
    )
