"""Exact medians without a sort: on CPU a sort costs more than the training steps around it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def ordered_bits(bits: Any, where: Callable = jnp.where) -> Any:
    """Returns unsigned integers in the order of the floats whose bits are given.

    Negative floats grow in magnitude with their bits, which are all flipped; of positive ones the
    top bit is set.

    Args:
        bits: unsigned integers, an array of NumPy or JAX.
        where: of the same library.
    """
    sign = _sign(bits)
    return where(bits >= sign, ~bits, bits | sign)


def from_ordered_bits(bits: Any, where: Callable = jnp.where) -> Any:
    """Returns the bits of floats from `ordered_bits`."""
    sign = _sign(bits)
    return where(bits >= sign, bits ^ sign, ~bits)


def _sign(bits: Any) -> Any:
    return bits.dtype.type(1 << (bits.dtype.itemsize * 8 - 1))


def median(values: Float[Array, "..."]) -> Float[Array, ""]:
    """Median of all entries of an array, equal to `jnp.median` to the bit.

    The lower middle value is found bit by bit, from the highest down, by counting the entries
    below a candidate (a radix selection): one pass over the data a bit, instead of a sort.

    Args:
        values: floating array of any shape, at least one entry.

    Returns:
        Scalar in the dtype of `values`; NaN if any entry is NaN. For an even number of entries
        the mean of the two middle ones.
    """
    flat = values.ravel()
    width = flat.dtype.itemsize * 8
    keys = ordered_bits(jax.lax.bitcast_convert_type(flat, jnp.dtype(f"uint{width}")))
    rank = (flat.size - 1) // 2

    def settle_bit(i: jax.Array, prefix: jax.Array) -> jax.Array:
        candidate = prefix | (jnp.ones((), keys.dtype) << (width - 1 - i).astype(keys.dtype))
        return jnp.where(jnp.sum(keys < candidate, dtype=jnp.int32) <= rank, candidate, prefix)

    lower = jax.lax.fori_loop(0, width, settle_bit, jnp.zeros((), keys.dtype))
    above = jnp.min(jnp.where(keys > lower, keys, ~jnp.zeros((), keys.dtype)))
    needs_next = (flat.size % 2 == 0) & (jnp.sum(keys <= lower, dtype=jnp.int32) == rank + 1)

    def as_float(key: jax.Array) -> jax.Array:
        return jax.lax.bitcast_convert_type(from_ordered_bits(key), flat.dtype)

    low = as_float(lower)
    high = jnp.where(needs_next, as_float(above), low)
    # Equal middles are returned as they are: half of the smallest float would be flushed to zero.
    middle = jnp.where(low == high, low, low * 0.5 + high * 0.5)
    return jnp.where(jnp.any(jnp.isnan(flat)), jnp.nan, middle).astype(flat.dtype)
