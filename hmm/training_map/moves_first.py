"""Which metric turns first before an event, such as convergence or the entry into a state.

Each metric of each run is looked at in a window of records around the run's event. Its change point
is the break of the best two lines (Bai & Perron 1998, one break): a jump, a kink and the middle of
a steep rise are all found by it. Its lead is the time from the change point to the event. Leads of
a metric are summed up over runs by their median, with the exact interval of order statistics, so
that a few runs without a clear turn do no harm; a metric turns where two lines explain at least
half of what one line leaves, in at least half of the runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from seedmap.errors import UserError

SMALLEST_SIDE = 4
"""Records on either side of a change point."""
LEAST_GAIN = 0.5
"""Share of the residual variance of one line that two lines have to explain."""
LEAST_RUNS = 5


@dataclass(frozen=True)
class Turn:
    """When one metric turns before the event.

    Attributes:
        metric: its name.
        lead: median time from its change point to the event; negative where it turns afterwards.
        low: lower end of the 95 % interval of the median; None with fewer than 6 runs.
        high: upper end, likewise.
        runs: runs in which it turns.
        share: of the runs looked at.
        first: share of the runs in which it turns before all others that turn.
        before_next: sign-test p-value, over runs in which both turn, that it and the next metric in
            the order turn first equally often; two-sided, as the order is the data's. None for the
            last.
    """

    metric: str
    lead: float
    low: float | None
    high: float | None
    runs: int
    share: float
    first: float
    before_next: float | None


@dataclass(frozen=True, eq=False)
class MovesFirst:
    """Metrics in the order in which they turn, and their curves around the event.

    Attributes:
        turns: those that turn in at least half of the runs, the earliest first.
        steady: names of the others.
        offsets: float64 [offset], records from the event, negative before it.
        curves: float64 [metric, offset], median over runs, each run's metric scaled to mean 0 and
            deviation 1 in its window; NaN where no run has a record.
        leads: float64 [run, metric], NaN where the metric does not turn or the run has no window.
        metrics: names, in the order of `curves` and `leads`.
        runs: runs with a window.
    """

    turns: tuple[Turn, ...]
    steady: tuple[str, ...]
    offsets: Float[np.ndarray, " offset"]
    curves: Float[np.ndarray, "metric offset"]
    leads: Float[np.ndarray, "run metric"]
    metrics: tuple[str, ...]
    runs: int


def moves_first(
    values: Real[np.ndarray, "run time metric"],
    steps: Real[np.ndarray, "... time"],
    event: Real[np.ndarray, " run"],
    metrics: Sequence[str],
    before: int = 20,
    after: int = 10,
) -> MovesFirst:
    """Returns the order in which metrics turn around an event of each run.

    Args:
        values: float [run, time, metric], raw metrics, NaN where missing or past a run's end.
        steps: [time] or [run, time], when records were made.
        event: [run], in units of `steps`, such as the time of convergence or of the entry into a
            state; NaN for a run without one.
        metrics: names.
        before: records of the window before the event; a run with fewer has a shorter window.
        after: records of the window from the event on.

    Returns:
        The order; leads are in units of `steps`.

    Raises:
        UserError: fewer than 5 runs have an event with enough records around it.

    Example:
        moves_first(sequences.values, steps, convergence, sequences.metrics).turns[0].metric
    """
    num_runs, num_records = values.shape[:2]
    steps = np.broadcast_to(np.asarray(steps, float), (num_runs, num_records))
    windows = _windows(values, steps, event, before, after)
    if len(windows) < LEAST_RUNS:
        raise UserError(
            f"event: {len(windows)} runs have one with {2 * SMALLEST_SIDE} records around it; what "
            f"moves first needs {LEAST_RUNS}"
        )
    leads = np.full((num_runs, values.shape[2]), np.nan)
    for run, window in windows.items():
        breaks = _change_points(steps[run, window], values[run, window])
        leads[run] = event[run] - breaks
    looked_at = leads[list(windows)]
    turning = np.isfinite(looked_at).mean(0) >= 0.5
    medians = np.nanmedian(looked_at[:, turning], axis=0)
    order = np.flatnonzero(turning)[np.argsort(-medians, kind="stable")]
    offsets, curves = _curves(values, windows, _at_event(steps, event), before, after)
    return MovesFirst(
        turns=_turns(looked_at[:, order], [metrics[i] for i in order.tolist()]),
        steady=tuple(metrics[i] for i in np.flatnonzero(~turning).tolist()),
        offsets=offsets,
        curves=curves,
        leads=leads,
        metrics=tuple(metrics),
        runs=len(windows),
    )


def _at_event(steps, event):
    """Index of the first record at or after each run's event."""
    return (steps < event[:, None]).sum(1)


def _windows(values, steps, event, before, after):
    """By run, the slice of records around its event, of those with an event and enough records."""
    exists = ~np.isnan(values).all(2)
    windows = {}
    for run in np.flatnonzero(np.isfinite(event)):
        length = int(exists[run].nonzero()[0].max()) + 1 if exists[run].any() else 0
        at = int((steps[run, :length] < event[run]).sum())
        window = slice(max(at - before, 0), min(at + after, length))
        if at < length and window.stop - window.start >= 2 * SMALLEST_SIDE:
            windows[int(run)] = window
    return windows


def _change_points(steps, values):
    """The break of two lines for each metric [time, metric], NaN where they explain too little."""
    return np.array([change_point(steps, column) for column in values.T])


def change_point(times: Real[np.ndarray, " time"], values: Real[np.ndarray, " time"]) -> float:
    """Returns where the best two lines of a curve part, each fitted to its side by least squares.

    Args:
        times: [time], ascending.
        values: [time], NaN where missing.

    Returns:
        Half-way between the last record of the first line and the first of the second; NaN where
        the lines explain less than half of what one line leaves, or records are too few.
    """
    known = ~np.isnan(values)
    times, values = np.asarray(times, float)[known], np.asarray(values, float)[known]
    number = len(times)
    if number < 2 * SMALLEST_SIDE:
        return float("nan")
    forwards = _residual_sums(times, values)
    backwards = _residual_sums(-times[::-1], values[::-1])[::-1]
    cuts = np.arange(SMALLEST_SIDE, number - SMALLEST_SIDE + 1)
    both = forwards[cuts - 1] + backwards[cuts]
    best = int(both.argmin())
    noise = 1e-18 * number * (values**2).max()
    if both[best] > (1 - LEAST_GAIN) * forwards[-1] or forwards[-1] <= noise:
        return float("nan")
    return float(times[cuts[best] - 1 : cuts[best] + 1].mean())


def _residual_sums(times, values):
    """Residual sum of squares of the line through the first 1, 2, ... records."""
    t, y = (times - times[0]) / (times[-1] - times[0]), values - values.mean()
    count = np.arange(1, len(t) + 1)
    tt = np.cumsum(t * t) - np.cumsum(t) ** 2 / count
    ty = np.cumsum(t * y) - np.cumsum(t) * np.cumsum(y) / count
    yy = np.cumsum(y * y) - np.cumsum(y) ** 2 / count
    return np.maximum(yy - ty**2 / np.maximum(tt, 1e-12), 0.0)


def _turns(leads, names):
    """A row for each metric, in order, from leads [run, metric]."""
    turned = ~np.isnan(leads)
    earliest = np.where(turned, leads, -np.inf)
    first = turned & (earliest == earliest.max(1, keepdims=True)) if len(names) else turned
    turns = []
    for i, name in enumerate(names):
        own = leads[turned[:, i], i]
        low, high = median_interval(own)
        later = None if i + 1 == len(names) else _sign_test(leads[:, i], leads[:, i + 1])
        turns.append(
            Turn(
                metric=name,
                lead=float(np.median(own)),
                low=low,
                high=high,
                runs=len(own),
                share=float(turned[:, i].mean()),
                first=float(first[:, i].mean()),
                before_next=later,
            )
        )
    return tuple(turns)


def _sign_test(lead, next_lead):
    """Two-sided p-value that each metric turns first equally often; ties are left out."""
    from scipy import stats  # here, for it takes half a second that `import hmm` need not take

    longer, shorter = int((lead > next_lead).sum()), int((lead < next_lead).sum())
    if longer + shorter == 0:
        return 1.0
    return float(stats.binomtest(longer, longer + shorter).pvalue)


def median_interval(values: Real[np.ndarray, " value"]) -> tuple[float | None, float | None]:
    """Returns order statistics that hold the median with 95 % or more, None below 6 values.

    Example:
        >>> median_interval(np.arange(1.0, 7.0))
        (1.0, 6.0)
    """
    from scipy import stats

    rank = int(stats.binom.ppf(0.025, len(values), 0.5))
    if rank < 1:
        return None, None
    ordered = np.sort(values)
    return float(ordered[rank - 1]), float(ordered[-rank])


def _curves(values, windows, at, before, after):
    """Median over runs of the metrics, scaled within windows, at each offset from the event."""
    aligned = np.full((len(windows), before + after, values.shape[2]), np.nan)
    for row, (run, window) in zip(aligned, windows.items(), strict=True):
        segment = values[run, window]
        spread = np.nanstd(segment, axis=0)
        begin = window.start - at[run] + before
        row[begin : begin + len(segment)] = (segment - np.nanmean(segment, axis=0)) / np.where(
            spread > 0, spread, np.inf
        )
    curves = np.full(aligned.shape[1:], np.nan)
    known = ~np.isnan(aligned).all(0)
    curves[known] = np.nanmedian(aligned[:, known], axis=0)
    return np.arange(-before, after, dtype=float), curves.T
