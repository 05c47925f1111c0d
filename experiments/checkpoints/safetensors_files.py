"""Files of safetensors, and what all readers of checkpoints give: tensors, and how each is read."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from seedmap import limits
from seedmap.errors import UserError

SMALL = tuple(
    np.dtype(kind) for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
)
"""Floating numbers that NumPy itself does not have."""
_SAFETENSORS_TYPES = {
    **{f"F{8 * size}": f"f{size}" for size in (2, 4, 8)},
    **dict(zip(("BF16", "F8_E4M3", "F8_E5M2"), SMALL, strict=True)),
    **{f"{kind.upper()}{8 * size}": f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)},
    "BOOL": "?",
}
_LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the format's own library."""


class Tensor(NamedTuple):
    """A tensor that is not read yet: its shape, and the bytes of an entry."""

    shape: tuple[int, ...]
    itemsize: int


class Opened(NamedTuple):
    """A checkpoint of any format.

    Attributes:
        tensors: what it holds, by name.
        read: reads the tensor of a name.
        tied: name of a tensor that is stored once with others -> the first name of it.
        absent: name of a tensor that an index lists and no file holds -> what to say of it.
    """

    tensors: Mapping[str, Tensor]
    read: Callable[[str], np.ndarray]
    tied: Mapping[str, str] = MappingProxyType({})
    absent: Mapping[str, str] = MappingProxyType({})


class _Place(NamedTuple):
    """Where a tensor is among the data of a .safetensors file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int


def damaged(path: Path, expected: str, actual: str) -> UserError:
    """Returns the error of a file that is not as its format has it."""
    return UserError(f"{path} is damaged: expected {expected}, found {actual}; copy it anew")


def open_safetensors(path: Path) -> Opened:
    """Opens a file of which the header says, in JSON, where in it each tensor is.

    Raises:
        UserError: it is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise damaged(path, f"a header of {length} bytes", f"{size} bytes in all")
        if length > _LONGEST_HEADER:
            raise damaged(path, f"a header of at most {_LONGEST_HEADER} bytes", str(length))
        header = file.read(length)
    try:
        entries = dict(limits.parse_json(header.decode()))
        entries.pop("__metadata__", None)
        limits.check_count("the header", len(entries))
        places = {name: _place(name, entry) for name, entry in entries.items()}
    except (ValueError, TypeError) as error:
        raise damaged(path, "a JSON header of tensors", str(error)) from None
    end = 0
    for name, place in sorted(places.items(), key=lambda item: item[1].begin):
        if place.begin != end:
            raise damaged(path, f"{name!r} at {end}, where another ends", str(place.begin))
        end += limits.size_of(place.shape, place.dtype.itemsize)
    if size != 8 + length + end:
        raise damaged(path, f"{8 + length + end} bytes", f"{size}")

    def read(name: str) -> np.ndarray:
        dtype, shape, begin = places[name]
        count = math.prod(shape)
        return np.fromfile(path, dtype, count, offset=8 + length + begin).reshape(shape)

    tensors = {name: Tensor(at.shape, at.dtype.itemsize) for name, at in places.items()}
    return Opened(tensors, read)


def _place(name: str, entry: Any) -> _Place:
    """Returns what the header of a .safetensors file says of a tensor.

    Raises:
        UserError: it is not as the format has it.
    """
    try:
        code, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        valid = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        valid = False
    if not valid:
        raise UserError(f"no dtype, shape and data_offsets (whole numbers) of {name!r}")
    if not isinstance(code, str) or code not in _SAFETENSORS_TYPES:
        raise UserError(
            f"{name!r} of dtype {code!r}, which is none of {', '.join(_SAFETENSORS_TYPES)}"
        )
    dtype = np.dtype(_SAFETENSORS_TYPES[code]).newbyteorder("<")
    if limits.size_of(tuple(shape), dtype.itemsize) != end - begin:
        raise UserError(f"{name!r} of {code} {shape} in {end - begin} bytes")
    return _Place(dtype, tuple(shape), begin)
