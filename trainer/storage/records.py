"""Records on disk: fixed-size rows with a checksum each, appended as training goes.

A row is the values of all variables and replicas at one record, then the CRC-32 of these bytes. A
process that is killed while it appends leaves a row cut short, which `intact_rows` does not count.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

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
        """The row as a structured dtype: values [variable, replica] and checksum."""
        shape = (len(self.names), self.num_replicas)
        return np.dtype([("values", np.dtype(self.dtype).newbyteorder("<"), shape), ("crc", "<u4")])


def append_records(
    path: Path, layout: RecordLayout, records: Sequence[dict[str, np.ndarray]]
) -> None:
    """Appends records (name to [replica]) and waits until they are on disk.

    Raises:
        OSError: they cannot be written; the file is left as it was.
    """
    rows = np.zeros(len(records), layout.row)
    for row, record in zip(rows, records, strict=True):
        row["values"] = np.stack([record[name] for name in layout.names])
        row["crc"] = zlib.crc32(row["values"].tobytes())
    files.append(path, rows.tobytes())


def _rows(path: Path, layout: RecordLayout) -> np.ndarray:
    """Returns the complete rows of the file, mapped into memory."""
    size = path.stat().st_size if path.exists() else 0
    count = size // layout.row.itemsize
    return np.memmap(path, layout.row, "r", shape=(count,)) if count else np.zeros(0, layout.row)


def intact_rows(path: Path, layout: RecordLayout) -> int:
    """Counts the rows from the start on whose checksums are right."""
    rows = _rows(path, layout)
    for index, row in enumerate(rows):
        if zlib.crc32(row["values"].tobytes()) != row["crc"]:
            return index
    return len(rows)


def keep_rows(path: Path, layout: RecordLayout, count: int) -> None:
    """Drops all rows after the first `count`."""
    files.truncate(path, count * layout.row.itemsize)


def read_records(path: Path, layout: RecordLayout) -> dict[str, np.ndarray]:
    """Reads all rows as arrays [replica, record] by name."""
    values = _rows(path, layout)["values"]
    return {
        name: np.ascontiguousarray(values[:, i].T.astype(layout.dtype))
        for i, name in enumerate(layout.names)
    }
