from dataclasses import replace

import numpy as np
import pytest

from helpers.branching import SETTINGS, branching
from seedmap.errors import UserError
from seedmap.hmm import forecast
from seedmap.hmm.forecasting.fitting import fit_forecaster
from seedmap.hmm.forecasting.skill import ScoredSet, forecast_skill, left_out_folds


def fresh(telling):
    """A forecaster of some runs, to be scored on as many others."""
    train, outcome, steps, _ = branching(telling=telling)
    test, actual, _, _ = branching(seed=1, telling=telling)
    made = fit_forecaster(train, outcome, steps, SETTINGS)
    return ScoredSet(made, train, outcome, test, actual)


@pytest.fixture(scope="module")
def given():
    return fresh(telling=True)


@pytest.fixture(scope="module")
def rows(given):
    return forecast_skill([given], (25, 70, 100, 240, 250))


def test_forecasts_beat_time_alone_once_the_ways_part(rows):
    before, after, late = rows  # then no run is left, but those that never converge
    assert (before.upto, after.upto, late.upto) == (25, 70, 100)
    assert before.num_runs == after.num_runs == 36
    assert before.num_converging == 34
    assert before.brier.over_time.low < 0.005
    assert after.brier.over_time.high < 0
    assert after.brier.hmm.value < 0.7 * after.brier.time.value
    assert after.concordance.over_time.low > 0
    assert after.concordance.time.value == 0.5
    assert after.width < before.width
    for row in rows:
        assert row.coverage.high > row.level  # ties make early intervals wider than need be
    assert after.coverage.low < after.level


def test_metrics_that_carry_nothing_do_not_beat_time_alone():
    for row in forecast_skill([fresh(telling=False)], (25, 50, 70)):
        assert abs(row.brier.over_time.value) < 0.005
        assert row.brier.over_time.low <= 0 <= row.brier.over_time.high + 1e-3


def test_coverage_by_hand_from_forecasts(given, rows):
    steps = given.forecaster.steps
    held = []
    for values, actual in zip(given.test.values, given.outcome, strict=True):
        made = forecast(given.forecaster, values[:14])
        held.append(made.low <= np.nan_to_num(actual, nan=np.inf) <= made.high)
    assert steps[13] == rows[1].upto
    assert rows[1].coverage.value == pytest.approx(np.mean(held))


def test_skill_never_reads_the_future(given, rows):
    values = given.test.values.copy()
    values[:, 14:] = 1e3 * np.random.default_rng(0).normal(size=values[:, 14:].shape)
    changed = replace(given, test=replace(given.test, values=values))
    assert forecast_skill([changed], (25, 70)) == rows[:2]


def test_folds_leave_each_run_out_once():
    sequences, outcome, steps, _ = branching(num_runs=24)
    sets = list(left_out_folds(sequences, outcome, steps, 3, replace(SETTINGS, states=(1,))))
    assert sorted(name for each in sets for name in each.test.runs) == sorted(sequences.runs)
    for each in sets:
        assert not set(each.test.runs) & set(each.train.runs)
        assert each.forecaster.beliefs.shape[1] == each.train.num_runs == 16
    (row,) = forecast_skill(sets, (70,))
    assert row.num_runs == 24
    assert row.concordance.hmm.value == 0.5  # one state in each, and folds are not compared


def test_steps_and_folds_that_cannot_be_used_are_refused(given):
    with pytest.raises(UserError, match="step 4 is before the first checkpoint; the steps run fr"):
        forecast_skill([given], (4, 50))
    with pytest.raises(UserError, match="folds must lie between 2 and 36 runs, not 1"):
        next(left_out_folds(given.train, given.train_outcome, given.forecaster.steps, folds=1))
