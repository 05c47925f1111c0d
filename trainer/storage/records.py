"""Records on disk: numbered rows of a fixed size with a checksum each, appended as training goes.

A row is its number, the values of all variables and replicas at that record, and the CRC-32 of the
training's id, its part, the number and the values. A file is read up to the first row that is cut
short, damaged, out of its place or of another training: no later one can be told from what a kill,
a second process or a copy has left.
"""

import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from seedmap import files


class RecordLayout(NamedTuple):
    """What a row holds.

    Attributes:
        names: variables, in the order they are written.
        num_replicas: values of each.
        dtype: name of their floating dtype.
    """

    names: tuple[str, ...]
    num_replicas: int
    dtype: str

    @property
    def row(self) -> np.dtype:
        """Describes the row as a structured dtype: number, values [variable, replica], checksum."""
        shape = (len(self.names), self.num_replicas)
        values = ("values", np.dtype(self.dtype).newbyteorder("<"), shape)
        return np.dtype([("number", "<u8"), values, ("crc", "<u4")])


class Records(NamedTuple):
    """A file of records.

    Attributes:
        path: where.
        layout: what a row holds.
        owner: whose rows they are: id of the training and number of the part.
    """

    path: Path
    layout: RecordLayout
    owner: str


def _checksum(row: np.void, owner: str) -> int:
    start = zlib.crc32(owner.encode())
    return zlib.crc32(row["values"].tobytes(), zlib.crc32(row["number"].tobytes(), start))


def append_records(
    records: Records, first: int, new: Sequence[dict[str, Float[np.ndarray, " replica"]]]
) -> None:
    """Appends records and waits until they are on disk.

    Args:
        records: where to.
        first: number of the first of them, from 0.
        new: name to [replica], of each.

    Raises:
        OSError: they cannot be written; the file is left as it was.
    """
    rows = np.zeros(len(new), records.layout.row)
    for number, (row, record) in enumerate(zip(rows, new, strict=True), start=first):
        row["number"] = number
        row["values"] = np.stack([record[name] for name in records.layout.names])
        row["crc"] = _checksum(row, records.owner)
    files.append(records.path, rows.tobytes())


def _rows(records: Records) -> np.ndarray:
    """Returns the complete rows of the file, mapped into memory."""
    layout = records.layout
    count = _size(records) // layout.row.itemsize
    if not count:
        return np.zeros(0, layout.row)
    return np.memmap(records.path, layout.row, "r", shape=(count,))


def _size(records: Records) -> int:
    return records.path.stat().st_size if records.path.exists() else 0


def _is_intact(row: np.void, number: int, owner: str) -> bool:
    return row["number"] == number and row["crc"] == _checksum(row, owner)


def intact_rows(records: Records) -> int:
    """Counts the rows from the start on that are in their place and undamaged.

    Warns:
        UserWarning: the file goes on after them.
    """
    count = 0
    for row in _rows(records):
        if not _is_intact(row, count, records.owner):
            break
        count += 1
    behind = _size(records) - count * records.layout.row.itemsize
    if behind:
        warnings.warn(
            f"{records.path}: the {behind} bytes after its first {count} records are cut short, "
            "damaged, out of their place or of another training; they are not used",
            UserWarning,
            stacklevel=2,
        )
    return count


def keep_rows(records: Records, count: int) -> None:
    """Drops all rows after the first `count`."""
    files.truncate(records.path, count * records.layout.row.itemsize)


def read_records(records: Records) -> dict[str, Float[np.ndarray, "replica record"]]:
    """Reads the rows that `intact_rows` counts as arrays [replica, record] by name.

    Warns:
        UserWarning: as `intact_rows`.
    """
    layout, values = records.layout, _rows(records)["values"][: intact_rows(records)]
    return {
        name: np.ascontiguousarray(values[:, i].T.astype(layout.dtype))
        for i, name in enumerate(layout.names)
    }
