"""Branches of a training map as tested claims: some runs pass through a place, others pass it by.

A state that some runs visit and others skip is no fork by itself: a fast run passes between two
records. So candidates are sought in maps of several numbers of states, and each has to show that
its visitors and skippers are in two *places* (`hmm.training_map.place`), that the skippers'
records were close enough together to have shown a visit, that the groups are not told apart by
when they come there, and that refits to resampled runs find the same groups.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from seedmap.hmm.training_map.delay import Delay, holm, measure_delay
from seedmap.hmm.training_map.place import (
    closest_points,
    null_separations,
    separation,
    whiten,
)
from seedmap.hmm.training_map.visits import Visits, find_visits

STATES = tuple(range(4, 11))
"""Numbers of states whose maps are searched: at the chosen one alone most branches are missed."""
SMALLEST_GROUP, SMALLEST_SHARE = 3, 0.1
CRITICAL_Z = 2.33
SHOWN_Z = 1.65
TIMING = (0.1, 0.9)
"""Range of the area under the curve within which time does not tell the groups apart."""
LEAST_SUPPORT = 0.3
ALIKE = 0.7
"""Overlap (Jaccard) of two sets of visitors that makes them the same in a refit."""
SAME_BRANCH = 0.5
DELAY_LEVEL = 0.01


@dataclass(frozen=True)
class Branch:
    """A state that some runs visit and others pass by, and what speaks for its being a place.

    Attributes:
        state: in the map with `num_states` states.
        num_states: of that map.
        previous: the state that visitors come from, None where they start in the branch.
        instead: the state that skippers visit instead, None where there is none.
        visitors: names of the runs that visit it.
        skippers: names of the runs that were in `previous`, left it, and never visit the branch.
        z: the separation of the groups' places, in deviations of its null from the null's mean.
        separation: of the groups' places, in pooled deviations.
        timing: probability that a visitor leaves `previous` later than a skipper; near 0 or 1 the
            groups may differ in speed alone.
        resolved: skippers whose records near the branch are closer together than the groups are.
        needed: least number of visitors, of skippers and of resolved skippers.
        support: share of the refits to resampled runs in which a state has the same visitors.
        named: whether all of that suffices.
        stays: share of the visitors whose last record is in the branch.
        end_z: z of the separation of the places where converged visitors and skippers end; infinite
            where fewer than `needed` of either converge.
        delay: how much later visitors converge, from where the groups part; None where that cannot
            be said.
        detour: a named branch from which visitors go on to where the others end, and later.
        maps: (number of states, state) of every map in which the branch is named.
    """

    state: int
    num_states: int
    previous: int | None
    instead: int | None
    visitors: tuple[str, ...]
    skippers: tuple[str, ...]
    z: float
    separation: float
    timing: float
    resolved: int
    needed: int
    support: float
    named: bool
    stays: float
    end_z: float
    delay: Delay | None
    detour: bool
    maps: tuple[tuple[int, int], ...]

    @property
    def goes_on(self) -> bool:
        """Whether most visitors leave the branch, and end where the others do."""
        return self.stays < 0.5 and self.end_z <= CRITICAL_Z


class Candidate(NamedTuple):
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
) -> list[Candidate]:
    """Returns the states that at least `smallest` runs visit and as many eligible runs skip.

    A run is eligible to skip a state if it was in the state that visitors come from and left it.

    Args:
        paths: int [run, time], -1 past a run's end.
        visits: of these paths.
        smallest: number of runs.
    """
    found = []
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
        found.append(Candidate(state, previous, instead, runs, visitor, begin, leave))
    return found


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


def find_branches(
    features: Float[np.ndarray, "run time component"],
    decodings: Mapping[int, Int[np.ndarray, "run time"]],
    refits: Callable[[int], Sequence[Int[np.ndarray, "run time"]]],
    names: Sequence[str],
    steps: Real[np.ndarray, "... time"],
    convergence: Real[np.ndarray, " run"],
    seed: int = 0,
) -> tuple[Branch, ...]:
    """Seeks branches in maps of several numbers of states, and tests each.

    Args:
        features: float [run, time, component], on one scale for all runs, NaN past a run's end.
        decodings: by number of states, int [run, time], states, -1 past a run's end.
        refits: called with a number of states where a candidate deserves it, returns decodings of
            all runs by refits to resampled runs.
        names: of the runs.
        steps: [time] or [run, time], when records were made.
        convergence: [run], in units of `steps`; NaN where it never came.
        seed: of the nulls and permutations.

    Returns:
        The branches with z above `SHOWN_Z`, named ones first, then by z. Of several candidates
        that part the same runs the best is kept.
    """
    rng = np.random.default_rng(seed)
    steps = np.broadcast_to(np.asarray(steps, float), features.shape[:2])
    convergence = np.asarray(convergence, float)
    tested = [
        branch
        for paths in decodings.values()
        for branch in _tested(features, paths, refits, names, steps, convergence, rng)
    ]
    distinct = _distinct(sorted(tested, key=lambda b: (not b.named, -b.z)))
    return _detours(distinct)


def _tested(features, paths, refits, names, steps, convergence, rng):
    """The branches of one map."""
    num_states = int(paths.max()) + 1
    visits = find_visits(paths, num_states)
    smallest = smallest_group(len(paths))
    found = candidates(paths, visits, smallest)
    if not found:
        return
    whitening = whiten(features, paths, visits.visited)
    points = features @ whitening.matrix
    decoded = None
    for candidate in found:
        apart, z, resolved = _place_test(candidate, points, whitening.centres, smallest, rng)
        if z <= SHOWN_Z:
            continue
        decoded = refits(num_states) if decoded is None else decoded
        support = _support(candidate, decoded)
        leaving = _leaving(candidate, points, whitening.centres[candidate.state])
        timing = _timing(leaving, candidate.visitor)
        told_apart = not TIMING[0] <= timing <= TIMING[1]
        named = z > CRITICAL_Z and resolved >= smallest and not told_apart
        yield Branch(
            state=candidate.state,
            num_states=num_states,
            previous=None if candidate.previous < 0 else candidate.previous,
            instead=None if candidate.instead < 0 else candidate.instead,
            visitors=tuple(names[run] for run in candidate.runs[candidate.visitor]),
            skippers=tuple(names[run] for run in candidate.runs[~candidate.visitor]),
            z=z,
            separation=apart,
            timing=timing,
            resolved=resolved,
            needed=smallest,
            support=support,
            named=named and support >= LEAST_SUPPORT,
            stays=float((visits.last[candidate.runs] == candidate.state)[candidate.visitor].mean()),
            end_z=_end_z(candidate, points, convergence, smallest, rng),
            delay=_delay(candidate, leaving, steps, convergence, rng),
            detour=False,
            maps=((num_states, candidate.state),),
        )


def _place_test(candidate, points, centres, smallest, rng):
    """Separation of the groups' places, its z under the null, and how many skippers could show it.

    A run's place is the point of its polyline closest to the branch, joined with that closest to
    the state that skippers visit instead.
    """
    own, group = points[candidate.runs], candidate.visitor
    at_branch, segment = closest_points(own, centres[candidate.state], candidate.begin)
    places = [at_branch]
    if candidate.instead >= 0:
        places.append(closest_points(own, centres[candidate.instead], candidate.begin)[0])
    joined = np.concatenate(places, axis=1)
    apart = float(separation(joined, group)[0])
    null = null_separations(joined, smallest, rng)
    gap = np.linalg.norm(at_branch[group].mean(0) - at_branch[~group].mean(0))
    lengths = np.linalg.norm(np.diff(own, axis=1), axis=-1)
    near = np.take_along_axis(lengths, _around(segment, lengths), 1)
    resolved = np.nanmax(near, axis=1)[~group] <= gap
    return apart, float((apart - null.mean()) / null.std()), int(resolved.sum())


def _around(segment, lengths):
    """The segments before, at and after a segment, int [run, 3], within the run."""
    last = (~np.isnan(lengths)).sum(1) - 1
    return np.clip(segment[:, None] + np.array([-1, 0, 1]), 0, last[:, None])


def _leaving(candidate, points, centre):
    """Record at which each member has left the place from which visitors set out for the branch.

    States may be cut differently for the two groups, so this is a matter of place alone: a run has
    left once it is further from its own point nearest to that place than half the way to the
    branch. A run that never leaves gets the number of records.
    """
    own = points[candidate.runs]
    rows = np.arange(len(own))
    before = own[rows, np.maximum(candidate.leave - 1, 0)][candidate.visitor].mean(0)
    nearest, segment = closest_points(own, before, candidate.begin)
    away = np.linalg.norm(own - nearest[:, None], axis=-1) > np.linalg.norm(centre - before) / 2
    away &= np.arange(own.shape[1]) > segment[:, None]
    return np.where(away.any(1), away.argmax(1), own.shape[1])


def _timing(leaving, visitor):
    """Probability that a visitor sets out later than a skipper; ties count half."""
    later = leaving[visitor, None] - leaving[~visitor]
    return float((np.sign(later).mean() + 1) / 2)


def _support(candidate, decodings):
    """Share of the decodings with a state whose visitors, among these runs, are the same."""
    found = 0
    for paths in decodings:
        visited = find_visits(paths, int(paths.max()) + 1).visited[candidate.runs]
        common = (visited & candidate.visitor[:, None]).sum(0)
        either = (visited | candidate.visitor[:, None]).sum(0)
        found += bool(((common >= ALIKE * either) & ~visited.all(0)).any())
    return found / max(len(decodings), 1)


def _end_z(candidate, points, convergence, smallest, rng):
    """How far apart converged visitors and skippers end, as `Branch.end_z`."""
    done = np.isfinite(convergence[candidate.runs])
    runs, group = candidate.runs[done], candidate.visitor[done]
    if min(group.sum(), (~group).sum()) < smallest:
        return float("inf")
    last = (~np.isnan(points[runs, :, 0])).sum(1) - 1
    ends = points[runs, last]
    null = null_separations(ends, smallest, rng)
    return float((separation(ends, group)[0] - null.mean()) / null.std())


def _delay(candidate, leaving, steps, convergence, rng):
    """The delay of the visitors, from where the groups part; None without a state before that."""
    own = steps[candidate.runs]
    rows, last = np.arange(len(own)), (~np.isnan(own)).sum(1) - 1
    if candidate.previous < 0:
        return None
    parted = np.where(leaving <= last, own[rows, np.minimum(leaving, last)], np.inf)
    outcome = convergence[candidate.runs]
    return measure_delay(parted, outcome, own[rows, last], own[:, 0], candidate.visitor, rng)


def _distinct(branches):
    """Of branches that part the same runs, best first, one: of either side the best.

    Where one side's runs visit a state and the other side's visit another, the side is kept whose
    visitors converge later.
    """
    kept: list[Branch] = []
    for branch in branches:
        for i, former in enumerate(kept):
            if _overlap(former.visitors, branch.visitors) >= SAME_BRANCH:
                maps = former.maps + branch.maps if branch.named else former.maps
                kept[i] = replace(former, maps=maps)
                break
        else:
            kept.append(branch)
    return [b for b in kept if not any(_gives_way(b, other) for other in kept)]


def _gives_way(branch, other):
    """Whether another branch is this one seen from the other side, and is to be kept."""
    if _overlap(branch.visitors, other.skippers) < SAME_BRANCH:
        return False
    return _rank(other) < _rank(branch)


def _rank(branch):
    return not branch.named, branch.delay.pvalue if branch.delay else 1.0, -branch.z


def _overlap(first, other):
    """Jaccard index of two sets of runs."""
    return len({*first} & {*other}) / len({*first} | {*other})


def _detours(branches):
    """The branches with those marked that are detours, by Holm's procedure over the named ones."""
    claims = [i for i, b in enumerate(branches) if b.named and b.delay and b.goes_on]
    later = holm(np.array([branches[i].delay.pvalue for i in claims]), DELAY_LEVEL)
    found = {i for i, holds in zip(claims, later, strict=True) if holds}
    return tuple(replace(branch, detour=i in found) for i, branch in enumerate(branches))
