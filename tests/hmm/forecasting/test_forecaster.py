import importlib
import itertools

import numpy as np
import pytest

from helpers.branching import CONFIG, branching
from seedmap.hmm import Parameters, filtered, from_arrays
from seedmap.hmm.forecasting.absorbing import pass_probabilities
from seedmap.hmm.forecasting.causal import causal_z_score
from seedmap.hmm.forecasting.forecaster import (
    Forecaster,
    convergence_distribution,
    fit_forecaster,
    forecast,
    interval,
    median,
)

module = importlib.import_module("seedmap.hmm.forecasting.forecaster")

# z-scores of the past


def test_causal_z_scores_are_those_of_each_prefix():
    rng = np.random.default_rng(0)
    values = rng.normal(1e6, 1, (3, 12, 2))
    values[1, 3, 0] = values[1, 8, 1] = np.nan
    lengths = [12, 12, 7]
    z = causal_z_score(from_arrays(values, lengths), minimum=4)
    np.testing.assert_array_equal(z.lengths, np.array(lengths) - 3)
    for run, time in itertools.product(range(3), range(3, 12)):
        past = values[run, : time + 1]
        expected = (past[-1] - np.nanmean(past, axis=0)) / np.nanstd(past, axis=0)
        expected = expected if time < lengths[run] else np.zeros(2)
        np.testing.assert_allclose(z.values[run, time - 3], expected, atol=1e-7)


def test_causal_z_scores_do_not_look_ahead():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4, 30, 3))
    changed = values.copy()
    changed[:, 20:] = 1e6 * rng.normal(size=(4, 10, 3))
    before, after = (causal_z_score(from_arrays(v)).values for v in (values, changed))
    np.testing.assert_array_equal(before[:, :16], after[:, :16])
    assert (before[:, 16:] != after[:, 16:]).all()


def test_a_metric_constant_so_far_is_zero():
    values = np.full((1, 10, 1), 0.1)
    values[0, 7:] = 0.2
    z = causal_z_score(from_arrays(values), minimum=2).values[0, :, 0]
    np.testing.assert_array_equal(z[:6], 0)
    assert z[6] == pytest.approx(np.sqrt(7))


def test_runs_too_short_for_z_scores_are_named():
    sequences = from_arrays([np.zeros((9, 1)), np.zeros((3, 1))], runs=["long", "short"])
    with pytest.raises(ValueError, match="run short has 3 checkpoints and a forecast needs 5"):
        causal_z_score(sequences)
    with pytest.raises(ValueError, match="minimum is 1"):
        causal_z_score(sequences, minimum=1)


# Time of convergence


def make_forecaster(arrivals, observed=None, exits=(0.25,), num_steps=21):
    """A forecaster of states that are never left but for convergence; all runs are in the first."""
    num_states, arrivals = len(exits), np.asarray(arrivals)
    parameters = Parameters(
        np.eye(num_states)[0], np.eye(num_states), np.zeros((num_states, 1)), np.zeros(1)
    )
    beliefs = np.zeros((len(arrivals), num_steps - 4, num_states))
    beliefs[:, :, 0] = 1
    observed = np.ones(len(arrivals), bool) if observed is None else np.asarray(observed)
    steps = 10.0 * np.arange(num_steps)
    exits = np.asarray(exits, float)
    return Forecaster(parameters, exits, ("l2",), steps, 5, beliefs, arrivals, observed, 0.0)


def test_median_is_that_of_the_geometric_distribution():
    made = make_forecaster([9], exits=(0.25, 0.5, 0.01, 0.25))
    beliefs = np.array([*np.eye(4)[:3], [0.5, 0, 0, 0.5]])
    found = convergence_distribution(made, beliefs, index=5)
    np.testing.assert_allclose(found[0], 1 - 0.75 ** np.arange(16))
    # 1 - 0.75^3 = 0.58, 1 - 0.5 = 0.5 at once, 1 - 0.99^15 = 0.14 by the end
    np.testing.assert_array_equal(median(made, found, index=5), [80, 60, np.inf, 80])


def test_converged_runs_are_no_longer_at_risk():
    made = make_forecaster([5, 6, 7, 21], [True, True, True, False])
    np.testing.assert_array_equal(made.at_risk(5), [1, 2, 3])
    np.testing.assert_array_equal(made.at_risk(6), [2, 3])


def test_interval_holds_the_outcomes_as_likely_as_the_training_runs():
    made = make_forecaster([6, 7, 8, 9, 12, 21], [True] * 5 + [False])
    distribution = convergence_distribution(made, np.ones((1, 1)), index=5)
    left = 0.75 ** np.arange(17)
    left[16] = 0  # not to converge in training is the last outcome
    scores = np.abs((left[:-1] + left[1:]) / 2 - 0.5)  # of steps 60, 70, ..., 200, never
    own = np.sort(scores[[0, 1, 2, 3, 6, 15]])
    for level, rank in ((0.4, 3), (0.5, 4), (0.8, 6)):
        held = np.flatnonzero(scores <= own[rank - 1] + 1e-12)
        low, high = interval(made, distribution, index=5, level=level)
        ends = np.append(made.steps[6:], np.inf)[held[[0, -1]]]
        np.testing.assert_array_equal([low[0], high[0]], ends)
    low, high = interval(made, distribution, index=5, level=0.9)
    np.testing.assert_array_equal([low[0], high[0]], [60, np.inf])  # six runs cannot say


def test_intervals_hold_as_many_runs_as_they_say():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        # The chain is wrong, exit 0.02 and not 0.01: the scores of the training runs mend that.
        arrivals = np.minimum(5 + rng.geometric(0.01, 40), 500)
        made = make_forecaster(arrivals[1:], arrivals[1:] < 500, exits=(0.02,), num_steps=500)
        distribution = convergence_distribution(made, np.ones((1, 1)), index=5)
        low, high = interval(made, distribution, index=5, level=0.8)
        outcome = np.append(made.steps, np.inf)[arrivals[0]]
        held.append(low[0] <= outcome <= high[0])
    assert np.mean(held) == pytest.approx(0.8, abs=0.06)  # three standard errors


# The whole


@pytest.fixture(scope="module")
def data():
    return branching()


@pytest.fixture(scope="module")
def candidates(data):
    """The forecaster of 24 runs, and the ones of each number of states it was chosen from."""
    sequences, outcome, steps, _ = data
    made, learn = [], module._learn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_learn", lambda *given: made.append(learn(*given)) or made[-1])
        chosen = fit_forecaster(sequences.select(range(24)), outcome[:24], steps, CONFIG)
    return chosen, made


@pytest.fixture(scope="module")
def forecaster(candidates):
    return candidates[0]


@pytest.fixture(scope="module")
def slow_state(data, forecaster):
    """The state of the slow way, in the forecaster's own numbers."""
    slow = data[3][2:24]  # the first two never converge
    return np.bincount(forecaster.beliefs[2:, 13 - 4][slow].argmax(axis=1)).argmax()


def pass_probability(forecaster, values, state):
    """Of a state, from the checkpoints so far: visited by now, or before the run converges."""
    z = causal_z_score(from_arrays([values], metrics=forecaster.metrics), forecaster.minimum)
    num_left = len(forecaster.steps) - len(values)
    exits = forecaster.exits
    return pass_probabilities(forecaster.parameters, exits, z.values[0], num_left)[state]


def test_forecasts_of_left_out_runs(data, forecaster, slow_state):
    sequences, outcome, steps, slow = data
    held = []
    for run in range(24, 36):
        late = forecast(forecaster, sequences.values[run, :14])
        assert late.step == steps[13]
        assert abs(late.convergence_median - outcome[run]) <= 25
        assert late.low <= late.convergence_median <= late.high
        held.append(late.low <= outcome[run] <= late.high)
        passed = pass_probability(forecaster, sequences.values[run, :14], slow_state)
        assert passed == pytest.approx(float(slow[run]), abs=0.01)
        assert late.num_runs_at_risk == (outcome[:24] > 70).sum() + 2
    assert np.mean(held) >= 0.7  # of 80 %


def test_forecaster_learns_the_fork(data, forecaster, slow_state):
    sequences, outcome, _, slow = data
    assert forecaster.parameters.means.shape == (4, 3)
    assert forecaster.beliefs[:, 0, 0].mean() > 0.9  # state 0 is where runs start
    states = forecaster.beliefs[2:, 13 - 4].argmax(axis=1)  # the first two never converge
    np.testing.assert_array_equal(states == slow_state, slow[2:24])
    np.testing.assert_array_equal(forecaster.observed, ~np.isnan(outcome[:24]))
    np.testing.assert_array_equal(forecaster.arrivals[:2], 50)
    np.testing.assert_array_equal(5.0 * (forecaster.arrivals[2:] + 1), outcome[2:24])
    z = causal_z_score(sequences.select(range(24)))
    beliefs = filtered(forecaster.parameters, z)
    for run, arrival in enumerate(forecaster.arrivals):
        before = arrival - 4  # causal z-scores begin at checkpoint 4
        np.testing.assert_allclose(
            forecaster.beliefs[run, :before], beliefs[run, :before], atol=1e-4
        )
        assert (forecaster.beliefs[run, before:] == 0).all()


def test_the_number_of_states_is_that_of_least_error(candidates):
    chosen, made = candidates
    assert [len(one.parameters.means) for one in made] == [2, 4]
    errors = [error_by_hand(one) for one in made]
    np.testing.assert_allclose([one.train_error for one in made], errors)
    assert chosen.train_error == made[1].train_error < made[0].train_error


def error_by_hand(made):
    errors = []
    for run, arrival in enumerate(made.arrivals):
        for index in range(4, arrival) if made.observed[run] else ():
            beliefs = made.beliefs[run, index - 4][None]
            distribution = convergence_distribution(made, beliefs, index)
            guess = min(median(made, distribution, index)[0], made.steps[-1])
            errors.append(abs(guess - made.steps[arrival]))
    return np.mean(errors)


def test_the_slow_way_is_passed_as_often_as_forecast(data, forecaster, slow_state):
    sequences, _, _, slow = data
    early = [pass_probability(forecaster, values[:7], slow_state) for values in sequences.values]
    assert np.mean(early) == pytest.approx(slow.mean(), abs=0.2)  # two standard errors


def test_at_the_last_checkpoint_nothing_is_left_to_come(data, forecaster):
    sequences, _, steps, _ = data
    last = forecast(forecaster, sequences.values[0])
    assert last.step == steps[-1]
    assert last.convergence_probability == pytest.approx(0, abs=1e-6)
    assert last.convergence_median == last.low == last.high == np.inf


def test_runs_that_end_or_converge_early(data):
    sequences, outcome, steps, _ = data
    lengths = sequences.lengths.copy()
    lengths[0] = 20
    outcome = outcome.copy()
    outcome[2] = steps[4]  # at the first forecast it has converged: it is never at risk
    cut = from_arrays(sequences.values, lengths, metrics=sequences.metrics).select(range(25))
    found = fit_forecaster(cut, outcome[:25], steps, CONFIG)
    assert len(found.arrivals) == len(found.beliefs) == 24
    assert found.arrivals[0] == 20
    assert 0 in found.at_risk(19)
    assert 0 not in found.at_risk(20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcome": np.zeros(3)}, "need an outcome for each of 36 runs"),
        ({"steps": np.zeros(50)}, "steps must increase"),
        ({"outcome": np.full(36, np.nan)}, "0 training runs converge after checkpoint 5"),
        ({"outcome": np.full(36, 1e4)}, "run 0 converges at step 10000, after its last"),
    ],
)
def test_wrong_training_data_are_refused(data, change, message):
    sequences, outcome, steps, _ = data
    arguments = {"outcome": outcome, "steps": steps} | change
    with pytest.raises(ValueError, match=message):
        fit_forecaster(sequences, config=CONFIG, **arguments)


@pytest.mark.parametrize(
    ("num_steps", "level", "message"),
    [
        (4, 0.8, "has 4 checkpoints and a forecast needs 5"),
        (51, 0.8, "51 checkpoints and the training runs 50"),
        (10, 1.0, "level must lie between 0 and 1"),
    ],
)
def test_forecasts_that_cannot_be_made_are_refused(forecaster, num_steps, level, message):
    values = np.random.default_rng(0).normal(size=(num_steps, 3))
    with pytest.raises(ValueError, match=message):
        forecast(forecaster, values, level)
