import doctest
import importlib
import itertools

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from helpers.shapes import unchecked
from seedmap.hmm.training_map.outcome import convergence_time
from seedmap.hmm.training_map.regression import (
    OVERFIT_GAP,
    Coefficient,
    bag_of_states,
    detours,
    permutation_pvalue,
    regress,
)

MODULE = importlib.import_module("seedmap.hmm.training_map.regression")
PATHS = np.zeros((3, 2), int)


def planted(num_runs=30, num_states=4, noise=5.0, seed=0):
    rng = np.random.default_rng(seed)
    bag = rng.dirichlet(np.ones(num_states), size=num_runs)
    return bag, bag @ np.linspace(10, 100, num_states) + rng.normal(scale=noise, size=num_runs)


def test_bag_of_states():
    paths = np.array([[0, 0, 2, 2], [1, -1, -1, -1], [2, 1, 0, -1]])
    third = 1 / 3
    expected = [[0.5, 0, 0.5], [0, 1, 0], [third, third, third]]
    np.testing.assert_allclose(bag_of_states(paths, 3), expected, rtol=1e-15)


def test_convergence_time_is_strictly_above_and_nan_when_never():
    accuracy = np.array([[0.1, 0.9, 0.91, 0.2], [0.9, 0.9, np.nan, 0.9], [1.0, 0.0, 0.0, 0.0]])
    times = convergence_time(accuracy, np.array([0, 20, 40, 60]), 0.9)
    np.testing.assert_array_equal(times, [40, np.nan, 0])


@pytest.mark.parametrize("noise", [5.0, 80.0])
def test_regression_equals_statsmodels_with_an_intercept(noise):
    bag, outcome = planted(noise=noise)
    ours = regress(bag, outcome, confidence=0.9)
    oracle = sm.OLS(outcome, sm.add_constant(bag[:, 1:])).fit()
    assert ours.r2 == pytest.approx(oracle.rsquared, rel=1e-10)
    assert ours.f_statistic == pytest.approx(oracle.fvalue, rel=1e-9)
    assert ours.f_pvalue == pytest.approx(oracle.f_pvalue, rel=1e-8)
    assert ours.degrees == (oracle.df_model, oracle.df_resid)
    # A coefficient is the contrast of one pure state with the mean run.
    contrasts = np.eye(4) - bag.mean(axis=0)
    without_intercept = sm.OLS(outcome, bag).fit()
    test = without_intercept.t_test(contrasts)
    intervals = test.conf_int(alpha=0.1)
    for coefficient, effect, error, (low, high) in zip(
        ours.coefficients, test.effect, test.sd, intervals, strict=True
    ):
        assert coefficient.value == pytest.approx(effect, rel=1e-9)
        assert coefficient.standard_error == pytest.approx(error, rel=1e-9)
        assert (coefficient.low, coefficient.high) == pytest.approx((low, high), rel=1e-8)


def test_leave_one_out_equals_refits():
    bag, outcome = planted(noise=40.0)
    errors = []
    for run in range(len(outcome)):
        fit = sm.OLS(np.delete(outcome, run), np.delete(bag, run, axis=0)).fit()
        errors.append(outcome[run] - fit.predict(bag[run])[0])
    expected = 1 - np.sum(np.square(errors)) / np.sum((outcome - outcome.mean()) ** 2)
    result = regress(bag, outcome)
    assert result.leave_one_out_r2 == pytest.approx(expected, rel=1e-10)
    assert result.num_extrapolated == 0


def test_a_run_alone_in_a_state_is_predicted_from_the_others():
    # Run 0 alone visits state 2; of the rest, state 1 costs 10 more than state 0.
    bag = np.array([[0.4, 0.4, 0.2], [1, 0, 0], [0.5, 0.5, 0], [0.25, 0.75, 0], [0, 1, 0]])
    outcome = np.array([50, 0, 5, 7.5, 10])
    result = regress(bag, outcome)
    # The others' fit is exact: only run 0 errs. Centred on the others, their one slope is along
    # (-1, 1, 0): 5 per unit of (share 1 - share 0) about the means 0.4375, 0.5625 and 5.625.
    predicted = 5.625 + 5 * ((0.4 - 0.5625) - (0.4 - 0.4375))
    error = 50 - predicted
    total = np.sum((outcome - outcome.mean()) ** 2)
    assert result.num_extrapolated == 1
    assert result.leave_one_out_r2 == pytest.approx(1 - error**2 / total, rel=1e-9)
    assert result.r2 == pytest.approx(1)
    assert "overfits" in result.warnings[-1]


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(5)
    bag = rng.dirichlet(np.ones(3), size=12)
    truth = bag @ np.array([1.0, 2.0, 6.0])
    contrast = 6.0 - truth.mean()
    hits = 0
    for _ in range(400):
        last = regress(bag, truth + rng.normal(size=12), confidence=0.8).coefficients[2]
        hits += last.low < contrast < last.high
    assert 0.74 < hits / 400 < 0.86  # three standard errors either way


def test_unvisited_and_tied_states_are_not_estimable():
    bag, outcome = planted(num_states=3)
    wide = np.column_stack([bag[:, 0], np.zeros(30), bag[:, 1], bag[:, 2] / 4, bag[:, 2] * 3 / 4])
    narrow, result = regress(bag, outcome), regress(wide, outcome)
    assert result.r2 == pytest.approx(narrow.r2)
    assert result.f_pvalue == pytest.approx(narrow.f_pvalue)
    assert result.leave_one_out_r2 == pytest.approx(narrow.leave_one_out_r2)
    assert result.degrees == narrow.degrees == (2, 27)
    assert result.coefficients[0].value == pytest.approx(narrow.coefficients[0].value)
    assert result.coefficients[2].high == pytest.approx(narrow.coefficients[1].high)
    for state in (1, 3, 4):
        assert result.coefficients[state] == Coefficient(state, None, None, None, None)


def test_constant_outcome_is_undefined():
    bag, _ = planted()
    result = regress(bag, np.full(30, 0.1))
    assert (result.r2, result.f_statistic, result.f_pvalue, result.leave_one_out_r2) == (None,) * 4
    assert all(c.value == pytest.approx(0, abs=1e-12) for c in result.coefficients)
    assert "does not vary" in result.warnings[0]
    assert permutation_pvalue(bag, np.full(30, 0.1), seed=0) is None


def test_one_state_explains_nothing():
    result = regress(np.ones((5, 1)), np.arange(5.0))
    assert result.r2 == pytest.approx(0, abs=1e-12)
    assert result.degrees == (0, 4)
    assert result.f_pvalue is None
    assert result.coefficients[0].value == pytest.approx(0)
    (warning,) = result.warnings  # what has no predictor cannot overfit, though left-out R^2 < 0
    assert "nothing to regress on" in warning


def test_fewer_runs_than_parameters_has_no_pvalue():
    bag, outcome = planted(num_runs=3, num_states=5)
    result = regress(bag, outcome)
    assert result.degrees == (2, 0)
    assert result.r2 == pytest.approx(1)
    assert result.f_pvalue is None
    assert all(c.low is None for c in result.coefficients)
    assert any("3 runs for 3 parameters" in warning for warning in result.warnings)


@pytest.mark.parametrize("num_converged", [0, 1])
def test_hardly_any_converged_run(num_converged):
    bag, outcome = planted(num_runs=6)
    outcome[num_converged:] = np.nan
    result = regress(bag, outcome)
    assert (result.num_runs, result.num_censored) == (num_converged, 6 - num_converged)
    assert (result.r2, result.f_pvalue, result.leave_one_out_r2) == (None, None, None)
    assert "Fewer than two runs" in result.warnings[0]


def test_exact_fit():
    bag = np.array([[1.0, 0], [0.5, 0.5], [0, 1], [0.25, 0.75]])
    result = regress(bag, bag @ np.array([2.0, 4.0]))
    assert result.r2 == pytest.approx(1)
    assert result.f_pvalue < 1e-12
    assert [c.value for c in result.coefficients] == pytest.approx([-1.125, 0.875])


def test_censored_runs_are_excluded_or_capped():
    bag, outcome = planted()
    censored = outcome.copy()
    censored[[3, 7]] = np.nan
    kept = np.delete(np.arange(30), [3, 7])
    excluded, without = regress(bag, censored), regress(bag[kept], outcome[kept])
    assert excluded.coefficients == without.coefficients
    assert (excluded.num_censored, excluded.num_runs, excluded.censoring) == (2, 28, "exclude")
    at_cap = outcome.copy()
    at_cap[[3, 7]] = 150
    capped = regress(bag, censored, cap=150)
    assert capped.coefficients == regress(bag, at_cap).coefficients
    assert (capped.num_censored, capped.num_runs, capped.censoring) == (2, 30, "cap")


def test_overfitting_is_flagged_and_only_then():
    rng = np.random.default_rng(0)
    noise = regress(rng.dirichlet(np.ones(6), size=12), rng.normal(size=12))
    assert noise.r2 - noise.leave_one_out_r2 > OVERFIT_GAP
    assert any("overfits" in warning for warning in noise.warnings)
    assert any("should not be read" in warning for warning in noise.warnings)
    assert regress(*planted()).warnings == ()


def test_permutation_pvalue_equals_all_permutations():
    bag, outcome = planted(num_runs=6, num_states=3, noise=80.0, seed=4)
    observed = regress(bag, outcome).r2
    orders = itertools.permutations(range(6))
    as_large = [regress(bag, outcome[list(o)]).r2 >= observed - 1e-9 for o in orders]
    exact = np.mean(as_large)
    assert 0.05 < exact < 0.95
    estimate = permutation_pvalue(bag, outcome, seed=0, num_permutations=20000)
    assert estimate == pytest.approx(exact, abs=4 * np.sqrt(0.25 / 20000))
    again = permutation_pvalue(bag, outcome, np.random.default_rng(0), num_permutations=20000)
    assert again == estimate


def test_permutation_pvalue_counts_ties():
    # Two runs in each state: 8 of the 24 orders of 1, 2, 3, 4 part the small from the large.
    bag = np.repeat(np.eye(2), 2, axis=0) @ np.array([[0.7, 0.3], [0.1, 0.9]])
    pvalue = permutation_pvalue(bag, np.array([1.0, 2, 3, 4]), seed=0, num_permutations=5000)
    assert pvalue == pytest.approx(1 / 3, abs=0.03)


def test_permutation_pvalue_of_a_planted_effect_is_the_smallest_possible():
    assert permutation_pvalue(*planted(), seed=1, num_permutations=499) == 1 / 500


def test_detours_by_the_papers_definition_and_by_interval():
    # Runs 0-3 skip state 1; runs 4-8 stay in it a while and take longer. State 2 comes last.
    paths = np.array(
        [[0] * 4 + [2] * 6] * 2
        + [[0] * 5 + [2] * 5] * 2
        + [[0] * 4 + [1] * 2 + [2] * 4] * 2
        + [[0] * 4 + [1] * 4 + [2] * 2] * 3
    )
    outcome = np.array([40, 41, 50, 51, 60, 61, 80, 81, 82.0])
    regression = regress(bag_of_states(paths, 4), outcome)
    converged = np.ones(9, dtype=bool)
    assert detours(paths, converged, regression) == [1]
    assert detours(paths, converged, regression, exclude_zero=True) == [1]
    # If no run that skips the state converged, it is no detour.
    assert detours(paths, np.arange(9) >= 4, regression) == []
    assert detours(paths, np.zeros(9, dtype=bool), regression) == []


def test_an_uncertain_coefficient_is_a_detour_only_by_the_papers_definition():
    paths = np.array([[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]])
    outcome = np.array([10, 3, 2, 9, 8.0])
    regression = regress(bag_of_states(paths, 2), outcome)
    converged = np.ones(5, dtype=bool)
    assert detours(paths, converged, regression) == [1]
    assert detours(paths, converged, regression, exclude_zero=True) == []


def finite_or_none(value):
    return value is None or np.isfinite(value)


@given(
    counts=arrays(int, (6, 4), elements=st.integers(0, 9)).filter(lambda c: c.sum(axis=1).all()),
    outcome=arrays(float, 6, elements=st.one_of(st.floats(-1e6, 1e6), st.just(np.nan))),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_bag_and_outcome_gives_finite_numbers_or_none(counts, outcome):
    result = regress(counts / counts.sum(axis=1, keepdims=True), outcome)
    assert result.r2 is None or 0 <= result.r2 <= 1
    assert result.f_pvalue is None or 0 <= result.f_pvalue <= 1
    assert finite_or_none(result.leave_one_out_r2)
    for c in result.coefficients:
        assert all(map(finite_or_none, (c.value, c.standard_error, c.low, c.high)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bag_of_states(np.array([[0, 3]]), 3), "states 0 to 2"),
        (lambda: bag_of_states(np.array([[0, 1], [-1, -1]]), 2), "run 1 has no checkpoints"),
        (lambda: regress(np.eye(3), np.zeros(2)), r"\[run, state\]"),
        (lambda: regress(np.eye(3) * 2, np.zeros(3)), "sum to 1"),
        (lambda: regress(np.eye(2), np.array([1, np.inf])), "finite"),
        (lambda: regress(np.eye(2), np.array([1, np.nan]), cap=0.5), "cap"),
        (lambda: regress(np.eye(2), np.zeros(2), confidence=95), "confidence"),
        (
            lambda: detours(PATHS, np.full(2, True), regress(np.eye(3), np.arange(3))),
            "3 flags",
        ),
    ],
)
def test_bad_input(call, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        call()


def test_docstring_examples():
    for module in (MODULE, importlib.import_module(convergence_time.__module__)):
        results = doctest.testmod(module)
        assert results.attempted
        assert not results.failed
