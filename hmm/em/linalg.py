"""Cholesky factors and triangular inverses of many small matrices, as plain array operations.

On the CPU, XLA calls LAPACK for both, and those calls wait for helper threads of the pool that runs
them: beside other work in a `while_loop` they can wait for ever (seen with jax 0.10.2 on 2 cores,
in most sweeps). The loops below go over the columns of all matrices at once, cannot block, and are
as fast at the size of a covariance of metrics.
"""

import jax
import jax.numpy as jnp


def cholesky(matrices: jax.Array) -> jax.Array:
    """Lower Cholesky factors, float [..., D, D]; NaN where a matrix is not positive definite."""
    rows = jnp.arange(matrices.shape[-1])

    def eliminate(column, state):
        rest, factors = state
        values = rest[..., column] / jnp.sqrt(rest[..., column, column])[..., None]
        values = jnp.where(rows >= column, values, 0.0)
        rest = rest - values[..., :, None] * values[..., None, :]
        return rest, factors.at[..., column].set(values)

    start = (matrices, jnp.zeros_like(matrices))
    return jax.lax.fori_loop(0, len(rows), eliminate, start)[1]


def inverse_lower(factors: jax.Array) -> jax.Array:
    """Inverses of lower triangular matrices, float [..., D, D], by forward substitution."""
    size = factors.shape[-1]
    eye = jnp.eye(size, dtype=factors.dtype)

    def substitute(row, inverses):
        known = (factors[..., row, :, None] * inverses).sum(-2)  # rows from `row` on are still 0
        values = (eye[row] - known) / factors[..., row, row, None]
        return inverses.at[..., row, :].set(values)

    return jax.lax.fori_loop(0, size, substitute, jnp.zeros_like(factors))
