import itertools
import warnings
from dataclasses import replace

import jax
import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from helpers.planted import planted
from seedmap.hmm.em.loop import iterate
from seedmap.hmm.inference import log_likelihood, viterbi
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.criteria import (
    best_restarts,
    dominant_validation_runs,
    select,
    selection_table,
)
from seedmap.hmm.selection.fits import Sweep
from seedmap.hmm.selection.sweep import fit_sweep
from seedmap.hmm.sequences import from_arrays

SMALL = SweepConfig(states=(1, 2, 3, 4), restarts=2, iterations=20, prior="weak")


def fit(sequences, config=SMALL, key=0, callback=None):
    train, validation = sequences.select(range(6)), sequences.select([6, 7])
    return fit_sweep(train, validation, config, jax.random.key(key), callback)


@pytest.fixture(scope="module")
def sweep():
    return fit(planted()[0])


# --- the sweep ---


def test_a_planted_hmm_is_found_up_to_relabelling(sweep):
    sequences, states = planted()
    chosen = select(sweep)
    assert chosen.num_states == 3
    assert not chosen.degenerate
    paths = viterbi(chosen.parameters, sequences)
    decoded = np.concatenate([p[p >= 0] for p in paths])
    truth = np.concatenate(states)
    assert adjusted_rand_score(truth, decoded) > 0.97
    label = np.array([np.bincount(decoded[truth == k]).argmax() for k in range(3)])
    assert sorted(label) == [0, 1, 2]
    values = sequences.select(range(6)).observations()
    truth = np.concatenate(states[:6])
    for state in range(3):
        mine = values[truth == state]
        found = chosen.parameters.covariances[label[state]]
        np.testing.assert_allclose(chosen.parameters.means[label[state]], mine.mean(0), atol=0.1)
        np.testing.assert_allclose(found, np.cov(mine.T, bias=True), atol=0.2)
    transition = chosen.parameters.transition[np.ix_(label, label)]
    np.testing.assert_allclose(transition, 0.9 * np.eye(3) + 0.1 / 3, atol=0.08)


def test_log_likelihoods_and_criteria_follow_from_the_parameters(sweep):
    train, validation = planted()[0].select(range(6)), planted()[0].select([6, 7])
    for one in sweep.fits:
        on_train = log_likelihood(one.parameters, train)
        on_validation = log_likelihood(one.parameters, validation)
        np.testing.assert_allclose(one.train_run_log_likelihood, on_train, rtol=1e-5)
        np.testing.assert_allclose(one.validation_run_log_likelihood, on_validation, rtol=1e-5)
        total = one.validation_log_likelihood
        assert one.train_log_likelihood == one.train_run_log_likelihood.sum()
        assert total == one.validation_run_log_likelihood.sum()
        np.testing.assert_allclose(one.aic, -2 * total + 2 * one.num_parameters)
        np.testing.assert_allclose(one.bic, -2 * total + one.num_parameters * np.log(107))
        for field in one.parameters:
            assert np.isfinite(field).all()
    assert (sweep.num_observations_train, sweep.num_observations_validation) == (306, 107)
    assert sweep.train_runs == ("0", "1", "2", "3", "4", "5")
    assert [(f.num_states, f.restart) for f in sweep.fits[:3]] == [(1, 0), (1, 1), (2, 0)]


def test_at_least_as_likely_as_hmmlearn(sweep):
    train = planted()[0].select(range(6))
    for k in SMALL.states:
        ours = max(f.train_log_likelihood for f in sweep.fits if f.num_states == k)
        scores = []
        for restart in range(2):
            peer = GaussianHMM(k, "full", n_iter=20, random_state=restart)
            with threadpool_limits(1):  # scikit-learn's threads and JAX's would fight
                peer.fit(train.observations(), train.lengths)
            scores.append(peer.score(train.observations(), train.lengths))
        assert ours > max(scores) - 0.02 * train.num_observations


def test_a_fit_stops_early_where_nothing_is_left_to_gain(sweep):
    longer = fit(planted()[0], replace(SMALL, iterations=60))
    early = [one for one in sweep.fits if one.converged]
    assert {1, 3} <= {one.num_states for one in early}
    for one, more in zip(sweep.fits, longer.fits, strict=True):
        assert one.iterations <= 20
        assert one.converged or one.iterations == 20
        if one.converged:
            np.testing.assert_array_equal(one.parameters.means, more.parameters.means)
        assert more.penalised_log_likelihood >= one.penalised_log_likelihood - 0.01


def test_a_fit_does_not_depend_on_the_rest_of_the_sweep(sweep):
    alone = fit(planted()[0], replace(SMALL, states=(2, 3)))
    for one in alone.fits:
        (same,) = (
            f for f in sweep.fits if (f.num_states, f.restart) == (one.num_states, one.restart)
        )
        # Of equally good short runs rounding may take one with the states in another order.
        means = (np.array(sorted(f.parameters.means.tolist())) for f in (one, same))
        np.testing.assert_allclose(*means, atol=1e-3)
        np.testing.assert_allclose(one.train_log_likelihood, same.train_log_likelihood, rtol=1e-5)


def test_units_do_not_matter(sweep):
    sequences = planted()[0]
    factor, offset = np.array([1e-3, 1.0, 1e4]), np.array([5.0, -2e3, 1e6])
    moved = from_arrays(sequences.values * factor + offset, sequences.lengths)
    shift = np.log(factor).sum() * sweep.num_observations_train
    for a, b in zip(sweep.fits, fit(moved).fits, strict=True):
        np.testing.assert_allclose(b.train_log_likelihood + shift, a.train_log_likelihood, atol=0.1)
        np.testing.assert_allclose(
            (b.parameters.means - offset) / factor, a.parameters.means, atol=0.02
        )


def test_one_compilation_whatever_the_lengths_and_iterations(sweep):
    before = iterate._cache_size()
    shorter = [60, 30, 20, 60, 10, 5, 60, 60]
    calls = []
    fit(planted(shorter, seed=3)[0], replace(SMALL, iterations=7), 1, lambda *c: calls.append(c))
    assert iterate._cache_size() == before
    assert (calls[0], calls[-1]) == ((0, 7), (7, 7))
    assert all(a <= b for (a, _), (b, _) in itertools.pairwise(calls))


def test_the_same_key_gives_the_same_fits_and_another_key_other_ones(sweep):
    again, other = fit(planted()[0]), fit(planted()[0], key=1)
    for a, b in zip(sweep.fits, again.fits, strict=True):
        np.testing.assert_array_equal(a.parameters.means, b.parameters.means)
    last, differs = sweep.fits[-1].parameters.means, other.fits[-1].parameters.means
    assert not np.allclose(last, differs, atol=1e-3)


# --- selection ---


def made_up(sweep, **changes):
    """The sweep with other fits: changes[field] maps (num_states, restart) to a value."""
    fits = []
    for one in sweep.fits:
        own = {
            field: values[one.num_states, one.restart]
            for field, values in changes.items()
            if (one.num_states, one.restart) in values
        }
        fits.append(replace(one, **own))
    return Sweep(**{**vars(sweep), "fits": tuple(fits)})


def test_selection_takes_the_restart_by_training_and_the_states_by_held_out_bic(sweep):
    names = [(f.num_states, f.restart) for f in sweep.fits]
    trained = dict(zip(names, [1, 2, 3, 4, 6.0, 5, 8, 7], strict=True))
    bic = dict(zip(names, [50, 40, 0, 30, 20, 10, 60, 5], strict=True))
    made = made_up(
        sweep,
        penalised_log_likelihood=trained,
        bic=bic,
        validation_log_likelihood={name: -value / 2 for name, value in bic.items()},
        num_parameters=dict.fromkeys(names, 0),
    )
    assert {k: f.restart for k, f in best_restarts(made).items()} == {1: 1, 2: 1, 3: 0, 4: 0}
    assert (select(made).num_states, select(made).restart) == (3, 0)
    assert [row["bic"] for row in selection_table(made)] == [40, 30, 20, 60]
    assert [row["mean_bic"] for row in selection_table(made)] == [45, 15, 15, 32.5]


def test_degenerate_fits_are_left_out_and_counted(sweep):
    flags = {(3, 0): True, (3, 1): True, (4, 0): True}
    made = made_up(sweep, degenerate=flags)
    assert select(made).num_states != 3
    assert best_restarts(made)[4].restart == 1
    rows = selection_table(made)
    assert [row["num_degenerate"] for row in rows] == [0, 0, 2, 1]
    assert rows[2]["bic"] is None
    assert rows[3]["mean_bic"] == rows[3]["bic"]
    every = made_up(sweep, degenerate={(f.num_states, f.restart): True for f in sweep.fits})
    with pytest.raises(ValueError, match="every fit is degenerate"):
        select(every)


def test_select_refuses_an_unknown_criterion(sweep):
    with pytest.raises(ValueError, match=r"validation_bic, validation_aic.*got 'bic'"):
        select(sweep, "bic")


def test_a_run_that_decides_the_selection_is_named(sweep):
    by_run = {
        (f.num_states, f.restart): np.array([1.0 * f.num_states, 100.0 * f.num_states])
        for f in sweep.fits
    }
    made = made_up(sweep, validation_run_log_likelihood=by_run)
    with pytest.warns(UserWarning, match="1 of 2 validation runs: 7 hold 99%"):
        assert dominant_validation_runs(made) == ("7",)
    even = {name: np.array([values[0], values[0]]) for name, values in by_run.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dominant_validation_runs(made_up(sweep, validation_run_log_likelihood=even)) == ()


# --- bad input ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(states=()), "whole numbers from 1 up"),
        (dict(states=(0, 1)), "whole numbers from 1 up"),
        (dict(states=(2, 2)), "different whole numbers"),
        (dict(restarts=0), "restarts and iterations must be at least 1"),
        (dict(iterations=0), "restarts and iterations must be at least 1"),
        (dict(covariance="tied"), "full, diagonal, spherical, shared; got 'tied'"),
        (dict(prior="strong"), "prior must be one of held-out, weak"),
    ],
)
def test_a_bad_config_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SweepConfig(**settings)


def test_bad_data_is_refused():
    sequences, key = planted()[0], jax.random.key(0)
    train, validation = sequences.select(range(6)), sequences.select([6, 7])
    with pytest.raises(ValueError, match=r"at least 5 runs.*got 4"):
        fit_sweep(sequences.select(range(3)), sequences.select([7]), SMALL, key)
    with pytest.raises(ValueError, match="one training run and one validation run"):
        fit_sweep(train, sequences.select([]), SMALL, key)
    with pytest.raises(ValueError, match=r"200 states.*306 training checkpoints.*at most 153"):
        fit_sweep(train, validation, SweepConfig(states=(2, 200)), key)
    with pytest.raises(ValueError, match=r"metric_0, metric_1, metric_2 but.*a, b, c"):
        fit_sweep(train, replace(validation, metrics=("a", "b", "c")), SMALL, key)
    with pytest.raises(ValueError, match=r"'held-out'.*at least 2; there is 1"):
        fit_sweep(sequences.select([7]), train, SweepConfig(states=(2,)), key)
