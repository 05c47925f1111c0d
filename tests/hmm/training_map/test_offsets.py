import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from seedmap.hmm.training_map.branch_candidates import BranchCandidate
from seedmap.hmm.training_map.branch_tests import place_test
from seedmap.hmm.training_map.offsets import lasting_offsets, run_means, without_offsets

RUNS, STATES = 24, 6


def planted_means(rng, lasting, own, runs=RUNS, missing=0.0):
    """Means [run, state, 1]: centres, offsets that last, and what a run has in one state alone."""
    centres = rng.normal(size=(1, STATES, 1)) * 5
    offsets = lasting * rng.normal(size=(runs, 1, 1))
    means = centres + offsets + own * rng.normal(size=(runs, STATES, 1))
    means[rng.random((runs, STATES)) < missing] = np.nan
    return means, offsets[:, 0]


def test_means_by_hand():
    points = np.arange(12.0).reshape(2, 3, 2)
    paths = np.array([[0, 0, 1], [1, 1, -1]])
    means = run_means(points, paths, np.array([[True, True], [False, True]]))
    assert means[0].tolist() == [[1, 2], [4, 5]]
    assert means[1, 1].tolist() == [7, 8]
    assert np.isnan(means[1, 0]).all()


@pytest.mark.parametrize(("runs", "lasting"), [(RUNS, 0.3), (RUNS, 1.0), (6, 1.0)])
def test_offsets_are_those_of_a_mixed_model(runs, lasting):
    """Restricted maximum likelihood, where every run is in every state: the same estimates."""
    means, _ = planted_means(np.random.default_rng(0), lasting, 0.5, runs)
    run, state = np.indices((runs, STATES)).reshape(2, -1)
    frame = pd.DataFrame({"y": means.ravel(), "run": run, "state": state})
    fitted = smf.mixedlm("y ~ C(state)", frame, groups="run").fit()
    expected = [fitted.random_effects[r].iloc[0] for r in range(runs)]
    assert lasting_offsets(means)[:, 0] == pytest.approx(expected, abs=1e-3)


def test_runs_of_few_states_are_shrunk_more_as_the_matrix_formula_has_it():
    rng = np.random.default_rng(1)
    means, _ = planted_means(rng, 1.0, 0.5, runs=400, missing=0.5)
    means[:3] = np.nan
    means[0, 0] = 4.0
    there = ~np.isnan(means[:, :, 0])
    deviations = (means - np.nanmean(means, 0))[:, :, 0]
    found = lasting_offsets(means)[:, 0]
    assert found[1] == found[2] == 0  # in no state
    # variances of 1 and 0.25, to the precision of 400 runs
    for run in np.flatnonzero(there.any(1)):
        y = deviations[run, there[run]]
        covariance = 1.0 + 0.25 * np.eye(len(y))
        expected = np.ones(len(y)) @ np.linalg.solve(covariance, y)
        assert found[run] == pytest.approx(expected, abs=0.05 * max(1, np.abs(y).max()))


def test_it_is_nearer_to_the_truth_than_the_mean_is_and_than_nothing():
    rng = np.random.default_rng(2)
    losses = []
    for _ in range(200):
        means, offsets = planted_means(rng, 0.3, 0.6)
        truth = offsets - offsets.mean()
        mean = (means - means.mean(0)).mean(1)
        losses.append([((x - truth) ** 2).mean() for x in (lasting_offsets(means), mean, 0)])
    ours, means_loss, nothing = np.array(losses).T
    for other in (means_loss, nothing):
        gain = other - ours
        assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))


def test_nothing_is_taken_off_where_offsets_do_not_last_or_no_run_is_in_two_states():
    rng = np.random.default_rng(3)
    shares = [np.var(lasting_offsets(planted_means(rng, 0.0, 1.0)[0])) * STATES for _ in range(300)]
    assert np.mean(shares) < 0.2  # of the means' own variance
    assert np.mean(np.array(shares) == 0) > 0.4
    apart = np.full((4, 2, 1), np.nan)
    apart[:2, 0, 0], apart[2:, 1, 0] = [1, 2], [3, 4]
    assert (lasting_offsets(apart) == 0).all()
    assert lasting_offsets(np.empty((5, 0, 3))).shape == (5, 3)
    assert (lasting_offsets(np.full((5, 2, 1), 7.0)) == 0).all()  # all alike


def two_ways(rng, apart, share_common, num_runs=40, records=25):
    """Runs from state 0 to 3 and on to 4 and 5; a third passes by state 1, `apart` to the side.

    Returns points [run, time, 2], paths, visited, and the candidate.
    """
    visitor = np.arange(num_runs) < num_runs // 3
    corners = np.array([[0.0, 0], [2, 0], [4, 0], [6, 0], [8, 0]])
    ways = np.repeat(corners[None], num_runs, axis=0)
    ways[visitor, 1, 1] += apart
    states = np.where(visitor[:, None], [0, 1, 3, 4, 5], [0, 2, 3, 4, 5])
    if not share_common:  # as where runs are cut into two sets of states by their offsets
        states[visitor] += 6
        states[visitor, 1] = 1
    points = np.repeat(ways, records // 5, axis=1)
    paths = np.repeat(states, records // 5, axis=1)
    offsets = 0.5 * rng.normal(size=(num_runs, 1, 2))
    points = points + offsets + 0.02 * rng.normal(size=points.shape)
    visited = (paths[:, :, None] == np.arange(12)).any(1)
    begin = np.zeros(num_runs, int)
    candidate = BranchCandidate(1, -1, -1, np.arange(num_runs), visitor, begin, begin + 1)
    return points, paths, visited, candidate


def z_of(points, paths, visited, candidate, without):
    """z of the place test."""
    means = run_means(points, paths, visited)
    seen = visited.any(0)
    centres = np.full(means.shape[1:], np.nan)
    centres[seen] = np.nanmean(means[:, seen], 0)
    if without:
        points, centres = without_offsets(candidate, points, means, centres)
    return place_test(candidate, points, centres, 4, np.random.default_rng(0))[1]


def test_a_place_that_offsets_blur_is_seen_without_them():
    """1.0 to the side, with offsets of deviation 0.5."""
    made = two_ways(np.random.default_rng(4), 1.0, True)
    assert z_of(*made, without=False) < 4
    assert z_of(*made, without=True) > 10


def test_one_place_is_no_two_without_offsets():
    """No way to the side: the visitors are a third of one cloud."""
    found = [
        z_of(*two_ways(np.random.default_rng((5, i)), 0.0, True), without=True) for i in range(40)
    ]
    assert max(found) < 4


def test_states_of_one_group_alone_tell_no_offsets():
    """Within each its runs would lose what sets them apart, and one cloud would be two."""
    points, paths, visited, candidate = two_ways(np.random.default_rng(6), 0.0, False)
    means = run_means(points, paths, visited)
    moved, _ = without_offsets(candidate, points, means, np.zeros((12, 2)))
    np.testing.assert_array_equal(moved, points)


def test_centres_and_points_move_together():
    points, paths, visited, candidate = two_ways(np.random.default_rng(7), 1.0, True)
    candidate = candidate._replace(
        runs=candidate.runs[:-2], visitor=candidate.visitor[:-2], begin=candidate.begin[:-2]
    )
    means = run_means(points, paths, visited)
    moved, centres = without_offsets(candidate, points, means, np.full((12, 2), np.nan))
    assert np.isnan(centres).all()  # states without a centre keep none
    moved, centres = without_offsets(candidate, points, means, np.zeros((12, 2)))
    np.testing.assert_array_equal(moved[-2:], points[-2:])
    assert np.abs(moved[:-2] - points[:-2]).max() > 0.5  # offsets have deviation 0.5
    again = run_means(moved, paths, visited)[candidate.runs]
    assert centres[1] == pytest.approx(np.nanmean(again[:, 1], 0))
    assert (centres[6:] == 0).all()  # no member is there
