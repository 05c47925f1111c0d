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

from seedmap.trainer.batched import TrainState, build_trainer
from seedmap.trainer.group_size import choose_seeds_at_once
from seedmap.trainer.noise.perturb import Perturbations
from seedmap.trainer.order import batches_per_epoch
from seedmap.trainer.placement import Placement, gather, place, share, spread
from seedmap.trainer.recipe import Recipe
from seedmap.trainer.storage.records import RecordLayout
from seedmap.trainer.streams import Streams

_TRIAL_STEPS = 8  # of training, in the search for the number of seeds at once

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
        seeds_at_once: replicas vmapped together; None: found by trial.
        devices: of this process, to be used.
        report: called with how far it is.
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
    """The compiled program, with its arguments in place."""

    placement: Placement
    advance: Callable[[TrainState], tuple[TrainState, Any]]
    state: TrainState
    layout: RecordLayout
    compile_seconds: float


class Done(NamedTuple):
    """At which step each replica diverged or converged, else -1."""

    diverged: Int[np.ndarray, " replica"]
    converged: Int[np.ndarray, " replica"]


class Chunk(NamedTuple):
    """Some records, and where training stands after them; `state` is valid until the next."""

    step: int
    state: TrainState
    records: list[Record]
    done: Done
    seconds: float
    last: bool


def diverged_by_seed(seeds: Sequence[int], diverged: Int[np.ndarray, " replica"]) -> dict[int, int]:
    """Seed number to step, of the replicas that diverged."""
    return {seed: int(step) for seed, step in zip(seeds, diverged, strict=True) if step >= 0}


def compile_program(plan: Plan, seeds_at_once: int | None) -> Program:
    """Initial state and compiled step."""
    nothing = np.full(len(plan.seeds), -1)
    plan.tell(0, 0.0, Done(nothing, nothing), None)
    started = time.perf_counter()
    hyper = {name: jnp.asarray(column, jnp.float32) for name, column in plan.hyper.items()}
    replicas = plan.streams, hyper, plan.perturb
    recipe, pool = plan.recipe, plan.recipe.task.pool
    if seeds_at_once is None:
        trial = replace(recipe, record_every=min(_TRIAL_STEPS, plan.record_every))
        choice = choose_seeds_at_once(
            partial(build_trainer, trial), replicas, pool, plan.devices, alike=recipe.compare
        )
        seeds_at_once = choice.seeds_at_once
    placement = place(len(plan.seeds), seeds_at_once, plan.devices)
    trainer = build_trainer(recipe, placement.seeds_at_once, placement.mesh)
    state = trainer.init(*(spread(placement, tree) for tree in replicas))
    pool = share(placement, pool)
    lowered = trainer.advance.lower(state, pool)
    compiled = lowered.compile()
    record = lowered.out_info[1]
    dtype = np.result_type(*(leaf.dtype for leaf in record.values())).name
    return Program(
        placement,
        lambda state: compiled(state, pool),
        state,
        RecordLayout(tuple(record), len(plan.seeds), dtype),
        time.perf_counter() - started,
    )


def train_chunks(
    plan: Plan, program: Program, state: TrainState, step: int, chunk_seconds: float
) -> Iterator[Chunk]:
    """Trains on from a step to the end, so many seconds' records at a time, one at least."""
    placement, stops = program.placement, plan.early_stop != "never"
    last = False
    while not last:
        records: list[Record] = []
        started = time.perf_counter()
        while not last and (not records or time.perf_counter() - started < chunk_seconds):
            state, record = program.advance(state)
            records.append(gather(placement, record))
            step += plan.record_every
            last = step == plan.steps or (stops and _all_done(placement, state))
        done = done_of(placement, state)
        yield Chunk(step, state, records, done, time.perf_counter() - started, last)


def done_of(placement: Placement, state: TrainState) -> Done:
    """Which replicas are done with, on the host."""
    return Done(*gather(placement, (state.seeds.diverged, state.seeds.converged)))


def _all_done(placement: Placement, state: TrainState) -> bool:
    done = done_of(placement, state)
    return bool(np.all((done.diverged >= 0) | (done.converged >= 0)))
