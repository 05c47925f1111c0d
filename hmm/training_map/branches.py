"""Branches of a training map as tested claims: some runs pass through a place, others pass it by.

A state that some runs visit and others skip is no fork by itself: a fast run passes between two
records. So candidates are sought in maps of several numbers of states, and each has to show that
its visitors and skippers are in two *places* (`hmm.training_map.place`) once what sets a run apart
in every state is taken off (`hmm.training_map.offsets`), that the skippers' records were close
enough together to have shown a visit, that the groups are not told apart by when they part, and
that refits to resampled runs, from the same states, keep the groups. A detour is a branch whose
visitors end where the others do, and converge later than others of their speed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

from seedmap.hmm.training_map import branch_tests
from seedmap.hmm.training_map.branch_candidates import BranchCandidate, candidates, smallest_group
from seedmap.hmm.training_map.delay import Delay, holm
from seedmap.hmm.training_map.offsets import run_means, without_offsets
from seedmap.hmm.training_map.place import whiten
from seedmap.hmm.training_map.visits import find_visits

STATES = tuple(range(4, 11))
"""Numbers of states whose maps are searched: at the chosen one alone most branches are missed."""
SAME_END_Z = 2.33
"""Below it, visitors and skippers end in one place."""
CRITICAL_Z = 4.0
"""A search tests 17 candidates (27 in one of ten planted sets) in up to 5 starts each: by normal
tails less than one search in 100 has one above, and the log of the null has heavier ones."""
SHOWN_Z = 1.65
TIMING = (0.1, 0.9)
"""Range of `Branch.timing` within which the time of parting does not tell the groups apart."""
LEAST_SUPPORT = 0.3
SAME_BRANCH = 0.5
"""Overlap (Jaccard) of the visitors of two states that makes them one branch."""
DELAY_LEVEL = 0.01


@dataclass(frozen=True)
class Branch:
    """A state that some runs visit and others pass by, and what speaks for its being a place.

    Attributes:
        state: in the map with `num_states` states.
        num_states: of that map.
        previous: the state that visitors come from; None where they come from no common one.
        instead: the state that skippers visit instead, None where there is none.
        visitors: names of the runs that visit it.
        skippers: names of the runs that were in `previous`, left it, and never visit the branch.
        z: log of the separation of the groups' places, in deviations of that of its null.
        separation: of the groups' places, lasting offsets taken off, in pooled deviations.
        timing: probability that a visitor sets out later than a skipper; near 0 or 1 the groups
            may differ in speed alone.
        resolved: skippers whose records near the branch are closer together than the groups are.
        needed: least number of visitors, of skippers and of resolved skippers.
        support: share of the refits to resampled runs in which a state has the same visitors; None
            where the other tests fail, and refits were not asked.
        named: whether all of that suffices.
        stays: share of the visitors whose last record is in the branch.
        end_z: as z, of the places where converged visitors and skippers end; None
            where fewer than `needed` of either converge.
        delay: how much later visitors converge than others of their speed, from where the groups
            part; None where that cannot be said, as where they were never together.
        detour: a named branch from which visitors go on to where the others end, and later.
        maps: (number of states, state) of every map in which the branch passes all but the refits.
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
    support: float | None
    named: bool
    stays: float
    end_z: float | None
    delay: Delay | None
    detour: bool
    maps: tuple[tuple[int, int], ...]

    @property
    def goes_on(self) -> bool:
        """Whether most visitors leave the branch, and end where the others do."""
        return self.stays < 0.5 and self.end_z is not None and self.end_z <= SAME_END_Z


class _Tested(NamedTuple):
    """A branch that is named but for the refits, or is not, and its candidate."""

    branch: Branch
    candidate: BranchCandidate


class _Place(NamedTuple):
    """What the tests of a candidate's place say, and where its members are."""

    candidate: BranchCandidate
    points: np.ndarray  # [run, time, component], without lasting offsets
    separation: float
    z: float
    resolved: int
    parted: branch_tests.Parting
    timing: float
    stays: float

    def passes(self, smallest: int) -> bool:
        """Whether all of that suffices."""
        timely = TIMING[0] <= self.timing <= TIMING[1]
        return self.z > CRITICAL_Z and self.resolved >= smallest and timely


class _Search(NamedTuple):
    """What does not change from map to map."""

    features: np.ndarray  # [run, time, component]
    names: Sequence[str]
    steps: np.ndarray  # [run, time]
    convergence: np.ndarray  # [run]
    smallest: int
    rng: np.random.Generator


def searched_states(num_runs: int, num_records: int) -> tuple[int, ...]:
    """Returns the numbers of states whose maps are searched; none where the runs are too few.

    Args:
        num_runs: that are fitted.
        num_records: of these runs together, the first of each left out.
    """
    if num_runs < 2 * smallest_group(num_runs):
        return ()
    return tuple(k for k in STATES if k <= num_records // 2)


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
        features: float [run, time, component], on one scale for all runs, NaN past a run's end and
            where nothing was recorded.
        decodings: by number of states, int [run, time], states, -1 past a run's end; those of
            `STATES` are meant.
        refits: called with one of these numbers where a branch passes all else, and again only for
            another number: decodings of all runs by refits of that map to resampled runs.
        names: of the runs.
        steps: [time] or [run, time], when records were made.
        convergence: [run], in units of `steps`; NaN where it never came.
        seed: of the nulls and permutations.

    Returns:
        The branches with z above `SHOWN_Z`, named ones first, then by z. Of several states with the
        same visitors the one with the largest z that refits support stands for all.
    """
    search = _Search(
        features=_bridged(features, next(iter(decodings.values()))),
        names=names,
        steps=np.broadcast_to(np.asarray(steps, float), features.shape[:2]),
        convergence=np.asarray(convergence, float),
        smallest=smallest_group(len(features)),
        rng=np.random.default_rng(seed),
    )
    tested = [t for k, paths in decodings.items() for t in _tested(search, k, paths)]
    known: dict[int, Sequence[np.ndarray]] = {}
    kept = []
    for alike in _sides(sorted(tested, key=lambda t: (not t.branch.named, -t.branch.z))):
        kept.append(_supported(alike, refits, known))
    distinct = [b for b in kept if not any(_gives_way(b, other) for other in kept)]
    return _detours(sorted(distinct, key=lambda b: (not b.named, -b.z)))


def _bridged(features, paths):
    """The features with straight lines over missing records of a run, held at its ends."""
    bridged = features.copy()
    lengths = (paths >= 0).sum(1)
    for run, length in zip(bridged, lengths, strict=True):
        known = np.flatnonzero(~np.isnan(run[:, 0]))
        for column in run.T:
            column[:length] = np.interp(np.arange(length), known, column[known])
    return bridged


def _places(features, num_states, paths, smallest, rng) -> Iterator[_Place]:
    """The candidates of one map with z above `SHOWN_Z`."""
    visits = find_visits(paths, num_states)
    branch_candidates = candidates(paths, visits, smallest)
    if not branch_candidates:
        return
    whitening = whiten(features, paths, visits.visited)
    as_recorded = features @ whitening.matrix
    means = run_means(as_recorded, paths, visits.visited)
    for candidate in branch_candidates:
        points, centres = without_offsets(candidate, as_recorded, means, whitening.centres)
        separation, z, resolved = branch_tests.place_test(candidate, points, centres, smallest, rng)
        if z > SHOWN_Z:
            parted = branch_tests.parting(candidate, points, centres[candidate.state])
            timing = branch_tests.timing(candidate, parted)
            stays = visits.last[candidate.runs[candidate.visitor]] == candidate.state
            yield _Place(
                candidate, points, separation, z, resolved, parted, timing, float(stays.mean())
            )


def count_places(
    features: Float[np.ndarray, "run time component"],
    paths: Int[np.ndarray, "run time"],
    num_states: int,
    seed: int = 0,
) -> int:
    """Returns how many states of a map pass every test of a branch but that of the refits.

    Args:
        features: float [run, time, component], as those of `find_branches`.
        paths: int [run, time], states, -1 past a run's end.
        num_states: K.
        seed: of the nulls.
    """
    smallest, rng = smallest_group(len(features)), np.random.default_rng(seed)
    places = _places(_bridged(features, paths), num_states, paths, smallest, rng)
    return sum(place.passes(smallest) for place in places)


def _tested(search: _Search, num_states: int, paths: np.ndarray) -> Iterator[_Tested]:
    """The branches of one map with z above `SHOWN_Z`; support is still to come."""
    for place in _places(search.features, num_states, paths, search.smallest, search.rng):
        yield _Tested(_branch(search, num_states, place), place.candidate)


def _branch(search: _Search, num_states: int, place: _Place) -> Branch:
    """A branch as its tests come out."""
    candidate, points = place.candidate, place.points
    times, rng = search.convergence, search.rng
    members = [search.names[run] for run in candidate.runs]
    num_visitors = int(candidate.visitor.sum())
    return Branch(
        state=candidate.state,
        num_states=num_states,
        previous=None if candidate.previous < 0 else candidate.previous,
        instead=None if candidate.instead < 0 else candidate.instead,
        visitors=tuple(members[:num_visitors]),
        skippers=tuple(members[num_visitors:]),
        z=place.z,
        separation=place.separation,
        timing=place.timing,
        resolved=place.resolved,
        needed=search.smallest,
        support=None,
        named=place.passes(search.smallest),
        stays=place.stays,
        end_z=branch_tests.end_test(candidate, points, times, search.smallest, rng),
        delay=branch_tests.delay(candidate, place.parted, points, search.steps, times, rng),
        detour=False,
        maps=((num_states, candidate.state),),
    )


def _sides(tested: list[_Tested]) -> list[list[_Tested]]:
    """The branches, best first, in lists of those with the same visitors."""
    sides: list[list[_Tested]] = []
    for member in tested:
        for alike in sides:
            if _overlap(alike[0].branch.visitors, member.branch.visitors) >= SAME_BRANCH:
                alike.append(member)
                break
        else:
            sides.append([member])
    return sides


def _supported(alike: list[_Tested], refits, known) -> Branch:
    """The best of several branches that refits support; else the best, not named."""
    passing = [t for t in alike if t.branch.named]
    if not passing:
        return alike[0].branch
    maps = tuple(pair for t in passing for pair in t.branch.maps)
    supports = []
    for branch, candidate in passing:
        if branch.num_states not in known:
            known[branch.num_states] = refits(branch.num_states)
        supports.append(branch_tests.support(candidate, known[branch.num_states]))
        if supports[-1] >= LEAST_SUPPORT:
            return replace(branch, support=supports[-1], maps=maps)
    return replace(alike[0].branch, support=supports[0], named=False, maps=maps)


def _gives_way(branch, other):
    """Whether another branch is this one seen from the other side, and is to be kept.

    Where visitors of one state are skippers of another, the side is kept that converges later.
    """
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
    delayed = {i for i, holds in zip(claims, later, strict=True) if holds}
    return tuple(replace(branch, detour=i in delayed) for i, branch in enumerate(branches))


def states_with_branches(branches: Sequence[Branch], num_states: int) -> int:
    """Returns the number of states to draw: of those whose map has the most named branches.

    The smallest from the chosen number on; where there is none, the largest below it.

    Args:
        branches: of `find_branches`.
        num_states: the chosen number.
    """
    named = [{k for k, _ in branch.maps} for branch in branches if branch.named]
    sizes = {num_states}.union(*named)
    return min(
        sizes,
        key=lambda k: (-sum(k in maps for maps in named), k < num_states, abs(k - num_states)),
    )
