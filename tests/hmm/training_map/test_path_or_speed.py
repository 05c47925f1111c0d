import itertools

import numpy as np
import pytest

from seedmap.errors import UserError
from seedmap.hmm.training_map.path_or_speed import alignment_cost, path_or_speed

TIME = np.linspace(0, 1, 80)


def way(progress):
    """A curve of three components that never comes back to a place."""
    return np.stack([4 * progress, np.sin(4 * progress), np.cos(5 * progress)], -1)


def planted(speed_spread, offset, seed=0, num_runs=16):
    """Runs along one way at speeds exp(spread u), each moved by an offset that lasts."""
    rng = np.random.default_rng(seed)
    speeds = np.exp(speed_spread * rng.uniform(-1, 1, (num_runs, 1)))
    places = way(np.minimum(TIME * speeds, 1.5))
    moved = places + offset * rng.normal(size=(num_runs, 1, 3))
    return moved + 0.01 * rng.normal(size=places.shape), places


def enumerated(costs):
    """The least mean cost over every path that begins at (0, 0) and uses up one run."""
    height, width = costs.shape
    best = np.inf
    moves = [(1, 1), (1, 0), (0, 1)]
    for length in range(height + width):
        for steps in itertools.product(moves, repeat=length):
            ends = np.cumsum([(0, 0), *steps], axis=0)
            i, j = ends[-1]
            if i >= height or j >= width or (i != height - 1 and j != width - 1):
                continue
            weights = np.array([2, *(sum(step) for step in steps)])
            best = min(best, (weights * costs[ends[:, 0], ends[:, 1]]).sum() / weights.sum())
    return best


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 3)])
def test_the_best_alignment_by_enumeration(shape):
    costs = np.random.default_rng(0).random((*shape, 2))
    expected = [enumerated(costs[..., pair]) for pair in range(2)]
    assert alignment_cost(costs) == pytest.approx(expected)


def test_one_path_at_many_speeds_is_timing():
    found = path_or_speed(planted(0.7, 0.0)[0], num_shuffles=19)
    assert found.timing > 0.97
    assert found.pvalue == pytest.approx(1 / 20)
    assert found.place == pytest.approx(1 - found.timing)


def test_lasting_offsets_are_place():
    """What points along the way is aligned away, and no more of it than by chance."""
    values = [path_or_speed(planted(0.0, 0.4, seed)[0], seed, 19) for seed in range(4)]
    assert np.mean([v.timing for v in values]) < 0.05
    assert np.mean([v.aligned_away for v in values]) > 0.2
    assert sum(v.pvalue <= 0.05 for v in values) <= 1


def test_the_shares_of_a_mixture_are_known():
    """Squared differences add up: those of the offsets are 2 x 3 x offset^2 on average."""
    for spread, offset in ((0.5, 0.3), (0.3, 0.4)):
        measured, places = planted(spread, offset, seed=2, num_runs=60)
        spread_out = ((places - places.mean(0)) ** 2).sum(-1).mean() * 2 * 60 / 59
        place = 6 * offset**2 / (6 * offset**2 + spread_out)
        found = path_or_speed(measured, num_shuffles=19)
        assert found.place == pytest.approx(place, abs=0.12)
        assert found.pvalue == 0.05
        assert found.low < found.timing < found.high


@pytest.mark.slow
def test_the_pvalue_is_uniform_where_differences_have_no_direction():
    """Isotropic differences that change smoothly: 20 sets, p-values of 20 levels."""
    ranks = []
    for seed in range(20):
        rng = np.random.default_rng((5, seed))
        knots = rng.normal(size=(8, 4, 3)) * 0.5
        bumps = np.array([np.exp(-((TIME - c) ** 2) / 0.05) for c in (0.1, 0.4, 0.6, 0.9)])
        curves = way(TIME) + np.einsum("kt,rkc->rtc", bumps, knots)
        ranks.append(path_or_speed(curves, seed, 19).pvalue)
    assert np.mean(np.array(ranks) <= 0.1) <= 0.2
    assert np.mean(ranks) == pytest.approx(0.525, abs=0.16)


def test_runs_are_compared_up_to_the_shortest():
    full = planted(0.5, 0.2)[0]
    ragged = full.copy()
    ragged[3, 60:] = np.nan
    assert path_or_speed(ragged, 0, 1) == path_or_speed(full[:, :60], 0, 1)


def test_wrong_input():
    with pytest.raises(UserError, match="at least 3 runs of 5 records"):
        path_or_speed(np.zeros((2, 9, 1)))
    with pytest.raises(UserError, match="same in all runs"):
        path_or_speed(np.zeros((3, 9, 1)))
