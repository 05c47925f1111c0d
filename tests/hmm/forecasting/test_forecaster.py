from dataclasses import replace

import numpy as np
import pytest

from helpers.branching import SETTINGS, branching
from seedmap.errors import UserError
from seedmap.hmm import fit_forecaster, forecast
from seedmap.hmm.autoregressive.map_model import filter_runs
from seedmap.hmm.forecasting.fitting import _landmarks
from seedmap.hmm.forecasting.forecaster import Forecaster, interval, median
from seedmap.hmm.forecasting.landmark import distribution_by_time
from seedmap.hmm.forecasting.scores import brier_by_run

# Of one state, where the forecast is that of time alone


def make_forecaster(arrivals, observed=None, num_steps=21, num_folds=2):
    arrivals = np.asarray(arrivals)
    observed = np.ones(len(arrivals), bool) if observed is None else np.asarray(observed)
    beliefs = np.ones((1 + num_folds, len(arrivals), num_steps, 1))
    folds = np.arange(len(arrivals)) % num_folds
    steps = 10.0 * np.arange(num_steps)
    return Forecaster(None, 1.0, steps, folds, beliefs, arrivals, observed, {})


def test_converged_runs_are_no_longer_at_risk():
    made = make_forecaster([5, 6, 7, 21], [True, True, True, False])
    np.testing.assert_array_equal(made.at_risk(5), [1, 2, 3])
    np.testing.assert_array_equal(made.at_risk(6), [2, 3])
    made = make_forecaster([5, 6])
    with pytest.raises(UserError, match="every training run has converged or ended by step 60"):
        made.distribution(np.ones((1, 1)), 6)


def test_median_is_the_step_by_which_half_have_converged():
    made = make_forecaster([6, 7, 8, 9, 21, 21], [True] * 4 + [False] * 2)
    found = np.array([[0, 0.2, 0.4, 0.5, 0.7], [0, 0.5, 0.5, 0.6, 0.6], [0, 0, 0, 0, 0.4]])
    np.testing.assert_array_equal(median(made, found, index=16), [190, 170, np.inf])


def test_a_run_at_risk_is_forecast_by_the_other_folds_alone():
    made = make_forecaster([6, 7, 8, 9, 12, 21], [True] * 5 + [False])
    found = made.left_out(5)
    for fold in (0, 1):
        others = made.folds != fold
        expected = distribution_by_time(made.arrivals[others], made.observed[others], 5, 21)
        np.testing.assert_allclose(found[made.folds == fold], np.tile(expected, (3, 1)))


def test_interval_holds_the_outcomes_as_likely_as_those_of_left_out_runs():
    made = make_forecaster([6, 7, 8, 9, 12, 21], [True] * 5 + [False])
    distribution = made.distribution(np.ones((1, 1)), index=5)

    def scores(row):
        closed = np.append(row, 1)
        return np.abs((closed[:-1] + closed[1:]) / 2 - 0.5)  # of steps 60, 70, ..., 200, never

    place = [0, 1, 2, 3, 6, 15]
    own = np.sort([scores(row)[i] for row, i in zip(made.left_out(5), place, strict=True)])
    for level, rank in ((0.4, 3), (0.5, 4), (0.8, 6)):
        held = np.flatnonzero(scores(distribution[0]) <= own[rank - 1] + 1e-12)
        low, high = interval(made, distribution, index=5, level=level)
        ends = np.append(made.steps[6:], np.inf)[held[[0, -1]]]
        np.testing.assert_array_equal([low[0], high[0]], ends)
    low, high = interval(made, distribution, index=5, level=0.9)
    np.testing.assert_array_equal([low[0], high[0]], [60, np.inf])  # six runs cannot say


@pytest.mark.parametrize("ends", [None, 0.005])
def test_intervals_hold_as_many_runs_as_they_say(ends):
    """Also where runs end early: the new run is one that does not."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        true = np.minimum(5 + rng.geometric(0.03, 41), 100)
        length = np.minimum(6 + rng.geometric(ends, 41), 100) if ends else np.full(41, 100)
        observed = (true < length) & (true < 100)
        arrivals = np.where(observed, true, length)
        made = make_forecaster(arrivals[1:], observed[1:], num_steps=100)
        distribution = made.distribution(np.ones((1, 1)), index=5)
        low, high = interval(made, distribution, index=5, level=0.8)
        held.append(low[0] <= np.append(made.steps, np.inf)[true[0]] <= high[0])
    assert np.mean(held) == pytest.approx(0.82, abs=0.06)  # 33 of 40 scores; three standard errors


# The whole


@pytest.fixture(scope="module")
def data():
    return branching()


@pytest.fixture(scope="module")
def forecaster(data):
    sequences, outcome, steps, _ = data
    return fit_forecaster(sequences.select(range(24)), outcome[:24], steps, SETTINGS)


def test_forecasts_of_left_out_runs(data, forecaster):
    sequences, outcome, steps, _ = data
    held = []
    for run in range(24, 36):
        late = forecast(forecaster, sequences.values[run, :14])
        assert late.step == steps[13]
        assert abs(late.convergence_median - outcome[run]) <= 25
        assert late.low <= late.convergence_median <= late.high
        held.append(late.low <= outcome[run] <= late.high)
        assert late.num_runs_at_risk == (outcome[:24] > 70).sum() + 2
    assert np.mean(held) >= 0.7  # of 80 %


def test_a_forecast_looks_at_no_later_record_nor_at_other_runs(data, forecaster):
    sequences = data[0]
    together = filter_runs(forecaster.model, sequences)[24:, 13]
    expected = forecaster.distribution(together, 13)[:, -1]
    found = [forecast(forecaster, values[:14]) for values in sequences.values[24:]]
    probabilities = [each.convergence_probability for each in found]
    np.testing.assert_allclose(probabilities, expected, atol=1e-9)


def test_left_out_forecasts_are_mixtures_of_curves_without_their_folds(data, forecaster):
    steps = data[2]
    for index in (6, 13):
        runs = forecaster.at_risk(index)
        for row, run in zip(forecaster.left_out(index), runs, strict=True):
            fold = forecaster.folds[run]
            others = runs[forecaster.folds[runs] != fold]
            weights = forecaster.beliefs[1 + fold, others, index] + 1 / len(others)
            own = forecaster.beliefs[1 + fold, run, index]
            hazards = []
            for horizon in range(index + 1, len(steps)):
                at_risk = weights[forecaster.arrivals[others] >= horizon].sum(axis=0)
                comes = (forecaster.arrivals[others] == horizon) & forecaster.observed[others]
                hazards.append(weights[comes].sum(axis=0) / np.maximum(at_risk, 1e-12))
            curves = 1 - np.cumprod(1 - np.array(hazards), axis=0)
            states = curves @ own
            time = distribution_by_time(
                forecaster.arrivals[others], forecaster.observed[others], index, len(steps)
            )
            share = forecaster.share
            np.testing.assert_allclose(row[1:], share * states + (1 - share) * time[1:], atol=1e-9)


def test_number_of_states_and_share_are_those_of_least_left_out_error(forecaster):
    assert forecaster.num_states == 4
    assert forecaster.errors[4] < 0.9 * forecaster.errors[1]

    def error(share):
        made = replace(forecaster, share=share)
        scores = []
        for index in _landmarks(made):
            known = (made.arrivals[made.at_risk(index)], made.observed[made.at_risk(index)])
            scores.append(brier_by_run(made.left_out(index), *known, index).mean())
        return np.mean(scores)

    assert forecaster.errors[4] == pytest.approx(error(forecaster.share))
    assert error(forecaster.share) <= min(error(share) for share in np.linspace(0, 1, 11)) + 1e-12


def test_at_the_last_checkpoint_nothing_is_left_to_come(data, forecaster):
    sequences, _, steps, _ = data
    last = forecast(forecaster, sequences.values[0])
    assert last.step == steps[-1]
    assert last.convergence_probability == 0
    assert last.convergence_median == last.low == last.high == np.inf


@pytest.mark.parametrize(
    ("num_steps", "level", "message"),
    [
        (51, 0.8, "51 checkpoints and the training runs 50"),
        (10, 1.0, "level must lie between 0 and 1"),
    ],
)
def test_forecasts_that_cannot_be_made_are_refused(forecaster, num_steps, level, message):
    values = np.random.default_rng(0).normal(size=(num_steps, 3))
    with pytest.raises(UserError, match=message):
        forecast(forecaster, values, level)
