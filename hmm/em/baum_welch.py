"""Baum-Welch for Gaussian HMMs exactly as hmmlearn 0.3 does it, for many fits at once.

hmmlearn adds its `covars_prior`, 0.01, to every entry of a state's scatter matrix, off the diagonal
too, has no pseudo-counts, updates once more before it looks whether an iteration has raised the
log-likelihood by less than `tol`, 0.01, and works in logarithms: probabilities may become 0.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seedmap.hmm.em.linalg import cholesky, inverse_lower

Array = Any  # a JAX array within a program, a NumPy one outside
PRIOR = 0.01
TOLERANCE = 0.01
_LEAST_COUNT = 1e-5  # of the diagonal covariance's divisor


class Gaussians(NamedTuple):
    """HMMs of up to K states over D metrics; those of a fit's states beyond its own are padding.

    Attributes:
        initial: float [F, K].
        transition: float [F, K, K].
        means: float [F, K, D].
        covariances: float [F, K, D, D], 0 off the diagonal where they are diagonal.
    """

    initial: Array
    transition: Array
    means: Array
    covariances: Array


class Fitting(NamedTuple):
    """Where fits stand.

    Attributes:
        model: after the updates made.
        history: float [F, iteration], log-likelihood of the training runs before each update, NaN
            for those not made.
        iterations: int32 [F], updates made.
        converged: bool [F], whether the tolerance was met.
    """

    model: Gaussians
    history: jax.Array
    iterations: jax.Array
    converged: jax.Array


@partial(jax.jit, static_argnames=("iterations", "diagonal"))
def baum_welch(
    values: jax.Array,
    mask: jax.Array,
    active: jax.Array,
    start: Gaussians,
    iterations: int,
    diagonal: bool,
) -> Fitting:
    """Fits HMMs to runs.

    Args:
        values: float [time, run, D], anything on padding.
        mask: bool [time, run], False on padding.
        active: bool [F, K], the states that a fit has.
        start: where each fit begins.
        iterations: updates at most.
        diagonal: whether covariances are diagonal.
    """
    num_fits = len(active)
    nothing = jnp.zeros(num_fits, bool)
    history = jnp.full((num_fits, iterations), jnp.nan, values.dtype)
    begun = Fitting(start, history, jnp.zeros(num_fits, jnp.int32), nothing)

    def unfinished(carry):
        return (carry[0] < iterations) & ~carry[1].converged.all()

    def step(carry):
        index, old = carry
        model, score = _update(values, mask, active, old.model, diagonal)
        done = old.converged
        history = old.history.at[:, index].set(jnp.where(done, jnp.nan, score))
        raised = score - jnp.where(index > 0, old.history[:, index - 1], -jnp.inf)
        keep = jax.tree.map(
            lambda a, b: jnp.where(done.reshape(-1, *(1,) * (a.ndim - 1)), a, b), old.model, model
        )
        return index + 1, Fitting(
            keep, history, old.iterations + ~done, done | (raised < TOLERANCE)
        )

    return jax.lax.while_loop(unfinished, step, (0, begun))[1]


@jax.jit
def log_likelihoods(
    values: jax.Array, mask: jax.Array, active: jax.Array, model: Gaussians
) -> jax.Array:
    """Returns log p(run) under every HMM, float [F, run]; arguments as of `baum_welch`."""
    alphas = _forward(_log_densities(values, mask, active, model), mask, model)
    return jax.nn.logsumexp(alphas[-1], axis=1)


def _log_densities(values, mask, active, model: Gaussians) -> jax.Array:
    """Log N(x; mu, Sigma) [time, F, K, run], -inf of states a fit does not have, 0 on padding."""
    size = values.shape[-1]
    eye = jnp.eye(size, dtype=values.dtype)
    factors = cholesky(jnp.where(active[:, :, None, None], model.covariances, eye))
    whitening = inverse_lower(factors)
    logs = jnp.log(jnp.diagonal(factors, axis1=-2, axis2=-1)).sum(-1)
    means = jnp.where(active[:, :, None], model.means, 0.0)
    offsets = jnp.einsum("fkij,fkj->fki", whitening, means)
    white = jnp.einsum("fkij,trj->tfkir", whitening, values) - offsets[..., None]
    distance = (white**2).sum(3)
    density = -0.5 * (distance + size * jnp.log(2 * jnp.pi)) - logs[:, :, None]
    density = jnp.where(mask[:, None, None], density, 0.0)
    return jnp.where(active[:, :, None], density, -jnp.inf)


def _forward(densities, mask, model: Gaussians) -> jax.Array:
    """Log p(x_1..t, state_t) [time, F, K, run]; on padding the last record's is handed on."""
    rows = jnp.log(model.transition)[..., None]  # [F, from, to, 1]

    def step(before, inputs):
        density, real = inputs
        after = density + jax.nn.logsumexp(before[:, :, None] + rows, axis=1)
        after = jnp.where(real, after, before)
        return after, after

    first = jnp.log(model.initial)[..., None] + densities[0]
    _, later = jax.lax.scan(step, first, (densities[1:], mask[1:]))
    return jnp.concatenate([first[None], later])


def _backward(densities, mask, model: Gaussians) -> jax.Array:
    """Log p(x_t+1.. | state_t) [time, F, K, run], 0 at the last record and on padding."""
    rows = jnp.log(model.transition)[..., None]

    def step(later, inputs):
        density, real = inputs
        here = jax.nn.logsumexp(rows + (later + density)[:, None], axis=2)
        here = jnp.where(real, here, 0.0)
        return here, here

    last = jnp.zeros_like(densities[0])
    _, before = jax.lax.scan(step, last, (densities[1:], mask[1:]), reverse=True)
    return jnp.concatenate([before, last[None]])


def _update(values, mask, active, model: Gaussians, diagonal: bool):
    """One iteration: the HMMs after it, and the log-likelihood [F] before it."""
    densities = _log_densities(values, mask, active, model)
    alphas, betas = _forward(densities, mask, model), _backward(densities, mask, model)
    totals = jax.nn.logsumexp(alphas[-1], axis=1)  # [F, run]
    posterior = jnp.exp(alphas + betas - totals[:, None]) * mask[:, None, None]
    pairs = _pairs(densities, mask, alphas, betas, totals, model)
    counts = posterior.sum((0, 3))  # [F, K]
    sums = jnp.einsum("tfkr,trd->fkd", posterior, values)
    means = sums / counts[..., None]
    squares = jnp.einsum("tfkr,trd,tre->fkde", posterior, values, values)
    scatter = squares - counts[..., None, None] * means[..., None] * means[..., None, :]
    if diagonal:
        eye = jnp.eye(values.shape[-1])
        covariances = (PRIOR + scatter) * eye / jnp.maximum(counts, _LEAST_COUNT)[..., None, None]
    else:
        covariances = (PRIOR + scatter) / counts[..., None, None]
    return Gaussians(
        _normalised(posterior[0].sum(-1)), _normalised(pairs), means, covariances
    ), totals.sum(1)


def _pairs(densities, mask, alphas, betas, totals, model: Gaussians) -> jax.Array:
    """Expected transitions [F, from, to] over all runs."""
    rows = jnp.log(model.transition)[..., None]

    def step(sums, inputs):
        before, density, later, real = inputs
        joint = before[:, :, None] + rows + (density + later)[:, None] - totals[:, None, None]
        return sums + (jnp.exp(joint) * real).sum(-1), None

    nothing = jnp.zeros_like(model.transition)
    inputs = (alphas[:-1], densities[1:], betas[1:], mask[1:])
    return jax.lax.scan(step, nothing, inputs)[0]


def _normalised(counts: jax.Array) -> jax.Array:
    """Rows that sum to 1; a row of zeros stays, as in hmmlearn."""
    total = counts.sum(-1, keepdims=True)
    return counts / jnp.where(total == 0, 1.0, total)
