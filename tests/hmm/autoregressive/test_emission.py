"""The emission against its formula, against Dynamax, and the M step against least squares."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal as normal

from seedmap.hmm.autoregressive.emission import coefficients, maximise, num_components
from seedmap.hmm.autoregressive.fits import precision, score_models
from seedmap.hmm.autoregressive.model import REGULARISATION, Parameters
from seedmap.hmm.autoregressive.records import records_of
from seedmap.hmm.features import Features

TAU = 0.3


def made_features(lengths=(6, 4), size=2, seed=0, gaps=()):
    """Random runs; `gaps` are (run, time) of records that are not there."""
    rng = np.random.default_rng(seed)
    lengths = np.array(lengths)
    mask = np.arange(lengths.max()) < lengths[:, None]
    present = mask.copy()
    for gap in gaps:
        present[gap] = False
    x = rng.normal(size=(*mask.shape, size)) * present[:, :, None]
    return Features(x, lengths, present, np.zeros_like(mask), tuple(map(str, range(len(lengths)))))


def made_parameters(num_states=2, size=2, seed=0):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(2, num_states, size, size))
    noise, spread = roots @ roots.swapaxes(-1, -2) + 0.3 * np.eye(size)
    return Parameters(
        rng.dirichlet(np.ones(num_states)),
        rng.dirichlet(np.ones(num_states), num_states),
        rng.normal(0, 0.4, (num_states, 1 + size, size)),
        noise,
        rng.normal(size=(num_states, size)),
        spread,
    )


def log_emission(p, k, x, t, present):
    """log e_k(t), tau left out, as the formula says."""
    if not present[t]:
        return 0.0
    location = normal.logpdf(x[t], p.location[k], p.spread[k])
    if not present[t - 1]:
        return 1.2 * location
    mean = x[t - 1] + np.append(1.0, x[t - 1]) @ p.motion[k]
    return normal.logpdf(x[t], mean, p.noise[k]) + 0.2 * location


def enumerate_paths(p, x, present):
    """Log-probability of a run and every path of states from the second record on."""
    states = range(len(p.initial))
    for path in itertools.product(states, repeat=len(x) - 1):
        log = np.log(p.initial[path[0]])
        log += sum(np.log(p.transition[a, b]) for a, b in itertools.pairwise(path))
        log += sum(TAU * log_emission(p, k, x, t + 1, present) for t, k in enumerate(path))
        yield log, path


@pytest.mark.parametrize(("num_states", "size"), [(2, 2), (3, 1)])
def test_likelihood_and_best_path_by_enumeration(num_states, size):
    features = made_features((6, 4, 2), size, gaps=[(0, 3), (1, 2)])
    p = made_parameters(num_states, size)
    with precision():
        (found,) = score_models(records_of(features), features.mask, [p], [TAU])
    for run, length in enumerate(features.lengths):
        x, present = features.x[run, :length], features.present[run, :length]
        paths = list(enumerate_paths(p, x, present))
        total = logsumexp([log for log, _ in paths])
        best, path = max(paths)
        first = [
            TAU * 1.2 * normal.logpdf(x[0], p.location[k], p.spread[k])
            + np.log(p.transition[k, path[0]])
            for k in range(num_states)
        ]
        np.testing.assert_allclose(found.run_log_likelihood[run], total, rtol=1e-12)
        np.testing.assert_allclose(found.path_log_likelihood[run], best, rtol=1e-12)
        assert tuple(found.paths[run, :length]) == (np.argmax(first), *path)
        assert (found.paths[run, length:] == -1).all()


def test_the_motion_is_dynamaxs_linear_autoregressive_hmm():
    """With the location's spread so wide that it says the same everywhere, and tau = 1."""
    from dynamax.hidden_markov_model import LinearAutoregressiveHMM

    features = made_features((9, 9), 2)
    wide = np.broadcast_to(1e6 * np.eye(2), (3, 2, 2))
    p = made_parameters(3, 2)._replace(location=np.zeros((3, 2)), spread=wide)
    with precision():
        (found,) = score_models(records_of(features), features.mask, [p], [1.0])
        hmm = LinearAutoregressiveHMM(3, 2, num_lags=1)
        params, _ = hmm.initialize(
            jax.random.key(0),
            initial_probs=jnp.asarray(p.initial),
            transition_matrix=jnp.asarray(p.transition),
            emission_weights=jnp.asarray(p.motion[:, 1:].swapaxes(1, 2) + np.eye(2)),
            emission_biases=jnp.asarray(p.motion[:, 0]),
            emission_covariances=jnp.asarray(p.noise),
        )
        for run, x in enumerate(features.x):
            expected = hmm.marginal_log_prob(params, jnp.asarray(x[1:]), jnp.asarray(x[:-1]))
            flat = 0.2 * normal.logpdf(x[1:], np.zeros(2), wide[0]).sum()
            np.testing.assert_allclose(found.run_log_likelihood[run] - flat, expected, rtol=1e-9)


def sums_of(features, weights):
    """The engine's sums [1, K, column] for posteriors [K, run, time], the first record left out."""
    records = records_of(features)
    steps, runs = records.mask.shape
    padded = np.zeros((len(weights), runs, steps))
    padded[:, : weights.shape[1], : weights.shape[2] - 1] = weights[:, :, 1:]
    products = np.asarray(records.products).transpose(1, 0, 2)
    return jnp.asarray(np.einsum("krt,rtc->kc", padded, products)[None])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_m_step_against_ridge_regression_and_weighted_moments(size):
    features = made_features((30, 30, 30), size)
    weights = np.random.default_rng(1).random((2, 3, 30))
    with precision():
        found = maximise(sums_of(features, weights), jnp.asarray(size), REGULARISATION)
    motion, noise, location, spread = (np.asarray(array)[0] for array in found)
    before, after = features.x[:, :-1].reshape(-1, size), features.x[:, 1:].reshape(-1, size)
    inputs = np.column_stack([np.ones(len(before)), before])
    ridge = 0.01 * np.diag([1e-4] + [1.0] * size)
    for k in range(2):
        w = weights[k, :, 1:].reshape(-1)
        gram = (inputs.T * w) @ inputs
        towards = (inputs.T * w) @ after + 0.01 * np.eye(1 + size)[:, 1:]
        to_next = np.linalg.solve(gram + ridge, towards)  # ridge towards staying where it is
        residual = after - inputs @ to_next
        to_next[1:] -= np.eye(size)
        np.testing.assert_allclose(motion[k, : 1 + size, :size], to_next, rtol=1e-9)
        scatter = (residual.T * w) @ residual / w.sum() + 1e-3 * np.eye(size)
        np.testing.assert_allclose(noise[k, :size, :size], scatter, rtol=1e-8)
        mean = w @ after / w.sum()
        np.testing.assert_allclose(location[k, :size], mean, rtol=1e-9)
        covariance = np.cov(after.T, bias=True, aweights=w).reshape(size, size)
        np.testing.assert_allclose(
            spread[k, :size, :size], covariance + 0.01 * np.eye(size), rtol=1e-8
        )


def test_padded_components_and_states_have_no_part_in_a_density():
    features = made_features((8, 8), 3)
    p = made_parameters(2, 3)
    with precision():
        records = records_of(features)
        assert num_components(records.products.shape[-1]) == 4
        (alone,) = score_models(records, features.mask, [p], [TAU])
        more = [made_parameters(5, 3), p]
        (_, beside) = score_models(records, features.mask, more, [0.5, TAU])
    x = features.x
    path = alone.paths[0]
    logs = [TAU * log_emission(p, k, x[0], t + 1, np.full(8, True)) for t, k in enumerate(path[1:])]
    moves = np.log(p.transition[path[1:-1], path[2:]]).sum() + np.log(p.initial[path[1]])
    np.testing.assert_allclose(alone.path_log_likelihood[0], sum(logs) + moves, rtol=1e-12)
    np.testing.assert_allclose(beside.run_log_likelihood, alone.run_log_likelihood, rtol=1e-12)


def test_coefficients_in_float32_are_those_of_float64_to_its_rounding():
    p = made_parameters(4, 4)
    p = p._replace(noise=p.noise * 1e-3)
    narrow = coefficients(Parameters(*(jnp.asarray(a, jnp.float32) for a in p)))
    with precision():
        wide = coefficients(Parameters(*(jnp.asarray(a) for a in p)))
    assert narrow.dtype == np.float32
    assert wide.dtype == np.float64
    np.testing.assert_allclose(narrow, wide, rtol=1e-4, atol=1e-5 * np.abs(wide).max())
