"""Exact medians without a sort: on CPU a sort costs more than the training steps around it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def _ordered_bits(values: jax.Array) -> jax.Array:
    """Unsigned integers in the order of the floats they stand for."""
    width = values.dtype.itemsize * 8
    bits = jax.lax.bitcast_convert_type(values, jnp.dtype(f"uint{width}"))
    sign = jnp.asarray(1 << (width - 1), bits.dtype)
    # Negative floats grow in magnitude with their bits: flip them all; positive: set the top bit.
    return jnp.where(bits >= sign, ~bits, bits | sign)


def _from_ordered_bits(bits: jax.Array, dtype: jnp.dtype) -> jax.Array:
    sign = jnp.asarray(1 << (bits.dtype.itemsize * 8 - 1), bits.dtype)
    return jax.lax.bitcast_convert_type(jnp.where(bits >= sign, bits ^ sign, ~bits), dtype)


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
    keys = _ordered_bits(flat)
    width = keys.dtype.itemsize * 8
    rank = (flat.size - 1) // 2

    def settle_bit(i: jax.Array, prefix: jax.Array) -> jax.Array:
        candidate = prefix | (jnp.ones((), keys.dtype) << (width - 1 - i).astype(keys.dtype))
        return jnp.where(jnp.sum(keys < candidate, dtype=jnp.int32) <= rank, candidate, prefix)

    lower = jax.lax.fori_loop(0, width, settle_bit, jnp.zeros((), keys.dtype))
    above = jnp.min(jnp.where(keys > lower, keys, ~jnp.zeros((), keys.dtype)))
    needs_next = (flat.size % 2 == 0) & (jnp.sum(keys <= lower, dtype=jnp.int32) == rank + 1)
    low = _from_ordered_bits(lower, flat.dtype)
    high = jnp.where(needs_next, _from_ordered_bits(above, flat.dtype), low)
    # Equal middles are returned as they are: half of the smallest float would be flushed to zero.
    middle = jnp.where(low == high, low, low * 0.5 + high * 0.5)
    return jnp.where(jnp.any(jnp.isnan(flat)), jnp.nan, middle).astype(flat.dtype)
