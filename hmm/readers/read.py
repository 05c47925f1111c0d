"""Readers: runs from whatever recorded them, by one route.

read_long(path)     what `readers.kinds` find there, as one long table (`readers.long`)
read_metrics(path)  from there, by `readers.run_table`, to runs at the union of their steps
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seedmap import limits
from seedmap.errors import UserError
from seedmap.hmm.readers.criterion import DEFAULT_ACCURACY, Criterion, parse_criterion
from seedmap.hmm.readers.header import Asked
from seedmap.hmm.readers.kinds import KINDS
from seedmap.hmm.readers.long import LongTable, long_table
from seedmap.hmm.readers.names import listed, our_name
from seedmap.hmm.readers.run_table import RunTable, every, run_table

_DEEPEST = 8  # folders within folders that are looked through
_PERCENT = 1.5  # an accuracy above this is no share


class ReadLog(NamedTuple):
    """What a path holds.

    Attributes:
        table: everything that was logged.
        kind: name of what it was read as.
        others: names of further kinds that are there.
    """

    table: LongTable
    kind: str
    others: tuple[str, ...]


def read_long(path: str | Path, asked: Asked | None = None, kind: str | None = None) -> ReadLog:
    """Reads a file or folder of logs, whatever their kind.

    Args:
        path: a file with all runs, or a folder with a file or a folder for each.
        asked: which columns are what, and which are wanted.
        kind: one of `kinds.KINDS`. Default: what it looks like.

    Raises:
        UserError: there is nothing to read, or a file cannot be understood; the message names the
            file and the line or column, what is expected and what was found.

    Warns:
        UserWarning: other kinds are there, too; or as `long.long_table`.
    """
    path, asked = Path(path), asked or Asked()
    if kind is not None and kind not in KINDS:
        raise UserError(f"kind: {kind!r} is none of {', '.join(KINDS)}")
    if not path.exists():
        raise UserError(f"there is no {path}; name a file or folder of metrics")
    files = [path] if path.is_file() else list(_walk(path))
    limits.check_count(str(path), len(files))
    matches = {name: of.find(path, files) for name, of in KINDS.items() if kind in (None, name)}
    matches = {name: of for name, of in matches.items() if of}
    if not matches:
        raise _nothing(path, files, kind)
    chosen, *others = _unclaimed(matches)
    if others:
        warnings.warn(
            f"{path} is read as {chosen}; it also holds {', '.join(others)}: choose by kind",
            stacklevel=2,
        )
    logs = KINDS[chosen].read(path, matches[chosen])
    if asked.run is not None and logs and all(log.run is not None for log in logs):
        raise UserError(
            f"run: {asked.run!r} is for one long table; {path} is read as {chosen}, a run a file"
        )
    if path.is_file() and len(logs) == 1 and logs[0].run is not None:
        raise UserError(
            f"{path} is of one run; several are wanted: put the logs of all runs in one folder, a "
            "file or folder each, and name that"
        )
    return ReadLog(long_table(logs, asked), chosen, tuple(others))


def _walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    """The files of a folder in order, but hidden ones and what links lead to."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif depth < _DEEPEST and not path.is_symlink():
            yield from _walk(path, depth + 1)


def _unclaimed(matches: Mapping[str, Sequence[Path]]) -> list[str]:
    """The kinds in order that have files of their own: an export of a chart is also a CSV file."""
    claimed: set[Path] = set()
    kinds = []
    for name, files in matches.items():
        if not claimed.issuperset(files):
            kinds.append(name)
        claimed |= set(files)
    return kinds


def _nothing(path: Path, files: Sequence[Path], kind: str | None) -> UserError:
    """What to say where no file is of a kind that is read."""
    if any(file.suffix == ".wandb" for file in files):
        return UserError(
            f"{path} holds W&B's own files; export the runs, or read them in Python with "
            "seedmap.from_wandb(wandb.Api().runs(...))"
        )
    kinds = ", ".join([kind] if kind else KINDS)
    if path.is_file():
        return UserError(f"{path} is none of {kinds}; name a file or folder of these")
    held = listed(sorted(entry.name for entry in path.iterdir()))
    return UserError(
        f"{path} holds no metrics: expected {kinds}, a file or a folder for each run; found {held}"
    )


def criterion_of(
    table: LongTable, converged: str | None = None, threshold: float | None = None
) -> Criterion | None:
    """Returns what convergence is: as asked, or an accuracy above a threshold where one is there.

    Args:
        table: everything that was logged.
        converged: such as "train_loss < 1.6".
        threshold: of the accuracy on examples not trained on. Default: 0.9.

    Returns:
        The criterion; None where nothing is asked for and no such accuracy is recorded.

    Raises:
        UserError: both are given, `converged` is no comparison, or a threshold is given and no
            accuracy is there.

    Warns:
        UserWarning: the accuracy goes above 1, so that no threshold is taken.
    """
    if converged is not None:
        if threshold is not None:
            raise UserError("converged and threshold are both given; leave one")
        asked = parse_criterion(converged)
        return Criterion(our_name(asked.column), asked.compare, asked.value)
    column = table.accuracy
    if column is None:
        if threshold is not None:
            raise UserError(
                f"threshold: no run has an accuracy; name a column as converged, such as "
                f"'train_loss < {threshold:g}', of {listed(table.frame.columns)}"
            )
        return None
    highest = table.frame[column].replace(np.inf, np.nan).max()
    if threshold is None and highest > _PERCENT:
        warnings.warn(
            f"{column!r} goes up to {highest:.4g} and is no share of 1: no convergence is taken "
            f"from it; name it as converged, such as '{column} > 90'",
            stacklevel=2,
        )
        return None
    return Criterion(column, ">", DEFAULT_ACCURACY if threshold is None else threshold)


def asked_of(
    metrics: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    run: str | None = None,
    step: str | None = None,
    converged: str | None = None,
) -> Asked:
    """Returns what is asked of columns; names that are no text count as theirs (0 as "0")."""
    return Asked(
        {str(ours): str(theirs) for ours, theirs in (columns or {}).items()},
        None if run is None else str(run),
        None if step is None else str(step),
        None if metrics is None else list(map(str, metrics)),
        () if converged is None else (parse_criterion(converged).column,),
    )


def read_metrics(
    path: str | Path,
    metrics: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    run: str | None = None,
    step: str | None = None,
    kind: str | None = None,
    interval: float | None = None,
    converged: str | None = None,
    threshold: float | None = None,
) -> RunTable:
    """Reads runs from files, whatever their kind (`readers.kinds`).

    A file holds all runs, told apart by a column; a folder holds a file or a folder for each.
    Columns without a name (pandas writes its index so) and columns of text are ignored. An empty
    cell, NA, null or None is a missing value; a NaN or an infinity that is written is divergence,
    unless a number follows. Rows of one step that do not contradict each other are one record.

    Args:
        path: the file or folder.
        metrics: columns the HMM is to see, by our names; but for them, those of `columns`, losses
            and accuracies nothing is read then. Default: those of `PAPER_METRICS` that all runs
            have.
        columns: our name -> theirs, for columns that are called otherwise there.
        run: of one long table, the column that tells runs apart. Default: "run", "seed" or like.
        step: the column that orders the records. Default: "step", "epoch" or like.
        kind: one of `kinds.KINDS`. Default: what it looks like.
        interval: take one record every so many steps. Default: all.
        converged: when a run has converged, such as "train_loss < 1.6".
        threshold: the same by the accuracy on examples not trained on. Default: 0.9.

    Returns:
        The runs at the union of their steps, cut where they diverged; see `RunTable`.

    Raises:
        UserError: there is nothing to read, or a file cannot be understood; the message names the
            file and the line or column, what is expected and what was found.

    Warns:
        UserWarning: as `read_long` and `run_table`.
    """
    table = read_long(path, asked_of(metrics, columns, run, step, converged), kind).table
    return runs_from(table, metrics, interval, converged, threshold)


def runs_from(
    table: LongTable,
    metrics: Sequence[str] | None = None,
    interval: float | None = None,
    converged: str | None = None,
    threshold: float | None = None,
) -> RunTable:
    """Returns the runs of a long table; arguments as of `read_metrics`."""
    if interval is not None:
        table = every(table, interval)
    metrics = None if metrics is None else list(map(str, metrics))
    return run_table(table, metrics, criterion_of(table, converged, threshold))
