"""The programs that a run compiles, with shapes in place of arrays."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from seedmap.experiments.runs.settings import (
    AUTOREGRESSIVE,
    emission_of,
    parse_states,
    split,
    sweep_config,
)
from seedmap.experiments.tasks.base import FitConfig
from seedmap.hmm.autoregressive.fits import precision
from seedmap.hmm.autoregressive.programs import lane_programs
from seedmap.hmm.selection.programs import sweep_programs
from seedmap.hmm.sequences import FIRST_RECORDS
from seedmap.metric_names import OUTCOMES, PAPER_METRICS
from seedmap.trainer.batched import SEED_AXIS, TrainState, batching_of, init_all, walk_all
from seedmap.trainer.group_size import cpu_group
from seedmap.trainer.placement import Placement, place
from seedmap.trainer.program import group_program
from seedmap.trainer.recipe import Recipe
from seedmap.trainer.streams import Streams, make_streams


@dataclass(frozen=True)
class Program:
    """A program of a run that can be compiled.

    Attributes:
        name: for tables.
        function: jitted.
        arguments: shapes, placed on the devices to compile for.
        setting: under which it is traced and compiled, as in a run.
        data: bytes of the arguments on a device that hold the examples, shared by all seeds.
    """

    name: str
    function: jax.stages.Wrapped
    arguments: tuple
    setting: Callable[[], AbstractContextManager] = nullcontext
    data: int = 0

    def trace(self) -> jax.stages.Traced:
        """Traces it."""
        with self.setting():
            return self.function.trace(*self.arguments)


@dataclass(frozen=True)
class Job:
    """A training to plan.

    Attributes:
        recipe: how seeds are trained.
        seeds: how many.
        steps: optimisation steps of each.
        seeds_at_once: side by side on a device; None: as many as fit.
        vary: random streams that differ between them.
        hyperparameters: names of those that differ.
    """

    recipe: Recipe
    seeds: int
    steps: int
    seeds_at_once: int | None = None
    vary: tuple[str, ...] = Streams._fields
    hyperparameters: tuple[str, ...] = ()

    @property
    def num_records(self) -> int:
        """Records of each seed."""
        return self.steps // self.recipe.record_every

    def most_at_once(self, platform: str) -> int | None:
        """Returns the seeds that stand side by side on a device at most; None: all that fit."""
        if self.seeds_at_once is None and platform == "cpu":
            return cpu_group(self.recipe.task)
        return self.seeds_at_once


class TrainingPrograms(NamedTuple):
    """Programs of a training.

    Attributes:
        start: initial states.
        training: to the next record, with metrics and evaluation.
        steps: the same without what is measured; no run compiles it.
    """

    start: Program
    training: Program
    steps: Program


def training_programs(job: Job, devices: Sequence[jax.Device], on_device: int) -> TrainingPrograms:
    """Returns the programs of a training.

    Args:
        job: what is trained.
        devices: to compile for.
        on_device: seeds side by side on each.
    """
    placement = place(on_device * spread_over(devices), on_device, devices)
    recipe, batching = job.recipe, batching_of(placement.mesh)
    count = placement.num_replicas
    streams = jax.eval_shape(lambda: make_streams(range(count), job.vary))
    hyper = {name: jax.ShapeDtypeStruct((count,), jnp.float32) for name in job.hyperparameters}
    replicas = _placed((streams, hyper), placement, SEED_AXIS)
    state = jax.eval_shape(partial(init_all, recipe, batching), *replicas)
    state = TrainState(_placed(state.step, placement), _placed(state.seeds, placement, SEED_AXIS))
    pool = _placed(recipe.task.pool, placement)
    data = sum(_bytes(leaf) for leaf in jax.tree.leaves(pool))
    arguments = (state, pool)
    return TrainingPrograms(
        Program("start", jax.jit(partial(init_all, recipe, batching)), replicas),
        Program("training", group_program(recipe, batching), arguments, data=data),
        Program("steps", jax.jit(partial(walk_all, recipe, batching)), arguments),
    )


def spread_over(devices: Sequence[jax.Device]) -> int:
    """Returns the devices of a group: all but of a CPU, where each has groups of its own."""
    return 1 if devices[0].platform == "cpu" else len(devices)


def _placed(tree: Any, placement: Placement, *axes: str) -> Any:
    """Shapes of a tree on the devices of a group: spread over the axis, or whole on each."""
    sharding = NamedSharding(placement.mesh, PartitionSpec(*axes))
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def _bytes(leaf: Any) -> int:
    return leaf.size * leaf.dtype.itemsize


def count_metrics(training: Program, config: FitConfig) -> int:
    """Returns how many metrics the HMM sees: those that are named, else those of the paper's 14.

    Where a training records none of either, all but losses and accuracies.
    """
    if config.metrics:
        return len(config.metrics)
    _, record, _ = jax.eval_shape(training.function, *training.arguments)
    return len({*record} & {*PAPER_METRICS}) or len({*record} - {*OUTCOMES})


def fit_programs(
    num_runs: int, num_records: int, num_metrics: int, config: FitConfig, device: jax.Device
) -> list[Program]:
    """Returns the programs of the map: EM of a group of fits, their decoding and the filter.

    Args:
        num_runs: to fit, those to hold out among them.
        num_records: of each.
        num_metrics: of a record; none takes no programs. Autoregressive HMMs see principal
            components of them, how many the records decide: planned for as many as metrics.
        config: how to fit.
        device: to compile for.
    """
    if not num_metrics:
        return []
    is_gaussian = emission_of(config) != AUTOREGRESSIVE
    setting = nullcontext if is_gaussian else partial(precision, device.platform)
    records = min(num_records, FIRST_RECORDS)
    sharding = SingleDeviceSharding(device)

    def placed(leaf):
        if not hasattr(leaf, "shape"):
            return leaf
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    sizes = _num_fitted(num_runs, config), num_runs, records, num_metrics
    with setting():
        if is_gaussian:
            functions = sweep_programs(sweep_config(config), *sizes)
        else:
            functions = lane_programs(parse_states(config.states), *sizes)
    return [
        Program(name, function, jax.tree.map(placed, arguments), setting)
        for name, function, arguments in functions
    ]


def _num_fitted(num_runs: int, config: FitConfig) -> int:
    """The runs that are not held out; by which names these have, sizes do not differ."""
    held_out = tuple(str(run) for run in range(len(config.validation_runs)))
    runs = [str(run) for run in range(num_runs)]
    return len(split(runs, replace(config, validation_runs=held_out))[0])
