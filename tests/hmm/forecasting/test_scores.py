import doctest
import itertools

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from seedmap.errors import UserError
from seedmap.hmm.forecasting import scores
from seedmap.hmm.forecasting.scores import (
    bootstrap,
    brier_by_run,
    concordance,
    concordance_pairs,
    coverage,
    expected_wait,
    outcome_weights,
    recorded_beyond,
)

NUM_STEPS, INDEX = 12, 2


def outcomes(num_runs, seed, ends):
    """Arrivals, whether observed, and the arrivals if no run ended early; and forecasts."""
    rng = np.random.default_rng(seed)
    true = np.minimum(INDEX + rng.geometric(0.12, num_runs), NUM_STEPS)
    length = np.minimum(INDEX + rng.geometric(ends, num_runs), NUM_STEPS) if ends else NUM_STEPS
    observed = (true < length) & (true < NUM_STEPS)
    distribution = np.sort(rng.random((num_runs, NUM_STEPS - INDEX)), axis=1)
    distribution[:, 0] = 0
    return np.where(observed, true, np.minimum(length, NUM_STEPS)), observed, true, distribution


def plain_brier(distribution, true):
    """By the definition, of outcomes all known."""
    terms = [
        (float(arrival <= horizon) - row[horizon - INDEX]) ** 2
        for row, arrival in zip(distribution, true, strict=True)
        for horizon in range(INDEX + 1, NUM_STEPS)
    ]
    return np.mean(terms)


def plain_concordance(waits, true):
    """Harrell's, by the definition, of outcomes all known."""
    pairs = [
        0.5 if waits[i] == waits[j] else float(waits[i] < waits[j])
        for i, j in itertools.permutations(range(len(true)), 2)
        if true[i] < true[j]
    ]
    return np.mean(pairs)


def c_index(waits, arrivals, observed, groups=None):
    groups = np.zeros(len(waits), int) if groups is None else groups
    pairs = concordance_pairs(waits, arrivals, observed, NUM_STEPS, groups)
    return concordance(np.ones((1, len(waits))), *pairs)[0]


def test_without_early_ends_scores_are_the_plain_ones():
    arrivals, observed, true, distribution = outcomes(40, 0, ends=0)
    assert 0 < observed.sum() < 40
    found = brier_by_run(distribution, arrivals, observed, INDEX)
    assert found.mean() == pytest.approx(plain_brier(distribution, true))
    np.testing.assert_array_equal(outcome_weights(arrivals, observed, NUM_STEPS), 1)
    waits = expected_wait(distribution).round(1)  # with ties
    assert c_index(waits, arrivals, observed) == pytest.approx(plain_concordance(waits, true))


def test_runs_that_end_early_are_stood_for_by_the_others():
    arrivals, observed, true, distribution = outcomes(3000, 1, ends=0.08)
    assert ((arrivals < NUM_STEPS) & ~observed).mean() > 0.2
    found = brier_by_run(distribution, arrivals, observed, INDEX).mean()
    assert found == pytest.approx(plain_brier(distribution, true), abs=0.01)
    weights = outcome_weights(arrivals, observed, NUM_STEPS)
    assert weights.mean() == pytest.approx(1, abs=0.02)
    assert weights @ (true == 5) / 3000 == pytest.approx((true == 5).mean(), abs=0.01)
    # Forecasts that know: later where the run is later, up to noise.
    waits = true + 4 * np.random.default_rng(0).normal(size=3000)
    whole = c_index(waits, true, true < NUM_STEPS)
    assert c_index(waits, arrivals, observed) == pytest.approx(whole, abs=0.01)


def test_what_is_recorded_beyond_is_counted_by_hand():
    # A run is recorded at checkpoint 4 and converges there; one ends before 4, one before 6.
    arrivals = np.array([4, 4, 6, 8, 8])
    observed = np.array([True, False, False, True, False])
    found = recorded_beyond(arrivals, observed, num_steps=8)
    np.testing.assert_allclose(found, [1, 1, 1, 1, 0.8, 0.8, 0.8 * 2 / 3, 0.8 * 2 / 3, 0.8 * 2 / 3])


def test_a_perfect_forecast_scores_0_and_an_opposite_one_1():
    arrivals, observed = np.array([3, 7, NUM_STEPS]), np.array([True, True, False])
    perfect = (np.arange(INDEX, NUM_STEPS) >= arrivals[:, None]).astype(float)
    np.testing.assert_array_equal(brier_by_run(perfect, arrivals, observed, INDEX), 0)
    np.testing.assert_array_equal(brier_by_run(1 - perfect, arrivals, observed, INDEX), 1)
    assert c_index(expected_wait(perfect), arrivals, observed) == 1
    assert c_index(-expected_wait(perfect), arrivals, observed) == 0
    assert c_index(np.ones(3), arrivals, observed) == 0.5


def test_forecasts_of_different_models_are_not_compared():
    arrivals, observed = np.array([3, 4, 5, 6]), np.ones(4, bool)
    waits, groups = np.array([9.0, 10, 1, 2]), np.array([0, 0, 1, 1])
    assert c_index(waits, arrivals, observed, groups) == 1
    assert c_index(waits, arrivals, observed) == pytest.approx(2 / 6)


def test_nothing_is_to_come_at_the_last_checkpoint():
    with pytest.raises(UserError, match="nothing is to come"):
        brier_by_run(np.zeros((1, 1)), np.array([5]), np.array([False]), 4)


def test_resampled_intervals_are_those_of_a_mean():
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap(lambda counts: counts @ values / 400, 400, seed=0)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.015
    )


def test_a_resampled_run_counts_as_often_as_it_is_drawn():
    rng = np.random.default_rng(0)
    arrivals, observed, _, distribution = outcomes(15, 2, ends=0)
    counts, waits = rng.integers(0, 3, 15), expected_wait(distribution)
    pairs = concordance_pairs(waits, arrivals, observed, NUM_STEPS, np.zeros(15, int))
    repeated = c_index(waits.repeat(counts), arrivals.repeat(counts), observed.repeat(counts))
    assert concordance(counts[None].astype(float), *pairs)[0] == pytest.approx(repeated)


def test_coverage_is_statsmodels():
    held = np.arange(30) < 24
    found = coverage(held, np.full(30, 2.0))
    expected = proportion_confint(24, 30, method="wilson")
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-6)
    assert coverage(held, np.where(held, 1.0, 2.0)).value == pytest.approx(24 / 36)


def test_examples():
    results = doctest.testmod(scores)
    assert results.attempted == 2
    assert not results.failed
