"""Convergence as survival: who has not converged yet, by branch and by the state runs are in.

Runs that have not converged are censored at their last record and stay in every figure.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from seedmap.errors import UserError

NORMAL_975 = 1.959964


@dataclass(frozen=True, eq=False)
class SurvivalCurve:
    """Kaplan-Meier estimate of the share of runs that have not converged.

    Attributes:
        times: float64 [event], distinct times of convergence, ascending.
        survival: float64 [event], share not converged just after each.
        low: float64 [event], lower end of the 95 % interval (log-log; NaN where it is undefined).
        high: float64 [event], upper end.
        at_risk: int [event], runs that had not converged, nor been censored, just before each.
        num_runs: runs in all.
        num_converged: those that converged.
    """

    times: Float[np.ndarray, " event"]
    survival: Float[np.ndarray, " event"]
    low: Float[np.ndarray, " event"]
    high: Float[np.ndarray, " event"]
    at_risk: Int[np.ndarray, " event"]
    num_runs: int
    num_converged: int


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StateHazard:
    """How likely a run in a state is to converge before the next record.

    Attributes:
        state: the state.
        hazard: probability of convergence before the next record, of a run that has not converged,
            given that it is in the state. None where no run is.
        events: convergences out of the state (a sum of probabilities, where beliefs are).
        records: records in the state that were followed by another or by convergence.
        runs: runs that spend half a record or more in it before they converge.
    """

    state: int
    hazard: Interval | None
    events: float
    records: float
    runs: int


def censored_times(
    convergence: Real[np.ndarray, " run"], last: Real[np.ndarray, " run"]
) -> tuple[Float[np.ndarray, " run"], Bool[np.ndarray, " run"]]:
    """Returns the time of convergence or else of the last record, and whether it is the former.

    Args:
        convergence: [run], step of convergence, NaN where it never came.
        last: [run], step of the last record.
    """
    observed = np.isfinite(convergence)
    return np.where(observed, convergence, last).astype(float), observed


def kaplan_meier(
    times: Real[np.ndarray, " run"], observed: Bool[np.ndarray, " run"]
) -> SurvivalCurve:
    """Returns the Kaplan-Meier curve of runs (Kaplan & Meier 1958), intervals by log(-log).

    Args:
        times: [run], of convergence or of censoring.
        observed: [run], whether the time is that of convergence.

    Raises:
        UserError: no runs, or a time is not finite.
    """
    _check_times(times)
    if not observed.any():
        none = np.empty(0)
        return SurvivalCurve(none, none, none, none, np.empty(0, int), len(times), 0)
    import warnings

    from scipy import stats  # here, for it takes half a second that `import hmm` need not take

    sample = stats.CensoredData(uncensored=times[observed], right=times[~observed])
    function = stats.ecdf(sample).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the interval where survival is 0 or 1
        interval = function.confidence_interval(method="log-log")
    event = np.isin(function.quantiles, times[observed])
    distinct = function.quantiles[event]
    return SurvivalCurve(
        times=distinct.astype(float),
        survival=function.probabilities[event],
        low=interval.low.probabilities[event],
        high=interval.high.probabilities[event],
        at_risk=(times >= distinct[:, None]).sum(1),
        num_runs=len(times),
        num_converged=int(observed.sum()),
    )


def _check_times(times):
    if len(times) == 0 or not np.isfinite(times).all():
        raise UserError("times must be finite, one per run, of at least one run")


def restricted_mean(
    times: Real[np.ndarray, " run"], observed: Bool[np.ndarray, " run"], horizon: float
) -> Interval:
    """Returns the mean time to convergence, a run that takes longer counting with the horizon.

    The area under the Kaplan-Meier curve up to the horizon, with variance (Irwin 1949)
    ``sum_i A_i^2 d_i / (n_i (n_i - d_i))`` over times of convergence i before the horizon, where
    A_i is the area from i on, d_i runs converge and n_i are at risk.

    Args:
        times: [run], of convergence or of censoring.
        observed: [run], whether the time is that of convergence.
        horizon: in units of `times`.

    Returns:
        The mean and its 95 % interval by the normal approximation.

    Raises:
        UserError: as `kaplan_meier`, or every run is censored before the horizon, so that the curve
            ends above 0 there.

    Example:
        >>> restricted_mean(np.array([1.0, 3.0]), np.array([True, True]), 3.0).value
        2.0
    """
    curve = kaplan_meier(times, observed)
    left_open = times.max() < horizon and not observed[times == times.max()].all()
    if left_open:
        raise UserError(f"horizon {horizon:g} is beyond the last censored run, {times.max():g}")
    before = curve.times < horizon
    edges = np.r_[0.0, curve.times[before], horizon]
    heights = np.r_[1.0, curve.survival[before]]
    areas = heights * np.diff(edges)
    at_risk = curve.at_risk[before]
    events = ((times == curve.times[before][:, None]) & observed).sum(1)
    rest = np.cumsum(areas[::-1])[::-1][1:]
    spare = at_risk - events
    terms = np.where(spare > 0, rest**2 * events / (at_risk * np.maximum(spare, 1)), 0.0)
    return _normal(float(areas.sum()), float(np.sqrt(terms.sum())))


def _normal(value, error):
    return Interval(value, value - NORMAL_975 * error, value + NORMAL_975 * error)


def restricted_difference(
    times: Real[np.ndarray, " run"],
    observed: Bool[np.ndarray, " run"],
    group: Bool[np.ndarray, " run"],
    horizon: float | None = None,
) -> Interval:
    """Returns by how much later the group converges than the others, in restricted means.

    Args:
        times: [run], of convergence or of censoring.
        observed: [run], whether the time is that of convergence.
        group: [run].
        horizon: default: the longest time that both groups were followed for.

    Returns:
        The difference in units of `times`, and its 95 % interval.

    Raises:
        UserError: as `restricted_mean`, or a group is empty.
    """
    if group.all() or not group.any():
        raise UserError("group must hold some of the runs and not all")
    if horizon is None:
        horizon = float(min(times[group].max(), times[~group].max()))
    own, other = (restricted_mean(times[g], observed[g], horizon) for g in (group, ~group))
    squares = sum(((i.high - i.low) / (2 * NORMAL_975)) ** 2 for i in (own, other))
    return _normal(own.value - other.value, float(np.sqrt(squares)))


def log_rank(
    times: Real[np.ndarray, " run"],
    observed: Bool[np.ndarray, " run"],
    group: Bool[np.ndarray, "*shuffle run"],
) -> Float[np.ndarray, "*shuffle"]:
    """Returns the standardised log-rank statistic, positive where the group's events come later.

    ``(E - O) / sqrt(V)`` with, summed over distinct times, O the group's events, E those expected
    of its share of the runs at risk, and V the hypergeometric variance (Mantel 1966).

    Args:
        times: of the event, or of censoring; a run censored at the time of an event is at risk.
        observed: whether the time is that of the event.
        group: bool [..., run], any number of labellings.

    Returns:
        float64 [...]; 0 where the variance is.
    """
    order = np.argsort(times, kind="stable")
    first = np.unique(times[order], return_index=True)[1]
    happened, member = observed[order].astype(float), group[..., order].astype(float)
    remaining = np.flip(np.cumsum(np.flip(member, -1), -1), -1)[..., first]
    at_risk, events = len(times) - first, np.add.reduceat(happened, first)
    share = remaining / at_risk
    own = np.add.reduceat(member * happened, first, axis=-1)
    spare = (at_risk - events) / np.maximum(at_risk - 1, 1)
    variance = (events * share * (1 - share) * spare).sum(-1)
    difference = (events * share - own).sum(-1)
    return np.where(variance > 0, difference / np.sqrt(np.maximum(variance, 1e-300)), 0.0)


def log_rank_pvalue(
    times: Real[np.ndarray, " run"],
    observed: Bool[np.ndarray, " run"],
    group: Bool[np.ndarray, " run"],
) -> float:
    """Returns the two-sided p-value of `log_rank`, by the normal approximation."""
    from scipy import special

    return float(special.erfc(abs(float(log_rank(times, observed, group))) / np.sqrt(2)))


def hazard_by_state(
    beliefs: Float[np.ndarray, "run time state"],
    steps: Real[np.ndarray, "... time"],
    convergence: Real[np.ndarray, " run"],
) -> tuple[StateHazard, ...]:
    """Returns the discrete-time hazard of convergence in each state.

    A record counts while its run has not converged and there is a next one. With b the filtered
    probability of the state there and y = 1 where convergence comes until the next record,

        h = sum b y / sum b,   var h = R / (R - 1) sum_runs (sum b (y - h))^2 / (sum b)^2,

    runs being the R clusters; the interval is that of the logit, and where no run or every one
    converges the exact one of independent records. Beliefs that are filtered look
    back only, so the hazard is a forecast's. Records may be unevenly spaced; the hazard is then one
    of records, not of time.

    Args:
        beliefs: float [run, time, state], rows that sum to 1, NaN past a run's end.
        steps: [time] or [run, time], when records were made.
        convergence: [run], in units of `steps`; NaN where it never came.

    Returns:
        One for each state.
    """
    num_runs, num_records, num_states = beliefs.shape
    steps = np.broadcast_to(np.asarray(steps, float), (num_runs, num_records))
    exists = ~np.isnan(beliefs[..., 0])
    when = np.where(np.isfinite(convergence), convergence, np.inf)[:, None]
    followed = exists[:, :-1] & exists[:, 1:] & (steps[:, :-1] < when)
    event = followed & (steps[:, 1:] >= when)
    weight = np.where(followed[..., None], beliefs[:, :-1], 0.0)
    records = weight.sum(1)  # [run, state]
    events = (weight * event[..., None]).sum(1)
    return tuple(_hazard(k, records[:, k], events[:, k]) for k in range(num_states))


def _hazard(state, records, events):
    """The hazard of one state, from records and events of each run."""
    runs = int((records >= 0.5).sum())
    total, happened = float(records.sum()), float(events.sum())
    if total < 1e-9:
        interval = None
    else:
        hazard, clusters = happened / total, int((records > 0).sum())
        scatter = ((events - hazard * records) ** 2).sum() * clusters / max(clusters - 1, 1)
        interval = _logit_interval(hazard, np.sqrt(scatter) / total, total, clusters)
    return StateHazard(state, interval, happened, total, runs)


def _logit_interval(share, error, records, clusters):
    """A share with its interval: of the logit; at 0 and 1 that of independent records."""
    if not 0 < share < 1:
        far = 1 - 0.025 ** (1 / max(records, 1))
        return Interval(share, max(share - far, 0.0), min(share + far, 1.0))
    if clusters < 2:
        return Interval(share, 0.0, 1.0)
    logit, spread = np.log(share / (1 - share)), NORMAL_975 * error / (share * (1 - share))
    low, high = 1 / (1 + np.exp(-(logit + np.array([-spread, spread]))))
    return Interval(share, float(low), float(high))


@dataclass(frozen=True, eq=False)
class GroupSurvival:
    """How two groups of runs, such as visitors and skippers of a branch, converge.

    Attributes:
        group: curve of the first group.
        others: curve of the other.
        later: by how much later the group converges, in restricted means.
        pvalue: two-sided, of the log-rank test, normal approximation.
    """

    group: SurvivalCurve
    others: SurvivalCurve
    later: Interval
    pvalue: float


def survival_by_group(
    times: Real[np.ndarray, " run"],
    observed: Bool[np.ndarray, " run"],
    group: Bool[np.ndarray, " run"],
) -> GroupSurvival:
    """Compares the times to convergence of two groups of runs.

    Args:
        times: [run], of convergence or of censoring.
        observed: [run], whether the time is that of convergence.
        group: [run].

    Raises:
        UserError: as `restricted_difference`.
    """
    later = restricted_difference(times, observed, group)
    return GroupSurvival(
        group=kaplan_meier(times[group], observed[group]),
        others=kaplan_meier(times[~group], observed[~group]),
        later=later,
        pvalue=log_rank_pvalue(times, observed, group),
    )
