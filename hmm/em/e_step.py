"""E step of all fits at once: emission densities, messages, expected statistics."""

import jax
import jax.numpy as jnp

from seedmap.hmm.em.messages import best_path, forward, forward_backward
from seedmap.hmm.em.missing import conditional_scatter, marginal_log_densities
from seedmap.hmm.em.model import Data, Layout, Missing, Model, Statistics, whitening


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
    densities, top = (x.reshape(-1, *x.shape[2:]) for x in (densities, top))
    if data.missing is None:
        return densities, top
    return _put_marginals(layout, inverse, model, data.missing, densities, top)


def _put_marginals(layout: Layout, inverse, model: Model, missing: Missing, densities, top):
    """Puts the marginal densities of the checkpoints with missing metrics where they belong."""
    logs = marginal_log_densities(inverse, model.means, missing)
    logs = layout.pad(logs.T, -jnp.inf).transpose(2, 0, 1)
    highest = logs.max(2)
    position = (missing.time, slice(None), slice(None), missing.run)
    densities = densities.at[position].set(jnp.exp(logs - highest[:, :, None]), mode="drop")
    return densities, top.at[missing.time, :, missing.run].set(highest, mode="drop")


def run_scores(layout: Layout, model: Model, data: Data) -> tuple[jax.Array, jax.Array]:
    """Log p(run) and log p(run, its Viterbi path) under every fit, float [F, run], in nats."""
    densities, top = _scaled_densities(layout, model, data)
    _, normalisers = forward(model.initial, model.transition, densities)
    logs = jnp.where(data.mask[:, None], top + jnp.log(normalisers), 0.0).sum(0)
    joint, _ = best_path(model.initial, model.transition, densities, data.mask)
    return logs, joint + top.sum(0)


def _scatter(layout: Layout, model: Model, data: Data, weights: jax.Array):
    """Weighted sums of 1, y and y y^T over complete checkpoints; weights [time, F, Kmax, run]."""
    inverse, centre = whitening(model)
    num_states, num_metrics = centre.shape
    size = num_metrics + 1
    # y with a 1 appended is linear in x with a 1 appended, and then one product gives all sums
    affine = jnp.zeros((num_states, size, size), inverse.dtype).at[:, -1, -1].set(1.0)
    affine = affine.at[:, :-1, :-1].set(inverse).at[:, :-1, -1].set(-centre)

    def add_chunk(total, values_and_weights):
        values, weights = values_and_weights
        values = jnp.concatenate([values, jnp.ones_like(values[:1])])
        residuals = (affine.reshape(-1, size) @ values).reshape(num_states, size, -1)
        flat = weights.transpose(1, 2, 0, 3)[layout.fit, layout.slot].reshape(num_states, 1, -1)
        return total + jnp.einsum("sin,sjn->sij", flat * residuals, residuals), None

    chunks = _chunks(data)
    weights = weights.reshape(len(chunks), -1, *weights.shape[1:])
    total, _ = jax.lax.scan(add_chunk, jnp.zeros_like(affine), (chunks, weights))
    return total[:, -1, -1], total[:, :-1, -1], total[:, :-1, :-1]


def _scatter_with_missing(
    layout: Layout, model: Model, data: Data, missing: Missing, weights: jax.Array
):
    """`_scatter` plus the expectations of the checkpoints with missing metrics."""
    position = (missing.time, slice(None), slice(None), missing.run)
    on_missing = weights.at[position].get(mode="fill", fill_value=0)[:, layout.fit, layout.slot]
    complete = _scatter(layout, model, data, weights.at[position].set(0, mode="drop"))
    partial = conditional_scatter(whitening(model)[0], model.means, missing, on_missing)
    return jax.tree.map(jnp.add, complete, (on_missing.sum(0), *partial))


def expectation(layout: Layout, model: Model, data: Data, run_weights: jax.Array) -> Statistics:
    """E step: expected sufficient statistics of every fit under its current parameters.

    Args:
        layout: The fits.
        model: Their parameters.
        data: The runs.
        run_weights: float [F, run], how much a run counts in the sums; 0 leaves it out. The
            log-likelihoods are those of all runs.
    """
    densities, top = _scaled_densities(layout, model, data)
    messages = forward_backward(model.initial, model.transition, densities, data.mask, run_weights)
    logs = jnp.where(data.mask[:, None], top + jnp.log(messages.normalisers), 0.0)
    if data.missing is None:
        sums = _scatter(layout, model, data, messages.smoothed)
    else:
        sums = _scatter_with_missing(layout, model, data, data.missing, messages.smoothed)
    return Statistics(logs.sum(0), messages.smoothed[0].sum(-1), messages.transitions, *sums)
