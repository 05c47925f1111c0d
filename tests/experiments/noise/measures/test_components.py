"""Variance components: the balanced nested analysis of variance, and planted random effects."""

import numpy as np
import pytest

from seedmap.experiments.noise.measures.components import (
    censored_pairs,
    component,
    pairs_of_distances,
    pairs_of_values,
)


def planted(rng, share, roots=5, replicas=3):
    """One study: values [root, replica] of variance 1, this share of it within roots."""
    base = rng.normal(size=(roots, 1)) * np.sqrt(1 - share)
    return base + np.sqrt(share) * rng.normal(size=(roots, replicas))


def test_components_are_those_of_the_balanced_analysis_of_variance():
    y = planted(np.random.default_rng(3), 0.4, 6, 4)
    within, between = y.var(axis=1, ddof=1).mean(), 4 * y.mean(axis=1).var(ddof=1)
    found = component(*pairs_of_values(list(y)))
    np.testing.assert_allclose(found.variance, within, rtol=1e-12)
    np.testing.assert_allclose(found.share, within / (within + (between - within) / 4), rtol=1e-12)
    assert 0 <= found.low < found.share < found.high <= 1


def test_a_distance_takes_the_place_of_half_the_square():
    y = planted(np.random.default_rng(4), 0.5)
    rows = np.random.default_rng(5).permutation(15)
    values = np.empty(15)
    values[rows] = y.ravel()
    half_squares = (values[:, None] - values) ** 2 / 2
    by_distance = component(*pairs_of_distances(half_squares, list(rows.reshape(5, 3))))
    np.testing.assert_allclose(by_distance, component(*pairs_of_values(list(y))))


def test_roots_that_lost_their_replicas_have_no_part():
    y = list(planted(np.random.default_rng(6), 0.5))
    lost = [*y[:2], y[2][:1], *y[3:]]
    np.testing.assert_allclose(
        component(*pairs_of_values(lost)), component(*pairs_of_values([*y[:2], *y[3:]]))
    )
    with pytest.raises(ValueError, match="there are 1: more --roots"):
        component(*pairs_of_values([y[0], y[1][:1]]))


def test_what_does_not_vary_and_what_is_too_few_say_so():
    alike = component(*pairs_of_values([np.full(3, k) for k in range(4)]))
    assert alike == (0.0, 0.0, 0.0, 0.0, pytest.approx(5 / 3))
    assert np.isnan(component(*pairs_of_values([np.zeros(3)] * 4)).share)
    two = component(*pairs_of_values(list(planted(np.random.default_rng(7), 0.5, 2))))
    assert np.isfinite(two.share)
    assert np.isnan([two.low, two.high]).all()


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_intervals_hold_planted_shares_about_as_often_as_they_say(share):
    rng = np.random.default_rng(8)
    found = [component(*pairs_of_values(list(planted(rng, share)))) for _ in range(200)]
    held = np.mean([c.low <= share <= c.high for c in found])
    assert held >= 0.87  # 95 % wanted; the docstring says what they reach
    assert abs(np.mean([c.variance for c in found]) - share) < 0.15 * share
    # More roots say more.
    many = component(*pairs_of_values(list(planted(rng, share, 60))))
    assert many.high - many.low < np.median([c.high - c.low for c in found])


def test_censored_values_are_neither_dropped_nor_taken_for_their_bound():
    rng = np.random.default_rng(9)
    share, bound, kept = 0.5, 0.5, []
    for seed in range(25):
        y = planted(rng, share, 20)
        censored = y > bound
        cut = np.minimum(y, bound)
        imputed = component(*censored_pairs(list(cut), list(censored), seed))
        kept.append((imputed.variance, component(*pairs_of_values(list(cut))).variance))
    imputed, capped = np.mean(kept, axis=0)
    assert abs(imputed - share) < 0.08
    assert capped < 0.35


def test_where_most_values_are_censored_nothing_is_claimed():
    y = planted(np.random.default_rng(10), 0.5)
    assert censored_pairs(list(y), list(y > np.quantile(y, 0.4))) is None
    nothing = censored_pairs(list(y), list(y > 99))
    np.testing.assert_array_equal(nothing.within, pairs_of_values(list(y)).within)
