"""Randomness in separate streams: each source has its own key, so each can be held or varied."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, Key, UInt32

from seedmap.errors import UserError


class Streams(NamedTuple):
    """One key per source of algorithmic randomness; every field is a key, or [replica].

    Attributes:
        init: initial weights.
        data: what the training and evaluation examples are (sampling, or the split).
        order: the order in which training examples are visited.
        augment: random changes of the examples, drawn anew at every step.
        dropout: random masks inside the network, drawn anew at every step.
    """

    init: Key[Array, "*replica"]
    data: Key[Array, "*replica"]
    order: Key[Array, "*replica"]
    augment: Key[Array, "*replica"]
    dropout: Key[Array, "*replica"]


def make_streams(
    seeds: Sequence[int] | Int[np.ndarray, " seed"],
    vary: Sequence[str] = Streams._fields,
    root: int = 0,
) -> Streams:
    """Keys of every seed, from the seed's number alone.

    The key of a seed does not depend on which other seeds are trained with it, so seed 7 trained
    alone has the initial weights, data and order of seed 7 in a batch, to the bit.

    Args:
        seeds: seed numbers, each in 0 .. 2**32 - 1.
        vary: names of the streams that differ between seeds. A stream left out is the same for
            all (Zhuang et al. 2022: noise sources are switched one at a time).
        root: number of the root key; another root gives an independent set of seeds.

    Returns:
        Streams of typed keys, each of shape [seed].

    Raises:
        UserError: a name in `vary` is not a stream.

    Example:
        >>> make_streams([0, 1, 2], vary=("init",)).order.shape
        (3,)
    """
    if isinstance(vary, str):
        raise UserError(f"vary is the text {vary!r}; give a sequence of streams: ({vary!r},)")
    unknown = sorted(set(vary) - set(Streams._fields))
    if unknown:
        raise UserError(f"vary: unknown stream {unknown[0]!r}; streams are {Streams._fields}")
    numbers = np.asarray(seeds, np.uint32)
    own = [numbers if name in vary else np.zeros_like(numbers) for name in Streams._fields]
    return _keys(root, own)


@partial(jax.jit, static_argnums=0)
def _keys(root: int, numbers: list[Any]) -> Streams:
    """The keys of numbers in every stream: one program, where key by key takes several."""

    def stream(index: int, own: UInt32[Array, " seed"]) -> Key[Array, " seed"]:
        base = jax.random.fold_in(jax.random.key(root), index)
        return jax.vmap(lambda number: jax.random.fold_in(base, number))(own)

    return Streams(*(stream(index, own) for index, own in enumerate(numbers)))
