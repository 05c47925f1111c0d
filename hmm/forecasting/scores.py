"""Proper scores of forecasts of convergence, with runs whose outcome is not known in full.

Times are indices of checkpoints: a run's arrival is the first at which it has converged, or else
the number of its checkpoints. To reach the end of training without convergence is an outcome like
any other. A run that ends before is censored; the others stand for it, by inverse probability of
censoring: with G(t) the probability to be recorded beyond t (Kaplan-Meier, of censoring), a run
whose outcome is known by t counts 1 / G(t).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from seedmap.errors import UserError
from seedmap.hmm.training_map.bootstrap import resample_counts
from seedmap.hmm.training_map.survival import NORMAL_975, Interval, kaplan_meier

NUM_RESAMPLES = 1000
_ROUNDING = 1e-9


def survival_at(
    times: Int[np.ndarray, " run"], events: Bool[np.ndarray, " run"], at: Int[np.ndarray, " time"]
) -> Float[np.ndarray, " time"]:
    """Returns the Kaplan-Meier share of runs without the event up to and at each time."""
    curve = kaplan_meier(times.astype(float), events)
    return np.append(1.0, curve.survival)[np.searchsorted(curve.times, at, side="right")]


def recorded_beyond(
    arrivals: Int[np.ndarray, " run"], observed: Bool[np.ndarray, " run"], num_steps: int
) -> Float[np.ndarray, " time"]:
    """Returns G(t), the probability that a run is recorded beyond each checkpoint.

    Args:
        arrivals: int [run], of runs not converged and not ended yet.
        observed: bool [run], whether a run converged.
        num_steps: number of checkpoints of training.

    Returns:
        float64 [num_steps + 1]; the last is that of the outcome "not in training", known to whoever
        has the last checkpoint. At least 1 / run, so that no weight is infinite.
    """
    ended = ~observed & (arrivals < num_steps)
    beyond = survival_at(arrivals, ended, np.arange(num_steps))
    return np.maximum(np.append(beyond, beyond[-1]), 1 / len(arrivals))


def outcome_weights(
    arrivals: Int[np.ndarray, " run"], observed: Bool[np.ndarray, " run"], num_steps: int
) -> Float[np.ndarray, " run"]:
    """Returns the weight of each run's outcome: 1 / G of its time, 0 where it is censored.

    Arguments as those of `recorded_beyond`.

    Example:
        >>> outcome_weights(np.array([3, 2, 9]), np.array([True, False, False]), 9)
        array([1.5, 0. , 1.5])
    """
    known = observed | (arrivals >= num_steps)
    return known / recorded_beyond(arrivals, observed, num_steps)[np.minimum(arrivals, num_steps)]


def brier_by_run(
    distribution: Float[np.ndarray, "run checkpoint"],
    arrivals: Int[np.ndarray, " run"],
    observed: Bool[np.ndarray, " run"],
    index: int,
) -> Float[np.ndarray, " run"]:
    """Returns what each run adds to the Brier score; their mean is the score (Graf et al. 1999).

    The score of horizon s is the mean of (1 - F(s))^2 / G(T) over runs that converge at T <= s and
    of F(s)^2 / G(s) over runs known not to have by s. It is averaged over all horizons to come.

    Args:
        distribution: float [run, 1 + checkpoints to come], F, from checkpoint `index` on.
        arrivals: int [run], all beyond `index`.
        observed: bool [run], whether a run converged.
        index: of the checkpoint at which forecasts are made.

    Returns:
        float64 [run].

    Raises:
        UserError: no checkpoint is to come.
    """
    num_left = distribution.shape[1] - 1
    if num_left < 1:
        raise UserError("forecasts at the last checkpoint cannot be scored: nothing is to come")
    num_steps = index + 1 + num_left
    horizons = np.arange(index + 1, num_steps)
    beyond = recorded_beyond(arrivals, observed, num_steps)
    come = observed[:, None] & (arrivals[:, None] <= horizons)
    waits = arrivals[:, None] > horizons
    forecasts = distribution[:, 1:]
    own = beyond[np.minimum(arrivals, num_steps)][:, None]
    losses = come * (1 - forecasts) ** 2 / own + waits * forecasts**2 / beyond[horizons]
    return losses.mean(axis=1)


def expected_wait(
    distribution: Float[np.ndarray, "run checkpoint"],
) -> Float[np.ndarray, " run"]:
    """Returns the expected checkpoints to convergence, at most those to come."""
    return (1 - distribution[:, :-1]).sum(axis=1)


def concordance_pairs(
    waits: Float[np.ndarray, " run"],
    arrivals: Int[np.ndarray, " run"],
    observed: Bool[np.ndarray, " run"],
    num_steps: int,
    groups: Int[np.ndarray, " run"],
) -> tuple[Float[np.ndarray, "run run"], Float[np.ndarray, "run run"]]:
    """Returns the pairs that a C-index is over (Uno et al. 2011).

    Pair (i, j) counts 1 / G(T_i)^2 where i converges before j. It is concordant where i is forecast
    to, and half so where the two are forecast alike. Forecasts of different groups are of different
    models and not compared: a model learnt without a late run is an early one, so that to compare
    would make forecasts that know nothing look worse than chance.

    Args:
        waits: float [run], larger is later.
        arrivals: int [run].
        observed: bool [run], whether a run converged.
        num_steps: number of checkpoints of training.
        groups: int [run], which model made the forecast.

    Returns:
        Weight of every pair and how concordant it is, float64 [run, run] each.
    """
    beyond = recorded_beyond(arrivals, observed, num_steps)[np.minimum(arrivals, num_steps)]
    first = observed[:, None] & (arrivals[:, None] < arrivals)
    weights = first * (groups[:, None] == groups) / beyond[:, None] ** 2
    later = waits - waits[:, None]
    concordant = np.where(np.abs(later) <= _ROUNDING * np.abs(waits), 0.5, later > 0)
    return weights, concordant


def bootstrap(
    statistics: Callable[[Float[np.ndarray, "resample run"]], Float[np.ndarray, " resample"]],
    num_runs: int,
    seed: int,
) -> Interval:
    """Returns a statistic of runs with its 95 % interval, by resampling runs (Efron 1979).

    The same seed resamples alike, and a statistic may be a difference of two: that is the paired
    interval.

    Args:
        statistics: from how often each run counts, float [resample, run], to the statistic, NaN
            where it is undefined.
        num_runs: number of runs.
        seed: of the resamples.
    """
    (value,) = statistics(np.ones((1, num_runs)))
    drawn = statistics(resample_counts(num_runs, NUM_RESAMPLES, seed).astype(float))
    known = drawn[~np.isnan(drawn)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))


def concordance(
    counts: Float[np.ndarray, "resample run"],
    weights: Float[np.ndarray, "run run"],
    concordant: Float[np.ndarray, "run run"],
) -> Float[np.ndarray, " resample"]:
    """Returns the C-index of `concordance_pairs` for each resample; NaN where no pair counts."""
    hits = ((counts @ (weights * concordant)) * counts).sum(axis=1)
    total = ((counts @ weights) * counts).sum(axis=1)
    return np.where(total > 0, hits / np.where(total > 0, total, 1.0), np.nan)


def coverage(held: Bool[np.ndarray, " run"], weights: Float[np.ndarray, " run"]) -> Interval:
    """Returns the weighted share of runs held, with its 95 % interval (Wilson 1927).

    The number of runs in it is the effective one, (sum w)^2 / sum w^2 (Kish 1965).

    Example:
        >>> coverage(np.array([True, True, True, False]), np.ones(4)).value
        0.75
    """
    number = weights.sum() ** 2 / (weights**2).sum()
    share, square = float(weights @ held / weights.sum()), NORMAL_975**2
    centre = (share + square / (2 * number)) / (1 + square / number)
    spread = np.sqrt(share * (1 - share) / number + square / (4 * number**2))
    half = NORMAL_975 * spread / (1 + square / number)
    return Interval(share, float(centre - half), float(centre + half))
