"""The error along the straight line between two replicas' weights.

Frankle, Dziugaite, Roy, Carbin, "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML
2020, arXiv 1912.05671. Replicas that share their first k steps tell when training becomes stable
against its noise: the k from which on there is no barrier between them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from seedmap.errors import UserError


@partial(jax.jit, static_argnames=("evaluate", "points"))
def line_errors(
    evaluate: Callable[[Any], jax.Array], first: Any, second: Any, points: int = 11
) -> Float[jax.Array, " point"]:
    """Computes errors of (1 - a) first + a second, a = 0 .. 1 in equal steps, in one program.

    Both ends are met exactly, and so is every point of a line between equal trees. Compiled once
    for each `evaluate` (the same function object) and shapes; vmap it for many pairs.

    Args:
        evaluate: Tree of parameters to a scalar, the error; a pure JAX function.
        first: Tree of float arrays.
        second: Another of the same structure and shapes.
        points: How many, the ends among them.

    Returns:
        float [point].

    Raises:
        UserError: there are fewer than 3 points, or the trees differ in structure.
    """
    if points < 3:
        raise UserError(f"a line needs at least 3 points to have something between; got {points}")
    return jax.lax.map(
        lambda share: evaluate(jax.tree.map(partial(_between, share), first, second)),
        jnp.linspace(0.0, 1.0, points),
    )


def error_barrier(
    errors: Float[np.ndarray | jax.Array, "..."],
) -> Float[np.ndarray, "..."] | np.floating:
    """Computes the barrier max_a E(a) - (E(0) + E(1)) / 2 (Frankle et al., arXiv 1912.05671).

    Args:
        errors: float [..., point], along the line, its two ends first and last.

    Returns:
        float64 [...], at least 0. The maximum is that of the points given.

    Raises:
        UserError: there are fewer than 3 points.
    """
    errors = np.asarray(errors, np.float64)
    if errors.ndim < 1 or errors.shape[-1] < 3:
        raise UserError(f"errors along a line need at least 3 points; the shape is {errors.shape}")
    return errors.max(axis=-1) - (errors[..., 0] + errors[..., -1]) / 2


def _between(share: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    share = share.astype(first.dtype)
    difference = second - first
    return jnp.where(share < 0.5, first + share * difference, second - (1 - share) * difference)
