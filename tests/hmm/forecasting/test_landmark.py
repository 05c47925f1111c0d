import doctest

import numpy as np
import pytest

from seedmap.hmm.forecasting import landmark
from seedmap.hmm.forecasting.landmark import (
    distribution_by_state,
    distribution_by_time,
    distribution_by_weight,
)
from seedmap.hmm.training_map.survival import kaplan_meier


def test_time_alone_is_kaplan_meier_from_the_landmark_on():
    rng = np.random.default_rng(0)
    arrivals, observed = rng.integers(4, 21, 60), rng.random(60) < 0.6
    observed[arrivals == 20] = False
    found = distribution_by_time(arrivals, observed, index=3, num_steps=20)
    curve = kaplan_meier(np.where(observed, arrivals, arrivals - 1).astype(float), observed)
    at = np.searchsorted(curve.times, np.arange(3, 20), side="right")
    np.testing.assert_allclose(found, 1 - np.append(1, curve.survival)[at], atol=1e-12)


def test_a_whole_weight_is_a_run_that_is_there_as_often():
    rng = np.random.default_rng(1)
    arrivals, observed, counts = (
        rng.integers(1, 9, 12),
        rng.random(12) < 0.7,
        rng.integers(0, 4, 12),
    )
    weighted = distribution_by_weight(counts[:, None].astype(float), arrivals, observed, 0, 9)
    repeated = distribution_by_time(arrivals.repeat(counts), observed.repeat(counts), 0, 9)
    np.testing.assert_allclose(weighted[0], repeated, atol=1e-12)


def test_runs_of_an_absorbing_chain_are_forecast_as_its_closed_form():
    rng = np.random.default_rng(0)
    transition, exits = np.array([[0.9, 0.1], [0.0, 1.0]]), np.array([0.02, 0.2])
    num_runs, num_steps = 20000, 15
    start = rng.integers(2, size=num_runs)
    state, arrivals, observed = start.copy(), np.full(num_runs, num_steps), np.zeros(num_runs, bool)
    for step in range(1, num_steps):
        leaves = ~observed & (rng.random(num_runs) < exits[state])
        arrivals[leaves], observed = step, observed | leaves
        state = (rng.random(num_runs) > transition[state, 0]).astype(int)
    new = np.array([[1.0, 0.0], [0.0, 1.0], [0.3, 0.7]])
    found = distribution_by_state(np.eye(2)[start], arrivals, observed, new, 0, num_steps)
    staying = (1 - exits)[:, None] * transition
    left = [np.linalg.matrix_power(staying, h).sum(1) for h in range(num_steps)]
    np.testing.assert_allclose(found, 1 - new @ np.stack(left, 1), atol=0.015)


def test_a_state_that_no_run_is_in_is_time_alone():
    arrivals, observed = np.array([2, 3, 5, 6]), np.array([True, True, True, False])
    beliefs = np.tile([1.0, 0.0], (4, 1))
    found = distribution_by_state(beliefs, arrivals, observed, np.array([[0.0, 1.0]]), 1, 6)
    np.testing.assert_allclose(found[0], distribution_by_time(arrivals, observed, 1, 6))


def test_examples():
    results = doctest.testmod(landmark)
    assert results.attempted == 2
    assert not results.failed


@pytest.mark.parametrize("index", [0, 3])
def test_no_probability_at_the_landmark_itself(index):
    arrivals, observed = np.array([4, 5, 5]), np.array([True, False, True])
    assert distribution_by_time(arrivals, observed, index, 6)[0] == 0
