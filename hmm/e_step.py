"""E step of all fits at once: emission densities, messages, expected statistics."""

import jax
import jax.numpy as jnp

from hmm.messages import forward, forward_backward
from hmm.model import Data, Layout, Model, Statistics, whitening


def chunk_size(num_steps: int, num_runs: int) -> int:
    """Number of time steps handled together: about 256 checkpoints, which stay in the cache."""
    return min(max(1, 256 // num_runs), num_steps)


def _chunks(data: Data) -> jax.Array:
    """Values as [chunk, metric, observation], the observations of a chunk time by time."""
    num_steps, num_runs, num_metrics = data.values.shape
    size = chunk_size(num_steps, num_runs)
    return data.values.reshape(-1, size * num_runs, num_metrics).transpose(0, 2, 1)


def _residuals(inverse: jax.Array, centre: jax.Array, values: jax.Array) -> jax.Array:
    """Whitened residuals y [S, D, n] of `values` [D, n], as one matrix product."""
    num_states, num_metrics = centre.shape
    whitened = inverse.reshape(-1, num_metrics) @ values - centre.reshape(-1, 1)
    return whitened.reshape(num_states, num_metrics, -1)


def _scaled_densities(layout: Layout, model: Model, data: Data) -> tuple[jax.Array, jax.Array]:
    """Emission densities divided by their maximum over the states, and log of that maximum.

    Returns:
        float [time, F, Kmax, run] in [0, 1], 1 on padding, 0 in states a fit does not have; and
        float [time, F, run], 0 on padding.
    """
    inverse, centre = whitening(model)
    log_det = jnp.log(jnp.diagonal(model.factors, axis1=1, axis2=2)).sum(1)
    constant = log_det + 0.5 * model.means.shape[1] * jnp.log(2 * jnp.pi)

    def one_chunk(values_and_mask):
        values, mask = values_and_mask
        distance = (_residuals(inverse, centre, values) ** 2).sum(1)
        logs = layout.pad(-0.5 * distance - constant[:, None], -jnp.inf)
        logs = logs.reshape(*layout.active.shape, *mask.shape).transpose(2, 0, 1, 3)
        logs = jnp.where(mask[:, None, None] | ~layout.active[:, :, None], logs, 0.0)
        top = logs.max(2)
        return jnp.exp(logs - top[:, :, None]), top

    chunks = _chunks(data)
    mask = data.mask.reshape(len(chunks), -1, data.mask.shape[1])
    densities, top = jax.lax.map(one_chunk, (chunks, mask))
    return densities.reshape(-1, *densities.shape[2:]), top.reshape(-1, *top.shape[2:])


def run_log_likelihood(layout: Layout, model: Model, data: Data) -> jax.Array:
    """Log-likelihood of every run under every fit, float [F, run], in nats."""
    densities, top = _scaled_densities(layout, model, data)
    _, normalisers = forward(model.initial, model.transition, densities)
    return jnp.where(data.mask[:, None], top + jnp.log(normalisers), 0.0).sum(0)


def _scatter(layout: Layout, model: Model, data: Data, weights: jax.Array):
    """Weighted sums of 1, y and y y^T over all checkpoints; weights [time, F, Kmax, run]."""
    inverse, centre = whitening(model)
    num_states, num_metrics = centre.shape

    def add_chunk(sums, values_and_weights):
        values, weights = values_and_weights
        residuals = _residuals(inverse, centre, values)
        flat = weights.transpose(1, 2, 0, 3)[layout.fit, layout.slot].reshape(num_states, -1)
        weighted = flat[:, None] * residuals
        second = jnp.einsum("sin,sjn->sij", weighted, residuals)
        return jax.tree.map(jnp.add, sums, (flat.sum(1), weighted.sum(2), second)), None

    chunks = _chunks(data)
    dtype = data.values.dtype
    zeros = (
        jnp.zeros(num_states, dtype),
        jnp.zeros((num_states, num_metrics), dtype),
        jnp.zeros((num_states, num_metrics, num_metrics), dtype),
    )
    weights = weights.reshape(len(chunks), -1, *weights.shape[1:])
    sums, _ = jax.lax.scan(add_chunk, zeros, (chunks, weights))
    return sums


def expectation(layout: Layout, model: Model, data: Data) -> Statistics:
    """E step: expected sufficient statistics of every fit under its current parameters."""
    densities, top = _scaled_densities(layout, model, data)
    messages = forward_backward(model.initial, model.transition, densities, data.mask)
    logs = jnp.where(data.mask[:, None], top + jnp.log(messages.normalisers), 0.0)
    weight, first, second = _scatter(layout, model, data, messages.smoothed)
    initial = messages.smoothed[0].sum(-1)
    return Statistics(logs.sum(0), initial, messages.transitions, weight, first, second)
