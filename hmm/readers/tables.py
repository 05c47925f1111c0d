"""Tables in files, as columns of raw cells: CSV, JSON lines, and the frames that other code holds.

A table may hold one run or several, told apart by a column, and may call its columns otherwise than
this package does. What comes out are the `Run`s that `run_table` goes on with.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seedmap import limits
from seedmap.errors import UserError, nearest
from seedmap.hmm.readers.run_table import Rows, Run, check_rows, listed, make_run
from seedmap.metric_names import OUTCOMES

RUN_COLUMNS = ("run", "seed")  # the first that is there tells the runs of one table apart
_NEAREST = 3  # names offered in place of one that is not there


class Table(NamedTuple):
    """A table as read.

    Attributes:
        rows: what messages call its rows.
        header: names of the columns.
        cells: for each column its cells, [row].
    """

    rows: Rows
    header: Sequence[str]
    cells: Sequence[Sequence[Any]]


def renamed(where: str, header: Sequence[Any], columns: Mapping[str, str] | None) -> list[str]:
    """The header with the columns by our names.

    Args:
        where: what messages call the source.
        header: names of the columns, as they are there.
        columns: our name -> theirs; the others keep their names.

    Raises:
        UserError: there is no such column, one is given two names, or a name that is taken.
    """
    header = [str(name).strip() for name in header]
    ours: dict[str, str] = {}
    for name, theirs in (columns or {}).items():
        if theirs not in header:
            raise UserError(
                f"{where} has no column {theirs!r}, which is to be {name!r}; "
                f"{_nearest(theirs, header)}"
            )
        if theirs in ours:
            raise UserError(
                f"column {theirs!r} is to be both {ours[theirs]!r} and {name!r}; leave one"
            )
        if name in header and name not in (columns or {}).values():
            raise UserError(
                f"{where}: column {theirs!r} is to be {name!r}, but there is a column {name!r} "
                f"already; give that another name (other_{name}={name})"
            )
        ours[theirs] = name
    return [ours.get(name, name) for name in header]


def _nearest(name: str, header: Sequence[str]) -> str:
    near = nearest(name, header, _NEAREST, cutoff=0.0)
    return f"nearest are {listed(near)} of {listed(header)}"


def single_run(
    name: str,
    table: Table,
    metrics: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    step: str | None = None,
) -> Run:
    """The run that a whole table is; see `make_run`."""
    header = renamed(table.rows.where, table.header, columns)
    kept = kept_names(table.rows.where, header, metrics, columns)
    return make_run(name, table.rows, header, table.cells, step, kept)


def kept_names(
    where: str,
    header: Sequence[str],
    metrics: Sequence[str] | None,
    columns: Mapping[str, str] | None,
) -> set[str] | None:
    """Names of the columns to read: those asked for and known outcomes; None: all there are.

    Args:
        where: what messages call the source.
        header: names of the columns.
        metrics: that are asked for; None: none in particular.
        columns: our name -> theirs, which asks for them too.

    Raises:
        UserError: none are asked for, and there are too many to read all.
    """
    if metrics is not None:
        return {*metrics, *OUTCOMES, *(columns or {})}
    if len(header) > limits.MOST_COLUMNS:
        raise UserError(
            f"metrics: {where} has {len(header)} columns, more than {limits.MOST_COLUMNS}; name "
            "those to use as metrics"
        )
    return None


def several_runs(
    table: Table,
    metrics: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    run: str | None = None,
    step: str | None = None,
) -> list[Run]:
    """The runs of one long table, in the order in which they first appear.

    Args:
        table: as read.
        metrics: columns that are asked for; see `kept_names`.
        columns: our name -> theirs.
        run: the column that tells runs apart. Default: "run", or else "seed".
        step: the column that orders the checkpoints.

    Raises:
        UserError: the table has no such column, a row does not say its run, there are too many
            runs, or as `make_run`.
    """
    header = renamed(table.rows.where, table.header, columns)
    column = _run_column(table.rows.where, header, run)
    check_rows(table.rows)
    rows_of: dict[str, list[int]] = {}
    for row, cell in enumerate(table.cells[column]):
        name = "" if cell is None else str(cell).strip()
        if not name:
            raise UserError(f"{table.rows.at(row)}: no {header[column]!r}; name the row's run")
        rows_of.setdefault(name, []).append(row)
    by = f"{table.rows.where}, by its column {header[column]!r},"
    limits.check_count(by, len(rows_of), limits.MOST_RUNS)
    others = [i for i in range(len(header)) if i != column]
    names = [header[i] for i in others]
    kept = kept_names(table.rows.where, header, metrics, columns)
    return [
        make_run(
            name,
            Rows(
                f"{table.rows.where}, run {name}",
                table.rows.word,
                [table.rows.numbers[i] for i in rows],
            ),
            names,
            [[table.cells[i][row] for row in rows] for i in others],
            step,
            kept,
        )
        for name, rows in rows_of.items()
    ]


def _run_column(where: str, header: Sequence[str], run: str | None) -> int:
    wanted = RUN_COLUMNS if run is None else (run,)
    name = next((label for label in wanted if label in header), None)
    if name is None:
        raise UserError(
            f"run: {where} has no column {' or '.join(map(repr, wanted))} to tell its runs apart; "
            f"{_nearest(wanted[0], header)}: name the one that does"
        )
    if list(header).count(name) > 1:
        raise UserError(f"{where}: column {name!r} comes twice; remove one")
    return list(header).index(name)


def csv_table(path: Path) -> Table:
    """A CSV file with a header.

    Raises:
        UserError: it is empty, is not CSV in UTF-8 with commas, or a row has not the header's
            number of cells.
    """
    lines = csv_lines(path)
    if not lines:
        raise UserError(f"{path} is empty; write a header and a row a checkpoint, or remove it")
    (_, header), *body = lines
    other = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
    if other is not None:
        raise UserError(f"{path}: columns are separated by {other!r}; write it with commas")
    for line, row in body:
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {line} has {len(row)} cells, expected {len(header)} as in the "
                "header; complete the line or remove it"
            )
    rows = Rows(str(path), "line", [line for line, _ in body])
    cells = [*zip(*(row for _, row in body), strict=True)] if body else [()] * len(header)
    return Table(rows, header, cells)


def csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Line number (where a row ends, from 1) and cells of every row that is not blank."""
    try:
        limits.check_whole(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            return [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text ({error.reason}); save it as CSV in UTF-8"
        ) from None
    except (csv.Error, OSError) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}); write it anew") from None


def json_lines_table(path: Path) -> Table:
    """A file with a JSON object on each line, a checkpoint each; a key a line lacks is missing.

    Raises:
        UserError: a line is not a JSON object, or there is none.
    """
    records = _json_lines(path)
    if not records:
        raise UserError(f"{path} is empty; write a JSON object a checkpoint, or remove it")
    header = list(dict.fromkeys(key for _, record in records for key in record))
    cells = [[record.get(key) for _, record in records] for key in header]
    return Table(Rows(str(path), "line", [line for line, _ in records]), header, cells)


def _json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and object of every line that is not blank."""
    limits.check_whole(path)
    try:
        lines = path.read_text("utf-8-sig").split("\n")  # JSON may hold other line ends
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason}); save it in UTF-8") from None
    return [
        (number, _object(path, number, line))
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    """The JSON object of a line."""
    try:
        record = limits.parse_json(line)
    except UserError as error:
        raise UserError(
            f"{path}, line {number} is not JSON ({error}); expected an object such as "
            '{"step": 10, "l2": 3.5}'
        ) from None
    if not isinstance(record, dict):
        raise UserError(
            f"{path}, line {number} holds a {type(record).__name__}, expected an object such as "
            '{"step": 10, "l2": 3.5}'
        )
    return record
