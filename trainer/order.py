"""The order in which training examples are visited: a function of (key, epoch) alone.

An order is never made as a whole: `elements` says which example stands at a position, from the
position and a few random words, so that any batch of any epoch costs its own size. All of it is
arithmetic of 32-bit integers, the same on every backend.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt32

from seedmap.errors import UserError

MAX_SIZE = 2**24
ROUNDS = 32
"""Rounds of the shuffle. What a round leaves of any unevenness is about half, at most 5/8 (4 and 5
elements, by enumeration): after 32 rounds orders of 5 are equally likely within 1 in a million."""


def round_words(key: Key[Array, ""]) -> UInt32[Array, "round 2"]:
    """Draws the random words of an order: of each round its reflection and its choices."""
    return jax.random.bits(key, (ROUNDS, 2), jnp.uint32)


def elements(
    words: UInt32[Array, "*#shape round 2"], positions: UInt32[Array, "*shape"], size: int
) -> UInt32[Array, "*shape"]:
    """Finds the elements at some positions of a random order of 0 .. size - 1.

    The swap-or-not shuffle (Hoang, Morris, Rogaway 2012, arXiv 1208.1176). In each round a random
    reflection `x -> (K - x) mod size` pairs the numbers, and each pair is swapped or not by a
    random bit of its own, the top bit of a hash of the larger one. Every round is a bijection
    for every size, without tables, sorting or rejection; unlike a Feistel network of few rounds it
    is uniform for tiny sizes as well.

    Args:
        words: of the order each position is of, from `round_words`.
        positions: below `size`.
        size: number of elements, 1 .. `MAX_SIZE`.

    Returns:
        The element at each position, below `size`.
    """
    count = jnp.uint32(size)

    def swap_or_not(element, words):
        shift = words[..., 0] % count
        partner = jnp.where(shift >= element, shift - element, shift + count - element)
        swap = _hash(jnp.maximum(element, partner) ^ words[..., 1]) >> 31
        return jnp.where(swap == 1, partner, element), None

    # A loop: unrolled, it compiles for seconds and runs no faster.
    return jax.lax.scan(swap_or_not, positions, jnp.moveaxis(words, -2, 0))[0]


def _hash(number: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """Mixes the bits of each number into its top bit (Wellons, "lowbias32", 2018, less its end)."""
    number = (number ^ (number >> 16)) * jnp.uint32(0x7FEB352D)
    return (number ^ (number >> 15)) * jnp.uint32(0x846CA68B)


def permutation(key: Key[Array, ""], size: int) -> Int[Array, " size"]:
    """Draws a uniformly random permutation of 0 .. size - 1: `elements` at all positions.

    Args:
        key: typed random key.
        size: number of elements, 1 .. 2**24.

    Returns:
        int32 [size].

    Raises:
        UserError: size is out of range.
    """
    check_size(size)
    positions = jnp.arange(size, dtype=jnp.uint32)
    return elements(round_words(key), positions, size).astype(jnp.int32)


def check_size(size: int) -> None:
    """Raises UserError unless so many elements can be put in an order."""
    if not 1 <= size <= MAX_SIZE:
        raise UserError(f"permutation of {size} elements; the size must lie between 1 and 2**24")


def batches_per_epoch(num_train: int, batch_size: int) -> int:
    """Batches of one pass over the data, the last and smaller one included."""
    return -(-num_train // batch_size)


def batch_rows(
    key: Key[Array, ""], step: Int[Array, ""], num_steps: int, num_train: int, batch_size: int
) -> Int[Array, "step example"]:
    """Finds the rows of the training examples that steps `step` .. `step + num_steps - 1` visit.

    Those of an epoch are `permutation(fold_in(key, epoch), num_train)`, cut into batches. The last
    batch keeps the examples that are left, as in the paper's code.

    Args:
        key: the replica's `order` key.
        step: int32 scalar, a multiple of `num_steps`.
        num_steps: number of steps.
        num_train: number of training examples.
        batch_size: examples per step.

    Returns:
        int32 [num_steps, batch_size]; -1 where the last batch of an epoch has no example.

    Raises:
        UserError: there are more examples than can be put in an order.
    """
    check_size(num_train)
    num_batches = batches_per_epoch(num_train, batch_size)
    aligned = num_steps % num_batches == 0
    num_epochs = num_steps // num_batches if aligned else (num_steps - 2) // num_batches + 2
    first = step // num_batches
    epochs = first + jnp.arange(num_epochs)
    words = jax.vmap(lambda epoch: round_words(jax.random.fold_in(key, epoch)))(epochs)
    steps = step + jnp.arange(num_steps)
    positions = (steps % num_batches * batch_size)[:, None] + jnp.arange(batch_size)
    valid = positions < num_train
    drawn = elements(
        words[steps // num_batches - first, None],
        jnp.where(valid, positions, 0).astype(jnp.uint32),
        num_train,
    )
    return jnp.where(valid, drawn.astype(jnp.int32), -1)
