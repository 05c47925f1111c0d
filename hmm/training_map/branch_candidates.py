"""States that some runs visit and others, who came the same way, do not."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from seedmap.hmm.training_map.visits import Visits

SMALLEST_GROUP, SMALLEST_SHARE = 3, 0.1


class BranchCandidate(NamedTuple):
    """A state with enough visitors and enough runs that could have visited it.

    Attributes:
        state: the candidate.
        previous: the visitors' usual state before, -1 where there is none.
        instead: the state that skippers visit instead, -1 where there is none.
        runs: int [member], indices of the visitors, then of the skippers.
        visitor: bool [member].
        begin: int [member], record at which the run enters `previous`.
        leave: int [member], record at which it goes on from there.
    """

    state: int
    previous: int
    instead: int
    runs: Int[np.ndarray, " member"]
    visitor: Bool[np.ndarray, " member"]
    begin: Int[np.ndarray, " member"]
    leave: Int[np.ndarray, " member"]


def smallest_group(num_runs: int) -> int:
    """Returns how many runs at least must visit a branch, and how many skip it: 10 %, 3 or more."""
    return max(SMALLEST_GROUP, int(np.ceil(SMALLEST_SHARE * num_runs)))


def candidates(
    paths: Int[np.ndarray, "run time"], visits: Visits, smallest: int
) -> list[BranchCandidate]:
    """Returns the states that at least `smallest` runs visit and as many eligible runs skip.

    A run is eligible to skip a state if it was in the state that visitors come from and left it.

    Args:
        paths: int [run, time], -1 past a run's end.
        visits: of these paths.
        smallest: number of runs.
    """
    branches = []
    for state in range(visits.visited.shape[1]):
        visitors = np.flatnonzero(visits.visited[:, state])
        if len(visitors) < smallest:
            continue
        previous = _usual_predecessor(paths, visits, state, visitors, smallest)
        skips = ~visits.visited[:, state]
        if previous >= 0:
            skips &= visits.visited[:, previous] & (visits.last != previous)
        skippers = np.flatnonzero(skips)
        if len(skippers) < smallest:
            continue
        runs = np.concatenate([visitors, skippers])
        begin, leave = _before(visits, state, previous, runs)
        instead = _instead(visits, state, previous, visitors, skippers)
        visitor = np.arange(len(runs)) < len(visitors)
        branches.append(BranchCandidate(state, previous, instead, runs, visitor, begin, leave))
    return branches


def _before(visits, state, previous, runs):
    """Records at which runs enter the state before a branch, and go on from there."""
    arrives = np.maximum(visits.entered[runs, state], 1)
    if previous < 0:
        return np.zeros(len(runs), int), arrives
    begin, departs = visits.entered[runs, previous], visits.departed[runs, previous]
    came_through = (begin >= 0) & (~visits.visited[runs, state] | (begin < arrives))
    return np.where(came_through, begin, 0), np.where(came_through, departs, arrives)


def _usual_predecessor(paths, visits, state, visitors, smallest):
    """The state that most visitors come from, -1 where too few of them come from any."""
    entered = visits.entered[visitors, state]
    came = paths[visitors[entered > 0], entered[entered > 0] - 1]
    if len(came) < max(smallest, len(visitors) / 2):
        return -1
    return int(np.bincount(came).argmax())


def _instead(visits, state, previous, visitors, skippers):
    """Of the states that most skippers and few visitors visit, the one that tells them best."""
    gain = visits.visited[skippers].mean(0) - visits.visited[visitors].mean(0)
    fits = (visits.visited[skippers].mean(0) >= 0.5) & (visits.visited[visitors].mean(0) <= 0.5)
    fits[[state, *([previous] if previous >= 0 else [])]] = False
    return int(np.where(fits, gain, -1).argmax()) if fits.any() else -1
