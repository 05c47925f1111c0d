"""When replicas part and how fast, on curves whose exponents are known."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seedmap.experiments import noise
from seedmap.experiments.noise.measures.divergence import SATURATION_SHARE


def logistic(step_T, rate, start, level):
    """Solution of d' = rate d (1 - d / level), d(0) = start."""
    grown = start * np.exp(rate * step_T)
    return level * grown / (level + grown - start)


@given(st.floats(0.01, 0.2), st.floats(1e-9, 1e-6))
def test_the_exponent_of_an_exponential_that_saturates_is_found(rate, start):
    step = np.arange(0, 401, 2)
    distance = np.minimum(start * np.exp(rate * step), 1.0)
    found = noise.growth(distance, step)
    np.testing.assert_allclose(found.rate, rate, rtol=1e-6)
    assert found.rate_r2 > 1 - 1e-9
    assert found.better == "exponential"
    assert found.start == 0
    level = np.median(distance[-50:])
    assert found.saturation == level
    # The phase ends at the first record that is high enough, and does not hold it.
    assert distance[step < found.end].max() < SATURATION_SHARE * level
    assert distance[step == found.end] >= SATURATION_SHARE * level
    assert found.records == np.sum((step > 0) & (step < found.end))


def test_saturation_bends_the_exponent_of_logistic_growth_by_little():
    step = np.arange(0, 1500)
    found = noise.growth(logistic(step, 0.02, 1e-8, 1.0), step)
    assert 0.99 * 0.02 < found.rate < 0.02
    assert found.better == "exponential"
    assert abs(found.end - np.log(1e8 * SATURATION_SHARE / (1 - SATURATION_SHARE)) / 0.02) < 2


@given(st.floats(0.3, 3))
def test_the_exponent_of_a_power_law_is_found(power):
    step = np.arange(1, 2000)
    found = noise.growth(1e-6 * step**power, step)
    np.testing.assert_allclose(found.power, power, rtol=1e-6)
    assert found.power_r2 > 1 - 1e-9 > found.rate_r2
    assert found.better == "power"


def test_noise_on_the_logarithm_is_averaged_over():
    step = np.arange(0, 300)
    noisy = np.random.default_rng(0).normal(scale=0.3, size=300)
    found = noise.growth(np.minimum(1e-8 * np.exp(0.08 * step + noisy), 1.0), step)
    # Standard error of a slope: 0.3 sqrt(12 / n³) = 0.0004 for the 210 records before the end.
    assert abs(found.rate - 0.08) < 0.0016
    assert 0.99 < found.rate_r2 < 1


def test_replicas_that_part_late_grow_from_there():
    step = np.arange(0, 1000, 10)
    distance = np.where(step < 300, 0.0, np.minimum(1e-7 * np.exp(0.05 * (step - 300)), 1.0))
    assert noise.first_apart(distance, step) == 300
    found = noise.growth(distance, step)
    assert found.start == 300
    np.testing.assert_allclose(found.rate, 0.05, rtol=1e-9)


def test_a_record_at_zero_within_the_phase_is_left_out():
    step = np.arange(0, 100)
    distance = np.minimum(1e-6 * np.exp(0.2 * step), 1.0)
    distance[10] = 0.0
    np.testing.assert_allclose(noise.growth(distance, step).rate, 0.2, rtol=1e-9)


def test_a_jump_to_the_level_has_no_exponent():
    step = np.arange(0, 100)
    distance = np.where(step < 5, 0.0, 0.7)
    found = noise.growth(distance, step)
    assert (found.start, found.end, found.saturation, found.records) == (5, 5, 0.7, 0)
    assert found.rate is found.power is found.better is None
    distance[5:7] = [1e-8, 1e-5]  # two records are not enough for a line and its fit
    assert noise.growth(distance, step)[:5] == (None,) * 5


def test_replicas_that_never_part_have_neither_step_nor_exponent():
    step, distance = np.arange(50), np.zeros(50)
    assert noise.first_apart(distance, step) is None
    found = noise.growth(distance, step)
    assert found == noise.Growth(None, None, None, None, None, None, None, 0.0, 0)
    assert np.isnan(noise.growth_curve(distance, step).exponent_T).all()


def test_distances_that_only_fall_have_no_growth_phase():
    step = np.arange(1, 41)
    found = noise.growth(np.exp(-0.1 * step), step)
    assert (found.end, found.rate) == (1, None)
    together = noise.growth(np.where(step < 30, 1e-6 * step, 0.0), step)  # they meet again
    assert (together.end, together.saturation, together.rate) == (1, 0.0, None)


def test_the_local_exponent_follows_the_growth():
    step = np.array([0, 10, 20, 40, 80])
    distance = np.stack([1e-6 * np.exp(0.1 * step), [0, 0, 1e-3, 2e-3, 2e-3]])
    found = noise.growth_curve(distance, step)
    np.testing.assert_array_equal(found.step_T, [5, 15, 30, 60])
    expected = [[0.1] * 4, [np.nan, np.nan, np.log(2) / 20, 0.0]]
    np.testing.assert_allclose(found.exponent_T, expected, rtol=1e-12)


def test_the_local_exponent_of_logistic_growth_falls_with_the_distance():
    step = np.arange(0, 1000, 5)
    distance = logistic(step, 0.03, 1e-7, 2.0)
    found = noise.growth_curve(distance, step)
    middle = logistic(found.step_T, 0.03, 1e-7, 2.0)
    np.testing.assert_allclose(found.exponent_T, 0.03 * (1 - middle / 2.0), atol=1e-5)


def test_records_that_make_no_curve_are_refused():
    step = np.arange(3)
    for measure in (noise.first_apart, noise.growth, noise.growth_curve):
        with pytest.raises(ValueError, match="below 0 or not finite"):
            measure(np.array([0, np.nan, 1]), step)
        with pytest.raises(ValueError, match="below 0 or not finite"):
            measure(np.array([0, -1e-9, 1]), step)
        with pytest.raises(ValueError, match="must rise"):
            measure(np.ones(3), np.array([0, 2, 2]))
        with pytest.raises(ValueError, match="a distance and a step"):
            measure(np.ones(2), step)
    with pytest.raises(ValueError, match="one pair of replicas at a time"):
        noise.growth(np.ones((2, 3)), step)
    with pytest.raises(ValueError, match="found -1"):
        noise.growth(np.ones(3), step - 1)
