"""Which column of a log is the run, which the step, and which are wanted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from seedmap import limits
from seedmap.errors import UserError, nearest
from seedmap.hmm.readers.cells import parse
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.names import (
    ACCURACY_NAMES,
    RUN_NAMES,
    STEP_NAMES,
    UNNAMED,
    first_of,
    listed,
    nearest_of,
    our_name,
    plain,
)
from seedmap.metric_names import OUTCOMES

_NEAREST = 3  # names offered in place of one that is not there
_KEPT_WORDS = {"loss", "acc", "accuracy"}  # of names that are kept though others are asked for


@dataclass(frozen=True)
class Asked:
    """What is asked of the columns of logs.

    Attributes:
        columns: our name -> theirs, for columns that are called otherwise there.
        run: the column that tells runs apart. Default: the first of `RUN_NAMES`.
        step: the column that orders the records. Default: the first of `STEP_NAMES`.
        metrics: columns that are asked for; with them only these, those of `columns` and `also`,
            losses, accuracies and epochs are read. Default: all.
        also: further columns that are asked for.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None
    step: str | None = None
    metrics: Sequence[str] | None = None
    also: Sequence[str] = ()

    @property
    def wanted(self) -> set[str]:
        """Names of the columns that are asked for, by the names used here."""
        return set(map(our_name, (*(self.metrics or ()), *self.columns, *self.also)))


@dataclass(frozen=True)
class Header:
    """The columns of a log.

    Attributes:
        run: name of the column that tells runs apart, None where the log is one run's.
        run_column: its position.
        step: name of the column that orders the records.
        step_column: its position.
        columns: name -> position of the columns to read.
        unread: names of the others.
    """

    run: str | None
    run_column: int | None
    step: str
    step_column: int
    columns: Mapping[str, int]
    unread: tuple[str, ...]


def read_header(log: Log, asked: Asked) -> Header:
    """Finds out which column is what.

    Raises:
        UserError: there is no row, a name comes twice, nothing tells the runs apart, there is no
            column of steps, or there are too many to read all.
    """
    if not len(log.frame):
        raise UserError(f"{log.where} has no rows; write a row a record, or remove it")
    raw = [str(name).strip() for name in log.frame.columns]
    header = _renamed(log.where, raw, asked.columns)
    names = _positions(log.where, header)
    run = None if log.run is not None else _run_column(log, names, asked.run)
    others = {name: i for name, i in names.items() if name != run}
    step, position = _step_column(log, raw, others, asked.step, run)
    rest = {name: i for name, i in others.items() if i != position}
    kept = _kept(log.where, rest, asked)
    unread = tuple(name for name in rest if name not in kept)
    run_column = None if run is None else names[run]
    return Header(run, run_column, step, position, kept, unread)


def _renamed(where: str, header: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """The header with the columns by our names."""
    ours: dict[str, str] = {}
    for name, theirs in columns.items():
        if theirs not in header:
            near = nearest(theirs, header, _NEAREST, cutoff=0.0)
            raise UserError(
                f"{where} has no column {theirs!r}, which is to be {name!r}; nearest are "
                f"{listed(near)} of {listed(header)}"
            )
        if theirs in ours:
            raise UserError(
                f"column {theirs!r} is to be both {ours[theirs]!r} and {name!r}; leave one"
            )
        if name in header and name not in columns.values():
            raise UserError(
                f"{where}: column {theirs!r} is to be {name!r}, but there is a column {name!r} "
                f"already; give that another name (other_{name}={name})"
            )
        ours[theirs] = name
    return [ours.get(name, name) for name in header]


def _positions(where: str, header: Sequence[str]) -> dict[str, int]:
    """Position of each column by the name used here; those without a name are left out."""
    positions: dict[str, int] = {}
    for i, raw in enumerate(header):
        if UNNAMED.fullmatch(raw):
            continue
        name = our_name(raw)
        if name in positions:
            both = f"{header[positions[name]]!r} and {raw!r}"
            raise UserError(f"{where}: columns {both} are both {name!r}; remove one")
        positions[name] = i
    return positions


def _run_column(log: Log, names: Mapping[str, int], run: str | None) -> str:
    if run is not None:
        name = our_name(run)
        if name not in names:
            near = nearest(name, names, _NEAREST, cutoff=0.0)
            raise UserError(
                f"run: {log.where} has no column {run!r}; nearest are {listed(near)} of "
                f"{listed(names)}: name the one that tells its runs apart"
            )
        return name
    column = first_of(RUN_NAMES, names)
    if column is None:
        raise UserError(
            f"run: {log.where} is of one run, or nothing tells its runs apart: it has no column "
            f"'run' or 'seed' but {listed(names)}. Several runs are wanted: put a file of each "
            "in a folder and name that, or name the column that tells them apart"
        )
    return column


def _step_column(
    log: Log, raw: Sequence[str], names: Mapping[str, int], step: str | None, run: str | None
) -> tuple[str, int]:
    """Name and position of the column that orders the records."""
    if step is not None:
        name = our_name(step)
        if name in names:
            return name, names[name]
        raise UserError(
            f"{log.where} has no column {step!r} but {listed(names)}{nearest_of(name, names)}; "
            "name the one that orders the records as the step column"
        )
    column = first_of(STEP_NAMES, names)
    if column is not None:
        return column, names[column]
    if raw and UNNAMED.fullmatch(raw[0]) and _counts(log, run):
        return "step", 0
    raise UserError(
        f"{log.where} has no column 'step' or 'epoch' but {listed(names)}; name the one that "
        "orders the records as the step column"
    )


def _counts(log: Log, run: str | None) -> bool:
    """Tells whether the first column, which has no name, may be the step: an index, of one run."""
    values = parse(log.frame.iloc[:, 0]).values
    return run is None and bool((np.diff(values) > 0).all())


def _kept(where: str, names: Mapping[str, int], asked: Asked) -> dict[str, int]:
    """The columns to read: those asked for, losses and accuracies; all where none are named."""
    if asked.metrics is None:
        if len(names) > limits.MOST_COLUMNS:
            raise UserError(
                f"metrics: {where} has {len(names)} columns, more than {limits.MOST_COLUMNS}; "
                "name those to use as metrics"
            )
        return dict(names)
    kept = asked.wanted | {*OUTCOMES, *ACCURACY_NAMES, "step", "epoch"}
    return {
        name: i
        for name, i in names.items()
        if name in kept or _KEPT_WORDS & set(plain(name).split("_"))
    }
