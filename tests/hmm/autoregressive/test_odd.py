"""Which runs are odd: on a path of their own, and not beside the usual one."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.relaxing import relaxing_runs
from seedmap.hmm.autoregressive.choice import Plan, make_material
from seedmap.hmm.autoregressive.fits import precision
from seedmap.hmm.autoregressive.model import default_tempering
from seedmap.hmm.autoregressive.odd import find_odd_runs
from seedmap.hmm.features import apply_scale, fit_scale
from seedmap.hmm.sequences import from_arrays

RUNS, STEPS, ONE = 24, 60, 7


@pytest.fixture(scope="module")
def usual():
    """Runs on one path; two components of their lasting offsets go together."""
    sequences = from_arrays(relaxing_runs(RUNS, STEPS, 3, seed=4)[0])
    features = apply_scale(fit_scale(sequences), sequences)
    sizes = np.linspace(-1.7, 1.7, RUNS)[np.random.default_rng(0).permutation(RUNS)]
    sizes[ONE] = 0.0
    return replace(features, x=features.x + sizes[:, None, None] * [1.0, 1.0, 0.0])


def odd_runs(features):
    with precision():
        material = make_material(features, np.arange(features.num_runs))
        tempering = default_tempering(features.lengths)
        found = find_odd_runs(features, material, Plan((4,), 1, 40), tempering, lambda fits: None)
    return np.flatnonzero(found).tolist()


def moved(features, by):
    x = features.x.copy()
    x[ONE] += by
    return replace(features, x=x)


@pytest.mark.parametrize(("size", "odd"), [(0, []), (3.5, []), (8, [ONE])])
def test_a_run_beside_the_usual_path_is_odd_only_far_from_it(usual, size, odd):
    assert odd_runs(moved(usual, size * np.array([1.0, -1.0, 0.0]))) == odd


def test_a_run_on_a_path_of_its_own_is_odd(usual):
    sway = 3 * np.sin(np.arange(STEPS) / 6)[:, None]
    assert odd_runs(moved(usual, sway * [1.0, -1.0, 0.0])) == [ONE]


def test_few_runs_say_too_little_of_each_other(usual):
    few = from_arrays(usual.x[:9])
    assert odd_runs(moved(apply_scale(fit_scale(few), few), 50.0)) == []
