"""From the one long table to runs: records at the union of all steps, cut where a run diverged."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from seedmap import limits
from seedmap.errors import UserError
from seedmap.hmm.readers.criterion import Criterion
from seedmap.hmm.readers.long import LongTable, long_frame
from seedmap.hmm.readers.names import listed, nearest_of, our_name
from seedmap.hmm.sequences import Sequences, from_arrays
from seedmap.metric_names import PAPER_METRICS

MIN_CHECKPOINTS = 2  # a run with one checkpoint has no z-scores
_MUCH = (0.2, 4)  # share and number of records within its time that a run lacks, to be said


@dataclass(frozen=True, eq=False)
class RunTable:
    """Metrics of several runs, and whatever else was recorded with them.

    The records of all runs are at the same steps: those at which any run recorded a metric.

    Attributes:
        sequences: the raw metrics, not z-scored; NaN = missing value.
        steps: float64 [run, time], step or epoch of each record, ascending; NaN on padding.
        step_name: the column or dimension `steps` came from, such as "step" or "epoch".
        outcomes: every other numeric column, name -> float64 [run, time]; NaN on padding, where a
            value is missing, and for a run that has no such column. One that was recorded between
            two records stands at the second of them.
        cut: run -> first step cut away because a metric is infinite, or NaN for good, from there
            on; runs that were left out for it are among them.
        convergence: float64 [run], the step at which each run met the criterion, exact also where
            no metric was recorded then; NaN where it never did.
        criterion: what convergence is; None where it is not recorded.
    """

    sequences: Sequences
    steps: Float[np.ndarray, "run time"]
    step_name: str
    outcomes: dict[str, Float[np.ndarray, "run time"]]
    cut: dict[str, float]
    convergence: Float[np.ndarray, " run"]
    criterion: Criterion | None = None


def run_table(
    long: LongTable,
    metrics: Sequence[str] | None = None,
    criterion: Criterion | None = None,
    steps: Float[np.ndarray, " time"] | None = None,
) -> RunTable:
    """Chooses the metrics, brings all runs to the union of steps and cuts diverged tails.

    Args:
        long: everything that was logged.
        metrics: the chosen columns. Default: those of `PAPER_METRICS` that all runs have.
        criterion: of convergence.
        steps: of the records. Default: those at which any run has a metric.

    Returns:
        The table of the runs with at least 2 usable records.

    Raises:
        UserError: no run is usable, or a metric or the criterion's column is missing.

    Warns:
        UserWarning: names the runs left out, the paper's metrics that only some runs have, and
            steps that differ much between runs.
    """
    limits.check_padding(np.bincount(long.codes).tolist(), len(long.frame.columns) + 1)
    chosen = _shared_metrics(long) if metrics is None else _chosen_metrics(long, metrics)
    _check_criterion(long, criterion)
    rows = long.frame[list(chosen)].to_numpy(float)
    some = ~np.isnan(rows).all(1)
    axis = np.unique(long.steps[some]) if steps is None else steps
    size = limits.size_of((len(long.runs), len(axis), len(long.frame.columns) + 1), 8)
    limits.check_memory("all runs at the union of their steps", size)
    values = np.full((len(long.runs), len(axis), len(chosen)), np.nan)
    values[long.codes[some], np.searchsorted(axis, long.steps[some])] = rows[some]
    finite = ~np.isinf(values).any(2)
    recorded = finite & ~np.isnan(values).all(2)
    cut = np.where(finite.all(1), len(axis), finite.argmin(1))
    recorded &= np.arange(len(axis)) < cut[:, None]
    lengths = len(axis) - recorded[:, ::-1].argmax(1)  # to the last record
    kept = _usable(long, recorded.sum(1))
    sequences = from_arrays(
        [values[i, : lengths[i]] for i in kept],
        metrics=chosen,
        runs=[long.runs[i] for i in kept],
    )
    size = sequences.values.shape[1]
    _warn_of_cadences(long, recorded[kept], axis)
    end = np.where(cut < len(axis), np.append(axis, np.inf)[cut], np.inf)
    reached = _convergence(long, criterion, end)
    return RunTable(
        sequences,
        np.where(sequences.mask, axis[:size], np.nan),
        long.step_name,
        _outcomes(long, chosen, axis[:size], lengths, end, kept),
        {long.runs[i]: float(axis[cut[i]]) for i in np.flatnonzero(cut < len(axis))},
        reached[kept],
        criterion,
    )


def every(long: LongTable, interval: float) -> LongTable:
    """Returns the table with records every `interval` steps alone.

    At each multiple stands what was last logged up to it since the one before.

    Raises:
        UserError: the interval is not above 0.
    """
    if not 0 < interval < np.inf:
        raise UserError(f"every is {interval}; it must be a number of steps above 0")
    steps = np.ceil(long.steps / interval) * interval
    frame = long_frame(long.frame, long.runs, long.codes, steps)
    thinned = frame.groupby(level=[0, 1], sort=False, observed=True).last()
    position = {name: i for i, name in enumerate(long.runs)}
    codes = np.array([position[str(run)] for run in thinned.index.get_level_values(0)], int)
    kept = thinned.index.get_level_values(1).to_numpy(float)
    return replace(long, frame=long_frame(thinned, long.runs, codes, kept))


def shared_columns(long: LongTable) -> list[str]:
    """Returns the names of the columns that every run has."""
    recorded = long.recorded()
    return [str(name) for name in recorded.columns if recorded[name].all()]


def _shared_metrics(long: LongTable) -> tuple[str, ...]:
    """The paper's metrics that all runs have; a warning names those that only some have."""
    shared, partly = [], []
    recorded = long.recorded()
    for name in PAPER_METRICS:
        lacking = _lacking(long, name, recorded)
        if not len(lacking):
            shared.append(name)
        elif len(lacking) < len(long.runs):
            partly.append(_misses(long, lacking[0], name, recorded))
    if not shared:
        reason = partly[0] if partly else f"{_where(long, 0)} has {listed(long.frame.columns)}"
        raise UserError(
            f"metrics: no metric of the paper (l1, l2, ...) is in every run: {reason}; name "
            "the columns to use as metrics"
        )
    if partly:
        warnings.warn(f"metrics left out, not in every run: {'; '.join(partly)}", stacklevel=4)
    return tuple(shared)


def _chosen_metrics(long: LongTable, metrics: Sequence[str]) -> tuple[str, ...]:
    """The metrics asked for, by the names used here, after checking that every run has them."""
    names = tuple(map(our_name, metrics))
    if not names or len(set(names)) < len(names):
        raise UserError(f"metrics: needs columns, each named once; got {listed(metrics)}")
    recorded = long.recorded()
    unread = dict.fromkeys(name for of in long.unread.values() for name in of)
    known = (*map(str, long.frame.columns), *unread)
    for name in names:
        lacking = _lacking(long, name, recorded)
        if len(lacking) == len(long.runs):
            raise UserError(
                f"metrics: no run has a column {name!r}{nearest_of(name, known)}; choose among "
                f"{listed(known)}"
            )
        if len(lacking):
            reason = _misses(long, lacking[0], name, recorded)
            raise UserError(f"{reason}; add it there, or rename it")
    return names


def _check_criterion(long: LongTable, criterion: Criterion | None) -> None:
    known = [str(name) for name in long.frame.columns]
    if criterion is not None and criterion.column not in known:
        raise UserError(
            f"converged: no run has a column {criterion.column!r}"
            f"{nearest_of(criterion.column, known)}; choose among {listed(known)}"
        )


def _where(long: LongTable, run: int) -> str:
    return long.where[long.runs[run]]


def _lacking(long: LongTable, name: str, recorded) -> Int[np.ndarray, " lacking"]:
    """The runs that lack a column; raises where one has it as text."""
    if name in recorded:
        lacking = np.flatnonzero(~recorded[name].to_numpy())
    else:
        lacking = np.arange(len(long.runs))
    for run in lacking:
        problems = long.text.get(long.runs[run], {})
        if name in problems:
            raise UserError(problems[name])
    return lacking


def _misses(long: LongTable, run: int, name: str, recorded) -> str:
    """That a run has no such column, and the column that may be it under a wrong name."""
    model = int(np.argmax(recorded[name].to_numpy()))
    own, theirs = ({*_known(long, of, recorded)} for of in (run, model))
    unknown = [column for column in _known(long, run, recorded) if column in own - theirs]
    return f"{_where(long, run)} has no column {name!r} as others have{nearest_of(name, unknown)}"


def _known(long: LongTable, run: int, recorded) -> list[str]:
    """Names of the columns of a run, read or not."""
    read = [str(name) for name in recorded.columns[recorded.iloc[run].to_numpy(bool)]]
    return [*read, *long.unread.get(long.runs[run], ())]


def _usable(long: LongTable, counts: Int[np.ndarray, " run"]) -> Int[np.ndarray, " kept"]:
    """The runs with records enough; names the others in a warning; raises where none has."""
    kept = np.flatnonzero(counts >= MIN_CHECKPOINTS)
    if not len(kept):
        raise UserError(
            f"metrics: no run has {MIN_CHECKPOINTS} checkpoints at which all are finite; choose "
            "those that every run recorded, or train longer"
        )
    short = [
        f"{name} ({count})"
        for name, count in zip(long.runs, counts, strict=True)
        if count < MIN_CHECKPOINTS
    ]
    if short:
        warnings.warn(
            f"runs left out, fewer than {MIN_CHECKPOINTS} checkpoints before a metric diverges or "
            f"ends: {', '.join(short)}",
            stacklevel=3,
        )
    return kept


def _warn_of_cadences(long: LongTable, recorded: np.ndarray, axis: np.ndarray) -> None:
    """Says where runs were recorded at much different steps; recorded [run, time]."""
    within = (
        np.maximum.accumulate(recorded, 1) & np.maximum.accumulate(recorded[:, ::-1], 1)[:, ::-1]
    )
    lacking = (within & ~recorded).sum(1)
    share = lacking / within.sum(1)
    if not ((share > _MUCH[0]) & (lacking >= _MUCH[1])).any():
        return
    spacing = [float(np.median(np.diff(axis[row]))) for row in recorded]
    cadences = {each: spacing.count(each) for each in sorted(set(spacing))}
    counts = ", ".join(f"{count} every {each:g}" for each, count in [*cadences.items()][:5])
    if len(cadences) > 5:
        counts += ", ..."
    warnings.warn(
        f"the runs were recorded at different steps ({counts}):"
        f" up to {share.max():.0%} of a run's records are missing; every {max(cadences):g} "
        "takes fewer, which all have",
        stacklevel=3,
    )


def _convergence(
    long: LongTable, criterion: Criterion | None, end: Float[np.ndarray, " run"]
) -> Float[np.ndarray, " run"]:
    """The first step of each run that meets the criterion before its end, NaN where none does."""
    first = np.full(len(long.runs), np.nan)
    if criterion is not None:
        met = criterion.met(long.frame[criterion.column].to_numpy())
        rows = np.flatnonzero(met & (long.steps < end[long.codes]))
        runs, where = np.unique(long.codes[rows], return_index=True)
        first[runs] = long.steps[rows[where]]
    return first


def _outcomes(
    long: LongTable,
    metrics: Sequence[str],
    axis: Float[np.ndarray, " time"],
    lengths: Int[np.ndarray, " run"],
    end: Float[np.ndarray, " run"],
    kept: Int[np.ndarray, " kept"],
) -> dict[str, Float[np.ndarray, "kept time"]]:
    """Every other column at the records of the metrics, of the runs that are kept."""
    codes, steps = long.codes, long.steps
    at = np.minimum(np.searchsorted(axis, steps), lengths[codes] - 1)
    rows = np.flatnonzero((steps < end[codes]) & np.isin(codes, kept))
    outcomes = {}
    for name in long.frame.columns:
        if name in metrics:
            continue
        values = long.frame[name].to_numpy(float)
        known = rows[~np.isnan(values[rows])]
        table = np.full((len(long.runs), len(axis)), np.nan)
        table[codes[known], at[known]] = values[known]  # of several at one place the last
        if len(known):
            outcomes[str(name)] = table[kept]
    return outcomes
