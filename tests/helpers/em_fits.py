"""Fits for tests of EM: starts, data and priors in the form that the engine takes."""

import jax.numpy as jnp
import numpy as np

from seedmap.hmm.em.model import Data, Model, Prior


def start_of(num_states, covariance, num_metrics=3, seed=0):
    """One fit's starting parameters, as numpy arrays, of the given covariance type."""
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(num_states, num_metrics, num_metrics))
    covariances = roots @ roots.transpose(0, 2, 1) + np.eye(num_metrics)
    if covariance == "shared":
        covariances[:] = covariances[0]
    if covariance == "diagonal":
        covariances *= np.eye(num_metrics)
    if covariance == "spherical":
        covariances = covariances[:, :1, :1] * np.eye(num_metrics)
    initial, transition = (rng.dirichlet(np.ones(num_states), n) for n in (1, num_states))
    return initial[0], transition, rng.normal(0, 2, (num_states, num_metrics)), covariances


def as_model(layout, starts):
    """The `Model` of several starts."""
    size = max(layout.num_states)
    initial = np.zeros((len(starts), size))
    transition = np.full((len(starts), size, size), 0.0)
    for i, (first, rows, _, _) in enumerate(starts):
        k = len(first)
        initial[i, :k], transition[i, :, :k], transition[i, :k, :k] = first, 1 / k, rows
    means = np.concatenate([start[2] for start in starts])
    factors = np.linalg.cholesky(np.concatenate([start[3] for start in starts]))
    return Model(*(jnp.asarray(x, float) for x in (initial, transition, means, factors)))


def as_data(sequences, extra=0):
    """Training data for the engine, with `extra` padded steps (here a chunk is 6 x 42 or less)."""
    steps = -(-(sequences.values.shape[1] + extra) // 42) * 42
    pad = steps - sequences.values.shape[1]
    values = np.pad(sequences.values, ((0, 0), (0, pad), (0, 0)))
    mask = np.pad(sequences.mask, ((0, 0), (0, pad)))
    return Data(jnp.asarray(values.transpose(1, 0, 2), float), jnp.asarray(mask.T))


def prior_of(num_fits, scale=1e-4, count=1e-2):
    return Prior(jnp.full(num_fits, scale), jnp.asarray(count))
