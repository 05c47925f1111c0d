"""The one long table that every source becomes: a row a run and step, a column a metric.

`long_table` takes the logs that the kinds have read (`readers.kinds`), finds out which columns are
the run and the step, parses the rest, and merges rows of one step; `readers.run_table` goes on from
there.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from seedmap import limits
from seedmap.errors import UserError, printable
from seedmap.hmm.readers.cells import is_missing, parse
from seedmap.hmm.readers.header import Asked, Header, read_header
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.names import ACCURACY_NAMES, first_of, is_clock, plain
from seedmap.metric_names import OUTCOMES, PAPER_METRICS


@dataclass(frozen=True, eq=False)
class LongTable:
    """Everything that was logged of several runs.

    Attributes:
        frame: float64; the index is (run, step), runs in their order, steps rising within each;
            NaN where nothing was logged, infinite where a run is no longer finite.
        step_name: the column that the steps came from.
        run_column: the column that tells the runs apart; None where each has a log of its own.
        where: run -> what messages call its source.
        text: run -> column that is not numeric -> what to say to whoever asks for it.
        unread: run -> names of its columns that nobody asked for.
    """

    frame: pd.DataFrame
    step_name: str
    run_column: str | None
    where: Mapping[str, str]
    text: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unread: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def runs(self) -> list[str]:
        """Names of the runs."""
        return [str(name) for name in self.frame.index.levels[0]]

    @cached_property
    def codes(self) -> Int[np.ndarray, " row"]:
        """The run of each row, as its position in `runs`."""
        return np.asarray(self.frame.index.codes[0], int)

    @cached_property
    def steps(self) -> Float[np.ndarray, " row"]:
        """The step of each row."""
        return self.frame.index.get_level_values(1).to_numpy(float)

    @property
    def accuracy(self) -> str | None:
        """The column that is the accuracy on examples not trained on, None without one."""
        return first_of(ACCURACY_NAMES, map(str, self.frame.columns))

    def recorded(self) -> pd.DataFrame:
        """Bool [run, column]: whether a run has any value of a column."""
        any_value = self.frame.notna().groupby(self.codes).any()
        return any_value.reindex(range(len(self.runs)), fill_value=False)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The numeric rows of one log, or of all."""

    log: Int[np.ndarray, " row"]
    row: Int[np.ndarray, " row"]
    run: Int[np.ndarray, " row"]
    step: Float[np.ndarray, " row"]
    values: pd.DataFrame
    not_a_number: pd.DataFrame


def long_table(logs: Sequence[Log], asked: Asked) -> LongTable:
    """Returns the long table of logs.

    Args:
        logs: as a kind has read them; several may be of one run.
        asked: which columns are what, and which are wanted.

    Raises:
        UserError: there are no logs, a log has no column of steps, or not as others, none tells
            runs apart, a wanted column holds text, or two rows of one step contradict each other.

    Warns:
        UserWarning: rows before the first step or after the last are left out.
    """
    if not logs:
        raise UserError("there are no runs to read; give at least one")
    limits.check_count("what was read, by its logs,", len(logs), limits.MOST_RUNS)
    headers = [read_header(log, asked) for log in logs]
    _check_steps(logs, headers)
    runs: dict[str, int] = {}
    text: dict[str, dict[str, str]] = {}
    where: dict[str, str] = {}
    unread: dict[str, list[str]] = {}
    chunks = []
    for number, (log, header) in enumerate(zip(logs, headers, strict=True)):
        chunk, of_log = _numeric(log, number, header, asked, runs)
        chunks.append(chunk)
        names = list(runs)
        for code in np.unique(chunk.run):
            name = names[code]
            where.setdefault(name, log.where if log.run else f"{log.where}, run {name}")
            text.setdefault(name, {}).update(of_log)
            unread.setdefault(name, []).extend(header.unread)
    rows = _sorted(chunks)
    frame = _merged(rows, logs, headers[0].step, list(runs)).dropna(axis="columns", how="all")
    run_column = next((header.run for header in headers if header.run), None)
    return LongTable(frame, headers[0].step, run_column, where, text, unread)


def _check_steps(logs: Sequence[Log], headers: Sequence[Header]) -> None:
    for log, header in zip(logs, headers, strict=True):
        if plain(header.step) != plain(headers[0].step):
            raise UserError(
                f"{log.where} is ordered by {header.step!r} and {logs[0].where} by "
                f"{headers[0].step!r}; give all runs the same column"
            )


def _numeric(
    log: Log, number: int, header: Header, asked: Asked, runs: dict[str, int]
) -> tuple[_Rows, dict[str, str]]:
    """The numeric columns of a log, and what to say of those that are text; adds to `runs`."""
    names, position = _run_names(log, header)
    steps = _steps(log, header)
    kept = np.flatnonzero(np.isfinite(steps))
    codes = np.array([runs.setdefault(name, len(runs)) for name in names], int)
    values, literal, text = {}, {}, {}
    for name, column in header.columns.items():
        parsed = parse(log.frame.iloc[:, column])
        if parsed.first_text is None:
            values[name] = parsed.values[kept]
            if parsed.not_a_number.any():
                literal[name] = parsed.not_a_number[kept]
            continue
        cell = str(log.frame.iloc[parsed.first_text, column])[:40]
        text[name] = (
            f"{log.at(parsed.first_text)}: column {name!r} holds {cell!r}, expected a number; "
            "mend it, or leave the cell empty where the value is missing"
        )
        needed = {*PAPER_METRICS, *OUTCOMES, *asked.wanted}
        if name in needed and not np.isnan(parsed.values).all():
            raise UserError(text[name])
    index = pd.RangeIndex(len(kept))
    rows = _Rows(
        np.full(len(kept), number),
        kept,
        codes[position][kept],
        steps[kept],
        pd.DataFrame(values, index),
        pd.DataFrame(literal, index),
    )
    return rows, text


def _run_names(log: Log, header: Header) -> tuple[list[str], Int[np.ndarray, " row"]]:
    """Names of the runs of a log, and the position of each row's among them."""
    if log.run is not None:
        return [printable(log.run)], np.zeros(len(log.frame), int)
    assert header.run_column is not None  # `read_header` has refused it otherwise
    cells = log.frame.iloc[:, header.run_column]
    names = ["" if is_missing(cell) else str(cell).strip() for cell in cells]
    if "" in names:
        raise UserError(
            f"{log.at(names.index(''))} has no {header.run!r}; every row needs its run's name"
        )
    position, unique = pd.factorize(np.array(names, object))
    by = f"{log.where}, by its column {header.run!r},"
    limits.check_count(by, len(unique), limits.MOST_RUNS)
    return [printable(name) for name in unique], position


def _steps(log: Log, header: Header) -> Float[np.ndarray, " row"]:
    """The step of every row; NaN on rows before the first and after the last that have one."""
    parsed = parse(log.frame.iloc[:, header.step_column])
    if parsed.first_text is not None:
        cell = str(log.frame.iloc[parsed.first_text, header.step_column])[:40]
        raise UserError(
            f"{log.at(parsed.first_text)}: column {header.step!r} holds {cell!r}, expected a "
            "number; mend it"
        )
    steps = parsed.values
    known = np.flatnonzero(np.isfinite(steps))
    first, last = (known[0], known[-1]) if len(known) else (0, len(steps) - 1)
    missing = np.isnan(steps) & ~parsed.not_a_number
    bad = np.flatnonzero(~np.isfinite(steps) & ~(missing & _outside(len(steps), first, last)))
    if len(bad):
        raise UserError(
            f"{log.at(bad[0])}: {header.step!r} is {steps[bad[0]]}, expected a number; fill it in"
        )
    if missing.any():
        which = ", ".join(str(log.frame.index[row]) for row in np.flatnonzero(missing)[:5])
        warnings.warn(
            f"{log.where}: left out for want of a {header.step!r}: {log.word} {which}", stacklevel=2
        )
    return steps


def _outside(count: int, first: int, last: int) -> Bool[np.ndarray, " row"]:
    rows = np.arange(count)
    return (rows < first) | (rows > last)


def _sorted(chunks: Sequence[_Rows]) -> _Rows:
    """All rows, run by run, by their steps."""
    run, step = (
        np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("run", "step")
    )
    order = np.lexsort((step, run))  # which is stable
    values = pd.concat([chunk.values for chunk in chunks], ignore_index=True)
    literal = pd.concat([chunk.not_a_number for chunk in chunks], ignore_index=True)
    limits.check_memory("the table of all runs", values.size * 16)
    return _Rows(
        np.concatenate([chunk.log for chunk in chunks])[order],
        np.concatenate([chunk.row for chunk in chunks])[order],
        run[order],
        step[order],
        values.iloc[order].reset_index(drop=True),
        literal.iloc[order].reset_index(drop=True).fillna(False).astype(bool),
    )


def _merged(rows: _Rows, logs: Sequence[Log], step: str, runs: list[str]) -> pd.DataFrame:
    """The frame of a long table: rows of one run and step are one row."""
    values = with_divergence(rows.values, rows.not_a_number, rows.run)
    again = (np.diff(rows.run) == 0) & (np.diff(rows.step) == 0)
    if again.any():
        group = np.concatenate([[0], np.cumsum(~again)])
        _check_agreement(rows, values, group, logs, step)
        clocks = [name for name in values.columns if is_clock(str(name))]
        first = values.groupby(group).first()
        first[clocks] = values[clocks].groupby(group).last()
        starts = np.concatenate([[True], ~again])
        return long_frame(first, runs, rows.run[starts], rows.step[starts])
    return long_frame(values, runs, rows.run, rows.step)


def long_frame(
    values: pd.DataFrame,
    runs: Sequence[str],
    codes: Int[np.ndarray, " row"],
    steps: Float[np.ndarray, " row"],
) -> pd.DataFrame:
    """Returns the frame of a `LongTable`, rows as they are.

    Args:
        values: a row each.
        runs: names of the runs.
        codes: the run of each row, as its position among them.
        steps: the step of each row.
    """
    levels, positions = np.unique(steps, return_inverse=True)
    index = pd.MultiIndex(
        levels=[pd.Index(list(runs), dtype=object), levels],
        codes=[codes, positions.reshape(-1)],
        names=["run", "step"],
    )
    return values.set_axis(index, axis="index")


def with_divergence(
    values: pd.DataFrame, not_a_number: pd.DataFrame, run: Int[np.ndarray, " row"]
) -> pd.DataFrame:
    """Writes as infinite what is NaN, not missing, and stays so to the end of its run.

    Args:
        values: rows run by run, by their steps.
        not_a_number: where a NaN was logged, for the columns that have any.
        run: of each row.
    """
    for name in not_a_number.columns:
        number = pd.Series(np.isfinite(values[name].to_numpy()))
        later = number[::-1].groupby(run[::-1]).cummax()[::-1].to_numpy()
        diverged = not_a_number[name].to_numpy() & ~later
        values[name] = values[name].mask(diverged, np.inf)
    return values


def _check_agreement(
    rows: _Rows, values: pd.DataFrame, group: np.ndarray, logs: Sequence[Log], step: str
) -> None:
    """Refuses two rows of one step that have different values of a column, but of a clock."""
    columns = [name for name in values.columns if not is_clock(str(name))]
    grouped = values[columns].groupby(group)
    conflicts = (grouped.min() < grouped.max()).to_numpy()
    if not conflicts.any():
        return
    which, column = np.argwhere(conflicts)[0]
    several = np.flatnonzero(group == which)
    recorded = several[values[columns[column]].notna().to_numpy()[several]]
    first, second = recorded[0], recorded[1]
    log, other = logs[rows.log[second]], logs[rows.log[first]]
    same = (
        f"{other.word} {other.frame.index[rows.row[first]]}"
        if other is log
        else other.at(rows.row[first])
    )
    raise UserError(
        f"{log.at(rows.row[second])}: {step!r} is {rows.step[second]:.15g} as in {same}, with "
        f"another {columns[column]!r}; remove one of the two, or part the runs if they are of two"
    )
