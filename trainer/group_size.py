"""How many replicas stand side by side on a device.

On a CPU by a rule of the network alone: the number decides the last bits of the results, and these
are not to depend on the machine. On an accelerator, whose memory is what limits it, as many as fit.

Where replicas are compared to the bit, the number must also treat them all alike. Of 20 side by
side on a CPU the last 4 may come out otherwise than the first 16: loops over them are vectorised,
and what is left over is computed in another way.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from seedmap.trainer.batched import Trainer, TrainState
from seedmap.trainer.placement import Placement, in_lanes, place, share, spread
from seedmap.trainer.task import Task, init_model

_MOST = 8  # replicas side by side on a core
_PARAMETERS = 2**16  # of all of them: what stays in a core's own cache
_TRIAL_SECONDS = 0.1
USABLE = 0.9
"""Share of an accelerator's free memory that replicas may take."""


class Choice(NamedTuple):
    """A number of replicas that was tried.

    Attributes:
        seeds_at_once: replicas to run side by side on a device.
        seconds: of a call of the trainer's `walk` per replica, all lanes at work.
    """

    seeds_at_once: int
    seconds: float


def cpu_group(task: Task) -> int:
    """Returns the number of replicas that stand side by side on a core of a CPU."""
    return by_network(task) if task.cpu_group is None else task.cpu_group


def by_network(task: Task) -> int:
    """Returns the number of replicas that suits the core of a CPU.

    1 for a network with kernels of more than 2 axes (convolutions of several replicas at once have
    no fast kernel there); else the largest power of two with at most 65 536 parameters in all,
    8 at most.
    """
    params = jax.eval_shape(lambda key: init_model(task, key).params, jax.random.key(0))
    leaves = jax.tree.leaves(params)
    if any(leaf.ndim > 2 for leaf in leaves):
        return 1
    fitting = _PARAMETERS // max(1, sum(math.prod(leaf.shape) for leaf in leaves))
    return min(_MOST, 2 ** int(math.log2(max(1, fitting))))


def halves(size: int) -> Iterator[int]:
    """Gives the sizes of groups to try from the largest on, halved each time."""
    while size:
        yield size
        size //= 2


def fits(
    compiled: jax.stages.Compiled, state: TrainState, num_groups: int, device: jax.Device
) -> bool:
    """Tells whether an accelerator has the memory for a program and the states of all groups.

    Args:
        compiled: of a group.
        state: of a group, on the device.
        num_groups: groups in all, the one on the device among them.
        device: one of those it is compiled for.
    """
    stats = None if device.platform == "cpu" else device.memory_stats()
    memory = compiled.memory_analysis()
    if not stats or "bytes_limit" not in stats or memory is None:
        return True
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / len(device_set(state))
    new = memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    needed = held * (num_groups - 1) + new
    return needed <= USABLE * (stats["bytes_limit"] - stats["bytes_in_use"])


def out_of_memory(error: jax.errors.JaxRuntimeError) -> bool:
    """Tells whether a compiler refuses a program, as that of TPUs does, for want of memory."""
    return "RESOURCE_EXHAUSTED" in str(error)


def device_set(state: TrainState) -> set[jax.Device]:
    """Returns the devices a state lies on."""
    return state.seeds.diverged.devices()


def choose_alike(
    build: Callable[[jax.sharding.Mesh], Trainer],
    replicas: tuple,
    pool,
    devices: Sequence[jax.Device],
    most: int | None,
    *,
    alike: bool = True,
) -> Choice:
    """Finds the largest number of replicas at once, from one on downwards, that treats all alike.

    A number is tried by training copies of the first replica for some steps: their parameters must
    stay equal to the bit. One alone always passes.

    Args:
        build: mesh -> Trainer of a few steps.
        replicas: what `Trainer.init` takes, of all replicas.
        pool: the task's.
        devices: devices the replicas are spread over.
        most: the number to begin with; None: all.
        alike: False takes it as it is, and only measures.
    """
    widest = place(len(replicas[0].init), most, devices)
    for tried in halves(widest.seeds_at_once):
        size = place(len(replicas[0].init), tried, devices).seeds_at_once  # that groups will have
        length = size * widest.mesh.size
        placement = place(length * widest.lanes, size, devices)
        copies = np.zeros(length * widest.lanes, int)
        groups = spread(placement, jax.tree.map(lambda leaf: leaf[copies], replicas))  # noqa: B023
        trainer, data = build(placement.mesh), share(placement, pool)
        states = [trainer.init(*group) for group in groups]
        walk = trainer.walk.lower(states[0], data).compile()
        seconds, states = _seconds(lambda state: walk(state, data), placement, states)  # noqa: B023
        if not alike or all(map(_all_alike, states)):
            return Choice(size, seconds / (length * widest.lanes))
    raise AssertionError("a lone replica is alike itself")


def _seconds(
    walk: Callable[[TrainState], TrainState], placement: Placement, states: list[TrainState]
) -> tuple[float, list[TrainState]]:
    """Seconds of one call: the best of as many as fit in the time of a trial, at least two."""
    best, until = np.inf, time.perf_counter() + _TRIAL_SECONDS

    def once(state):
        return jax.block_until_ready(walk(state))

    states = in_lanes(placement, once, states)
    while best == np.inf or time.perf_counter() < until:
        started = time.perf_counter()
        states = in_lanes(placement, once, states)
        best = min(best, time.perf_counter() - started)
    return best, states


def _all_alike(state: TrainState) -> bool:
    """Whether all replicas have the same parameters, to the bit."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state.seeds.model.params)]
    raw = [leaf.reshape(len(leaf), -1).view(np.uint8) for leaf in leaves]
    return all((bits == bits[:1]).all() for bits in raw)
