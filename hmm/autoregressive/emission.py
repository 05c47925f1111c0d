"""The emission: a linear motion from record to record, and weakly where the record is.

    log e_k(t) = tau [log N(x_t; x_(t-1) + [1, x_(t-1)] M_k, S_k) + 0.2 log N(x_t; m_k, C_k)]

This is a composite likelihood: the two factors speak of the same record. Dynamax's
`LinearAutoregressiveHMM` is the first factor alone with tau = 1. Both are quadratic forms in the
products of `Records`, so that densities are one matrix product and the sums of the M step another.
The motion is written in increments, x_t - x_(t-1): these are small, and in float32 little cancels.
"""

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.hmm.autoregressive.model import Parameters, Regularisation, pairs
from seedmap.hmm.em.linalg import cholesky, inverse_lower

NEUTRAL = 1 / (2 * np.pi)  # the variance whose log-density at 0 is 0: that of padded components


def coefficients(parameters: Parameters) -> jax.Array:
    """Coefficients [F, K, column] of the log-density, tau apart, in the columns of `Records`."""
    motion, location = parameters.motion, parameters.location
    covariances = jnp.stack([parameters.noise, parameters.spread])  # one loop for both
    whitening = inverse_lower(cholesky(covariances))
    of_motion = _quadratic(whitening[0], -motion.swapaxes(-1, -2))
    return jnp.concatenate([of_motion, _quadratic(whitening[1], -location[..., None])], -1)


def _quadratic(whitening: jax.Array, against: jax.Array) -> jax.Array:
    """Log N(y + against @ u; 0, Sigma) as coefficients of the pairs out of [u, y]."""
    whitened = jnp.concatenate([whitening @ against, whitening], -1)
    form = whitened.swapaxes(-1, -2) @ whitened
    rows, columns = pairs(form.shape[-1])
    logs = jnp.log(jnp.diagonal(whitening, axis1=-2, axis2=-1)).sum(-1)
    constant = logs - 0.5 * whitening.shape[-1] * jnp.log(2 * jnp.pi)
    linear = form[..., rows, columns] * np.where(rows == columns, -0.5, -1.0)
    return linear.at[..., 0].add(constant)  # the first pair is 1 times 1


def maximise(sums: jax.Array, size: jax.Array, regularisation: Regularisation) -> tuple:
    """Returns motion, noise, location and spread from the weighted sums of the records.

    M = (G_uu + ridge I)^-1 G_ud, S = residual scatter / n + noise I, and C = covariance + spread I.
    A ridge towards no motion is one towards A = I.

    Args:
        sums: float [F, K, column], products weighted by the posterior of the state.
        size: number of components that are not padding.
        regularisation: what is added.
    """
    width = num_components(sums.shape[-1])
    split = (2 * width + 1) * (width + 1)
    motion, noise = _regress(_square(sums[..., :split]), width, regularisation)
    location, spread = _moments(_square(sums[..., split:]), regularisation.spread)
    spare = jnp.arange(width) >= size
    neutral = jnp.diag(jnp.where(spare, NEUTRAL, 0.0))
    used = ~spare[:, None] & ~spare
    return motion, jnp.where(used, noise, neutral), location, jnp.where(used, spread, neutral)


def num_components(num_columns: int) -> int:
    """Returns D of records with (2 D + 1) (D + 1) + (D + 1) (D + 2) / 2 columns."""
    columns = ((2 * d + 1) * (d + 1) + (d + 1) * (d + 2) // 2 for d in range(num_columns))
    return list(columns).index(num_columns)


def _square(sums: jax.Array) -> jax.Array:
    """Symmetric matrices [..., P, P] from their pairs [..., P (P + 1) / 2]."""
    size = int((np.sqrt(8 * sums.shape[-1] + 1) - 1) / 2)
    index = np.zeros((size, size), int)
    index[pairs(size)] = np.arange(sums.shape[-1])
    return sums[..., np.maximum(index, index.T)]


def _regress(gram: jax.Array, width: int, regularisation: Regularisation):
    """Ridge regression of the increments on [1, x_(t-1)]: motion and covariance of the noise."""
    inputs = width + 1
    within, across = gram[..., :inputs, :inputs], gram[..., :inputs, inputs:]
    ridge = regularisation.ridge * jnp.ones(inputs).at[0].set(1e-4)
    inverse = inverse_lower(cholesky(within + jnp.diag(ridge)))
    motion = inverse.swapaxes(-1, -2) @ (inverse @ across)
    transposed = motion.swapaxes(-1, -2)
    explained = transposed @ across
    scatter = gram[..., inputs:, inputs:] - explained - explained.swapaxes(-1, -2)
    scatter = scatter + transposed @ within @ motion
    count = gram[..., 0, 0] + _LEAST_COUNT
    eye = regularisation.noise * jnp.eye(width)
    return motion, scatter / count[..., None, None] + eye


def _moments(gram: jax.Array, floor: float):
    """Mean and covariance of the records, the floor added."""
    count = (gram[..., 0, 0] + _LEAST_COUNT)[..., None]
    mean = gram[..., 0, 1:] / count
    second = gram[..., 1:, 1:] / count[..., None]
    covariance = second - mean[..., :, None] * mean[..., None, :]
    return mean, covariance + floor * jnp.eye(mean.shape[-1])


_LEAST_COUNT = 1e-9
