"""Branches sought in decodings that are the truth, so that only the tests of them are on trial."""

from itertools import combinations

import numpy as np
import pytest

from helpers.phases import phases
from seedmap.hmm.training_map.branch_candidates import BranchCandidate, candidates, smallest_group
from seedmap.hmm.training_map.branch_tests import delay, parting, place_test
from seedmap.hmm.training_map.branches import CRITICAL_Z, Branch, count_places, find_branches
from seedmap.hmm.training_map.visits import find_visits
from seedmap.results import from_json, to_json

NAMES = [f"run {i}" for i in range(40)]


def common_scale(values):
    """Principal components of pooled runs with 97 % of the variance, each to unit variance."""
    known = values[~np.isnan(values).any(2)]
    scaled = (values - known.mean(0)) / known.std(0)
    variances, vectors = np.linalg.eigh(np.corrcoef(known.T))
    number = int((np.cumsum(variances[::-1]) / variances.sum() < 0.97).sum()) + 1
    return scaled @ vectors[:, ::-1][:, :number] / np.sqrt(variances[::-1][:number])


def true_paths(planted):
    labels = np.unique(planted.states[planted.states >= 0])
    return np.where(planted.states < 0, -1, np.searchsorted(labels, planted.states))


def search(planted, paths=None, refit=None, **changed):
    """Branches in one map, by default that of the truth, which all refits find again."""
    paths = true_paths(planted) if paths is None else paths
    refit = paths if refit is None else refit
    given = dict(
        features=common_scale(planted.values),
        decodings={int(paths.max()) + 1: paths},
        refits=lambda num_states: [refit] * 5,
        names=NAMES[: len(paths)],
        steps=planted.steps,
        convergence=planted.convergence,
    )
    return find_branches(**given | changed)


def test_records_missing_within_a_run_change_little():
    """The polyline goes straight over the gap, and is held where the first and last are missing."""
    gappy = common_scale(FORK.values)
    rng = np.random.default_rng(0)
    gappy[rng.random((40, 200)) < 0.05] = np.nan
    gappy[:3, :2], gappy[3:6, -2:] = np.nan, np.nan
    (branch,) = [b for b in search(FORK, features=gappy) if b.named]
    assert takers(FORK) in ({*branch.visitors}, {*branch.skippers})


def takers(planted):
    return {NAMES[run] for run in np.flatnonzero(planted.takers)}


@pytest.mark.parametrize(("num_runs", "least"), [(6, 3), (30, 3), (31, 4), (40, 4), (80, 8)])
def test_smallest_group(num_runs, least):
    assert smallest_group(num_runs) == least


def test_candidates_by_hand():
    """Runs 0-2 go 0 1 3, runs 3-5 go 0 2 3; run 6 never leaves 0, and run 7 begins in 3."""
    routes = [[0, 1, 3]] * 3 + [[0, 2, 3]] * 3 + [[0, 0, 0]] + [[3, 3, 3]]
    paths = np.repeat(routes, 3, axis=1)
    found = {c.state: c for c in candidates(paths, find_visits(paths, 4), 3)}
    assert sorted(found) == [1, 2]
    first = found[1]
    assert (first.previous, first.instead) == (0, 2)
    assert first.runs.tolist() == [0, 1, 2, 3, 4, 5]
    assert first.visitor.tolist() == [True] * 3 + [False] * 3
    assert first.begin.tolist() == [0] * 6
    assert first.leave.tolist() == [3] * 6
    assert candidates(paths, find_visits(paths, 4), 4) == []


FORK = phases("fork", (4, 1))


def test_a_fork_is_named_with_those_who_take_it():
    (branch,) = [b for b in search(FORK) if b.named]
    assert takers(FORK) in ({*branch.visitors}, {*branch.skippers})
    assert len(branch.visitors) + len(branch.skippers) == 40
    assert branch.z > 8
    assert branch.support == 1.0
    assert not branch.detour
    assert branch.goes_on
    assert (branch.num_states, branch.state) in branch.maps
    assert branch.instead is not None


def test_the_same_seed_gives_the_same_branches():
    assert search(FORK) == search(FORK)


def test_names_follow_runs_and_records_may_be_of_each_run():
    order = np.random.default_rng(0).permutation(40)
    steps = np.broadcast_to(FORK.steps, (40, 200))
    moved = search(
        FORK,
        paths=true_paths(FORK)[order],
        features=common_scale(FORK.values)[order],
        names=[NAMES[run] for run in order],
        steps=steps,
        convergence=FORK.convergence[order],
    )
    for branch, former in zip(moved, search(FORK), strict=True):
        assert {*branch.visitors} == {*former.visitors}
        assert branch.separation == pytest.approx(former.separation)


def test_refits_that_do_not_find_it_take_the_name_away():
    everyone = np.where(true_paths(FORK) == 0, 0, 1)
    branch = search(FORK, refit=everyone)[0]
    assert (branch.support, branch.named) == (0.0, False)


@pytest.mark.parametrize(("records", "resolved"), [(3, 0), (30, 4)])
def test_skippers_are_resolved_where_their_records_are_close_together(records, resolved):
    """Visitors go from (0, 0) to (8, 0) by way of (4, 3), skippers straight: the gap is 3."""
    rng, share = np.random.default_rng(0), np.linspace(0, 1, records)[:, None]
    straight = share * [8.0, 0.0]
    around = straight + np.sin(np.pi * share) * [0.0, 3.0]
    points = np.stack([around] * 4 + [straight] * 4) + 0.1 * rng.normal(size=(8, 1, 2))
    visitor = np.arange(8) < 4
    begin = np.zeros(8, int)
    candidate = BranchCandidate(1, 0, -1, np.arange(8), visitor, begin, begin + 1)
    centres = np.array([[0.0, 0.0], [4.0, 3.0]])
    assert place_test(candidate, points, centres, 3, rng)[2] == resolved


def around_and_straight(entered):
    """Runs that wait 10 records at (0, 0); some go on by way of (4, 3), others straight, as fast.

    Returns points [run, time, 2] and the candidate, its visitors seen in the branch from record
    `entered` on.
    """
    rng, share = np.random.default_rng(0), np.linspace(0, 1, 21)[:, None]
    straight = share * [8.0, 0.0]
    around = straight + np.minimum(share, 1 - share) * [0.0, 6.0]
    ways = np.stack([around] * 4 + [straight] * 6)
    points = np.concatenate([np.zeros((10, 10, 2)), ways], axis=1)
    points += 0.02 * rng.normal(size=points.shape)
    visitor, begin = np.arange(10) < 4, np.zeros(10, int)
    leave = np.where(visitor, entered, 12)
    return points, BranchCandidate(1, 0, -1, np.arange(10), visitor, begin, leave)


@pytest.mark.parametrize("entered", [11, 14, 18])
def test_runs_part_where_they_were_together_last_however_late_the_branch_is_cut(entered):
    """At 16 records visitors are 1.8 to the side: skippers never come near."""
    points, candidate = around_and_straight(entered)
    found = parting(candidate, points, np.array([4.0, 3.0]))
    assert found.together
    # A quarter of the 5 to the branch is 1.25, three steps of 0.4 or four: records 13 or 14.
    assert (np.abs(found.records - 13) <= 2).all()
    gap = found.records[candidate.visitor].mean() - found.records[~candidate.visitor].mean()
    assert abs(gap) <= 1.5


def test_there_is_no_delay_where_runs_were_never_together():
    points, candidate = around_and_straight(11)
    points[candidate.visitor] += [0.0, 9.0]
    found = parting(candidate, points, np.array([4.0, 12.0]))
    assert not found.together
    steps = np.broadcast_to(np.arange(31.0), (10, 31))
    arguments = (points, steps, np.full(10, 29.0), np.random.default_rng(0))
    assert delay(candidate, found, *arguments) is None
    assert delay(candidate, found._replace(together=True), *arguments) is not None


def test_the_best_of_all_splits_of_few_runs_is_no_branch():
    """6 runs in 6 components, two places each: of 10 splits the one that parts them most.

    About 0.01 of such splits pass: of 30, 2 are three standard errors more. In deviations of the
    separation itself, not of its log, a third do.
    """
    rng, visitors = np.random.default_rng(5), list(combinations(range(1, 6), 2))
    begin, passing = np.zeros(6, int), 0
    for _ in range(30):
        points = rng.normal(size=(6, 4, 6))
        splits = []
        for others in visitors:
            visitor = np.isin(np.arange(6), (0, *others))
            order = np.argsort(~visitor, kind="stable")
            candidate = BranchCandidate(1, 0, 2, order, visitor[order], begin, begin + 1)
            centres = np.array([points[visitor, 1].mean(0)] * 2 + [points[~visitor, 2].mean(0)])
            splits.append((candidate, centres))
        apart = [place_test(c, points, m, 3, np.random.default_rng(0))[:2] for c, m in splits]
        passing += max(z for _, z in apart) > CRITICAL_Z
    assert passing <= 2


def test_places_are_counted_in_a_decoding():
    features, paths = common_scale(FORK.values), true_paths(FORK)
    joined = np.where(paths == paths.max(), 1, paths)  # the branch is part of another phase
    states = int(paths.max()) + 1
    passing = [b for b in search(FORK) if b.z > 4]
    assert count_places(features, paths, states) >= len(passing) == 1
    assert count_places(features, joined, states) == 0


def fast_and_slow(seed, num_runs=40):
    """One straight path of three phases at speeds 1 to 60: the fast have no record in phase 1."""
    rng = np.random.default_rng(seed)
    speeds = 60 ** rng.random(num_runs)
    progress = np.minimum(np.arange(150) * speeds[:, None] / 60, 2)
    places = np.stack([3 * progress, 0 * progress, 0 * progress], -1)
    features = places + 0.35 * rng.normal(size=(num_runs, 1, 3))
    features += 0.02 * rng.normal(size=features.shape)
    return features, (progress > 0.7).astype(int) + (progress > 1.3)


def test_another_speed_is_not_another_place():
    steps = np.arange(150.0)
    for seed in range(10):
        features, paths = fast_and_slow(seed)
        visits = find_visits(paths, 3).visited[:, 1]
        assert 8 <= visits.sum() <= 36
        found = find_branches(features, {3: paths}, lambda k: [], NAMES, steps, np.full(40, np.nan))
        assert not any(branch.named for branch in found)


def test_groups_told_apart_by_time_alone_are_not_named():
    """The same fork, but those who take it stay three times as long before it."""
    planted = phases("fork", (4, 1))
    paths, features = true_paths(planted), common_scale(planted.values)
    late_paths, late = paths.copy(), features.copy()
    for run in np.flatnonzero(planted.takers):
        late_paths[run] = np.r_[np.zeros(80, int), paths[run, :120]]
        late[run] = np.r_[np.repeat(features[run, :1], 80, 0), features[run, :120]]
    first = search(planted, paths=late_paths, features=late)[0]
    assert min(first.timing, 1 - first.timing) < 0.1
    assert not first.named


def named(family, sets):
    """Named branches of several sets of runs, a list for each."""
    found = [search(phases(family, (4, seed))) for seed in range(sets)]
    return [[branch for branch in branches if branch.named] for branches in found]


def test_detours_are_found():
    assert sum(any(b.detour for b in branches) for branches in named("detour", 8)) >= 4


@pytest.mark.parametrize("family", ["fork", "ends", "late_end", "dead_end"])
def test_forks_and_ends_are_branches_and_no_detours(family):
    found = named(family, 4)
    assert sum(bool(branches) for branches in found) >= 3
    assert not any(branch.detour for branches in found for branch in branches)


def test_a_branch_of_several_maps_is_one():
    """In a finer map the phase before is cut in two; the branch is the same."""
    paths = true_paths(FORK)
    halves = [(np.flatnonzero(path == 0)[: (path == 0).sum() // 2]) for path in paths]
    finer = paths.copy()
    for run, early in enumerate(halves):
        finer[run, early] = paths.max() + 1
    named = [b for b in search(FORK, decodings={5: paths, 6: finer}) if b.named]
    assert len(named) == 1
    assert {num_states for num_states, _ in named[0].maps} == {paths.max() + 1, paths.max() + 2}


def test_fewer_runs_than_the_test_needs_give_no_branch():
    few = phases("fork", (4, 1), num_runs=5, share=0.4)
    assert search(few) == ()


def test_short_runs_and_missing_convergence():
    planted = phases("short", (4, 3))
    found = search(planted, convergence=np.full(40, np.nan))
    assert all(isinstance(branch, Branch) and branch.delay is None for branch in found)


def test_branches_survive_json():
    every = search(phases("dead_end", (4, 0))) + search(FORK)
    assert any(b.end_z is None for b in every)
    assert [from_json(Branch, to_json(b)) for b in every] == list(every)
