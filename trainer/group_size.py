"""How many replicas to run side by side: found by a short trial on one device.

Too few leave a device idle, too many push their working set out of its caches or its memory; where
the best lies depends on the network and the device, and is measured rather than guessed.

Where replicas are compared to the bit, the number must also treat them all alike. Of 20 side by
side on a CPU the last 4 may come out otherwise than the first 16: loops over them are vectorised,
and what is left over is computed in another way.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from seedmap.errors import UserError
from seedmap.trainer.batched import Trainer, TrainState
from seedmap.trainer.placement import place, share, spread

_TRIAL_SECONDS = 0.1
_LOSS = 1.3  # a size this much slower per replica than the best one ends the search


class Choice(NamedTuple):
    """What a trial found.

    Attributes:
        seeds_at_once: replicas to run side by side on a device.
        seconds: of a call of the trainer's `walk` per replica, at that number.
    """

    seeds_at_once: int
    seconds: float


def candidates(most: int) -> list[int]:
    """Sizes to try: 1, 4, 16, ... and all."""
    sizes = [4**i for i in range(16) if 4**i < most]
    return [*sizes, most]


def _free_memory(device: jax.Device) -> float:
    """Bytes a program may take on the device; for a CPU those of the machine that are free."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return 0.9 * (stats["bytes_limit"] - stats["bytes_in_use"])
    return 0.9 * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _seconds(walk: Callable, state: TrainState, pool) -> tuple[float, TrainState]:
    """Seconds of one call: the best of as many as fit in the time of a trial, at least two."""
    best, until = np.inf, time.perf_counter() + _TRIAL_SECONDS
    state = jax.block_until_ready(walk(state, pool))
    while best == np.inf or time.perf_counter() < until:
        started = time.perf_counter()
        state = jax.block_until_ready(walk(state, pool))
        best = min(best, time.perf_counter() - started)
    return best, state


def _all_alike(state: TrainState) -> bool:
    """Whether all replicas have the same parameters, to the bit."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state.seeds.model.params)]
    raw = [leaf.reshape(len(leaf), -1).view(np.uint8) for leaf in leaves]
    return all((bits == bits[:1]).all() for bits in raw)


def choose_seeds_at_once(
    build: Callable[[int, jax.sharding.Mesh | None], Trainer],
    replicas: tuple,
    pool,
    devices: Sequence[jax.Device],
    sizes: Sequence[int] | None = None,
    *,
    alike: bool = False,
) -> Choice:
    """The number of replicas at once with the most seed-steps per second that fits in memory.

    Sizes 1, 4, 16, ... up to a device's share are compiled (without metrics) and run for some
    tenths of a second, until one is clearly slower than the best before it, or does not fit beside
    the state of all the device's replicas.

    Args:
        build: (seeds_at_once, mesh) -> Trainer of a few steps.
        replicas: what `Trainer.init` takes, of all replicas.
        pool: the task's.
        devices: devices the replicas are spread over.
        sizes: numbers of replicas to try; None: those above.
        alike: leave out numbers at which copies of the first replica do not stay alike to the bit.

    Raises:
        UserError: not even one replica at a time fits.
    """
    most = -(-len(replicas[0].init) // len(devices))
    best, speed = None, np.inf
    for size in candidates(most) if sizes is None else [min(size, most) for size in sizes]:
        placement = place(size, size, devices[:1])
        trainer = build(size, placement.mesh)
        rows = np.zeros(size, int) if alike else np.arange(size)
        first = jax.tree.map(lambda leaf: leaf[rows], replicas)  # noqa: B023
        state = trainer.init(*(spread(placement, tree) for tree in first))
        held = sum(leaf.nbytes for leaf in jax.tree.leaves(state.seeds)) / size
        data = share(placement, pool)
        walk = trainer.walk.lower(state, data).compile()
        memory = walk.memory_analysis()
        assert memory is not None  # compilers for CPUs, GPUs and TPUs tell it
        needed = held * most + memory.temp_size_in_bytes + memory.output_size_in_bytes
        if needed > _free_memory(devices[0]):
            break
        seconds, state = _seconds(walk, state, data)
        per_replica = seconds / size
        if alike and not _all_alike(state):
            continue
        if per_replica > _LOSS * speed:
            break
        if per_replica < speed:
            best, speed = size, per_replica
    if best is None:
        raise UserError(
            f"one replica needs {needed / 2**30:.1f} GiB, more than is free on {devices[0]}; lower "
            "the batch size or the number of seeds"
        )
    return Choice(best, speed)
