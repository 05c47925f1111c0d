import itertools

import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from scipy.stats import multivariate_normal

from seedmap.hmm.inference import filtered, log_likelihood, posterior, viterbi
from seedmap.hmm.parameters import (
    Parameters,
    canonical_order,
    log_densities,
    num_parameters,
    permute,
    relabel,
)
from seedmap.hmm.sequences import from_arrays


def random_parameters(num_states, num_metrics, seed=0):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(num_states, num_metrics, num_metrics))
    return Parameters(
        rng.dirichlet(np.ones(num_states)),
        rng.dirichlet(np.ones(num_states), num_states),
        rng.normal(size=(num_states, num_metrics)),
        roots @ roots.transpose(0, 2, 1) + 0.3 * np.eye(num_metrics),
    )


def random_sequences(lengths, num_metrics, seed=0):
    rng = np.random.default_rng(seed)
    return from_arrays([rng.normal(size=(n, num_metrics)) for n in lengths])


def enumerate_paths(parameters, values):
    """All state paths of one run [time, metric] and their joint probabilities with the data."""
    num_states = len(parameters.initial)
    density = np.stack(
        [
            multivariate_normal(mean, covariance).pdf(values).reshape(-1)
            for mean, covariance in zip(parameters.means, parameters.covariances, strict=True)
        ],
        1,
    )
    paths = np.array(list(itertools.product(range(num_states), repeat=len(values))))
    joint = parameters.initial[paths[:, 0]]
    joint = joint * parameters.transition[paths[:, :-1], paths[:, 1:]].prod(1)
    return paths, joint * density[np.arange(len(values)), paths].prod(1)


def marginals(paths, joint, time, num_states):
    return np.bincount(paths[:, time], joint, num_states) / joint.sum()


def forbid_a_transition(parameters):
    transition = parameters.transition.copy()
    transition[0, 1] = 0.0
    transition[2] = [0.0, 0.0, 1.0]
    return parameters._replace(transition=transition / transition.sum(1, keepdims=True))


@pytest.mark.parametrize("change", [lambda p: p, forbid_a_transition])
def test_against_enumeration_of_all_paths(change):
    parameters = change(random_parameters(3, 2))
    sequences = random_sequences([6, 4, 1], 2)
    smooth, forward = posterior(parameters, sequences), filtered(parameters, sequences)
    decoded, totals = viterbi(parameters, sequences), log_likelihood(parameters, sequences)
    for run, length in enumerate(sequences.lengths):
        values = sequences.values[run, :length]
        paths, joint = enumerate_paths(parameters, values)
        np.testing.assert_allclose(totals[run], np.log(joint.sum()), rtol=1e-6)
        np.testing.assert_array_equal(decoded[run, :length], paths[joint.argmax()])
        for time in range(length):
            expected = marginals(paths, joint, time, 3)
            np.testing.assert_allclose(smooth[run, time], expected, atol=2e-6)
            past = enumerate_paths(parameters, values[: time + 1])
            np.testing.assert_allclose(forward[run, time], marginals(*past, time, 3), atol=2e-6)
        assert (decoded[run, length:] == -1).all()
        assert not smooth[run, length:].any()
        assert not forward[run, length:].any()


def test_against_hmmlearn():
    parameters = random_parameters(4, 3)
    sequences = random_sequences([50, 20, 35], 3)
    peer = GaussianHMM(4, "full")
    peer.startprob_, peer.transmat_ = parameters.initial, parameters.transition
    peer.means_, peer.covars_ = parameters.means, parameters.covariances
    smooth, decoded = posterior(parameters, sequences), viterbi(parameters, sequences)
    totals = log_likelihood(parameters, sequences)
    for run, length in enumerate(sequences.lengths):
        values = sequences.values[run, :length]
        total, expected = peer.score_samples(values)
        np.testing.assert_allclose(totals[run], total, rtol=1e-6)
        np.testing.assert_allclose(smooth[run, :length], expected, atol=5e-6)
        np.testing.assert_array_equal(decoded[run, :length], peer.predict(values))


def test_padding_changes_nothing():
    parameters, short = random_parameters(3, 2), random_sequences([9, 5], 2)
    padded = from_arrays(np.pad(short.values, ((0, 0), (0, 30), (0, 0))), short.lengths)
    for decode in (viterbi, posterior, filtered):
        expected = decode(parameters, short)
        np.testing.assert_allclose(decode(parameters, padded)[:, :9], expected, atol=1e-6)
    expected = log_likelihood(parameters, short)
    np.testing.assert_allclose(log_likelihood(parameters, padded), expected, rtol=1e-6)


def test_padding_does_not_draw_the_path_towards_a_sticky_state():
    parameters = Parameters(
        np.array([0.5, 0.5]),
        np.array([[0.5, 0.5], [0.001, 0.999]]),
        np.array([[0.0], [1.0]]),
        np.ones((2, 1, 1)),
    )
    short = from_arrays([[[0.4]], [[0.4], [-1.0]]])  # one checkpoint alone is nearer to state 0
    assert viterbi(parameters, short).tolist() == [[0, -1], [0, 0]]
    padded = from_arrays(np.pad(short.values, ((0, 0), (0, 30), (0, 0))), short.lengths)
    assert viterbi(parameters, padded)[:, :2].tolist() == [[0, -1], [0, 0]]


def test_runs_of_a_single_checkpoint_decode():
    parameters = random_parameters(3, 2)
    single = from_arrays(np.random.default_rng(0).normal(size=(4, 1, 2)))
    expected = posterior(parameters, single).argmax(2)
    np.testing.assert_array_equal(viterbi(parameters, single), expected)


def test_outliers_of_a_million_do_not_spoil_the_other_checkpoints():
    parameters = random_parameters(3, 2)._replace(means=np.array([[-9.0, 0], [0, 9], [9, 0]]))
    states = np.random.default_rng(0).integers(0, 3, (2, 40))
    values = parameters.means[states]
    values[:, 20] = 1e6
    sequences = from_arrays(values)
    decoded, smooth = viterbi(parameters, sequences), posterior(parameters, sequences)
    rest = np.arange(40) != 20
    np.testing.assert_array_equal(decoded[:, rest], states[:, rest])
    assert np.isfinite(smooth).all()
    np.testing.assert_allclose(smooth.sum(-1), 1, atol=1e-5)
    assert np.isfinite(log_likelihood(parameters, sequences)).all()


def test_missing_values_are_marginalised():
    parameters = random_parameters(2, 3)
    values = np.random.default_rng(0).normal(size=(5, 3))
    values[1, 0] = values[2, 1:] = values[3] = np.nan
    densities = log_densities(parameters, values)
    for state in range(2):
        mean, covariance = parameters.means[state], parameters.covariances[state]
        for row, density in zip(values, densities[:, state], strict=True):
            known = ~np.isnan(row)
            expected = 0.0
            if known.any():
                marginal = multivariate_normal(mean[known], covariance[np.ix_(known, known)])
                expected = marginal.logpdf(row[known])
            np.testing.assert_allclose(density, expected, rtol=1e-9, atol=1e-12)


def test_a_model_of_other_metrics_is_refused():
    with pytest.raises(ValueError, match="the model has 2 metrics and the data 3"):
        viterbi(random_parameters(2, 2), random_sequences([5], 3))


@pytest.mark.parametrize(
    ("covariance", "peer"),
    [("full", "full"), ("diagonal", "diag"), ("spherical", "spherical"), ("shared", "tied")],
)
def test_num_parameters_as_hmmlearn_counts(covariance, peer):
    model = GaussianHMM(5, peer)
    model.n_features = 14
    expected = sum(model._get_n_fit_scalars_per_param().values())
    assert num_parameters(5, 14, covariance) == expected


def test_num_parameters_refuses_an_unknown_covariance():
    with pytest.raises(ValueError, match="full, diagonal, spherical, shared; got 'diag'"):
        num_parameters(2, 2, "diag")


def test_canonical_order_is_by_mean_first_visit_over_the_runs_that_visit():
    paths = np.array([[2, 2, 0, 0, 1], [2, 0, 0, -1, -1], [2, 3, 3, 3, 1]])
    # first visits: state 0 at (2, 1), 1 at (4, 4), 2 at (0, 0, 0), 3 at 1; 4 never
    order = canonical_order(paths, 5)
    assert order.tolist() == [2, 3, 0, 1, 4]
    expected = [[0, 0, 2, 2, 3], [0, 2, 2, -1, -1], [0, 1, 1, 1, 3]]
    assert relabel(paths, order).tolist() == expected


def test_permuted_parameters_are_the_same_model():
    parameters, sequences = random_parameters(4, 2), random_sequences([30, 20], 2)
    order = np.array([2, 0, 3, 1])
    permuted = permute(parameters, order)
    expected = log_likelihood(parameters, sequences)
    np.testing.assert_allclose(log_likelihood(permuted, sequences), expected, rtol=1e-6)
    expected = relabel(viterbi(parameters, sequences), order)
    np.testing.assert_array_equal(viterbi(permuted, sequences), expected)
