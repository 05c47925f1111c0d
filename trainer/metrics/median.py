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


def _count(flags: jax.Array) -> jax.Array:
    """Number of true entries, summed as floats where that is exact: twice as fast on CPU."""
    exact = flags.size <= 1 << 24
    return jnp.sum(flags, dtype=jnp.float32 if exact else jnp.int32).astype(jnp.int32)


def median(values: Float[Array, "..."]) -> Float[Array, ""]:
    """Median of all entries of an array, equal to `jnp.median` to the bit.

    The lower middle value is found bit by bit, from the highest down, by counting the entries
    below a candidate (a radix selection): one pass over the data a bit, instead of a sort. It ends
    where as many entries as are below the middle are below the bits found: after some 14 bits of
    32 where entries differ.

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

    def is_open(search: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        bit, _, below = search
        return (bit >= 0) & (below < rank)

    def settle_bit(search):
        bit, prefix, below = search
        candidate = prefix | (jnp.ones((), keys.dtype) << bit.astype(keys.dtype))
        count = _count(keys < candidate)
        fits = count <= rank
        return bit - 1, jnp.where(fits, candidate, prefix), jnp.where(fits, count, below)

    zero = jnp.zeros((), keys.dtype)
    start = (jnp.int32(width - 1), zero, jnp.int32(0))
    _, prefix, _ = jax.lax.while_loop(is_open, settle_bit, start)
    lower = jnp.min(jnp.where(keys >= prefix, keys, ~zero))
    above = jnp.min(jnp.where(keys > lower, keys, ~zero))
    needs_next = (flat.size % 2 == 0) & (_count(keys <= lower) == rank + 1)

    def as_float(key: jax.Array) -> jax.Array:
        return jax.lax.bitcast_convert_type(from_ordered_bits(key), flat.dtype)

    low = as_float(lower)
    high = jnp.where(needs_next, as_float(above), low)
    # Equal middles are returned as they are: half of the smallest float would be flushed to zero.
    middle = jnp.where(low == high, low, low * 0.5 + high * 0.5)
    return jnp.where(_count(jnp.isnan(flat)) > 0, jnp.nan, middle).astype(flat.dtype)
