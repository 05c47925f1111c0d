"""Where replicas go: how many run together, on which devices, and the padding that this takes.

Replicas are computed in groups of one size, by one compiled program. On accelerators a group is
spread over all devices and the groups take turns. On CPUs a device stands for a core: the program
is compiled for the first of them alone, and as many groups run side by side as there are devices,
each on a thread of its own. So the machine code, and with it every bit of the results, is the same
whatever their number is.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from seedmap.cores import usable_cores
from seedmap.trainer.batched import SEED_AXIS

Group = TypeVar("Group")
Result = TypeVar("Result")


class Placement(NamedTuple):
    """How replicas are laid out.

    Attributes:
        num_replicas: replicas that were asked for.
        seeds_at_once: replicas vmapped together on a device.
        mesh: the devices of a group, one axis named "seed".
        lanes: groups that run side by side, each on a thread of its own.
    """

    num_replicas: int
    seeds_at_once: int
    mesh: Mesh
    lanes: int

    @property
    def rows(self) -> np.ndarray:
        """The replica of every row that is computed, int [group, row].

        The last group is filled up with copies of the last replica, which nobody sees.
        """
        length = self.seeds_at_once * self.mesh.size
        count = -(-self.num_replicas // length)
        return np.minimum(np.arange(count * length), self.num_replicas - 1).reshape(count, length)


def place(num_replicas: int, seeds_at_once: int | None, devices: Sequence[jax.Device]) -> Placement:
    """Lays replicas out in equal groups of at most `seeds_at_once` on a device (None: all)."""
    on_cores = devices[0].platform == "cpu"
    # Auto axes: under explicit ones the indexing of batches inside vmap does not compile.
    of_group = np.asarray(devices[:1] if on_cores else devices)
    mesh = Mesh(of_group, (SEED_AXIS,), axis_types=(AxisType.Auto,))
    share = -(-num_replicas // mesh.size)
    num_groups = -(-share // (seeds_at_once or share))
    lanes = min(len(devices), usable_cores(), num_groups) if on_cores else 1
    return Placement(num_replicas, -(-share // num_groups), mesh, lanes)


def in_lanes(
    placement: Placement, work: Callable[[Group], Result], groups: Sequence[Group]
) -> list[Result]:
    """Returns [work(group) for group in groups], as many at a time as there are lanes."""
    if placement.lanes == 1:
        return [work(group) for group in groups]
    with ThreadPoolExecutor(placement.lanes) as pool:
        return list(pool.map(work, groups))


def spread(placement: Placement, tree: Any) -> list[Any]:
    """Puts a tree with leading axis [replica] on the devices, group by group: leaves [row]."""
    sharding = NamedSharding(placement.mesh, PartitionSpec(SEED_AXIS))
    host = jax.tree.map(_to_host, tree)

    def put(leaf, kind, rows):
        placed = jax.device_put(leaf[rows], sharding)
        return jax.random.wrap_key_data(placed) if _is_key(kind) else placed

    return [
        jax.tree.map(lambda leaf, kind: put(leaf, kind, rows), host, tree)  # noqa: B023
        for rows in placement.rows
    ]


def share(placement: Placement, tree: Any) -> Any:
    """Puts a tree on every device of a group, whole."""
    return jax.device_put(tree, NamedSharding(placement.mesh, PartitionSpec()))


def gather(placement: Placement, groups: Sequence[Any]) -> Any:
    """The groups' leaves as numpy arrays [replica, ...], padding dropped; keys as their data."""

    def join(*leaves):
        joined = np.concatenate([_to_host(leaf) for leaf in leaves])
        return joined[: placement.num_replicas]

    return jax.tree.map(join, *groups)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_host(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
