"""Missing metrics, integrated out exactly.

With y = W (x - mu) the whitened residual, W = L^-1, a checkpoint whose metrics m are missing has
y = a + W_m u, where a comes from the metrics observed and u = x_m - mu_m. Given those, y is
Gaussian with mean (I - P) a and covariance P, the orthogonal projector onto the columns W_m; and

    log p(x_o) = -1/2 |(I - P) a|^2 - |o|/2 log 2 pi + log det W - 1/2 log det(W_m^T W_m),

since (Sigma^-1)_mm = W_m^T W_m. A projector has unit scale however singular the covariance is, so
neither marginal nor conditional covariances are ever formed.
"""

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.hmm.em.model import Missing

_ROWS = 32  # handled together
_LEAST = (256, 8)  # rows and patterns are padded to these or more, to share compilations


def gather_missing(values: np.ndarray, mask: np.ndarray) -> Missing | None:
    """The checkpoints with missing metrics, or None if there are none.

    Args:
        values: float [time, run, D], NaN where missing.
        mask: bool [time, run], False on padding.
    """
    absent = np.isnan(values) & mask[:, :, None]
    time, run = np.nonzero(absent.any(2))
    if not len(time):
        return None
    patterns, pattern = np.unique(absent[time, run], axis=0, return_inverse=True)
    more = _padded(len(time), _LEAST[0]) - len(time)
    spare = ((0, _padded(len(patterns), _LEAST[1]) - len(patterns)), (0, 0))
    return Missing(
        jnp.asarray(np.pad(np.nan_to_num(values[time, run]), ((0, more), (0, 0))), float),
        jnp.asarray(np.pad(patterns, spare)),
        jnp.asarray(np.pad(pattern.reshape(-1), (0, more)), jnp.int32),
        jnp.asarray(np.pad(time, (0, more), constant_values=len(mask)), jnp.int32),
        jnp.asarray(np.pad(run, (0, more)), jnp.int32),
    )


def _padded(count: int, least: int) -> int:
    """The next of least, 2 least, 4 least, ..."""
    return least * 2 ** max(0, int(np.ceil(np.log2(count / least))))


def projectors(inverse: jax.Array, missing: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Projectors P [pattern, S, D, D] and log det(W_m^T W_m) [pattern, S], by Gram-Schmidt.

    Args:
        inverse: float [S, D, D], W.
        missing: bool [pattern, D].
    """
    num_states, num_metrics = inverse.shape[:2]

    def projector_of_pattern(missing):
        def add(metric, state):
            projector, log_det = state
            rest = inverse[:, :, metric]
            for _ in range(2):  # once leaves what float32 rounds off; twice is enough
                rest = rest - jnp.einsum("sij,sj->si", projector, rest)
            square = (rest**2).sum(1)
            grown = projector + rest[:, :, None] * rest[:, None] / square[:, None, None]
            absent = missing[metric]
            return (
                jnp.where(absent, grown, projector),
                log_det + jnp.where(absent, jnp.log(square), 0.0),
            )

        nothing = (jnp.zeros_like(inverse), jnp.zeros(num_states, inverse.dtype))
        return jax.lax.fori_loop(0, num_metrics, add, nothing)

    return jax.lax.map(projector_of_pattern, missing)


def _conditional_means(inverse, means, projector, rows):
    """E[y | metrics observed], [row, S, D], of a few rows (values, known, pattern)."""
    values, known, pattern = rows
    offset = jnp.where(known[:, None], values[:, None] - means, 0.0)
    whitened = jnp.einsum("sij,rsj->rsi", inverse, offset)
    return whitened - jnp.einsum("rsij,rsj->rsi", projector[pattern], whitened)


def _chunked(missing: Missing, *others: jax.Array):
    """Values, known and pattern of the rows, and other arrays, a leading axis of chunks added."""
    arrays = (missing.values, ~missing.absent[missing.pattern], missing.pattern, *others)
    return tuple(a.reshape(-1, _ROWS, *a.shape[1:]) for a in arrays)


def marginal_log_densities(inverse, means, missing: Missing) -> jax.Array:
    """Marginal log-densities, float [row, S], of the metrics observed, in nats.

    Args:
        inverse: float [S, D, D], W.
        means: float [S, D].
        missing: The checkpoints.
    """
    projector, log_det = projectors(inverse, missing.absent)
    log_whitening = jnp.log(jnp.diagonal(inverse, axis1=1, axis2=2)).sum(1)

    def log_densities(rows):
        distance = (_conditional_means(inverse, means, projector, rows) ** 2).sum(2)
        size = rows[1].sum(1)[:, None] * jnp.log(2 * jnp.pi)
        return log_whitening - 0.5 * (distance + size + log_det[rows[2]])

    logs = jax.lax.map(log_densities, _chunked(missing))
    return logs.reshape(-1, logs.shape[-1])


def conditional_scatter(inverse, means, missing: Missing, weights: jax.Array):
    """Weighted sums of E[y] [S, D] and of E[y y^T] [S, D, D]; weights [row, S]."""
    projector, _ = projectors(inverse, missing.absent)

    def add(sums, rows):
        *rows, weights = rows
        mean = _conditional_means(inverse, means, projector, rows)
        weighted = weights[:, :, None] * mean
        second = jnp.einsum("rsi,rsj->sij", weighted, mean)
        return (sums[0] + weighted.sum(0), sums[1] + second), None

    start = (jnp.zeros_like(means), jnp.zeros_like(inverse))
    (first, second), _ = jax.lax.scan(add, start, _chunked(missing, weights))
    by_pattern = jax.ops.segment_sum(weights, missing.pattern, len(missing.absent))
    return first, second + jnp.einsum("ps,psij->sij", by_pattern, projector)
