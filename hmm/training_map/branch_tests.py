"""What speaks for a branch: the place, the resolution, the time of parting, the end, the delay."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

from seedmap.hmm.training_map.branch_candidates import BranchCandidate
from seedmap.hmm.training_map.delay import Delay, measure_delay
from seedmap.hmm.training_map.place import closest_points, null_separations, separation
from seedmap.hmm.training_map.visits import find_visits

ALIKE = 0.7
"""Overlap (Jaccard) of two sets of visitors that makes them the same in a refit."""

PARTED = 0.25
"""Share of the way to a branch after which a run has left the place where it set out."""
BACK = (1, 2, 4, 8, 16, 32)
"""Records before the branch at which the groups are looked for in one place."""


def place_test(
    candidate: BranchCandidate,
    points: Float[np.ndarray, "run time component"],
    centres: Float[np.ndarray, "state component"],
    smallest: int,
    rng: np.random.Generator,
) -> tuple[float, float, int]:
    """Returns the separation of the groups' places, its z, and how many skippers are resolved.

    A run's place is the point of its polyline closest to the branch, joined with that closest to
    the state that skippers visit instead. A skipper is resolved if its records next to that point
    are closer together than the groups' places are: it could have been seen in the branch.

    Args:
        candidate: the groups.
        points: float [run, time, component], whitened, NaN past a run's end.
        centres: float [state, component], whitened.
        smallest: least number of runs on a side, in the null's splits as well.
        rng: of the null.
    """
    own, group = points[candidate.runs], candidate.visitor
    at_branch, segment = closest_points(own, centres[candidate.state], candidate.begin)
    places = [at_branch]
    if candidate.instead >= 0:
        places.append(closest_points(own, centres[candidate.instead], candidate.begin)[0])
    distance, z = _z(np.concatenate(places, axis=1), group, smallest, rng)
    gap = np.linalg.norm(at_branch[group].mean(0) - at_branch[~group].mean(0))
    lengths = np.linalg.norm(np.diff(own, axis=1), axis=-1)
    last = _last_record(own) - 1
    around = np.clip(segment[:, None] + np.array([-1, 0, 1]), 0, last[:, None])
    widest = np.take_along_axis(lengths, around, 1).max(1)
    return distance, z, int((widest[~group] <= gap).sum())


def _z(places, group, smallest, rng):
    """Separation of two groups of places, and its logarithm in deviations of that of its null.

    Of few runs in many dimensions some splits are very far apart: only their logs are near normal.
    """
    distance = float(separation(places, group)[0])
    null = np.log(null_separations(places, smallest, rng))
    return distance, float((np.log(max(distance, 1e-300)) - null.mean()) / max(null.std(), 1e-12))


def _last_record(points):
    """Index of the last record of each run, int [run]."""
    return (~np.isnan(points[..., 0])).sum(1) - 1


class Parting(NamedTuple):
    """When the groups part.

    Attributes:
        records: int [member], when each has left the place where visitors set out; the number of
            records for a run that never leaves.
        together: whether both groups were at one place before.
    """

    records: Int[np.ndarray, " member"]
    together: bool


def parting(
    candidate: BranchCandidate,
    points: Float[np.ndarray, "run time component"],
    centre: Float[np.ndarray, " component"],
) -> Parting:
    """Returns when each member has left the place where visitors set out.

    States may be cut differently for the two groups, so this is a matter of place alone. The place
    is where visitors were before they entered the branch, as many records before (1, 2, 4, ... 32)
    as it takes for the groups to be together there: no further apart than a quarter of the way to
    the branch. Where they never are, it is the last of these. A run has left once it is further
    than that from its own point nearest to the place. (At half the way, how fast runs approach the
    two places passes for a delay.)

    Args:
        candidate: the groups.
        points: float [run, time, component], whitened, NaN past a run's end.
        centre: float [component], of the branch, whitened.
    """
    own, visitor, rows = points[candidate.runs], candidate.visitor, np.arange(len(candidate.runs))
    for back in BACK:
        at = np.maximum(candidate.leave - back, candidate.begin)
        before = own[rows, at][visitor].mean(0)
        nearest, segment = closest_points(own, before, candidate.begin)
        gone = PARTED * np.linalg.norm(centre - before)
        gap = np.linalg.norm(nearest[visitor].mean(0) - nearest[~visitor].mean(0))
        if together := bool(gap <= gone):
            break
    away = np.linalg.norm(own - nearest[:, None], axis=-1) > gone
    away &= np.arange(own.shape[1]) > segment[:, None]
    return Parting(np.where(away.any(1), away.argmax(1), own.shape[1]), together)


def timing(candidate: BranchCandidate, parted: Parting) -> float:
    """Returns the probability that a visitor sets out later than a skipper, ties counting half."""
    records = parted.records
    later = records[candidate.visitor, None] - records[~candidate.visitor]
    return float((np.sign(later).mean() + 1) / 2)


def support(candidate: BranchCandidate, refits: Sequence[Int[np.ndarray, "run time"]]) -> float:
    """Returns the share of refits with a state whose visitors, among the members, are the same.

    Args:
        candidate: the groups.
        refits: decodings int [run, time] of all runs; no refit supports nothing.
    """
    count, visitor = 0, candidate.visitor[:, None]
    for paths in refits:
        visited = find_visits(paths, int(paths.max()) + 1).visited[candidate.runs]
        alike = (visited & visitor).sum(0) >= ALIKE * (visited | visitor).sum(0)
        count += bool((alike & ~visited.all(0)).any())
    return count / max(len(refits), 1)


def end_test(
    candidate: BranchCandidate,
    points: Float[np.ndarray, "run time component"],
    convergence: Real[np.ndarray, " run"],
    smallest: int,
    rng: np.random.Generator,
) -> float | None:
    """Returns the z of the separation of the places where converged members have their last record.

    None where fewer than `smallest` of the visitors, or of the skippers, converge.
    """
    converged = np.isfinite(convergence[candidate.runs])
    runs, group = candidate.runs[converged], candidate.visitor[converged]
    if min(group.sum(), (~group).sum()) < smallest:
        return None
    return _z(points[runs, _last_record(points[runs])], group, smallest, rng)[1]


def delay(
    candidate: BranchCandidate,
    parted: Parting,
    points: Float[np.ndarray, "run time component"],
    steps: Real[np.ndarray, "run time"],
    convergence: Real[np.ndarray, " run"],
    rng: np.random.Generator,
) -> Delay | None:
    """Returns how much later visitors converge, from where the groups part.

    None where there is nothing to measure from: visitors come from no common state, or the groups
    were never together.
    """
    if candidate.previous < 0 or not parted.together:
        return None
    own, rows = steps[candidate.runs], np.arange(len(candidate.runs))
    last = _last_record(points[candidate.runs])
    leaving = np.where(parted.records <= last, own[rows, np.minimum(parted.records, last)], np.inf)
    outcome = convergence[candidate.runs]
    return measure_delay(leaving, outcome, own[rows, last], own[:, 0], candidate.visitor, rng)
