"""The table of runs that every reader makes: parsed, sorted, cut where a run diverged, padded.

The 14 metrics of Hu et al. 2023 (arXiv 2308.09543) are known by their names here and by those the
released code gives them.
"""

import numbers
import re
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Real

from seedmap import limits
from seedmap.errors import UserError, nearest, printable
from seedmap.hmm.sequences import Sequences, from_arrays
from seedmap.metric_names import PAPER_METRICS

ALIASES = {
    "variance_lambda": "var_lambda",
    "mean_singular_value": "mean_lambda",
    "var_singular_value": "var_lambda",
}
STEP_COLUMNS = ("step", "epoch")  # the first recorded sorts the rows, as in the code of Hu et al.
MIN_CHECKPOINTS = 2  # a run with one checkpoint has no z-scores
MISSING = {"", "na", "n/a", "#n/a", "null", "none", "<na>"}  # beside "nan", which float() reads
UNNAMED = re.compile(r"(Unnamed: [\d.]+)?")  # the index, as pandas writes and as it reads it


@dataclass(frozen=True, eq=False)
class RunTable:
    """Metrics of several runs, and whatever else was recorded with them.

    Attributes:
        sequences: the raw metrics, not z-scored; NaN = missing value.
        steps: float64 [run, time], step or epoch of each checkpoint, ascending; NaN on padding.
        step_name: the column or dimension `steps` came from, such as "step" or "epoch".
        outcomes: every other numeric column, name -> float64 [run, time]; NaN on padding, where a
            value is missing, and for a run that has no such column.
        cut: run -> first step cut away because a metric is infinite there or stays NaN from
            there on; runs that were left out for it are among them.
    """

    sequences: Sequences
    steps: Float[np.ndarray, "run time"]
    step_name: str
    outcomes: dict[str, Float[np.ndarray, "run time"]]
    cut: dict[str, float]


class Rows(NamedTuple):
    """What messages call the rows of a source.

    Attributes:
        where: the source, such as a file's path.
        word: what one row is called, such as "line".
        numbers: [row], the number or the name of each.
    """

    where: str
    word: str
    numbers: Sequence[int | str]

    def at(self, row: int | np.integer) -> str:
        """Where a row is, such as "runs/3.csv, line 7"."""
        return f"{self.where}, {self.word} {self.numbers[int(row)]}"


class Run(NamedTuple):
    """One run as read, its checkpoints in the order of their steps.

    Attributes:
        name: of the run.
        where: what messages call its source.
        step_name: the column that orders the checkpoints.
        steps: float64 [time], ascending.
        columns: the other numeric columns, float64 [time] each.
        text: for each column that is not numeric, what to say to whoever asks for it.
        unread: names of the columns that nobody asked for.
    """

    name: str
    where: str
    step_name: str
    steps: Real[np.ndarray, " time"]
    columns: dict[str, Real[np.ndarray, " time"]]
    text: dict[str, str]
    unread: tuple[str, ...] = ()


def listed(names: Iterable[Any]) -> str:
    """Up to 20 names, quoted and none of over 100 characters, for a message."""
    names = [repr(str(name)[:100]) for name in names]
    return ", ".join([*names[:20], *(["..."] if len(names) > 20 else [])]) or "none"


def natural(name: str) -> tuple[list[str | int], str]:
    """Sort key: digits compare as numbers, so that seed2 comes before seed10."""
    pieces = re.split("([0-9]+)", name)
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], name


def make_run(
    name: str,
    rows: Rows,
    header: Sequence[str],
    cells: Sequence[Any],
    step: str | None = None,
    kept: Collection[str] | None = None,
) -> Run:
    """Parses the columns of one run and sorts its rows by step.

    Args:
        name: of the run.
        rows: its rows, at least one.
        header: names of the columns; those without a name are ignored.
        cells: for each column its cells, [row], numbers or text.
        step: the column that orders the checkpoints. Default: "step", or else "epoch".
        kept: the columns to read, beside the step. Default: all.

    Returns:
        The run, its name printable, with the paper's metrics under the names used here.

    Raises:
        UserError: there is no row, a name comes twice, a numeric column holds text, or the step
            is missing or comes twice.
    """
    check_rows(rows)
    columns, text, unread = {}, {}, []
    step = None if step is None else _our_name(step)
    asked = None if kept is None else {*map(_our_name, kept), step}
    for column, raw in zip(_canonical(rows.where, header), cells, strict=True):
        if column is None:
            continue
        if asked is not None and column not in asked and column not in STEP_COLUMNS:
            unread.append(column)
            continue
        values, first_text = _numbers(raw)
        if first_text is None:
            columns[column] = values
            continue
        text[column] = (
            f"{rows.at(first_text)}: column {column!r} holds {str(list(raw)[first_text])[:40]!r}, "
            "expected a number; mend it, or leave the cell empty where the value is missing"
        )
        if not np.isnan(values).all():
            raise UserError(text[column])
    step = _step_column(rows.where, [*columns, *text, *unread], step)
    if step in text:
        raise UserError(text[step])
    order = _order(rows, step, columns[step])
    columns = {column: values[order] for column, values in columns.items()}
    steps = columns.pop(step)
    return Run(printable(name), rows.where, step, steps, columns, text, tuple(unread))


def _our_name(name: str) -> str:
    """The name of a column that is used here."""
    name = printable(name)
    return ALIASES.get(name, name)


def check_rows(rows: Rows) -> None:
    """Raises UserError where there are none."""
    if not rows.numbers:
        raise UserError(f"{rows.where} has no rows; write a row a checkpoint, or remove it")


def _canonical(where: str, header: Sequence[str]) -> list[str | None]:
    """Names of the columns by the names used here, printable; None for those without a name."""
    named: dict[str, str] = {}
    canonical: list[str | None] = []
    for raw in map(str.strip, header):
        if UNNAMED.fullmatch(raw):
            canonical.append(None)
            continue
        name = _our_name(raw)
        if name in named:
            raise UserError(
                f"{where}: columns {named[name]!r} and {raw!r} are both {name!r}; remove one"
            )
        named[name] = raw
        canonical.append(name)
    return canonical


def _numbers(cells: Any) -> tuple[np.ndarray, int | None]:
    """Cells as float64 (text as NaN), and the index of the first that is text."""
    if hasattr(cells, "dtype"):  # a list may hold lists, of one length or of several
        array = np.asarray(cells)
        if array.dtype.kind in "biuf":
            return array.astype(np.float64), None
    values = [_number(cell) for cell in cells]
    first_text = next((i for i, value in enumerate(values) if value is None), None)
    return np.array([np.nan if value is None else value for value in values]), first_text


def _number(cell: Any) -> float | None:
    """A cell as a number, NaN where it says that there is none, None where it is text."""
    if isinstance(cell, numbers.Real):
        try:
            return float(cell)
        except OverflowError:  # a whole number above all floats
            return None
    text = str(cell).strip().lower()
    if text in MISSING:
        return np.nan
    if text in ("true", "false"):  # as pandas writes columns of booleans
        return float(text == "true")
    try:
        return float(text)
    except ValueError:
        return None


def _step_column(where: str, columns: list[str], step: str | None) -> str:
    wanted = STEP_COLUMNS if step is None else (step,)
    column = next((name for name in wanted if name in columns), None)
    if column is None:
        raise UserError(
            f"{where} has no column {' or '.join(map(repr, wanted))} but {listed(columns)}"
            f"{_nearest(step, columns) if step else ''}; "
            "name the one that orders the records as the step column"
        )
    return column


def _order(rows: Rows, name: str, steps: np.ndarray) -> np.ndarray:
    """Indices that sort the rows by step."""
    if not np.isfinite(steps).all():
        row = int(np.argmin(np.isfinite(steps)))
        raise UserError(f"{rows.at(row)}: {name!r} is {steps[row]}, expected a number; fill it in")
    order = np.argsort(steps, kind="stable")
    twice = np.flatnonzero(np.diff(steps[order]) == 0)
    if len(twice):
        first, second = order[twice[0]], order[twice[0] + 1]
        raise UserError(
            f"{rows.at(second)}: {name!r} is {steps[second]:.15g} as in {rows.word} "
            f"{rows.numbers[first]}; remove one of the two, or part the runs if they are of two"
        )
    return order


def run_table(runs: Sequence[Run], metrics: Sequence[str] | None) -> RunTable:
    """Chooses the metrics, cuts diverged tails and pads all runs to one length.

    Args:
        runs: as `make_run` makes them.
        metrics: the chosen columns. Default: those of `PAPER_METRICS` that all runs have.

    Returns:
        The table of the runs with at least 2 usable checkpoints.

    Raises:
        UserError: there are no runs, none is usable, a metric is missing, or some runs are
            ordered by step and others by epoch.

    Warns:
        UserWarning: names the runs left out, and the paper's metrics that only some runs have.
    """
    _check_step_names(runs)
    metrics = _shared_metrics(runs) if metrics is None else _chosen_metrics(runs, metrics)
    values = [np.stack([run.columns[name] for name in metrics], axis=1) for run in runs]
    lengths = [_usable_length(array) for array in values]
    _check_usable(runs, lengths)
    kept = [
        (run, array[:length])
        for run, array, length in zip(runs, values, lengths, strict=True)
        if length >= MIN_CHECKPOINTS
    ]
    names = dict.fromkeys(name for run, _ in kept for name in run.columns if name not in metrics)
    limits.check_padding([len(array) for _, array in kept], len(metrics) + len(names) + 1)
    sequences = from_arrays(
        [array for _, array in kept], metrics=metrics, runs=[run.name for run, _ in kept]
    )
    num_steps = sequences.values.shape[1]
    return RunTable(
        sequences=sequences,
        steps=_padded([run.steps[: len(array)] for run, array in kept], num_steps),
        step_name=runs[0].step_name,
        outcomes={
            name: _padded([run.columns.get(name, ())[: len(a)] for run, a in kept], num_steps)
            for name in names
        },
        cut={
            run.name: float(run.steps[length])
            for run, length in zip(runs, lengths, strict=True)
            if length < len(run.steps)
        },
    )


def _check_step_names(runs: Sequence[Run]) -> None:
    if not runs:
        raise UserError("there are no runs to read; give at least one")
    for run in runs:
        if run.step_name != runs[0].step_name:
            raise UserError(
                f"{run.where} is ordered by {run.step_name!r} and {runs[0].where} by "
                f"{runs[0].step_name!r}; give all runs the same column"
            )


def _shared_metrics(runs: Sequence[Run]) -> tuple[str, ...]:
    """The paper's metrics that all runs have; a warning names those that only some have."""
    shared, partly = [], []
    for name in PAPER_METRICS:
        lacking = _lacking(runs, name)
        if not lacking:
            shared.append(name)
        elif len(lacking) < len(runs):
            partly.append(_misses(lacking[0], name, runs))
    if not shared:
        reason = partly[0] if partly else f"{runs[0].where} has {listed(runs[0].columns)}"
        raise UserError(
            f"metrics: no metric of the paper (l1, l2, ...) is in every run: {reason}; name "
            "the columns to use as metrics"
        )
    if partly:
        warnings.warn(f"metrics left out, not in every run: {'; '.join(partly)}", stacklevel=4)
    return tuple(shared)


def _chosen_metrics(runs: Sequence[Run], metrics: Sequence[str]) -> tuple[str, ...]:
    """The metrics asked for, by the names used here, after checking that every run has them."""
    names = tuple(map(_our_name, metrics))
    if not names or len(set(names)) < len(names):
        raise UserError(f"metrics: needs columns, each named once; got {listed(metrics)}")
    known = (*runs[0].columns, *runs[0].unread)
    for name in names:
        lacking = _lacking(runs, name)
        if len(lacking) == len(runs):
            raise UserError(
                f"metrics: no run has a column {name!r}{_nearest(name, known)}; choose among "
                f"{listed(known)}"
            )
        if lacking:
            raise UserError(f"{_misses(lacking[0], name, runs)}; add it there, or rename it")
    return names


def _lacking(runs: Sequence[Run], name: str) -> list[Run]:
    """The runs that lack a column; raises where one has it as text."""
    lacking = [run for run in runs if name not in run.columns]
    for run in lacking:
        if name in run.text:
            raise UserError(run.text[name])
    return lacking


def _misses(run: Run, name: str, runs: Sequence[Run]) -> str:
    """That `run` has no such column, and the column that may be it under a wrong name."""
    model = next(other for other in runs if name in other.columns)
    theirs = {*model.columns, *model.unread}
    unknown = [column for column in (*run.columns, *run.unread) if column not in theirs]
    return f"{run.where} has no column {name!r} as others have{_nearest(name, unknown)}"


def _nearest(name: str, columns: Iterable[str]) -> str:
    near = nearest(name, columns, cutoff=0.0)
    return f" (nearest: {near[0]!r})" if near else ""


def _usable_length(values: np.ndarray) -> int:
    """Checkpoints before a metric of [time, metric] is infinite or stays NaN to the end.

    That is, one more than the index of the last number before the first infinity, at the metric
    where it comes first.
    """
    diverged = np.logical_or.accumulate(np.isinf(values), axis=0)
    number = ~np.isnan(values) & ~diverged
    last = len(values) - np.argmax(number[::-1], axis=0)
    return int(np.where(number.any(axis=0), last, 0).min())


def _check_usable(runs: Sequence[Run], lengths: Sequence[int]) -> None:
    """Names the runs that are too short in a warning; raises where all are."""
    short = [
        f"{run.name} ({length})"
        for run, length in zip(runs, lengths, strict=True)
        if length < MIN_CHECKPOINTS
    ]
    if len(short) == len(runs):
        raise UserError(
            f"metrics: no run has {MIN_CHECKPOINTS} checkpoints at which all are finite; choose "
            "those that every run recorded, or train longer"
        )
    if short:
        warnings.warn(
            f"runs left out, fewer than {MIN_CHECKPOINTS} checkpoints before a metric diverges or "
            f"ends: {', '.join(short)}",
            stacklevel=4,
        )


def _padded(arrays: Sequence[np.ndarray | tuple], num_steps: int) -> np.ndarray:
    """Arrays [time] as rows of one float64 [run, num_steps], NaN after the end of each."""
    table = np.full((len(arrays), num_steps), np.nan)
    for row, array in zip(table, arrays, strict=True):
        row[: len(array)] = array
    return table
