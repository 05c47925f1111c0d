"""M step of all fits at once, by the layout's emission family, and the prior."""

import jax
import jax.numpy as jnp

from seedmap.hmm.em.emissions import covariance_family
from seedmap.hmm.em.linalg import cholesky
from seedmap.hmm.em.model import Layout, Model, Prior, Statistics, whitening


def _normalise(counts: jax.Array) -> jax.Array:
    return counts / counts.sum(-1, keepdims=True)


def maximisation(layout: Layout, model: Model, statistics: Statistics, prior: Prior) -> Model:
    """M step: the parameters that maximise expected log-likelihood plus `log_prior`."""
    inverse, _ = whitening(model)
    scale = prior.scale[layout.fit, None, None] * jnp.einsum("sij,skj->sik", inverse, inverse)
    covariance, mean = covariance_family(layout.covariance).posterior(layout, scale, statistics)
    # The jitter lets a variance fall by a factor of 1e6 (float32) in one step and no further, so
    # that rounding cannot make the matrix indefinite; at a fixed point it adds 1e-6 of itself.
    jitter = 10 * jnp.finfo(covariance.dtype).eps * jnp.eye(covariance.shape[1])
    factors = model.factors @ cholesky(covariance + jitter)
    means = model.means + jnp.einsum("sij,sj->si", model.factors, mean)
    initial = _normalise((statistics.initial + prior.pseudo_count) * layout.active)
    transition = (statistics.transition + prior.pseudo_count) * layout.active[:, None]
    return Model(initial, _normalise(transition), means, factors)


def log_prior(layout: Layout, model: Model, prior: Prior) -> jax.Array:
    """Log-prior of every fit up to a constant, float [F], in nats.

    count * (sum log initial + sum log transition) - 1/2 sum_k tr(Psi Sigma_k^-1), with the last sum
    over one covariance if it is shared. It is improper: in the covariance it is the Wishart factor
    without the power of the determinant, so that the M step only adds Psi to the scatter.
    """
    inverse, _ = whitening(model)
    traces = covariance_family(layout.covariance).total(layout, (inverse**2).sum((1, 2)))
    active = layout.active
    pairs = active[:, :, None] & active[:, None]
    logs = jnp.log(jnp.where(pairs, model.transition, 1.0)).sum((1, 2))
    logs += jnp.log(jnp.where(active, model.initial, 1.0)).sum(1)
    return prior.pseudo_count * logs - 0.5 * prior.scale * traces
