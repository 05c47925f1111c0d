"""Noise that tools bring, imitated in the program: each replica has its own, switched in-graph.

What a parallel kernel, a lower precision or another machine does to training is rounding: sums
taken in another order, products of rounded numbers, a last bit that differs. Here each is made on
purpose, replica by replica, so that it can be told apart from the others and repeated to the bit
(Zhuang et al. 2022, "implementation noise"; Summers and Dinneen, arXiv 2103.04514, section 4, for
the change of one bit).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32

from seedmap.errors import UserError
from seedmap.trainer.order import permutation
from seedmap.trainer.streams import Streams

_ROOTS = {"accumulation": 101, "ulp": 102}  # keys apart from those of any stream


class Fork(NamedTuple):
    """Replicas that share their first steps (Frankle et al., arXiv 1912.05671).

    Attributes:
        step: int32, the step from which on a replica follows its own keys.
        common: keys of order, augmentation and dropout before that.
    """

    step: Int[Array, "*replica"]
    common: Streams


class Perturbations(NamedTuple):
    """What is done to a replica; batched, every leaf has a leading axis [replica].

    A field that is None is done to none of them, and the program has no trace of it.

    Attributes:
        accumulation: uint32, number of the order that the examples of every batch are put into; 0
            leaves them as drawn. The batches and what is drawn for each example stay the same:
            only the order of sums over a batch changes.
        mantissa_bits: int32, bits of the mantissa that operands of products keep
            (`trainer.noise.rounding`); 23 is float32.
        ulp_step: int32, the step before which one weight is moved by one unit in the last place,
            away from zero; -1 never. It must be a step at which a record is taken, or 0.
        ulp_number: uint32, which weight: the number of a draw, uniform over the entries of all
            weight matrices (of all parameters in a network without). A weight of exactly 0 has no
            neighbour that arithmetic tells from it.
        fork: from which step on a replica's order, augmentation and dropout are its own. It must
            be a step at which a record is taken, or 0.
    """

    accumulation: UInt32[Array, "*replica"] | None = None
    mantissa_bits: Int[Array, "*replica"] | None = None
    ulp_step: Int[Array, "*replica"] | None = None
    ulp_number: UInt32[Array, "*replica"] | None = None
    fork: Fork | None = None


def keys_at(keys: Streams, perturb: Perturbations, step: Int[Array, ""]) -> Streams:
    """The keys that a replica follows at a step."""
    if perturb.fork is None:
        return keys
    common = step < perturb.fork.step

    def chosen(own, shared):
        return jnp.where(common, shared, own)

    names = ("order", "augment", "dropout")
    pairs = {name: (getattr(keys, name), getattr(perturb.fork.common, name)) for name in names}
    return keys._replace(**{name: chosen(*pair) for name, pair in pairs.items()})


def positions(
    perturb: Perturbations, steps: Int[Array, " step"], batch_size: int
) -> Int[Array, "step example"] | None:
    """Positions that the examples of these steps' batches come from: int32 [step, batch_size]."""
    if perturb.accumulation is None:
        return None
    base = jax.random.fold_in(jax.random.key(_ROOTS["accumulation"]), perturb.accumulation)
    drawn = jax.vmap(lambda step: permutation(jax.random.fold_in(base, step), batch_size))(steps)
    return jnp.where(perturb.accumulation == 0, jnp.arange(batch_size), drawn)


def move_by_ulp(params: Any, perturb: Perturbations, step: Int[Array, ""]) -> Any:
    """The parameters, one entry of them moved by one unit in the last place if it is time."""
    if perturb.ulp_step is None:
        return params
    if perturb.ulp_number is None:
        raise UserError("perturb: ulp_step is given without ulp_number; give both or neither")
    leaves, structure = jax.tree.flatten(params)
    matrices = [leaf for leaf in leaves if leaf.ndim >= 2]
    sizes = [leaf.size if leaf.ndim >= 2 or not matrices else 0 for leaf in leaves]
    key = jax.random.fold_in(jax.random.key(_ROOTS["ulp"]), perturb.ulp_number)
    index = jnp.where(step == perturb.ulp_step, jax.random.randint(key, (), 0, sum(sizes)), -1)
    moved = []
    for leaf, size in zip(leaves, sizes, strict=True):
        moved.append(_move_entry(leaf, index) if size else leaf)
        index = jnp.where(index >= size, index - size, -1)
    return jax.tree.unflatten(structure, moved)


def _move_entry(leaf: jax.Array, index: jax.Array) -> jax.Array:
    """Moves the entry of a leaf at an index; none where the index is outside."""
    inside = (index >= 0) & (index < leaf.size)
    at = jnp.clip(index, 0, leaf.size - 1)
    flat = leaf.ravel()
    neighbour = jnp.nextafter(flat[at], jnp.copysign(jnp.inf, flat[at]).astype(leaf.dtype))
    return flat.at[at].set(jnp.where(inside, neighbour, flat[at])).reshape(leaf.shape)
