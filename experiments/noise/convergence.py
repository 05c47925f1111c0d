"""Convergence of a study's replicas as survival: who has not converged yet, by source and root.

Replicas that have not converged by their last record are censored there, and those that diverged
at their last finite one: none is dropped, none taken for one that converged then (Kaplan & Meier
1958).
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from scipy import special, stats

from seedmap.experiments.noise.measures.intervals import mean_interval
from seedmap.experiments.noise.results import Estimate, Survival, estimate
from seedmap.experiments.runs.dataset import convergence_times, time_unit
from seedmap.hmm.training_map.survival import (
    censored_times,
    kaplan_meier,
    log_rank,
    restricted_mean,
)

QUARTERS = (0.25, 0.5, 0.75)


class Convergence(NamedTuple):
    """Times of convergence of all replicas of a study.

    Attributes:
        time: float64 [replica], of convergence, or else of the last finite record.
        observed: bool [replica], whether it converged.
        unit: of the times, "epoch" or "step".
        end: time of the last record.
    """

    time: Float[np.ndarray, " replica"]
    observed: Bool[np.ndarray, " replica"]
    unit: str
    end: float


def convergence_of(dataset: xr.Dataset, threshold: float | None) -> Convergence | None:
    """Returns the times of convergence of a study; None where it has no accuracy or threshold.

    Args:
        dataset: records of the study.
        threshold: evaluation accuracy above which a replica has converged.
    """
    if threshold is None or "eval_accuracy" not in dataset:
        return None
    unit = time_unit(dataset)
    times = dataset[unit].values.astype(float)
    finite = np.isfinite(dataset.eval_accuracy.values)
    last = np.where(finite, times, times[0]).max(axis=1)
    return Convergence(
        *censored_times(convergence_times(dataset, threshold), last), unit, float(times[-1])
    )


def survival_of(
    times: Convergence, rows: Int[np.ndarray, "root replica"], whole: Int[np.ndarray, "root other"]
) -> Survival:
    """Summarises how a variant's replicas converge, beside those of the variant of all sources.

    The restricted mean is that of a root, averaged; its interval is over roots, or of a single root
    Greenwood's. The log-rank test leaves the copies of a root's replica 0 out.

    Args:
        times: of all replicas of the study.
        rows: of the variant.
        whole: of the variant with the most sources.
    """
    time, observed = times.time[rows], times.observed[rows]
    curve = kaplan_meier(time.ravel(), observed.ravel())
    at = [float(when) for when in np.quantile(times.time, QUARTERS, method="higher")]
    return Survival(
        num=curve.num_runs,
        converged=curve.num_converged,
        horizon=times.end,
        unit=times.unit,
        restricted_mean=_restricted(time, observed, times.end),
        at=at,
        at_risk=[int((time >= when).sum()) for when in at],
        log_rank=None
        if np.array_equal(rows, whole)
        else log_rank_pvalue(times.time, times.observed, rows[:, 1:], whole[:, 1:]),
    )


def _restricted(time, observed, end) -> Estimate | None:
    """Returns the restricted mean; None where a replica was censored before the end."""
    if ((time < end) & ~observed).any():
        return None
    if len(time) == 1:
        found = restricted_mean(time[0], observed[0], end)
        return Estimate(found.value, max(found.low, 0.0), min(found.high, end))
    return estimate(mean_interval(np.minimum(time, end).mean(axis=1)), (0.0, end))


def log_rank_pvalue(
    time: Float[np.ndarray, " run"],
    observed: Bool[np.ndarray, " run"],
    first: Int[np.ndarray, "root replica"],
    second: Int[np.ndarray, "root other"],
) -> float | None:
    """Returns the p-value of the log-rank test of two sets of runs, stratified by root.

    Of several roots it is that of the t test of the roots' standardised statistics, whose variance
    is taken to be 1 at least: roots are independent of each other, replicas of a root are not. Of a
    single root it is the usual one (Mantel 1966), and speaks of that root alone.

    Args:
        time: of convergence or of censoring.
        observed: whether it is that of convergence.
        first: rows of the one set.
        second: rows of the other.

    Returns:
        Two-sided; None where nothing can be told: a set is empty, or nothing converges.
    """
    both = np.concatenate([first, second], axis=1)
    if min(first.shape[1], second.shape[1]) == 0 or not observed[both].any():
        return None
    label = np.arange(both.shape[1]) < first.shape[1]
    of_roots = np.array([float(log_rank(time[own], observed[own], label)) for own in both])
    if len(of_roots) == 1:
        return float(special.erfc(abs(of_roots[0]) / np.sqrt(2)))
    error = max(np.std(of_roots, ddof=1), 1.0) / np.sqrt(len(of_roots))
    return float(2 * stats.t.sf(abs(of_roots.mean()) / error, len(of_roots) - 1))
