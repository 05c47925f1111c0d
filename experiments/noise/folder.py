"""A study of noise of an experiment in its folder: prepared, trained, resumed, read.

prepared = prepare(experiment, config, NoiseConfig())
train_study(prepared, settings, folder, threshold)      # a run folder, predictions.npz, barriers.nc
load_study(folder)                                      # `experiments.noise.study.StudyResult`
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from seedmap.errors import UserError
from seedmap.experiments.noise.check_folder import check_together, read_variants
from seedmap.experiments.noise.check_task import check_predictions, check_root
from seedmap.experiments.noise.predictions import (
    load_predictions,
    save_predictions,
    shared_data,
)
from seedmap.experiments.noise.study import NoiseConfig, StudyResult, evaluate_replicas, plan_study
from seedmap.experiments.noise.variants import Rows, Variant, make_rows, parse_sources
from seedmap.experiments.runs import folder as run_folder, ids
from seedmap.experiments.runs.netcdf import check_netcdf, load_netcdf, write_netcdf
from seedmap.experiments.runs.settings import check_training, schedule
from seedmap.experiments.runs.train import Study, train_run
from seedmap.experiments.tasks.base import Experiment, Setup, TrainingConfig
from seedmap.identity import Mark
from seedmap.trainer import Progress, Task, Trainer, TrainingRun, make_trainer
from seedmap.trainer.checks import check_sizes
from seedmap.trainer.group_size import Choice, by_network, choose_alike
from seedmap.trainer.metrics.registry import choose
from seedmap.trainer.storage.results import unnest
from seedmap.trainer.task import init_model

TRIAL_STEPS = 8


class Prepared(NamedTuple):
    """A study of an experiment, checked and ready to be trained.

    Attributes:
        experiment: the experiment, its setup made once.
        setup: of its hyperparameters.
        config: its hyperparameters, one seed per replica.
        variants: which replicas there are.
        rows: what the trainer takes.
        steps: of training.
        record_every: steps between records.
        notes: what a reader should know first.
        roots: base trainings that are varied.
    """

    experiment: Experiment
    setup: Setup
    config: TrainingConfig
    variants: list[Variant]
    rows: Rows
    steps: int
    record_every: int
    notes: list[str]
    roots: int


def prepare(experiment: Experiment, config: TrainingConfig, noise: NoiseConfig) -> Prepared:
    """Builds the task and the replicas of a study; trains nothing.

    Raises:
        UserError: a setting is out of range.
        OSError: a file of the data cannot be read.
    """
    if config.early_stop != "never":
        raise UserError("--early-stop: replicas to compare must train equally long; leave it out")
    if config.precision != "float32" and "precision" in parse_sources(noise.sources):
        raise UserError("--precision is one of the --sources; leave one of them out")
    check_training(config, fewest=1)
    setup = experiment.setup(config)
    check_sizes(setup.task, config.batch_size, config.record_every)
    steps, record_every = schedule(config, setup.task.num_train)
    check_root(config.first_seed + noise.roots - 1)
    check_predictions(setup.task, setup.groups, config.first_seed)
    variants, notes = plan_study(setup.task, noise, record_every, steps)
    rows = make_rows(variants, config.first_seed, noise.ulp_step, noise.roots)
    config = replace(config, seeds=len(rows.streams.init))
    once = replace(experiment, setup=lambda _: setup)
    return Prepared(once, setup, config, variants, rows, steps, record_every, notes, noise.roots)


def trial(prepared: Prepared) -> Choice:
    """Finds how many replicas to run side by side, and the seconds of a step, by a short trial.

    Where their number is not given, it is the largest, from that of the network on downwards, at
    which copies stay alike to the bit.
    """
    task, config, asked = prepared.setup.task, prepared.config, prepared.config.seeds_at_once
    steps = min(TRIAL_STEPS, prepared.record_every)

    def build(mesh: jax.sharding.Mesh) -> Trainer:
        return make_trainer(
            task,
            prepared.setup.optimizer,
            config.batch_size,
            steps,
            (),
            precision=config.precision,
            mesh=mesh,
        )

    replicas, devices = (prepared.rows.streams, {}, prepared.rows.perturb), jax.local_devices()
    most = by_network(task) if devices[0].platform == "cpu" else None
    choice = choose_alike(build, replicas, task.pool, devices, asked or most, alike=asked is None)
    return choice._replace(seconds=choice.seconds / steps)


def record_names(prepared: Prepared) -> set[str]:
    """Lists the names of what training will record; nothing is compiled."""
    setup, config = prepared.setup, prepared.config
    metrics = choose(config.record, setup.rule, config.spectrum)
    trainer = make_trainer(setup.task, setup.optimizer, config.batch_size, 1, metrics)
    first = jax.tree.map(lambda leaf: leaf[:1], prepared.rows)
    state = jax.eval_shape(trainer.init, first.streams, {}, first.perturb)
    _, record = jax.eval_shape(trainer.advance, state, setup.task.pool)
    return set(record)


def train_study(
    prepared: Prepared,
    noise: dict[str, Any],
    folder: Path,
    threshold: float,
    *,
    overwrite: bool = False,
    resume: bool = False,
    save_seconds: float = 60.0,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Trains a study into a run folder, with `predictions.npz` and `barriers.nc`.

    Args:
        prepared: as `prepare` gives it.
        noise: settings of the study, for `config.json`.
        folder: the run folder.
        threshold: evaluation accuracy above which a replica has converged.
        overwrite: whether a run that is there may be replaced.
        resume: continue the study in the folder.
        save_seconds: seconds between two save points.
        on_progress: as of `trainer.train`.

    Raises:
        UserError: a hyperparameter is out of range, or the folder is taken or of other settings.
        OSError: the folder cannot be written.
    """
    setup, variants, root = prepared.setup, prepared.variants, prepared.config.first_seed

    def finish(draft: Path, run: TrainingRun, training_id: str) -> None:
        shapes = jax.eval_shape(lambda key: init_model(setup.task, key), jax.random.key(0))
        model = unnest(shapes, {"params": run.params, "state": run.state})
        predictions, errors = evaluate_replicas(
            setup.task, variants, model, setup.groups, run.diverged, root, prepared.roots
        )
        save_predictions(draft, predictions._replace(training_id=training_id))
        barriers = xr.Dataset(
            {"error": (("variant", "pair", "point"), errors)},
            {"variant": [v.name for v in variants]},
            {ids.TRAINING: training_id},
        )
        write_netcdf(draft / run_folder.BARRIERS, barriers)

    content = {
        **noise,
        "variants": [variant._asdict() for variant in variants],
        "notes": prepared.notes,
        "data": fingerprint(setup.task, root, prepared.roots),
    }
    train_run(
        prepared.experiment,
        prepared.config,
        folder,
        threshold,
        overwrite=overwrite,
        resume=resume,
        save_seconds=save_seconds,
        on_progress=on_progress,
        study=Study(content, *prepared.rows, finish, prepared.roots),
    )


def fingerprint(task: Task, root: int, roots: int = 1) -> str:
    """Computes the SHA-256 of the examples a study trains and tests on, root after root."""
    digest = hashlib.sha256()
    for number in range(root, root + roots):
        for path, leaf in jax.tree_util.tree_leaves_with_path(shared_data(task, number)):
            values = np.asarray(leaf)
            digest.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def load_study(folder: Path) -> StudyResult:
    """Reads a study from its folder.

    Raises:
        UserError: the folder holds no study, a file of it cannot be read, or two of its files are
            of different ones.
    """
    config = run_folder.read_json(folder, run_folder.CONFIG, "noise EXPERIMENT", ("experiment",))
    if "noise" not in config:
        raise UserError(f"{folder} holds no study of noise; make one with `seedmap noise`")
    variants, notes, roots = read_variants(folder, config["noise"])
    made_by = "noise EXPERIMENT --overwrite"  # what is trained would not be trained again without
    dataset = run_folder.read_dataset(folder, made_by)
    if not (folder / run_folder.BARRIERS).is_file():
        raise UserError(f"{folder} has no {run_folder.BARRIERS}; make it with `seedmap {made_by}`")
    try:
        stored = load_netcdf(folder / run_folder.BARRIERS)
        barriers = stored["error"].values
    except (UserError, KeyError) as error:
        raise UserError(
            f"{folder / run_folder.BARRIERS} cannot be read ({error}); make the study anew"
        ) from None
    check_netcdf(folder / run_folder.BARRIERS, stored, made_by)
    params, predictions = run_folder.load_params(folder, made_by), load_predictions(folder)
    others = [
        Mark(folder / run_folder.CHECKPOINT, run_folder.params_id(folder)),
        Mark(folder / run_folder.PREDICTIONS, predictions.training_id),
        Mark(folder / run_folder.BARRIERS, stored.attrs.get(ids.TRAINING)),
    ]
    ids.check_training(folder, config, dataset, others)
    check_together(folder, variants, roots, dataset, params, predictions, barriers)
    return StudyResult(
        variants,
        dataset,
        params,
        dataset.diverged.values,
        predictions,
        barriers,
        notes,
        config["noise"].get("ulp_step", 0),
        roots,
    )
