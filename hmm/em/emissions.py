"""Emission families: the forms that the covariances of a Gaussian HMM's states may take.

A family is a value whose fields are its functions: everything that depends on the form stands here,
and another form is one more entry of `FAMILIES`. The M step is Dynamax's conjugate update, applied
to whitened statistics; Dynamax is imported where it is used, as in `hmm.inference`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.errors import UserError
from seedmap.hmm.em.model import Layout, Statistics

Posterior = Callable[[Layout, jax.Array, Statistics], tuple[jax.Array, jax.Array]]


@dataclass(frozen=True)
class CovarianceFamily:
    """One form of the covariances, as what depends on it.

    Attributes:
        hmmlearn: the form's name in hmmlearn (`covariance_type`).
        num_parameters: (K, D) -> free parameters of all K covariances over D metrics.
        restrict: scatter [D, D] of all data -> the nearest covariance of this form, which every
            state starts from.
        units: variances [D] of the metrics -> variances [D] that they are standardised by, such
            that a covariance keeps its form in the units of the data.
        posterior: (layout, prior scatter [S, D, D], statistics) -> covariance [S, D, D] and mean
            [S, D] of the whitened residuals: the M step of every state.
        total: (layout, values [S]) -> sums [F] of a value of every covariance of a fit, one that
            states share counted once.
    """

    hmmlearn: str
    num_parameters: Callable[[int, int], int]
    restrict: Callable[[np.ndarray], np.ndarray]
    units: Callable[[np.ndarray], np.ndarray]
    posterior: Posterior
    total: Callable[[Layout, jax.Array], jax.Array]


def covariance_family(name: str) -> CovarianceFamily:
    """Returns the family called `name`.

    Raises:
        UserError: there is none.
    """
    if name not in FAMILIES:
        raise UserError(f"covariance must be one of {', '.join(FAMILIES)}; got {name!r}")
    return FAMILIES[name]


def _triangle(num_metrics: int) -> int:
    """Entries of a symmetric matrix that may differ."""
    return num_metrics * (num_metrics + 1) // 2


def _unchanged(array: np.ndarray) -> np.ndarray:
    return array


def _sum_over_states(layout: Layout, values: jax.Array) -> jax.Array:
    return layout.pad(values, 0.0).sum(1)


def _mean_over_states(layout: Layout, values: jax.Array) -> jax.Array:
    return _sum_over_states(layout, values) / np.array(layout.num_states)


def _full(layout: Layout, scale: jax.Array, statistics: Statistics):
    """Posterior of any covariance: that of a normal-inverse-Wishart prior."""
    from dynamax.utils.distributions import NormalInverseWishart, niw_posterior_update

    num_metrics = statistics.first.shape[1]

    def posterior_of_state(scale, *sums):
        prior = NormalInverseWishart(jnp.zeros(num_metrics), 0.0, num_metrics, scale)
        posterior = niw_posterior_update(prior, sums)
        return posterior.scale, posterior.loc

    scatter, mean = jax.vmap(posterior_of_state)(
        scale, statistics.first, statistics.second, statistics.weight
    )
    # Not the posterior's mode: that divides by n + df + D + 2, which would shrink the covariance of
    # a state with few checkpoints many times over. Dividing by n, the prior adds its scatter only.
    return scatter / statistics.weight[:, None, None], mean


def _variances(scale: jax.Array, statistics: Statistics):
    """Whitened variances [S, D] and mean [S, D], from the normal-inverse-gamma posterior."""
    from dynamax.utils.distributions import NormalInverseGamma, nig_posterior_update

    def posterior_of_state(scale, *sums):
        prior = NormalInverseGamma(jnp.zeros_like(scale), 0.0, 0.0, scale / 2)
        posterior = nig_posterior_update(prior, sums)
        return 2 * posterior.scale, posterior.loc

    def diagonal(matrix):
        return jnp.diagonal(matrix, axis1=1, axis2=2)

    second = diagonal(statistics.second)
    scatter, mean = jax.vmap(posterior_of_state)(
        diagonal(scale), statistics.first, second, statistics.weight
    )
    return scatter / statistics.weight[:, None], mean  # by n, as in `_full`


def _diagonal(layout: Layout, scale: jax.Array, statistics: Statistics):
    """Posterior of a covariance whose metrics are independent."""
    variance, mean = _variances(scale, statistics)
    return jax.vmap(jnp.diag)(variance), mean


def _spherical(layout: Layout, scale: jax.Array, statistics: Statistics):
    """Posterior of a covariance with one variance for all metrics."""
    variance, mean = _variances(scale, statistics)
    variance = jnp.broadcast_to(variance.mean(1, keepdims=True), variance.shape)
    return jax.vmap(jnp.diag)(variance), mean


def _shared(layout: Layout, scale: jax.Array, statistics: Statistics):
    """Posterior of one covariance for all states of a fit."""
    from dynamax.utils.distributions import InverseWishart, iw_posterior_update

    num_fits, num_metrics = len(layout.num_states), statistics.first.shape[1]
    mean = statistics.first / statistics.weight[:, None]
    scatter = statistics.second - jnp.einsum("si,sj->sij", statistics.first, mean)
    pooled = jax.ops.segment_sum(scatter, layout.fit, num_fits)
    weight = jax.ops.segment_sum(statistics.weight, layout.fit, num_fits)
    starts = np.cumsum((0, *layout.num_states[:-1]))  # all states of a fit have the same scale

    def scatter_of_fit(scale, *sums):
        return iw_posterior_update(InverseWishart(num_metrics, scale), sums).scale

    covariance = jax.vmap(scatter_of_fit)(scale[starts], pooled, weight) / weight[:, None, None]
    return covariance[layout.fit], mean


FAMILIES = {
    "full": CovarianceFamily(
        hmmlearn="full",
        num_parameters=lambda num_states, num_metrics: num_states * _triangle(num_metrics),
        restrict=_unchanged,
        units=_unchanged,
        posterior=_full,
        total=_sum_over_states,
    ),
    "diagonal": CovarianceFamily(
        hmmlearn="diag",
        num_parameters=lambda num_states, num_metrics: num_states * num_metrics,
        restrict=lambda scatter: np.diag(np.diag(scatter)),
        units=_unchanged,
        posterior=_diagonal,
        total=_sum_over_states,
    ),
    "spherical": CovarianceFamily(
        hmmlearn="spherical",
        num_parameters=lambda num_states, num_metrics: num_states,
        restrict=lambda scatter: np.eye(len(scatter)) * np.diag(scatter).mean(),
        # other units for other metrics would make it diagonal
        units=lambda variances: np.full_like(variances, variances.mean()),
        posterior=_spherical,
        total=_sum_over_states,
    ),
    "shared": CovarianceFamily(
        hmmlearn="tied",
        num_parameters=lambda num_states, num_metrics: _triangle(num_metrics),
        restrict=_unchanged,
        units=_unchanged,
        posterior=_shared,
        total=_mean_over_states,
    ),
}
