"""How far replicas are from the first one, and from which step on they differ from it."""

from typing import Any, NamedTuple

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


class Compared(NamedTuple):
    """What of replicas is compared.

    Attributes:
        params: leaves [replica, ...].
        predictions: [replica, test example], or None where the task tells no classes apart.
        digests: [replica, step], of the parameters after each of the last steps.
        diverged: [replica], the step at which it diverged, else -1.
    """

    params: Any
    predictions: Int[Array, "replica example"] | None
    digests: UInt32[Array, "replica step"]
    diverged: Int[Array, " replica"]


def first_of(replicas: Compared, row: int | Int[Array, ""] = 0) -> Compared:
    """Returns the first replica of a family alone, its axis kept.

    Args:
        replicas: all of a group.
        row: where in the group the family begins.
    """
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, row, 1), replicas)


def distance_to_first(
    first: Compared, replicas: Compared, step: Int[Array, ""]
) -> dict[str, Float[Array, " replica"]]:
    """Measures how far every replica is from the first, t the parameters as one vector.

    Args:
        first: the first replica (`first_of`).
        replicas: those to compare with it, itself among them or not.
        step: int32 scalar, the number of the first of the last steps, counted from 1.

    Returns:
        Float [replica] each: `first_apart`, the first of these steps after which the parameters
        are not those of the first replica to the bit, NaN where there is none; `distance` = ||t_r -
        t_0||_2; `relative_distance` = distance / ||t_0||_2; with predictions `churn`, the share of
        test examples on which replica r and the first disagree.
    """
    differs = replicas.digests != first.digests
    first_step = (step + jnp.argmax(differs, axis=1)).astype(jnp.float32)
    distances = {"first_apart": jnp.where(differs.any(axis=1), first_step, jnp.nan)}
    pairs = list(zip(*map(jax.tree.leaves, (replicas.params, first.params)), strict=True))
    squares = sum(jnp.sum(_flat(leaf - base) ** 2, axis=1) for leaf, base in pairs)
    length = jnp.sqrt(sum(jnp.sum(jnp.square(base)) for _, base in pairs))
    distances["distance"] = jnp.sqrt(squares)
    distances["relative_distance"] = distances["distance"] / length
    if replicas.predictions is not None and first.predictions is not None:
        disagree = jnp.not_equal(replicas.predictions, first.predictions).astype(jnp.float32)
        distances["churn"] = jnp.mean(disagree, axis=1)
    return distances


def _flat(leaf: jax.Array) -> jax.Array:
    return leaf.reshape(leaf.shape[0], -1)
