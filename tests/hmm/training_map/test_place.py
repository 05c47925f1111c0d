import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from seedmap.hmm.training_map.place import (
    _best_split,
    closest_points,
    null_separations,
    separation,
    whiten,
)


def test_whitening_by_hand():
    """Two states, three runs; runs' means are those of their records in the state."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 6, 2))
    paths = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]])
    features[1, 5], paths[1, 5] = np.nan, -1
    visited = np.array([[True, True], [True, True], [True, False]])
    means = [
        [features[0, :3].mean(0), features[1, :2].mean(0), features[2].mean(0)],
        [features[0, 3:].mean(0), features[1, 2:5].mean(0)],
    ]
    scatter = sum(np.cov(np.transpose(m)) * (len(m) - 1) for m in means) / 3
    shrunk = scatter + 0.05 * np.trace(scatter) / 2 * np.eye(2)
    found = whiten(features, paths, visited)
    assert found.matrix.T @ shrunk @ found.matrix == pytest.approx(np.eye(2), abs=1e-8)
    centres = np.array([np.mean(m, axis=0) for m in means])
    assert found.centres == pytest.approx(centres @ found.matrix)


def test_a_state_of_one_run_has_no_centre():
    features, paths = np.random.default_rng(0).normal(size=(2, 4, 1)), np.zeros((2, 4), int)
    paths[0, 2:] = 1
    assert np.isnan(whiten(features, paths, np.array([[1, 1], [1, 0]], bool)).centres[1]).all()


def test_closest_points_are_those_of_a_fine_walk_along_the_line():
    rng = np.random.default_rng(1)
    points, target = rng.normal(size=(5, 9, 3)), rng.normal(size=3)
    points[2, 6:] = np.nan
    begin = np.array([0, 3, 1, 7, 20])
    found, segments = closest_points(points, target, begin)
    for run in range(5):
        last = 4 if run == 2 else 7
        first = min(begin[run], last)
        share = np.linspace(0, 1, 2001)[:, None]
        walk = np.concatenate(
            [
                points[run, t] + share * (points[run, t + 1] - points[run, t])
                for t in range(first, last + 1)
            ]
        )
        away = np.linalg.norm(walk - target, axis=1)
        assert np.linalg.norm(found[run] - target) == pytest.approx(away.min(), abs=1e-3)
        assert segments[run] == first + away.argmin() // 2001


def test_separation_along_one_axis_is_the_t_statistic():
    rng = np.random.default_rng(2)
    points, group = rng.normal(size=(15, 1)), np.arange(15) < 6
    apart, direction = separation(points, group)
    t = stats.ttest_ind(points[group, 0], points[~group, 0]).statistic
    assert apart == pytest.approx(abs(t) * np.sqrt(1 / 6 + 1 / 9))
    assert direction[0] == np.sign(t)


def test_separation_is_that_of_sklearns_discriminant():
    rng = np.random.default_rng(3)
    points, group = rng.normal(size=(4, 30, 5)) @ rng.normal(size=(5, 5)), np.arange(30) < 11
    apart, directions = separation(points, np.broadcast_to(group, (4, 30)))
    for one, distance, direction in zip(points, apart, directions, strict=True):
        peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2, priors=[19 / 30, 11 / 30])
        axis = peer.fit(one, group).coef_[0]
        assert direction == pytest.approx(axis / np.linalg.norm(axis), abs=1e-8)
        line = one @ direction
        t = stats.ttest_ind(line[group], line[~group]).statistic
        assert distance == pytest.approx(t * np.sqrt(1 / 11 + 1 / 19))


def test_the_best_split_is_the_best_of_all_groups():
    """On a line no group of 3 or more against the rest beats the best cut."""
    line = np.random.default_rng(4).normal(size=(3, 9))
    for values, upper in zip(line, _best_split(line, 3), strict=True):
        best = max(
            separation(values[:, None], np.isin(np.arange(9), members))[0]
            for size in range(3, 7)
            for members in itertools.combinations(range(9), size)
        )
        assert separation(values[:, None], upper)[0] == pytest.approx(best)
        assert values[upper].min() > values[~upper].max()


def test_the_null_has_the_covariance_of_the_points_and_no_units():
    rng = np.random.default_rng(5)
    points = rng.normal(size=(20, 3)) * [1, 5, 0.2]
    null = null_separations(points, 4, np.random.default_rng(0))
    assert null_separations(7 * points - 3, 4, np.random.default_rng(0)) == pytest.approx(null)
    assert null.shape == (100,)
    assert null.min() > 2  # the best split of one cloud always looks good


@pytest.mark.parametrize("shape", ["standard_normal", "uniform", "standard_t"])
def test_the_best_split_of_one_cloud_is_seldom_called_two_places(shape):
    """The split is the best along the widest axis; the clouds are normal, flat, heavy-tailed."""
    rng, named = np.random.default_rng(6), []
    arguments = {"standard_normal": (), "uniform": (-1, 1), "standard_t": (4,)}[shape]
    for _ in range(40):
        points = getattr(rng, shape)(*arguments, size=(40, 3)) * [1.0, 0.7, 0.5]
        group = _best_split(points[None, :, 0], 4)[0]
        null = null_separations(points, 4, rng)
        named.append(separation(points, group)[0] > null.mean() + 2.33 * null.std())
    assert np.mean(named) <= 0.05


def test_two_clouds_are_called_two_places():
    rng = np.random.default_rng(7)
    for _ in range(10):
        group = np.arange(40) < 12
        points = rng.normal(size=(40, 3)) + 6 * group[:, None] * [1, 0, 0]
        null = null_separations(points, 4, rng)
        assert separation(points, group)[0] > null.mean() + 2.33 * null.std()
