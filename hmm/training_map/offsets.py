"""Lasting offsets of runs: what sets a run apart in every state alike, and is no branch.

Runs differ from the start, by their initialisation for one, and keep some of that all along. It
blurs two places into one cloud. What a run's means in several states have in common is predicted by
the one-way random-effects model (Henderson 1975; the variances by the unbalanced analysis of
variance, Searle, Casella and McCulloch 1992, section 3.6) and taken off: nothing where offsets do
not last, all of it where they last and a run has many states.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from seedmap.hmm.training_map.branch_candidates import BranchCandidate

COMMON = 0.8
"""Share of the runs that a state in common has at least; of visitors and of skippers, in a branch.

Others would take part of what tells the groups apart for an offset, or would hide, where runs were
cut into two states by their offsets, that there is one cloud.
"""


def run_means(
    points: Float[np.ndarray, "run time component"],
    paths: Int[np.ndarray, "run time"],
    visited: Bool[np.ndarray, "run state"],
) -> Float[np.ndarray, "run state component"]:
    """Returns the mean of each run's records in each state, NaN where it does not visit it.

    Args:
        points: float [run, time, component], NaN past a run's end.
        paths: int [run, time], states, -1 past a run's end.
        visited: bool [run, state].
    """
    means = np.full((*visited.shape, points.shape[2]), np.nan)
    for run, state in np.argwhere(visited):
        means[run, state] = points[run, paths[run] == state].mean(0)
    return means


def lasting_offsets(
    means: Float[np.ndarray, "run state component"],
    reference: Int[np.ndarray, " index"] | None = None,
) -> Float[np.ndarray, "run component"]:
    """Returns the best linear unbiased prediction of each run's offset from the usual run.

    Each component by itself: with n the states of a run, m the mean of its deviations from their
    centres, and a and w the variances between runs and within them, m n a / (n a + w). Zero for a
    run in no state, and for all where too few runs are in several, or offsets do not last (a = 0).
    Centres are the means of the reference, and cost the variance within runs their degrees of
    freedom; where runs miss states, centres and offsets are told apart only approximately.

    Args:
        means: float [run, state, component], NaN where a run does not visit a state.
        reference: int, runs that centres and variances are of; each state has a visitor among
            them. Default: all.
    """
    known = means if reference is None else means[reference]
    visited = ~np.isnan(known[:, :, 0])
    count, total = visited.sum(1), visited.sum()
    runs, states = (count > 0).sum(), visited.any(0).sum()
    freedom = total - runs - (states - 1)
    if runs < 2 or freedom <= 0:
        return np.zeros((len(means), means.shape[2]))
    centres = np.nanmean(known, 0)
    own, residuals = _deviations(known, centres)
    within = (residuals**2).sum((0, 1)) / freedom
    between = (count[:, None] * own**2).sum(0) / (runs - 1)
    per_run = (total - (count**2).sum() / total) / (runs - 1)
    lasting = np.maximum(between - within, 0) / per_run
    explained = (~np.isnan(means[:, :, :1])).sum(1) * lasting
    return explained / np.maximum(explained + within, 1e-300) * _deviations(means, centres)[0]


def _deviations(means: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each run's mean deviation from the centres of its states, and what is left in each state."""
    visited = ~np.isnan(means[:, :, :1])
    deviations = np.where(visited, means - centres, 0.0)
    own = deviations.sum(1) / np.maximum(visited.sum(1), 1)
    return own, np.where(visited, deviations - own[:, None], 0.0)


def without_offsets(
    candidate: BranchCandidate,
    points: Float[np.ndarray, "run time component"],
    means: Float[np.ndarray, "run state component"],
    centres: Float[np.ndarray, "state component"],
) -> tuple[Float[np.ndarray, "run time component"], Float[np.ndarray, "state component"]]:
    """Returns the points of a candidate's members, and states' centres, without lasting offsets.

    Offsets are those in the states both groups have in common (`COMMON`): never the candidate's
    own, which no skipper visits, nor that which skippers visit instead.

    Args:
        candidate: the groups.
        points: float [run, time, component].
        means: of `run_means` of these points.
        centres: float [state, component], NaN for a state without; of the members, where they
            visit the state, they are computed anew.

    Returns:
        Both, changed; points of runs that are no members stay.
    """
    runs, visited = candidate.runs, ~np.isnan(means[candidate.runs, :, 0])
    visitor = candidate.visitor
    common = np.minimum(visited[visitor].mean(0), visited[~visitor].mean(0)) >= COMMON
    offsets = lasting_offsets(means[runs][:, common])
    moved = points.copy()
    moved[runs] -= offsets[:, None]
    kept = ~np.isnan(centres[:, 0]) & visited.any(0)
    fresh = centres.copy()
    fresh[kept] = np.nanmean(means[runs][:, kept] - offsets[:, None], 0)
    return moved, fresh
