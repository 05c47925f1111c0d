import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seedmap.hmm.training_map.delay import holm, measure_delay


def drawn(seed, factor, num_runs=40, limit=np.inf):
    """Runs whose time after leaving is a noisy multiple of their own time before; visitors 30 %."""
    rng = np.random.default_rng(seed)
    visitor = rng.permutation(num_runs) < 0.3 * num_runs
    leaving = rng.uniform(10, 80, num_runs)
    after = leaving * rng.uniform(0.6, 1.4, num_runs) * np.where(visitor, factor, 1.0)
    convergence = np.where(leaving + after < limit, leaving + after, np.nan)
    last = np.full(num_runs, min(limit, 1e4))
    return measure_delay(leaving, convergence, last, 0.0, visitor, rng)


def test_the_factor_of_exact_multiples():
    own = np.linspace(1, 2, 20)
    leaving = np.full(40, 10.0)
    visitor = np.arange(40) < 20
    after = np.concatenate([1.5 * own, own])
    rng = np.random.default_rng(0)
    found = measure_delay(leaving, leaving + 10 * after, np.full(40, 99.0), 0.0, visitor, rng)
    assert found.factor == pytest.approx(1.5, rel=0.03)
    assert found.low < 1.5 < found.high
    assert (found.visitors, found.converged_visitors) == (20, 20)


def test_the_interval_holds_the_factor_in_95_percent():
    found = [drawn(seed, 1.4) for seed in range(40)]
    held = np.mean([delay.low <= 1.4 <= delay.high for delay in found])
    assert 0.88 <= held <= 1.0
    assert np.median([delay.factor for delay in found]) == pytest.approx(1.4, rel=0.05)


@pytest.mark.parametrize("limit", [np.inf, 110.0])
def test_the_pvalue_without_a_delay(limit):
    """Uniform but for the discrete steps; with half of the runs censored as well."""
    pvalues = np.array([drawn(seed, 1.0, limit=limit).pvalue for seed in range(40)])
    assert np.mean(pvalues <= 0.1) <= 0.225
    assert pvalues.mean() == pytest.approx(0.5, abs=0.12)


def test_a_delay_shows_at_the_same_speed_before_it_does_in_steps():
    found = [drawn(seed, 1.5) for seed in range(20)]
    assert np.mean([delay.pvalue < 0.01 for delay in found]) >= 0.9
    assert np.median([d.pvalue for d in found]) < np.median([d.p_steps for d in found])


def test_visitors_that_are_slow_in_everything_are_not_late():
    """Their time before the branch and after it are both twice that of the others."""
    pvalues, in_steps = [], []
    for seed in range(20):
        rng = np.random.default_rng((1, seed))
        visitor = np.arange(40) < 12
        speed = np.where(visitor, 2.0, 1.0) * 4 ** rng.random(40)
        leaving, after = (10 * speed * rng.uniform(0.8, 1.2, 40) for _ in range(2))
        found = measure_delay(leaving, leaving + after, np.full(40, 1e4), 0.0, visitor, rng)
        pvalues.append(found.pvalue)
        in_steps.append(found.p_steps)
    assert np.mean(np.array(pvalues) <= 0.05) <= 0.2
    assert np.mean(np.array(in_steps) <= 0.05) >= 0.6


def test_the_slope_is_that_within_groups():
    """By least squares with a column for each group."""
    rng = np.random.default_rng(2)
    visitor = np.arange(40) < 12
    leaving = np.exp(rng.normal(3, 0.6, 40))
    after = leaving**0.5 * np.exp(0.3 * rng.normal(size=40)) * np.where(visitor, 3, 1)
    found = measure_delay(leaving, leaving + after, np.full(40, 1e4), 0.0, visitor, rng)
    design = np.column_stack([np.log(leaving), visitor, ~visitor])
    assert found.slope == pytest.approx(np.linalg.lstsq(design, np.log(after))[0][0])


def test_visitors_that_never_converge_have_no_finite_factor():
    visitor = np.arange(20) < 8
    convergence = np.where(visitor, np.nan, 30.0 + np.arange(20))
    rng = np.random.default_rng(0)
    found = measure_delay(np.full(20, 10.0), convergence, np.full(20, 99.0), 0.0, visitor, rng)
    assert found.factor is None
    assert found.high is None
    assert found.low > 1
    assert (found.converged_visitors, found.converged_skippers) == (0, 12)


def test_nothing_to_compare():
    rng, none = np.random.default_rng(0), np.full(6, np.nan)
    groups = np.arange(6) < 3
    assert measure_delay(np.ones(6), none, np.full(6, 9.0), 0.0, groups, rng) is None
    early = np.where(groups, 0.5, 5.0)  # visitors converge before they leave
    assert measure_delay(np.ones(6), early, np.full(6, 9.0), 0.0, groups, rng) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_is_the_closure_of_bonferroni(pvalues):
    """A claim holds if every set of claims with it in has one that Bonferroni keeps."""
    claims = range(len(pvalues))
    sets = [s for n in claims for s in itertools.combinations(claims, n + 1)]
    kept = {s: min(pvalues[i] for i in s) * len(s) <= 0.05 for s in sets}
    expected = [all(kept[s] for s in sets if claim in s) for claim in claims]
    assert holm(np.array(pvalues), 0.05).tolist() == expected
