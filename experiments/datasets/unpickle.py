"""Arrays and plain containers out of a pickle, with nothing of it executed.

The only place where a pickle is read: CIFAR is published as pickles. A pickle may call whatever
its author likes, so names in it never reach Python's: the few that make an array stand for the
functions below, which keep what they are given, and any other name is refused.
"""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seedmap import limits
from seedmap.errors import UserError

TYPES = {"u1": np.uint8, "i4": np.int32, "i8": np.int64}

UnpicklingError = pickle.UnpicklingError  # for others: no other module imports pickle


class _DType:
    """Stands for `numpy.dtype`; keeps its code, and of the byte order that it is little-endian."""

    def __init__(self, code: Any, *_: Any):
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", "|", b"<", b"|"):
            raise pickle.UnpicklingError(f"an array of byte order {state[1]!r}")


class _Array:
    """Stands for an array until it is known what is in it."""

    def __init__(self, *_: Any):
        self.state: tuple[Any, ...] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_columns, content = state
        self.state = (content, dtype, shape, by_columns)

    def array(self) -> np.ndarray:
        """Returns the array, read-only."""
        content, dtype, shape, by_columns = self.state
        flat = np.frombuffer(content, TYPES[dtype.code])
        return flat.reshape(shape, order="F" if by_columns else "C")


def _from_buffer(content: Any, dtype: _DType, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.state = (content, dtype, shape, order == "F")
    return array


def _encode(text: str, encoding: str) -> bytes:
    """Encodes text to bytes, as Python 3 pickles them for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text to be encoded as {encoding!r}")
    return text.encode("latin1")


ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.multiarray", "_reconstruct"): lambda *_: _Array()
        for core in ("core", "_core")
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Reader(pickle._Unpickler):
    """Reads containers, numbers, strings and what `ADMITTED` stands for.

    It is Python's own in Python: that in C makes room for as many objects as a pickle says it has,
    billions of them.
    """

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Returns the substitute for a name in the pickle."""
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return ADMITTED[module, name]


def read_pickle(path: Path) -> dict[str, Any]:
    """Reads the dict in a pickle of arrays, lists, strings and numbers, of Python 2 or 3.

    Args:
        path: the file.

    Returns:
        Text keys to what is there, arrays as read-only NumPy arrays of bytes or integers.

    Raises:
        UserError: the file is no whole pickle, holds no dict, or anything but the above; nothing
            in it has been executed.
        OSError: it cannot be read.
    """
    limits.check_whole(path, factor=2)
    content = path.read_bytes()
    # A damaged pickle raises whatever its bytes lead to; any of it means the same here.
    try:
        loaded = _Reader(io.BytesIO(content), encoding="bytes").load()
        named = {
            key.decode() if isinstance(key, bytes) else key: value for key, value in loaded.items()
        }
        return {
            key: value.array() if isinstance(value, _Array) else value
            for key, value in named.items()
        }
    # Broad on purpose: of content that is no such dict the unpickler raises anything.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: expected a pickled dict of arrays, lists, strings and numbers, found "
            f"{type(error).__name__}: {reason}"
        ) from None
