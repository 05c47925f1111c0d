"""Where replicas go: how many run together, on which devices, and the padding that this takes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from seedmap.trainer.batched import SEED_AXIS


class Placement(NamedTuple):
    """How replicas are laid out.

    Attributes:
        num_replicas: replicas that were asked for.
        seeds_at_once: replicas vmapped together on a device.
        mesh: the devices, one axis named "seed".
    """

    num_replicas: int
    seeds_at_once: int
    mesh: Mesh

    @property
    def num_rows(self) -> int:
        """Replicas that are computed: enough for whole groups on every device.

        Those beyond `num_replicas` are copies of the last one, and nobody sees them.
        """
        whole = self.seeds_at_once * self.mesh.size
        return -(-self.num_replicas // whole) * whole


def place(num_replicas: int, seeds_at_once: int | None, devices: Sequence[jax.Device]) -> Placement:
    """Spreads replicas over devices in groups of at most `seeds_at_once` (None: all at once)."""
    # Auto axes: under explicit ones the indexing of batches inside vmap does not compile.
    mesh = Mesh(np.asarray(devices), (SEED_AXIS,), axis_types=(AxisType.Auto,))
    share = -(-num_replicas // mesh.size)
    return Placement(num_replicas, min(seeds_at_once or share, share), mesh)


def spread(placement: Placement, tree: Any) -> Any:
    """Puts a tree with leading axis [replica] on the devices, padded to [row]."""
    rows = np.minimum(np.arange(placement.num_rows), placement.num_replicas - 1)
    sharding = NamedSharding(placement.mesh, PartitionSpec(SEED_AXIS))

    def put(leaf):
        padded = leaf if len(rows) == placement.num_replicas else jnp.asarray(leaf)[rows]
        return jax.device_put(padded, sharding)

    return jax.tree.map(put, tree)


def share(placement: Placement, tree: Any) -> Any:
    """Puts a tree on every device, whole."""
    return jax.device_put(tree, NamedSharding(placement.mesh, PartitionSpec()))


def gather(placement: Placement, tree: Any) -> Any:
    """The tree's leaves as numpy arrays [replica, ...], padding dropped; keys as their data."""

    def to_host(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf)[: placement.num_replicas]

    return jax.tree.map(to_host, tree)
