"""How far replicas are from the first one, and from which step on they differ from it."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

DISTANCES = ("first_apart", "distance", "relative_distance", "churn")
"""Records of a trainer that compares: see `distance_to_first`."""

_ODD = 2654435769  # 2**32 over the golden ratio


def digest(tree: Any) -> UInt32[Array, ""]:
    """Returns a 32-bit number of all bits of a tree: equal for equal trees, else almost surely not.

    Each word of 32 bits is multiplied by an odd number that depends on its index, and all are added
    modulo 2**32; unlike a plain sum it tells two last bits that have moved in opposite directions.
    """
    total = jnp.uint32(0)
    for leaf in jax.tree.leaves(tree):
        words = _words(leaf)
        index = jnp.arange(words.size, dtype=jnp.uint32)
        # Mixed leaf by leaf, so that equal changes in two leaves do not cancel.
        total = total * jnp.uint32(31) + jnp.sum(words * ((index * jnp.uint32(_ODD)) | 1))
    return total


def _words(leaf: jax.Array) -> jax.Array:
    """The bits of an array as unsigned integers [words]."""
    width = min(leaf.dtype.itemsize, 4)
    return jax.lax.bitcast_convert_type(leaf, f"uint{8 * width}").ravel().astype(jnp.uint32)


def distance_to_first(
    params: Any,
    predictions: Int[Array, "replica example"] | None,
    digests: UInt32[Array, "replica step"],
    step: Int[Array, ""],
) -> dict[str, Float[Array, " replica"]]:
    """Measures how far every replica is from the first, t the parameters as one vector.

    Args:
        params: leaves [replica, ...].
        predictions: int [replica, test example], or None where the task tells no classes apart.
        digests: uint32 [replica, step], of the parameters after each of the last steps.
        step: int32 scalar, the number of the first of these steps, counted from 1.

    Returns:
        Float [replica] each: `first_apart`, the first of these steps after which the parameters
        are not those of the first replica to the bit, NaN where there is none; `distance` = ||t_r -
        t_0||_2; `relative_distance` = distance / ||t_0||_2; with predictions `churn`, the share of
        test examples on which replica r and the first disagree.
    """
    differs = digests != digests[:1]
    first_step = (step + jnp.argmax(differs, axis=1)).astype(jnp.float32)
    distances = {"first_apart": jnp.where(differs.any(axis=1), first_step, jnp.nan)}
    leaves = jax.tree.leaves(params)
    squares = sum(jnp.sum(_flat(leaf - leaf[:1]) ** 2, axis=1) for leaf in leaves)
    length = jnp.sqrt(sum(jnp.sum(jnp.square(leaf[0])) for leaf in leaves))
    distances["distance"] = jnp.sqrt(squares)
    distances["relative_distance"] = distances["distance"] / length
    if predictions is not None:
        disagree = (predictions != predictions[:1]).astype(jnp.float32)
        distances["churn"] = jnp.mean(disagree, axis=1)
    return distances


def _flat(leaf: jax.Array) -> jax.Array:
    return leaf.reshape(leaf.shape[0], -1)
