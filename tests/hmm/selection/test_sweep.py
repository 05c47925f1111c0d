"""The sweep on planted runs, against what the fits say of themselves and hmmlearn."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from helpers.planted import planted
from helpers.sweeps import SMALL, fit_small
from seedmap.hmm.em.loop import iterate
from seedmap.hmm.inference import log_likelihood, viterbi
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.criteria import select
from seedmap.hmm.selection.sweep import fit_sweep
from seedmap.hmm.sequences import from_arrays


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
    longer = fit_small(planted()[0], replace(SMALL, iterations=60))
    early = [one for one in sweep.fits if one.converged]
    assert {1, 3} <= {one.num_states for one in early}
    for one, more in zip(sweep.fits, longer.fits, strict=True):
        assert one.iterations <= 20
        assert one.converged or one.iterations == 20
        if one.converged:
            np.testing.assert_array_equal(one.parameters.means, more.parameters.means)
        assert more.penalised_log_likelihood >= one.penalised_log_likelihood - 0.01


def test_a_fit_does_not_depend_on_the_rest_of_the_sweep(sweep):
    alone = fit_small(planted()[0], replace(SMALL, states=(2, 3)))
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
    for a, b in zip(sweep.fits, fit_small(moved).fits, strict=True):
        np.testing.assert_allclose(b.train_log_likelihood + shift, a.train_log_likelihood, atol=0.1)
        np.testing.assert_allclose(
            (b.parameters.means - offset) / factor, a.parameters.means, atol=0.02
        )


def test_one_compilation_whatever_the_lengths_and_iterations(sweep):
    before = iterate._cache_size()
    shorter = [60, 30, 20, 60, 10, 5, 60, 60]
    calls = []
    fit_small(
        planted(shorter, seed=3)[0], replace(SMALL, iterations=7), 1, lambda *c: calls.append(c)
    )
    assert iterate._cache_size() == before
    assert (calls[0], calls[-1]) == ((0, 7), (7, 7))
    assert all(a <= b for (a, _), (b, _) in itertools.pairwise(calls))


def test_the_same_key_gives_the_same_fits_and_another_key_other_ones(sweep):
    again, other = fit_small(planted()[0]), fit_small(planted()[0], key=1)
    for a, b in zip(sweep.fits, again.fits, strict=True):
        np.testing.assert_array_equal(a.parameters.means, b.parameters.means)
    last, differs = sweep.fits[-1].parameters.means, other.fits[-1].parameters.means
    assert not np.allclose(last, differs, atol=1e-3)


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
