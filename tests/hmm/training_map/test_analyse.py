"""The analysis against its pieces, on runs whose slow way is known."""

from dataclasses import asdict

import numpy as np
import pytest

from seedmap.errors import UserError
from seedmap.hmm import (
    Parameters,
    analyse,
    bag_of_states,
    build_map,
    detours,
    dissimilarity,
    from_arrays,
    permutation_pvalue,
    regress,
)

NUM_RUNS, NUM_STEPS = 16, 30
PARAMETERS = Parameters(
    np.array([0.8, 0.1, 0.1]),
    np.full((3, 3), 1 / 3),
    np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 5.0]]),
    np.stack([np.eye(2)] * 3),
)


def runs():
    """Runs 0 -> (1 ->) 2, every other by way of state 1 and later there; their arrivals in 2."""
    rng = np.random.default_rng(0)
    slow = np.arange(NUM_RUNS) % 2 == 1
    arrivals = 8 + rng.integers(0, 4, NUM_RUNS) + 8 * slow
    times = np.arange(NUM_STEPS)
    paths = np.where(times < arrivals[:, None], 0, 2)
    paths[slow] = np.where((times >= 4) & (times < arrivals[slow, None]), 1, paths[slow])
    values = PARAMETERS.means[paths] + rng.normal(size=(*paths.shape, 2))
    return from_arrays(values), paths, 10.0 * arrivals


def assert_same(one, other):
    for name, value in asdict(one).items():
        np.testing.assert_equal(value, asdict(other)[name], err_msg=name)


def test_every_field_is_its_function_of_the_runs():
    sequences, paths, outcome = runs()
    converged = np.full(NUM_RUNS, True)
    analysis = analyse(PARAMETERS, sequences, paths, outcome, converged=converged)
    bag = bag_of_states(paths, 3)
    np.testing.assert_array_equal(analysis.bag, bag)
    np.testing.assert_array_equal(analysis.outcome, outcome)
    assert_same(analysis.training_map, build_map(PARAMETERS, sequences, paths))
    assert_same(analysis.regression, regress(bag, outcome))
    assert analysis.permutation_pvalue == permutation_pvalue(bag, outcome, 0)
    assert analysis.detours == detours(paths, converged, analysis.regression) == [1]
    assert analysis.firm_detours == [1]
    assert analysis.dissimilarity == {
        "index": dissimilarity(bag, "index"),
        "discrete": dissimilarity(bag, "discrete"),
        "means": dissimilarity(bag, "means", PARAMETERS.means),
    }


def test_detours_are_named_only_where_coefficients_of_convergence_may_be_read():
    sequences, paths, outcome = runs()
    assert analyse(PARAMETERS, sequences, paths, outcome).detours == []
    converged = np.full(NUM_RUNS, True)
    pvalue = regress(bag_of_states(paths, 3), outcome).f_pvalue
    for readable, expected in ((pvalue * 1.01, [1]), (pvalue, []), (0.0, [])):
        settings = {"converged": converged, "readable": readable}
        analysis = analyse(PARAMETERS, sequences, paths, outcome, **settings)
        assert analysis.detours == analysis.firm_detours == expected


def test_a_run_that_was_cut_is_on_the_map_and_not_in_the_regression():
    sequences, paths, outcome = runs()
    complete = np.arange(NUM_RUNS) != 3
    converged = np.full(NUM_RUNS, True)
    analysis = analyse(
        PARAMETERS, sequences, paths, outcome, converged=converged, complete=complete
    )
    bag = bag_of_states(paths, 3)
    assert_same(analysis.regression, regress(bag[complete], outcome[complete]))
    expected = permutation_pvalue(bag[complete], outcome[complete], 0)
    assert analysis.permutation_pvalue == expected
    assert np.flatnonzero(np.isnan(analysis.outcome)).tolist() == [3]
    assert len(analysis.bag) == analysis.training_map.num_runs == NUM_RUNS


def test_the_cap_is_the_outcome_of_complete_runs_without_one():
    sequences, paths, outcome = runs()
    outcome[[2, 5, 7]] = np.nan
    complete = np.arange(NUM_RUNS) != 5
    converged = np.isfinite(outcome)
    given = (PARAMETERS, sequences, paths, outcome)
    without = analyse(*given, converged=converged, complete=complete)
    assert (without.regression.num_runs, without.regression.num_censored) == (13, 2)
    np.testing.assert_array_equal(without.outcome, outcome)
    capped = analyse(*given, converged=converged, complete=complete, cap=300.0)
    assert (capped.regression.num_runs, capped.regression.num_censored) == (15, 2)
    expected = outcome.copy()
    expected[[2, 7]] = 300.0
    np.testing.assert_array_equal(capped.outcome, expected)
    bag = bag_of_states(paths, 3)
    assert capped.regression.r2 == regress(bag[complete], expected[complete]).r2


@pytest.mark.parametrize("name", ["outcome", "complete"])
def test_other_numbers_of_runs_are_refused(name):
    sequences, paths, outcome = runs()
    given = {"outcome": outcome, "complete": np.full(NUM_RUNS, True)}
    given[name] = given[name][:-1]
    with pytest.raises(UserError, match="must hold 16 values, one per run"):
        analyse(PARAMETERS, sequences, paths, **given)
