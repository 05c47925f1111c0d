"""Lanczos's method: a symmetric operator, known by its products alone, as a small matrix."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

HIGHEST = jax.lax.Precision.HIGHEST  # products in full float32 on accelerators too


def tridiagonal(
    multiply: Callable[[Float[Array, "start size"]], Float[Array, "start size"]],
    starts: Float[Array, "start size"],
    steps: int,
    *,
    reorthogonalise: bool,
) -> tuple[Float[Array, "start steps"], Float[Array, "start steps"]]:
    """Lanczos's tridiagonal matrices of one symmetric operator from several unit vectors.

    Where an invariant subspace is exhausted the matrix breaks up: its remaining diagonal repeats
    the first entry, which lies within the range of the eigenvalues.

    Args:
        multiply: [start, size] -> [start, size], the operator applied to each row.
        starts: float [start, size], rows of length 1.
        steps: order of the tridiagonal matrices.
        reorthogonalise: against all earlier vectors, which must then be kept (`steps` times the
            memory). Without it, rounding repeats eigenvalues that have converged.

    Returns:
        (diagonals [start, steps], off-diagonals [start, steps]); the last off-diagonal is that to
        the next vector, not part of the matrix.

    Source: Golub and Van Loan, Matrix Computations, section 10.1.
    """
    tiny = 10 * jnp.finfo(starts.dtype).eps

    def step(state, index):
        vector, previous, link, scale, first, basis = state
        alive = jnp.any(vector != 0, axis=-1)
        image = multiply(vector) - link[:, None] * previous
        diagonal = jnp.sum(image * vector, axis=-1)
        rest = image - diagonal[:, None] * vector
        if reorthogonalise:
            basis = basis.at[:, index].set(vector)
            projections = jnp.einsum("pkn,pn->pk", basis, rest, precision=HIGHEST)
            rest = rest - jnp.einsum("pk,pkn->pn", projections, basis, precision=HIGHEST)
        length = jnp.linalg.norm(rest, axis=-1)
        first = jnp.where(index == 0, diagonal, first)
        scale = jnp.maximum(scale, jnp.abs(diagonal) + length)
        length = jnp.where(length > tiny * scale, length, 0.0)
        following = jnp.where(
            length[:, None] > 0, rest / jnp.where(length > 0, length, 1.0)[:, None], 0.0
        )
        diagonal = jnp.where(alive, diagonal, first)
        return (following, vector, length, scale, first, basis), (diagonal, length)

    zeros = jnp.zeros_like(starts[:, 0])
    kept = steps if reorthogonalise else 0
    basis = jnp.zeros((starts.shape[0], kept, starts.shape[1]), starts.dtype)
    state = (starts, jnp.zeros_like(starts), zeros, zeros, zeros, basis)
    diagonals, lengths = jax.lax.scan(step, state, jnp.arange(steps))[1]
    return diagonals.T, lengths.T


def dense(
    diagonals: Float[Array, "*matrix n"], links: Float[Array, "*matrix n-1"]
) -> Float[Array, "*matrix n n"]:
    """Symmetric tridiagonal matrices [..., n, n] of diagonals [..., n] and links [..., n - 1]."""
    size = diagonals.shape[-1]
    rows = jnp.arange(size - 1)
    matrices = diagonals[..., None] * jnp.eye(size, dtype=diagonals.dtype)
    return matrices.at[..., rows, rows + 1].set(links).at[..., rows + 1, rows].set(links)
