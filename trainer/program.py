"""The compiled program of all replicas, and the steps it is advanced by."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from seedmap.errors import UserError
from seedmap.trainer.batched import (
    Batching,
    TrainState,
    advance_group,
    batching_of,
    build_trainer,
    compare_group,
    compared,
    init_all,
)
from seedmap.trainer.group_size import (
    choose_alike,
    cpu_group,
    fits,
    halves,
    out_of_memory,
)
from seedmap.trainer.metrics.replica_distance import Compared, first_of
from seedmap.trainer.noise.perturb import Perturbations
from seedmap.trainer.order import batches_per_epoch
from seedmap.trainer.placement import Placement, gather, in_lanes, place, share, spread
from seedmap.trainer.recipe import Recipe
from seedmap.trainer.replica import Comparable
from seedmap.trainer.storage.records import RecordLayout
from seedmap.trainer.streams import Streams

_TRIAL_STEPS = 8  # of training, to see whether copies stay alike

Record = dict[str, Float[np.ndarray, " replica"]]


class Progress(NamedTuple):
    """How far a training is.

    Attributes:
        step: optimisation steps done.
        steps: optimisation steps in all.
        num_seeds: replicas that this process trains.
        seconds: seconds since compilation, in this session.
        num_converged: replicas that have passed the threshold.
        diverged: seed number to the step at which it was seen to diverge.
        record: the last record, name to [replica]; None in the first two calls.
    """

    step: int
    steps: int
    num_seeds: int
    seconds: float
    num_converged: int
    diverged: dict[int, int]
    record: Record | None


class Plan(NamedTuple):
    """What `train` was asked for, checked; only this process's replicas.

    Attributes:
        recipe: how they are trained.
        seeds: their seed numbers.
        streams: their keys, each [replica].
        perturb: the noise imitated in them, each [replica].
        hyper: their hyperparameters by name, each [replica].
        steps: optimisation steps in all.
        early_stop: one of `trainer.checks.EARLY_STOPS`.
        seeds_at_once: replicas vmapped together; None: by `trainer.group_size`.
        devices: of this process, to be used.
        report: called with how far it is.
        families: equal parts of the replicas, in their order; where replicas are compared, each is
            with the first of its own.
    """

    recipe: Recipe
    seeds: tuple[int, ...]
    streams: Streams
    perturb: Perturbations
    hyper: dict[str, list[float]]
    steps: int
    early_stop: str
    seeds_at_once: int | None
    devices: tuple[jax.Device, ...]
    report: Callable[[Progress], None]
    families: int = 1

    @property
    def record_every(self) -> int:
        """Steps between two records."""
        return self.recipe.record_every

    @property
    def per_epoch(self) -> int:
        """Steps of a pass over the training data."""
        return batches_per_epoch(self.recipe.task.num_train, self.recipe.batch_size)

    def tell(self, step: int, seconds: float, done: "Done", record: Record | None) -> None:
        """Reports how far it is."""
        self.report(
            Progress(
                step,
                self.steps,
                len(self.seeds),
                seconds,
                int(np.sum(done.converged >= 0)),
                diverged_by_seed(self.seeds, done.diverged),
                record,
            )
        )


class Program(NamedTuple):
    """The compiled program of a group of replicas, and the groups before their first step.

    Attributes:
        placement: of the replicas.
        advance: trains a group to its next record -> its state, record and what it is compared by.
        compare: (first replica, state, what it is compared by) -> its record's distances; None
            where replicas are not compared.
        groups: the states of all groups.
        layout: of the records.
        compile_seconds: that making it took.
    """

    placement: Placement
    advance: Callable[[TrainState], tuple[TrainState, Any, Comparable]]
    compare: Callable[[Compared, TrainState, Comparable], Any] | None
    groups: list[TrainState]
    layout: RecordLayout
    compile_seconds: float


class Done(NamedTuple):
    """At which step each replica diverged or converged, else -1."""

    diverged: Int[np.ndarray, " replica"]
    converged: Int[np.ndarray, " replica"]

    def all(self) -> bool:
        """Whether all are."""
        return bool(np.all((self.diverged >= 0) | (self.converged >= 0)))


class Chunk(NamedTuple):
    """Some records, and where training stands after them; `groups` are valid until the next."""

    step: int
    groups: list[TrainState]
    records: list[Record]
    done: Done
    seconds: float
    last: bool


def diverged_by_seed(seeds: Sequence[int], diverged: Int[np.ndarray, " replica"]) -> dict[int, int]:
    """Seed number to step, of the replicas that diverged."""
    return {seed: int(step) for seed, step in zip(seeds, diverged, strict=True) if step >= 0}


def compile_program(plan: Plan, seeds_at_once: int | None) -> Program:
    """Initial states and compiled program.

    Args:
        plan: what to train.
        seeds_at_once: replicas vmapped together; None: by `trainer.group_size`.

    Raises:
        UserError: not even one replica at a time fits in memory.
    """
    nothing = np.full(len(plan.seeds), -1)
    plan.tell(0, 0.0, Done(nothing, nothing), None)
    started = time.perf_counter()
    hyper = {name: jnp.asarray(column, jnp.float32) for name, column in plan.hyper.items()}
    replicas = plan.streams, hyper, plan.perturb
    most = _most_at_once(plan, replicas) if seeds_at_once is None else seeds_at_once
    widest = place(len(plan.seeds), most, plan.devices)
    for size in halves(widest.seeds_at_once) if seeds_at_once is None else [most]:
        program = _compile(plan, place(len(plan.seeds), size, plan.devices), replicas)
        if program is not None:
            return program._replace(compile_seconds=time.perf_counter() - started)
    raise UserError(
        f"one replica needs more memory than is free on {plan.devices[0]}; lower the batch size or "
        "the number of seeds"
    )


def _most_at_once(plan: Plan, replicas: tuple) -> int | None:
    """Replicas side by side on a device, where memory allows; None: all."""
    recipe = plan.recipe
    most = cpu_group(recipe.task) if plan.devices[0].platform == "cpu" else None
    if not recipe.compare:
        return most
    trial = replace(recipe, record_every=min(_TRIAL_STEPS, plan.record_every))
    build = partial(build_trainer, trial)
    return choose_alike(build, replicas, recipe.task.pool, plan.devices, most).seeds_at_once


def group_program(recipe: Recipe, batching: Batching) -> jax.stages.Wrapped:
    """Returns the program of a group: (state, pool) -> `advance_group`; the state is reused."""
    return jax.jit(partial(advance_group, recipe, batching), donate_argnums=0)


def compile_if_it_fits(lowered: jax.stages.Lowered) -> jax.stages.Compiled | None:
    """Compiles a program; None where its compiler, as that of TPUs, finds too little memory."""
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if not out_of_memory(error):
            raise
        return None


def _compile(plan: Plan, placement: Placement, replicas: tuple) -> Program | None:
    """The program of a placement; None where an accelerator has no memory for it."""
    recipe, batching = plan.recipe, batching_of(placement.mesh)
    init = jax.jit(partial(init_all, recipe, batching))
    group_replicas = list(zip(*(spread(placement, tree) for tree in replicas), strict=True))
    first, pool = init(*group_replicas[0]), share(placement, recipe.task.pool)
    lowered = group_program(recipe, batching).lower(first, pool)
    compiled = compile_if_it_fits(lowered)
    if compiled is None or not fits(compiled, first, len(group_replicas), plan.devices[0]):
        return None
    state, record, comparable = lowered.out_info
    compare = None
    if recipe.compare:
        compare = jax.jit(partial(compare_group, recipe.record_every))
        of_first = jax.eval_shape(first_of, jax.eval_shape(compared, state, comparable))
        record = record | jax.eval_shape(compare, of_first, state, comparable)
    dtype = np.result_type(*(leaf.dtype for leaf in record.values())).name
    return Program(
        placement,
        lambda state: compiled(state, pool),
        compare,
        [first, *(init(*group) for group in group_replicas[1:])],
        RecordLayout(tuple(record), len(plan.seeds), dtype),
        0.0,
    )


def train_chunks(
    plan: Plan, program: Program, groups: list[TrainState], step: int, chunk_seconds: float
) -> Iterator[Chunk]:
    """Trains on from a step to the end, so many seconds' records at a time, one at least.

    Groups wait for each other only at the end of a turn: several records, as many as are taken in
    the time of a chunk, but one where they decide whether training ends, or are compared.
    """
    stops = plan.early_stop != "never"
    together = stops or plan.recipe.compare
    last, turn = False, 1
    while not last:
        records: list[Record] = []
        started = time.perf_counter()
        while not last and (not records or time.perf_counter() - started < chunk_seconds):
            turn = min(turn, (plan.steps - step) // plan.record_every)
            groups, new = _take_turn(plan, program, groups, turn)
            records += new
            step += turn * plan.record_every
            done = done_of(program.placement, groups)
            last = step == plan.steps or (stops and done.all())
        seconds = time.perf_counter() - started
        yield Chunk(step, groups, records, done, seconds, last)
        turn = 1 if together else max(1, int(len(records) * chunk_seconds / seconds))


def _take_turn(
    plan: Plan, program: Program, groups: list[TrainState], num_records: int
) -> tuple[list[TrainState], list[Record]]:
    """Trains all groups for some records; those of all replicas are on the host then."""
    placement, compare = program.placement, program.compare
    stop_converged, names = plan.recipe.stop_converged, program.layout.names

    def of_group(state):
        if stop_converged and all_done(state):
            nothing = np.full(placement.rows.shape[1], np.nan, program.layout.dtype)
            return state, [dict.fromkeys(names, nothing)], None
        records = []
        for _ in range(num_records):
            state, record, comparable = program.advance(state)
            records.append(record)
        return state, jax.device_get(records) if placement.lanes > 1 else records, comparable

    results = in_lanes(placement, of_group, groups)
    groups = [state for state, _, _ in results]
    by_group = [records for _, records, _ in results]
    if compare is not None:
        comparables = [comparable for _, _, comparable in results]
        distances = _distances(plan, placement, compare, groups, comparables)
        for records, measured in zip(by_group, distances, strict=True):
            records[0] |= measured
    return groups, [gather(placement, records) for records in zip(*by_group, strict=True)]


def _distances(
    plan: Plan,
    placement: Placement,
    compare: Callable[[Compared, TrainState, Comparable], Any],
    groups: Sequence[TrainState],
    comparables: Sequence[Comparable],
) -> Iterator[dict[str, Any]]:
    """Measures how far each replica is from the first of its family, group by group."""
    all_compared = [compared(*pair) for pair in zip(groups, comparables, strict=True)]
    size, length = len(plan.seeds) // plan.families, placement.rows.shape[1]
    firsts = [
        first_of(all_compared[row // length], row % length)
        for row in range(0, len(plan.seeds), size)
    ]
    for rows, state, comparable in zip(placement.rows, groups, comparables, strict=True):
        families = rows // size
        own = families[0]
        distances = compare(firsts[own], state, comparable)
        for family in np.unique(families[families != own]):
            others = compare(firsts[family], state, comparable)
            distances = {
                name: jnp.where(families == family, others[name], value)
                for name, value in distances.items()
            }
        yield distances


def all_done(state: TrainState) -> bool:
    """Tells whether every replica of a group is frozen: nothing is left to train in it."""
    return Done(np.asarray(state.seeds.diverged), np.asarray(state.seeds.converged)).all()


def done_of(placement: Placement, groups: list[TrainState]) -> Done:
    """Which replicas are done with, on the host."""
    marks = [(state.seeds.diverged, state.seeds.converged) for state in groups]
    return Done(*gather(placement, marks))
