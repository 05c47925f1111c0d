"""Convergence of a study's replicas as survival: who has not converged yet, by source and root.

Replicas that have not converged by their last record are censored there, and those that diverged
at their last finite one: none is dropped, none taken for one that converged then (Kaplan & Meier
1958).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int
from scipy import special, stats

from seedmap.experiments.noise.convergence_results import ReplicaGroup, Survival
from seedmap.experiments.noise.estimates import Estimate, estimate
from seedmap.experiments.noise.measures.intervals import mean_interval
from seedmap.experiments.noise.variants import CONTROL, Sized, rows_by_root
from seedmap.experiments.runs.dataset import convergence_times, time_unit
from seedmap.hmm.training_map.survival import (
    censored_times,
    kaplan_meier,
    log_rank,
    restricted_mean,
)

QUARTERS = (0.25, 0.5, 0.75)
Rows = Sequence[Int[np.ndarray, " _replica"]]


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
    times: Convergence, rows: Rows, others: Rows | None = None, copies: int = 1
) -> Survival:
    """Summarises how some replicas converge, beside others of the same roots.

    The restricted mean is that of a root, averaged; its interval is over roots, or of a single root
    Greenwood's.

    Args:
        times: of all replicas of the study.
        rows: of each root, int [replica].
        others: of each root, those to compare with; None: no others.
        copies: how many of each root's replicas, on either side, the log-rank test leaves out, as
            replica 0 is in every variant.
    """
    every = np.concatenate(rows)
    curve = kaplan_meier(times.time[every], times.observed[every])
    at = [float(when) for when in np.quantile(times.time, QUARTERS, method="higher")]
    compared = None
    if others is not None:
        sides = [[own[copies:] for own in side] for side in (rows, others)]
        compared = log_rank_by_root(times.time, times.observed, *sides)
    return Survival(
        num=curve.num_runs,
        converged=curve.num_converged,
        horizon=times.end,
        unit=times.unit,
        restricted_mean=_restricted(times, rows),
        at=at,
        at_risk=[int((times.time[every] >= when).sum()) for when in at],
        log_rank=compared,
    )


def _restricted(times, rows) -> Estimate | None:
    """Returns the restricted mean; None where a replica was censored before the end."""
    every, end = np.concatenate(rows), times.end
    if ((times.time[every] < end) & ~times.observed[every]).any():
        return None
    known = [own for own in rows if len(own)]
    if len(known) == 1:
        mean = restricted_mean(times.time[every], times.observed[every], end)
        return Estimate(mean.value, max(mean.low, 0.0), min(mean.high, end))
    means = np.array([np.minimum(times.time[own], end).mean() for own in known])
    return estimate(mean_interval(means), (0.0, end))


def log_rank_by_root(
    time: Float[np.ndarray, " run"],
    observed: Bool[np.ndarray, " run"],
    first: Rows,
    second: Rows,
) -> float | None:
    """Returns the p-value of the log-rank test of two sets of runs, stratified by root.

    Of several roots it is that of the t test of the roots' standardised statistics, whose variance
    is taken to be 1 at least: roots are independent of each other, replicas of a root are not. Of a
    single root it is the usual one (Mantel 1966), and speaks of that root alone. A root that has
    one of the sets only tells nothing.

    Args:
        time: of convergence or of censoring.
        observed: whether it is that of convergence.
        first: rows of the one set, of each root int [replica].
        second: rows of the other, likewise.

    Returns:
        Two-sided; None where nothing can be told: no root has both sets, or nothing converges.
    """
    statistics = []
    for own, other in zip(first, second, strict=True):
        both = np.concatenate([own, other])
        if len(own) and len(other):
            label = np.arange(len(both)) < len(own)
            statistics.append(float(log_rank(time[both], observed[both], label)))
    if not statistics or not observed[np.concatenate([*first, *second])].any():
        return None
    if len(statistics) == 1:
        return float(special.erfc(abs(statistics[0]) / np.sqrt(2)))
    error = max(np.std(statistics, ddof=1), 1.0) / np.sqrt(len(statistics))
    return float(2 * stats.t.sf(abs(np.mean(statistics)) / error, len(statistics) - 1))


def distinct_rows(variants: Sequence[Sized], roots: int) -> list[Int[np.ndarray, " replica"]]:
    """Returns the rows of each root that are trainings of their own, none of a variant that forks.

    Replica 0 of every variant, and all of CONTROL, are one training: it stands first.
    """
    of = {name: own for name, own in rows_by_root(variants, roots).items() if "@" not in name}
    return [
        np.concatenate(
            [of[CONTROL][root][:1], *(own[root][1:] for n, own in of.items() if n != CONTROL)]
        )
        for root in range(roots)
    ]


def group_rows(
    variants: Sequence[Sized], states: Int[np.ndarray, "run record"], branch: int, roots: int
) -> tuple[list[Int[np.ndarray, " replica"]], list[Int[np.ndarray, " replica"]]]:
    """Returns the rows of each root that visit a branch, and those that pass it by.

    Args:
        variants: of the study.
        states: decoded, -1 where there is none; a replica without any is in neither.
        branch: its state.
        roots: of the study.
    """
    visits, known = (states == branch).any(axis=1), states[:, 0] >= 0
    rows = distinct_rows(variants, roots)
    return [own[visits[own]] for own in rows], [own[known[own] & ~visits[own]] for own in rows]


def groups_of(
    variants: Sequence[Sized],
    roots: int,
    times: Convergence | None,
    states: Int[np.ndarray, "run record"] | None = None,
    branches: Sequence[int] = (),
) -> list[ReplicaGroup]:
    """Summarises how the replicas of each root converge, and those on either side of a branch.

    Args:
        variants: of the study.
        roots: of the study.
        times: of all replicas; None: not asked for.
        states: decoded states, int [replica, record].
        branches: states that are named branches.
    """
    if times is None:
        return []
    groups = []
    if roots > 1:
        for root, own in enumerate(distinct_rows(variants, roots)):
            groups.append(ReplicaGroup(root, None, None, survival_of(times, [own])))
    for branch in branches:
        visitors, others = group_rows(variants, states, branch, roots)
        if sum(map(len, visitors)) and sum(map(len, others)):
            compared = survival_of(times, visitors, others, copies=0)
            groups.append(ReplicaGroup(None, branch, True, compared))
            groups.append(ReplicaGroup(None, branch, False, survival_of(times, others)))
    return groups
