"""M step of all fits at once: Dynamax's conjugate updates on whitened statistics, and the prior.

Dynamax is imported where it is used, as in `hmm.inference`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.hmm.em.linalg import cholesky
from seedmap.hmm.em.model import Layout, Model, Prior, Statistics, whitening


def _full(scale, statistics: Statistics):
    """Whitened covariance [S, D, D] and mean [S, D], from the normal-inverse-Wishart posterior."""
    from dynamax.utils.distributions import NormalInverseWishart, niw_posterior_update

    num_metrics = statistics.first.shape[1]

    def one(scale, *sums):
        prior = NormalInverseWishart(jnp.zeros(num_metrics), 0.0, num_metrics, scale)
        posterior = niw_posterior_update(prior, sums)
        return posterior.scale, posterior.loc

    scatter, mean = jax.vmap(one)(scale, statistics.first, statistics.second, statistics.weight)
    # Not the posterior's mode: that divides by n + df + D + 2, which would shrink the covariance of
    # a state with few checkpoints many times over. Dividing by n, the prior adds its scatter only.
    return scatter / statistics.weight[:, None, None], mean


def _diagonal(scale, statistics: Statistics):
    """Whitened variances [S, D] and mean [S, D], from the normal-inverse-gamma posterior."""
    from dynamax.utils.distributions import NormalInverseGamma, nig_posterior_update

    def one(scale, *sums):
        prior = NormalInverseGamma(jnp.zeros_like(scale), 0.0, 0.0, scale / 2)
        posterior = nig_posterior_update(prior, sums)
        return 2 * posterior.scale, posterior.loc

    def diagonal(matrix):
        return jnp.diagonal(matrix, axis1=1, axis2=2)

    second = diagonal(statistics.second)
    scatter, mean = jax.vmap(one)(diagonal(scale), statistics.first, second, statistics.weight)
    return scatter / statistics.weight[:, None], mean  # by n, as in `_full`


def _shared(layout: Layout, scale, statistics: Statistics):
    """Whitened covariance, the same [D, D] in all states of a fit, and mean [S, D]."""
    from dynamax.utils.distributions import InverseWishart, iw_posterior_update

    num_fits, num_metrics = len(layout.num_states), statistics.first.shape[1]
    mean = statistics.first / statistics.weight[:, None]
    scatter = statistics.second - jnp.einsum("si,sj->sij", statistics.first, mean)
    pooled = jax.ops.segment_sum(scatter, layout.fit, num_fits)
    weight = jax.ops.segment_sum(statistics.weight, layout.fit, num_fits)
    starts = np.cumsum((0, *layout.num_states[:-1]))  # all states of a fit have the same scale

    def one(scale, *sums):
        return iw_posterior_update(InverseWishart(num_metrics, scale), sums).scale

    covariance = jax.vmap(one)(scale[starts], pooled, weight) / weight[:, None, None]
    return covariance[layout.fit], mean


def _whitened_posterior(layout: Layout, scale, statistics: Statistics):
    """Covariance [S, D, D] and mean [S, D] of y, of the layout's covariance type."""
    if layout.covariance == "full":
        return _full(scale, statistics)
    if layout.covariance == "shared":
        return _shared(layout, scale, statistics)
    variance, mean = _diagonal(scale, statistics)
    if layout.covariance == "spherical":
        variance = jnp.broadcast_to(variance.mean(1, keepdims=True), variance.shape)
    return jax.vmap(jnp.diag)(variance), mean


def _normalise(counts: jax.Array) -> jax.Array:
    return counts / counts.sum(-1, keepdims=True)


def maximisation(layout: Layout, model: Model, statistics: Statistics, prior: Prior) -> Model:
    """M step: the parameters that maximise expected log-likelihood plus `log_prior`."""
    inverse, _ = whitening(model)
    scale = prior.scale[layout.fit, None, None] * jnp.einsum("sij,skj->sik", inverse, inverse)
    covariance, mean = _whitened_posterior(layout, scale, statistics)
    # The jitter lets a variance fall by a factor of 1e6 (float32) in one step and no further, so
    # that rounding cannot make the matrix indefinite; at a fixed point it adds 1e-6 of itself.
    jitter = 10 * jnp.finfo(covariance.dtype).eps * jnp.eye(covariance.shape[1])
    factors = model.factors @ cholesky(covariance + jitter)
    means = model.means + jnp.einsum("sij,sj->si", model.factors, mean)
    initial = _normalise((statistics.initial + prior.count) * layout.active)
    transition = (statistics.transition + prior.count) * layout.active[:, None]
    return Model(initial, _normalise(transition), means, factors)


def log_prior(layout: Layout, model: Model, prior: Prior) -> jax.Array:
    """Log-prior of every fit up to a constant, float [F], in nats.

    count * (sum log initial + sum log transition) - 1/2 sum_k tr(Psi Sigma_k^-1), with the last sum
    over one covariance if it is shared. It is improper: in the covariance it is the Wishart factor
    without the power of the determinant, so that the M step only adds Psi to the scatter.
    """
    inverse, _ = whitening(model)
    traces = layout.pad((inverse**2).sum((1, 2)), 0.0).sum(1)
    if layout.covariance == "shared":
        traces = traces / np.array(layout.num_states)
    active = layout.active
    pairs = active[:, :, None] & active[:, None]
    logs = jnp.log(jnp.where(pairs, model.transition, 1.0)).sum((1, 2))
    logs += jnp.log(jnp.where(active, model.initial, 1.0)).sum(1)
    return prior.count * logs - 0.5 * prior.scale * traces
