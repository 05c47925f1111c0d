"""Limits on what is read of a file, checked before it is read: no file takes the machine's memory.

check_whole(path)                          # a file that is read at once
check_expanded(what, declared, held)       # what a header declares, against the file and memory
read_json(path), parse_json(text)          # depth and magnitude bounded
check_archive(zip), check_hdf5(path)       # the entries of an .npz, the variables of a NetCDF file

Every function raises a `UserError` whose message says what is too much; the caller names the file
where the function does not know it.
"""

import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seedmap.errors import UserError

MOST_RATIO = 200
"""Bytes that a byte of a compressed file may stand for; deflate's own most is 1032."""
FREE = 64 << 20
"""Bytes that any file may expand to, whatever the ratio: an array of zeros is no bomb."""
TEXT_FACTOR = 20
"""Bytes of memory that a byte of text takes as Python's objects."""
MOST_COLUMNS = 1000
"""Columns of a table, or variables of a dataset, that are read without being named."""
MOST_TENSORS = 50_000
MOST_RUNS = 20_000
"""Runs that are read of one source: a map is of seeds, and a table by mistake of every record."""
MOST_PADDING = 20
"""Times what runs hold that they may take once all are as long as the longest."""
LONGEST_NAME = 1000
MOST_DEPTH = 50
MOST_DIGITS = 300
"""Digits of a whole number in JSON: any float64 has fewer before its point."""


def memory() -> int:
    """Returns the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def size_of(shape: tuple[int, ...], itemsize: int) -> int:
    """Returns the bytes of an array, as a whole number without overflow."""
    return math.prod(map(int, shape)) * itemsize


def check_memory(what: str, needed: int) -> None:
    """Raises UserError where something needs more bytes than the machine has."""
    if needed > memory():
        raise UserError(
            f"{what} needs {_gigabytes(needed)}, more than the {_gigabytes(memory())} of memory "
            "here; check the file, or take a larger machine"
        )


def most_expanded(held: int) -> int:
    """Returns the bytes that a compressed file of `held` bytes may have in memory."""
    return min(memory(), max(FREE, MOST_RATIO * held))


def check_expanded(what: str, declared: int, held: int) -> None:
    """Checks what a compressed or sparse file declares.

    Args:
        what: is declared, for the message.
        declared: bytes that it is to have in memory.
        held: bytes of the file.

    Raises:
        UserError: it is more than `MOST_RATIO` times the file, or than the memory.
    """
    check_memory(what, declared)
    if declared > most_expanded(held):
        raise UserError(
            f"{what} is declared to have {_gigabytes(declared)}, more than the {held} bytes of "
            "the file can hold; copy it anew, or write it without compression"
        )


def check_whole(path: Path, factor: int = TEXT_FACTOR) -> None:
    """Raises UserError where a file is too large to be read at once.

    Args:
        path: the file.
        factor: bytes of memory for each of its bytes.
    """
    check_memory(f"{path}: what is read at once", path.stat().st_size * factor)


def check_count(what: str, count: int, most: int = MOST_TENSORS) -> None:
    """Raises UserError where there are more tensors, or columns, than can be gone through."""
    if count > most:
        raise UserError(f"{what} holds {count}, at most {most} are read; divide it")


def check_padding(lengths: Sequence[int], num_columns: int) -> None:
    """Raises UserError where one run is so much longer than the others that most is padding.

    Args:
        lengths: records of each run.
        num_columns: float64 numbers of each record.
    """
    shape = (len(lengths), max(lengths), num_columns)
    needed, held = size_of(shape, 8), size_of((sum(lengths), num_columns), 8)
    if needed > max(FREE, MOST_PADDING * held):
        raise UserError(
            f"one run has {max(lengths)} records and half of the {len(lengths)} runs at most "
            f"{int(np.median(lengths))}: as long as that all would need {_gigabytes(needed)}; "
            "leave that run out, or check which column tells the runs apart"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size < 1e300 else "over 1e291 GB"


def read_json(path: Path) -> Any:
    """Reads a JSON file in UTF-8.

    Raises:
        UserError: as `parse_json`, or it is too large or no UTF-8.
        OSError: it cannot be read.
    """
    check_whole(path)
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"it is not UTF-8 text: {error.reason}") from None
    return parse_json(text)


def parse_json(text: str) -> Any:
    """Parses JSON.

    Raises:
        UserError: it is none, is nested more than `MOST_DEPTH` deep, or holds a whole number of
            more than `MOST_DIGITS` digits.
    """
    try:
        content = json.loads(text, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise UserError(f"{line}column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise _too_deep() from None
    level = _containers([content])
    for _ in range(MOST_DEPTH):
        if not level:
            return content
        level = _containers(entry for inner in level for entry in _entries(inner))
    raise _too_deep()


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise UserError(f"a whole number of {len(digits)} digits, at most {MOST_DIGITS} are read")
    return int(digits)


def _too_deep() -> UserError:
    return UserError(f"it is nested more than {MOST_DEPTH} deep")


def _containers(values: Any) -> list[dict | list]:
    return [value for value in values if isinstance(value, dict | list)]


def _entries(container: dict | list) -> Any:
    return container.values() if isinstance(container, dict) else container


def check_archive(archive: zipfile.ZipFile, held: int) -> None:
    """Checks the entries of an .npz file.

    Args:
        archive: the open file.
        held: its bytes.

    Raises:
        UserError: one is encrypted or too large for the memory, there are too many, or all
            together are more than the file can hold.
    """
    entries = archive.infolist()
    check_count("the archive", len(entries))
    for entry in entries:
        if entry.flag_bits & 1:
            raise UserError(f"{entry.filename!r} is encrypted; write it without a password")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(f"{entry.filename!r} is not compressed as NumPy does; save it anew")
        check_memory(repr(entry.filename), entry.file_size)
    check_expanded("all arrays together", sum(entry.file_size for entry in entries), held)


def npy_header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype]:
    """Reads shape and dtype of an array in an .npz file.

    Raises:
        UserError: it holds Python objects, or the archive's entry is not as large as the header
            says.
        ValueError, EOFError, zipfile.BadZipFile: it is no array.
    """
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if version > (1, 0):
            read = np.lib.format.read_array_header_2_0
        try:
            shape, _, dtype = read(file)
        except (RecursionError, MemoryError, TypeError, OverflowError) as error:
            raise UserError(f"the header of {member!r} is {type(error).__name__}") from None
        start = file.tell()
    size, declared = archive.getinfo(member).file_size, size_of(shape, dtype.itemsize)
    if dtype.hasobject:
        raise UserError(f"{member.removesuffix('.npy')!r} holds Python objects; save numbers alone")
    if min(shape, default=0) < 0 or size - start != declared:
        raise UserError(f"{member!r} is declared to be {dtype} {list(shape)}, but has {size} bytes")
    return shape, dtype


def check_hdf5(path: Path) -> None:
    """Checks the variables of a NetCDF 4 file.

    A link to another place is refused, and so is what is stored outside of the file: it would read
    any file of the user's.

    Raises:
        UserError: that, there are too many variables, or they are more than the file can hold.
        OSError: it is no HDF5.
    """
    import h5py

    held, declared = path.stat().st_size, 0
    with h5py.File(path, "r") as file:
        check_count("the file", len(file), 2 * MOST_COLUMNS)
        for name in file:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise UserError(f"{name!r} is a link to another place, which is not followed")
            variable = file.get(name)
            if isinstance(variable, h5py.Dataset):
                declared += _declared(name, variable, held)
                declared = _with_attributes(repr(name), variable.attrs, declared, held)
        _with_attributes("the file", file.attrs, declared, held)


def _declared(name: str, variable: Any, held: int) -> int:
    """Returns the bytes of an HDF5 dataset in memory."""
    import h5py

    if variable.is_virtual or variable.external:
        raise UserError(f"{name!r} is stored in another file, which is not read")
    size = size_of(variable.shape or (), variable.dtype.itemsize)
    check_expanded(repr(name), size, held)
    if variable.dtype.kind != "O":
        return size
    if h5py.check_string_dtype(variable.dtype) is None:
        raise UserError(f"{name!r} holds neither numbers nor text")
    for text in _strings(variable):  # of any length: one after the other
        size += len(text)
        check_expanded(repr(name), size, held)
    return size


def _strings(variable: Any) -> Iterator[bytes]:
    if variable.ndim == 0:
        yield variable[()]
    else:
        for row in variable:
            yield from (row.ravel() if isinstance(row, np.ndarray) else [row])


def _with_attributes(of: str, attributes: Any, declared: int, held: int) -> int:
    """Adds the bytes of attributes, one after the other, to those declared before."""
    check_count(f"{of}, its attributes,", len(attributes), MOST_COLUMNS)
    for name in attributes:
        declared += _attribute_size(f"attribute {name!r} of {of}", name, attributes, held)
        check_expanded("what it holds", declared, held)
    return declared


def _attribute_size(what: str, name: str, attributes: Any, held: int) -> int:
    """Returns the bytes of an HDF5 attribute in memory."""
    attribute = attributes.get_id(name)
    count = size_of(attribute.shape or (), 1)
    if not _is_varying(attribute.dtype):
        return count * attribute.dtype.itemsize
    check_expanded(what, count * held, held)  # each may be all that the file holds
    entries = np.ravel(np.asarray(attributes[name], dtype=object))
    if not all(hasattr(entry, "__len__") for entry in entries):
        raise UserError(f"{what} holds neither numbers nor text")
    return sum(map(len, entries))


def _is_varying(dtype: np.dtype) -> bool:
    """Tells whether entries of an HDF5 type are stored elsewhere, at any length each."""
    import h5py

    if dtype.names is not None:
        return any(_is_varying(dtype[name]) for name in dtype.names)
    text = h5py.check_string_dtype(dtype)
    return h5py.check_vlen_dtype(dtype) is not None or (text is not None and text.length is None)


def check_tensors(path: Path, tensors: Mapping[str, tuple[tuple[int, ...], int]]) -> None:
    """Checks the tensors of a checkpoint.

    Args:
        path: its file or folder.
        tensors: name -> shape and bytes of an entry.

    Raises:
        UserError: there are too many, one is too large for the memory as float32 and as it is, or
            all together are more than the files can hold.
    """
    check_count(str(path), len(tensors))
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    held = sum(file.stat().st_size for file in files)
    declared = 0
    for name, (shape, itemsize) in tensors.items():
        if len(name) > LONGEST_NAME:
            raise UserError(f"{path}: the name {name[:40]!r}... is {len(name)} characters long")
        if any(length < 0 for length in shape):
            raise UserError(f"{path}: {name!r} has a negative length: {list(shape)}")
        check_memory(f"{path}: {name!r}", size_of(shape, itemsize + 4))
        declared += size_of(shape, itemsize)
    check_expanded(f"{path}: all tensors together", declared, held)
