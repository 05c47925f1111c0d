"""The host's loop around the compiled program: advance, collect, save, tell how far it is."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.errors import UserError
from seedmap.trainer import checks
from seedmap.trainer.batched import TrainState
from seedmap.trainer.metrics.arguments import Metric
from seedmap.trainer.metrics.weights import weight_metrics
from seedmap.trainer.noise.perturb import Perturbations
from seedmap.trainer.placement import Placement, gather, share, spread
from seedmap.trainer.program import (
    Chunk,
    Plan,
    Program,
    Progress,
    Record,
    compile_program,
    diverged_by_seed,
    done_of,
    train_chunks,
)
from seedmap.trainer.recipe import Optimizer
from seedmap.trainer.replicas import DIFFER_IN_ALL, Replicas, checked_recipe
from seedmap.trainer.step import SeedState
from seedmap.trainer.storage import folder as store
from seedmap.trainer.storage.checkpoints import Saved, checkpoints, save
from seedmap.trainer.storage.records import append_records
from seedmap.trainer.storage.results import TrainingRun, collect_part, make_dataset
from seedmap.trainer.streams import Streams, make_streams
from seedmap.trainer.task import Task, Variables

_CHUNK_SECONDS = 1.0  # records are collected for at most so long, then written and shown


@dataclass(frozen=True)
class Saving:
    """Where and how a training is saved as it goes.

    Attributes:
        folder: for its records and checkpoints.
        resume: go on from the last save point in `folder`, to the bit, or begin if there is none.
            Settings are compared with those it was begun with; of the functions (task, optimizer,
            metrics) only what they give can be, so name what distinguishes them in `identity`.
        identity: further settings (JSON values) that a resumed training must share.
        save_seconds: seconds between two checkpoints; the last one is always saved.
    """

    folder: Path | str
    resume: bool = False
    identity: Mapping[str, Any] | None = None
    save_seconds: float = 60.0


def train(
    task: Task,
    optimizer: Optimizer,
    seeds: Sequence[int],
    *,
    batch_size: int,
    steps: int,
    record_every: int,
    replicas: Replicas = DIFFER_IN_ALL,
    metrics: Metric | Sequence[Metric] = weight_metrics,
    threshold: float | None = None,
    early_stop: str = "never",
    precision: str = "float32",
    seeds_at_once: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    saving: Saving | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainingRun:
    """Trains all seeds as one compiled program.

    After `jax.distributed.initialize` every process trains its own share of the seeds, and returns
    that; `trainer.storage.results` puts the parts in a folder together.

    Args:
        task: what to learn.
        optimizer: any optax transformation, or a function from a replica's hyperparameters to one.
        seeds: seed numbers, one per replica; a seed's result does not depend on the others but for
            rounding (docs/explanation/reproducibility.md).
        batch_size: examples per step.
        steps: optimisation steps, a multiple of `record_every`.
        record_every: optimisation steps between records.
        replicas: what differs between them: random streams, hyperparameters, imitated noise.
        metrics: what to record besides the outcomes, see `trainer.metrics.arguments.measure`.
        threshold: evaluation accuracy above which a replica has converged.
        early_stop: "never"; "each": a replica stops once it has converged; "all": training ends
            once every replica has converged or diverged. What was recorded before is unchanged.
        precision: of products: "float32", "tf32" or "bfloat16".
        seeds_at_once: replicas vmapped together on a device; None: on a CPU by the network's size
            (`trainer.group_size.by_network`), else as many as fit.
        devices: devices of this process to use; None: all. Devices of a CPU stand for its cores:
            groups of replicas are trained on as many at a time, at the same bits.
        saving: where to write records and checkpoints as training goes; None: memory only.
        on_progress: called with how far it is: before compilation, after it, then about every
            second.

    Returns:
        TrainingRun.

    Raises:
        UserError: an argument is out of its range, or the folder holds another training; the
            message names it.
        OSError: the folder cannot be written; all up to the last save point is kept.

    Example:
        train(task, optax.adam(1e-2), seeds=range(8), batch_size=50, steps=200, record_every=10,
              replicas=Replicas(vary=("init",)), saving=Saving("my-training", resume=True))
    """
    checks.check_kind("saving", saving, Saving | None)
    recipe, hyper = checked_recipe(
        task,
        optimizer,
        seeds,
        replicas,
        batch_size=batch_size,
        steps=steps,
        record_every=record_every,
        metrics=metrics,
        threshold=threshold,
        early_stop=early_stop,
        precision=precision,
        seeds_at_once=seeds_at_once,
    )
    own = store.split(seeds, jax.process_index(), jax.process_count())
    streams = replicas.streams
    plan = Plan(
        recipe=recipe,
        seeds=tuple(int(seed) for seed in seeds[own]),
        streams=make_streams(seeds[own], replicas.vary) if streams is None else streams,
        perturb=replicas.perturb or Perturbations(),
        hyper={name: column[own] for name, column in hyper.items()},
        steps=steps,
        early_stop=early_stop,
        seeds_at_once=seeds_at_once,
        devices=tuple(devices or jax.local_devices()),
        report=on_progress or (lambda progress: None),
        families=replicas.families,
    )
    if saving is None:
        return _train_in_memory(plan)
    everyone = {"seeds": [int(seed) for seed in seeds], "hyperparameters": hyper}
    settings = _settings(plan, everyone, replicas.vary, saving.identity or {})
    return _train_in_folder(plan, saving, settings)


def _settings(
    plan: Plan, everyone: dict[str, Any], vary: Sequence[str], identity: Mapping[str, Any]
) -> dict[str, Any]:
    """What a resumed training must share with the one it goes on with.

    Args:
        plan: of this process.
        everyone: seeds and hyperparameters of all processes' replicas.
        vary: streams that differ between seeds.
        identity: further settings.
    """
    recipe = plan.recipe
    return {
        **everyone,
        "batch_size": recipe.batch_size,
        "steps": plan.steps,
        "record_every": recipe.record_every,
        "vary": [name for name in Streams._fields if name in vary],
        "threshold": recipe.threshold,
        "early_stop": plan.early_stop,
        "precision": recipe.precision,
        "arithmetic": store.ARITHMETIC,
        **identity,
    }


def _train_in_memory(plan: Plan) -> TrainingRun:
    program = compile_program(plan, plan.seeds_at_once)
    plan.tell(0, 0.0, done_of(program.placement, program.groups), None)
    records: list[Record] = []
    seconds = 0.0
    for chunk in train_chunks(plan, program, program.groups, 0, _CHUNK_SECONDS):
        records += chunk.records
        seconds += chunk.seconds
        plan.tell(chunk.step, seconds, chunk.done, chunk.records[-1])
    values = {
        name: np.stack([record[name] for record in records], axis=1)
        for name in program.layout.names
    }
    model = gather(program.placement, [state.seeds.model for state in chunk.groups])
    return TrainingRun(
        make_dataset(values, plan.seeds, plan.hyper, plan.record_every, plan.per_epoch),
        model.params,
        model.state,
        chunk.done.diverged,
        chunk.done.converged,
        program.compile_seconds,
        seconds,
    )


def _train_in_folder(plan: Plan, saving: Saving, settings: dict[str, Any]) -> TrainingRun:
    folder = store.part_folder(Path(saving.folder), jax.process_index())
    before = _job_before(folder, settings, saving.resume)
    saved = store.restore(folder, before) if before else None
    if before and saved and saved.finished:
        return collect_part(folder, before)
    program = compile_program(plan, before.seeds_at_once if before else plan.seeds_at_once)
    groups, step = program.groups, 0
    if saved:
        groups, step = _continue(program, saved), saved.step
    job = before or _job(plan, program, settings)
    records = store.records_of(folder, job)
    if before is None:
        store.write_job(folder, job)
    store.log(folder, event="begin", step=step, compile_seconds=program.compile_seconds)
    plan.tell(step, 0.0, done_of(program.placement, groups), None)
    seconds, last_save = 0.0, time.perf_counter()
    with checkpoints(folder / store.CHECKPOINTS) as manager:
        chunk_seconds = min(_CHUNK_SECONDS, saving.save_seconds)
        for chunk in train_chunks(plan, program, groups, step, chunk_seconds):
            first = chunk.step // plan.record_every - len(chunk.records)
            append_records(records, first, chunk.records)
            seconds += chunk.seconds
            _log_chunk(folder, plan, chunk)
            plan.tell(chunk.step, seconds, chunk.done, chunk.records[-1])
            if chunk.last or time.perf_counter() - last_save >= saving.save_seconds:
                to_save = _to_save(program.placement, chunk.groups)
                save(manager, job.id, chunk.step, to_save, chunk.last)
                last_save = time.perf_counter()
    return collect_part(folder, job)


def _job_before(folder: Path, settings: dict[str, Any], resume: bool) -> store.Job | None:
    """The job that stands in the folder, if it may be gone on with."""
    if not (folder / store.JOB).is_file():
        if (folder / store.RECORDS).exists() or (folder / store.CHECKPOINTS).exists():
            raise UserError(f"{folder} has lost its {store.JOB}: restore it, or train elsewhere")
        return None
    if not resume:
        raise UserError(f"{folder} holds a training: resume it, or train in another folder")
    job = store.read_job(folder)
    store.check_arithmetic(folder, job)
    store.check_same(folder, job.identity, settings)
    if (job.part, job.num_parts) != (jax.process_index(), jax.process_count()):
        raise UserError(
            f"resume: {folder} holds part {job.part} of {job.num_parts}, process "
            f"{jax.process_index()} of {jax.process_count()} is to go on with it; start as many "
            "processes as before, or train anew elsewhere"
        )
    return job


def _job(plan: Plan, program: Program, settings: dict[str, Any]) -> store.Job:
    return store.Job(
        platform=plan.devices[0].platform,
        identity=settings,
        seeds=plan.seeds,
        hyperparameters=plan.hyper,
        part=jax.process_index(),
        num_parts=jax.process_count(),
        steps=plan.steps,
        record_every=plan.record_every,
        per_epoch=plan.per_epoch,
        seeds_at_once=program.placement.seeds_at_once,
        num_devices=len(plan.devices),
        layout=program.layout,
    )


def _log_chunk(folder: Path, plan: Plan, chunk: Chunk) -> None:
    steps = len(chunk.records) * plan.record_every * len(plan.seeds)
    store.log(
        folder,
        event="chunk",
        step=chunk.step,
        records=len(chunk.records),
        seconds=chunk.seconds,
        seed_steps_per_second=steps / chunk.seconds,
        num_converged=int(np.sum(chunk.done.converged >= 0)),
        diverged=diverged_by_seed(plan.seeds, chunk.done.diverged),
    )


def _saved_part(seeds: SeedState) -> dict[str, Any]:
    """What of a state is saved: the keys and hyperparameters follow from the job."""
    return {
        "params": seeds.model.params,
        "state": seeds.model.state,
        "opt_state": seeds.opt_state,
        "diverged": seeds.diverged,
        "converged": seeds.converged,
    }


def _to_save(placement: Placement, groups: list[TrainState]) -> dict[str, Any]:
    return gather(placement, [_saved_part(state.seeds) for state in groups])


def _continue(program: Program, saved: Saved) -> list[TrainState]:
    """The states of a checkpoint, on the devices.

    Raises:
        UserError: it is of another model or optimiser.
    """
    placement = program.placement
    fresh = [_saved_part(state.seeds) for state in program.groups]
    leaves, structure = jax.tree.flatten(fresh[0])
    shapes = [leaf.shape for leaf in jax.tree.leaves(gather(placement, fresh))]
    if shapes != [leaf.shape for leaf in saved.leaves]:
        raise UserError("resume: the checkpoint is of another model or optimiser; train anew")
    restored = [
        jax.random.wrap_key_data(jnp.asarray(leaf))
        if jnp.issubdtype(new.dtype, jax.dtypes.prng_key)
        else leaf
        for new, leaf in zip(leaves, saved.leaves, strict=True)
    ]
    trees = spread(placement, jax.tree.unflatten(structure, restored))
    return [
        TrainState(
            # Each its own: the program reuses the buffers of a state it is given.
            share(placement, jnp.int32(saved.step)),
            state.seeds._replace(
                model=Variables(tree["params"], tree["state"]),
                opt_state=tree["opt_state"],
                diverged=tree["diverged"],
                converged=tree["converged"],
            ),
        )
        for state, tree in zip(program.groups, trees, strict=True)
    ]
