"""Text of files, plain or compressed by gzip, never more than `seedmap.limits` allows."""

import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seedmap import limits
from seedmap.errors import UserError, printable
from seedmap.hmm.readers.log import Log

GZIP = ".gz"
_HEAD = 1 << 16  # bytes that are looked at to tell what a file is


def suffix_of(path: Path) -> str:
    """Returns the suffix in lower case, that of the content where the file is compressed."""
    return Path(_uncompressed(path)).suffix.lower()


def stem_of(path: Path) -> str:
    """Returns the name without its suffixes."""
    return Path(_uncompressed(path)).stem


def _uncompressed(path: Path) -> str:
    return path.name[: -len(GZIP)] if path.name.lower().endswith(GZIP) else path.name


def read_text(path: Path) -> str:
    """Returns the text of a file in UTF-8.

    Raises:
        UserError: it is no UTF-8, is damaged, or needs more memory than there is.
    """
    try:
        limits.check_whole(path)
        content = _expanded(path) if path.name.lower().endswith(GZIP) else path.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name another file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason}); save it in UTF-8") from None


def _expanded(path: Path) -> bytes:
    """The content of a compressed file, after which it is clear that it is no bomb."""
    held = path.stat().st_size
    most = limits.most_expanded(held)
    try:
        with gzip.open(path) as file:
            content = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not gzip, or damaged ({error}); compress it anew") from None
    limits.check_expanded(f"{path}: what it holds", len(content), held)
    limits.check_memory(f"{path}: what is read at once", len(content) * limits.TEXT_FACTOR)
    return content


def head(path: Path) -> str:
    """Returns the beginning of a file, or "" where it is no text or cannot be read."""
    try:
        opened = gzip.open if path.name.lower().endswith(GZIP) else open
        with opened(path, "rb") as file:
            return file.read(_HEAD).decode("utf-8-sig", errors="ignore")
    except (OSError, EOFError, zlib.error):
        return ""


def read_csv(path: Path, run: str | None = None) -> Log:
    """Reads a table with a header, its columns separated by commas, or by tabs in a .tsv file.

    Lines before the header that begin with # are passed over, unless the last of them is the
    header, as NumPy writes it. Not by pandas: it fills up short rows without a word.

    Raises:
        UserError: it is empty, is no such table, or a row has not the header's number of cells.
    """
    text = read_text(path)
    delimiter = "\t" if suffix_of(path) == ".tsv" or _is_tabbed(text) else ","
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise UserError(f"{path} cannot be read as CSV ({error}); write it anew") from None
    rows = _without_comments(rows)
    if not rows:
        raise UserError(f"{path} is empty; write a header and a row a record, or remove it")
    (_, header), *body = rows
    other = next((mark for mark in ";|" if len(header) == 1 and mark in header[0]), None)
    if other is not None:
        raise UserError(f"{path}: columns are separated by {other!r}; write it with commas")
    for line, row in body:
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {line} has {len(row)} cells, expected {len(header)} as in the "
                "header; complete the line or remove it"
            )
    cells = [row for _, row in body]
    index = [line for line, _ in body]
    return Log(pd.DataFrame(cells, index, header, dtype=object), str(path), run)


def _is_tabbed(text: str) -> bool:
    """Tells whether the first line that is no comment has tabs and no commas."""
    lines = (line for line in io.StringIO(text) if not line.startswith("#"))
    first = next(lines, "")
    return "\t" in first and "," not in first


def _without_comments(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    comments = [*itertools.takewhile(lambda row: row[1][0].startswith("#"), rows)]
    rest = rows[len(comments) :]
    if comments and rest and len(comments[-1][1]) == len(rest[0][1]) and _all_numbers(rest[0][1]):
        line, (first, *others) = comments[-1]
        return [(line, [first.lstrip("# "), *others]), *rest]
    return rest


def _all_numbers(cells: Sequence[str]) -> bool:
    return all(re.fullmatch(r"\s*[-+]?[\d.]+([eE][-+]?\d+)?\s*|nan|inf", cell) for cell in cells)


def flat(record: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Returns a record with nested objects as dotted names.

    Example:
        >>> flat({"step": 1, "probes": {"grad_norm": 2.0}})
        {'step': 1, 'probes.grad_norm': 2.0}
    """
    flattened: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            flattened |= flat(value, f"{before}{key}.")
        else:
            flattened[f"{before}{key}"] = value
    return flattened


def frame_of(records: Sequence[dict[str, Any]], index: Sequence[int] | None = None) -> pd.DataFrame:
    """Returns records as a frame of raw cells; what a record lacks is None, which is missing."""
    rows = [flat(record) for record in records]
    header = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[row.get(key) for key in header] for row in rows]
    frame = pd.DataFrame(index=range(len(rows)) if index is None else index)
    columns = [
        pd.Series([row[i] for row in cells], frame.index, object) for i in range(len(header))
    ]
    return pd.concat([frame, *columns], axis="columns").set_axis(
        [printable(key) for key in header],
        axis="columns",  # pandas holds no surrogates
    )


def read_json_lines(path: Path, run: str | None = None) -> Log:
    """Reads a file with a JSON object on each line, a record each.

    Raises:
        UserError: a line is not a JSON object, or there is none.
    """
    numbered = [
        (number, _object(path, number, line))
        for number, line in enumerate(read_text(path).split("\n"), 1)  # JSON may hold other ends
        if line.strip()
    ]
    if not numbered:
        raise UserError(f"{path} is empty; write a JSON object a record, or remove it")
    return Log(
        frame_of([record for _, record in numbered], [line for line, _ in numbered]),
        str(path),
        run,
    )


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    """The JSON object of a line."""
    expected = 'expected an object such as {"step": 10, "l2": 3.5}'
    try:
        record = limits.parse_json(line)
    except UserError as error:
        raise UserError(f"{path}, line {number} is not JSON ({error}); {expected}") from None
    if not isinstance(record, dict):
        raise UserError(f"{path}, line {number} holds a {type(record).__name__}, {expected}")
    return record
