"""A study of noise: replicas of every variant trained as one program, and what they predict.

found = run_study(task, optimizer, batch_size=50, steps=400, record_every=20)  # one's own task
findings(found)["variants"]  # `experiments.noise.findings`

train_study(experiment, config, NoiseConfig(), folder)       # the same into a folder, resumable
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from experiments import run_folder
from experiments.experiment import Experiment, Setup, TrainingConfig
from experiments.noise.checks import check_logits, check_predictions, check_root
from experiments.noise.intact import check_together, read_variants
from experiments.noise.predictions import (
    Predictions,
    errors_between,
    predict_rows,
    save_predictions,
    shared_data,
)
from experiments.noise.variants import (
    SOURCES,
    Rows,
    Variant,
    draws_by_place,
    make_rows,
    make_variants,
    parse_sources,
    rows_of,
    used_sources,
)
from experiments.settings import check_training, schedule
from experiments.training import Study, train_run
from trainer import Progress, Task, TrainingRun, Variables, make_trainer, train, weight_metrics
from trainer.checks import check_steps
from trainer.collect import unnest
from trainer.observe import Metric
from trainer.sizing import Choice, choose_seeds_at_once
from trainer.task import init_model
from trainer.training import Optimizer, check_sizes

BARRIER_PAIRS = 3  # of each variant: replicas 0 and 1, 2 and 3, 4 and 5
BARRIER_POINTS = 11
TRIAL_STEPS = 8
MAX_REPLICAS = 10_000  # of a variant; pairs of them are a matrix


@dataclass(frozen=True)
class NoiseConfig:
    """What a study varies."""

    sources: str = ",".join(SOURCES)
    """Sources of noise, separated by commas, or none: initialisation, order of the examples,
    augmentation and masks; order of the sums over a batch, precision of products (float32, tf32,
    bfloat16), and one weight moved by one unit in the last place."""
    replicas: int = 10
    """Replicas of each variant, at least 2."""
    ulp_step: int = 0
    """Step before which that weight is moved: 0, or one at which a record is taken."""
    fork_steps: tuple[int, ...] = ()
    """Also variants that share their first so many steps, then differ in order, augmentation and
    masks; steps at which a record is taken."""


class StudyResult(NamedTuple):
    """A study that has been trained.

    Attributes:
        variants: which replicas there are; they stand in this order.
        dataset: records [seed, step] of the trainer, "seed" counting replicas.
        params: final parameters, leaves [replica, ...].
        diverged: int [replica], step at which it diverged, else -1.
        predictions: on the test examples.
        barriers: float [variant, pair, point], errors along the line between two replicas; NaN
            where a variant has fewer pairs, or one of a pair diverged.
        notes: what a reader should know first.
        ulp_step: step before which the replicas of `ulp` have a weight moved.
    """

    variants: list[Variant]
    dataset: xr.Dataset
    params: Any
    diverged: np.ndarray
    predictions: Predictions
    barriers: np.ndarray
    notes: list[str]
    ulp_step: int = 0


def check_noise(noise: NoiseConfig) -> None:
    """Raises ValueError where a setting of the study is wrong, whatever is trained."""
    parse_sources(noise.sources)
    if not isinstance(noise.replicas, int | np.integer):
        raise ValueError(f"--replicas is {noise.replicas!r}; it must be a whole number")
    if noise.replicas < 2:
        raise ValueError(
            f"--replicas is {noise.replicas}; a spread needs at least 2 replicas of each variant"
        )
    if noise.replicas > MAX_REPLICAS:
        raise ValueError(
            f"--replicas is {noise.replicas}; every two of a variant are compared: at most "
            f"{MAX_REPLICAS}"
        )
    twice = [step for step in noise.fork_steps if noise.fork_steps.count(step) > 1]
    if twice:
        raise ValueError(f"--fork-steps: {twice[0]} stands twice; name each step once")


def plan_study(
    task: Task, noise: NoiseConfig, record_every: int, steps: int
) -> tuple[list[Variant], list[str]]:
    """Variants of a study, and notes on what of it this task cannot show.

    Raises:
        ValueError: a step is not one at which a record is taken or stands twice, or nothing would
            vary at forks.
    """
    asked = parse_sources(noise.sources)
    twice = [step for step in noise.fork_steps if noise.fork_steps.count(step) > 1]
    if twice:
        raise ValueError(f"--fork-steps: {twice[0]} stands twice; name each step once")
    for name, step in [("--ulp-step", noise.ulp_step)] + [
        ("--fork-steps", step) for step in noise.fork_steps
    ]:
        if not 0 <= step < steps or step % record_every:
            raise ValueError(
                f"{name} {step}: it must be a multiple of {record_every}, the steps between "
                f"records, below {steps}, the steps of training"
            )
    sources = used_sources(task, asked)
    notes = [
        f"training draws nothing from {name}: no replicas of it were trained, they would not differ"
        for name in asked
        if name not in sources
    ]
    if noise.fork_steps and not {"order", "augment", "dropout"} & set(sources):
        raise ValueError("--fork-steps: nothing would differ; name order among the --sources")
    if "accumulation" in sources and draws_by_place(task):
        notes.append(
            "the training score draws by place in the batch and does not heed Noise.place: "
            "accumulation also pairs other examples with other draws, so it is not rounding alone"
        )
    if task.classify is None:
        notes.append(
            "the task names no classes (Task.classify): no churn, logits or classes, only losses, "
            "accuracies and weights"
        )
    return make_variants(sources, noise.replicas, noise.fork_steps), notes


def run_study(
    task: Task,
    optimizer: Optimizer,
    *,
    batch_size: int,
    steps: int,
    record_every: int,
    noise: NoiseConfig = NoiseConfig(),
    groups: Mapping[str, np.ndarray] | None = None,
    metrics: Metric | Sequence[Metric] = weight_metrics,
    seeds_at_once: int | None = None,
    root: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> StudyResult:
    """Trains the replicas of a study in memory: the way for a task of one's own.

    Args:
        task: what to learn; `Task.classify` gives the measures that need predictions.
        optimizer: as of `trainer.train`.
        batch_size: examples per step.
        steps: optimisation steps, a multiple of `record_every`.
        record_every: steps between records.
        noise: what to vary.
        groups: subgroups of the test examples by name, bool [example].
        metrics: what to record of the weights.
        seeds_at_once: replicas vmapped together; None: by trial.
        root: number of the training that is varied.
        on_progress: as of `trainer.train`.

    Returns:
        StudyResult.

    Raises:
        ValueError: a setting is out of range.
    """
    check_noise(noise)
    check_root(root)
    check_sizes(task, batch_size, record_every)
    check_steps(steps, record_every)
    check_predictions(task, groups or {}, root)
    variants, notes = plan_study(task, noise, record_every, steps)
    rows = make_rows(variants, root, noise.ulp_step)
    run = train(
        task,
        optimizer,
        range(len(rows.streams.init)),
        batch_size=batch_size,
        steps=steps,
        record_every=record_every,
        metrics=metrics,
        seeds_at_once=seeds_at_once,
        streams=rows.streams,
        perturb=rows.perturb,
        compare=True,
        on_progress=on_progress,
    )
    model = Variables(run.params, run.state)
    predictions = predict_rows(task, model, groups or {}, root)
    check_logits(predictions.logits, run.diverged)
    return StudyResult(
        variants,
        run.dataset,
        run.params,
        run.diverged,
        predictions,
        barriers_of(task, variants, model, run.diverged, root),
        notes,
        noise.ulp_step,
    )


def barriers_of(
    task: Task, variants: Sequence[Variant], model: Variables, diverged: np.ndarray, root: int
) -> np.ndarray:
    """Errors on the lines between up to 3 disjoint pairs of each variant: [variant, pair, point].

    CONTROL has none: its replicas are one. The pairs are replicas 0 and 1, 2 and 3, 4 and 5.
    """
    found = np.full((len(variants), BARRIER_PAIRS, BARRIER_POINTS), np.nan)
    places, pairs = [], []
    for i, rows in enumerate(rows_of(variants).values()):
        if not variants[i].varied:
            continue
        for p, pair in enumerate(zip(rows[::2], rows[1::2], strict=False)):
            if p < BARRIER_PAIRS and (diverged[list(pair)] < 0).all():
                places.append((i, p))
                pairs.append(pair)
    if pairs:
        first, second = (
            jax.tree.map(lambda leaf, side=side: leaf[side], model) for side in np.transpose(pairs)
        )
        found[tuple(np.transpose(places))] = errors_between(
            task, first, second, BARRIER_POINTS, root
        )
    return found


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
    """

    experiment: Experiment
    setup: Setup
    config: TrainingConfig
    variants: list[Variant]
    rows: Rows
    steps: int
    record_every: int
    notes: list[str]


def prepare(experiment: Experiment, config: TrainingConfig, noise: NoiseConfig) -> Prepared:
    """Builds the task and the replicas of a study; trains nothing.

    Raises:
        ValueError: a setting is out of range.
        OSError: a file of the data cannot be read.
    """
    if config.early_stop != "never":
        raise ValueError("--early-stop: replicas to compare must train equally long; leave it out")
    if config.precision != "float32" and "precision" in parse_sources(noise.sources):
        raise ValueError("--precision is one of the --sources; leave one of them out")
    check_training(config, fewest=1)
    setup = experiment.setup(config)
    check_sizes(setup.task, config.batch_size, config.record_every)
    steps, record_every = schedule(config, setup.task.num_train)
    check_predictions(setup.task, setup.groups, config.first_seed)
    variants, notes = plan_study(setup.task, noise, record_every, steps)
    rows = make_rows(variants, config.first_seed, noise.ulp_step)
    config = replace(config, seeds=len(rows.streams.init))
    once = replace(experiment, setup=lambda _: setup)
    return Prepared(once, setup, config, variants, rows, steps, record_every, notes)


def trial(prepared: Prepared) -> Choice:
    """Replicas to run side by side, and the seconds of a step of one, by a short trial."""
    task, config = prepared.setup.task, prepared.config

    steps = min(TRIAL_STEPS, prepared.record_every)

    def build(size: int, mesh):
        return make_trainer(
            task,
            prepared.setup.optimizer,
            config.batch_size,
            steps,
            (),
            precision=config.precision,
            seeds_at_once=size,
            mesh=mesh,
        )

    replicas = prepared.rows.streams, {}, prepared.rows.perturb
    sizes = None if config.seeds_at_once is None else [config.seeds_at_once]
    found = choose_seeds_at_once(build, replicas, task.pool, jax.local_devices(), sizes)
    return found._replace(seconds=found.seconds / steps)


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
    """Trains a study into a run folder, with `predictions.npz` and `barriers.nc` beside the rest.

    Args:
        prepared: as `prepare` gives it.
        noise: settings of the study, for `config.json`.
        folder: the run folder.
        threshold: evaluation accuracy above which a replica has converged.
        overwrite: whether a run that stands there may be replaced.
        resume: go on with what stands there.
        save_seconds: seconds between two save points.
        on_progress: as of `trainer.train`.

    Raises:
        ValueError: a hyperparameter is out of range, or the folder is taken or of other settings.
        OSError: the folder cannot be written.
    """
    setup, variants, root = prepared.setup, prepared.variants, prepared.config.first_seed

    def finish(draft: Path, run: TrainingRun) -> None:
        shapes = jax.eval_shape(lambda key: init_model(setup.task, key), jax.random.key(0))
        model = unnest(shapes, {"params": run.params, "state": run.state})
        predictions = predict_rows(setup.task, model, setup.groups, root)
        check_logits(predictions.logits, run.diverged)
        save_predictions(draft, predictions)
        errors = barriers_of(setup.task, variants, model, run.diverged, root)
        xr.Dataset(
            {"error": (("variant", "pair", "point"), errors)},
            {"variant": [v.name for v in variants]},
        ).to_netcdf(draft / run_folder.BARRIERS, engine="h5netcdf")

    content = {
        **noise,
        "variants": [variant._asdict() for variant in variants],
        "notes": prepared.notes,
        "data": fingerprint(setup.task, root),
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
        study=Study(content, *prepared.rows, finish),
    )


def fingerprint(task: Task, root: int) -> str:
    """SHA-256 of the examples a study trains and tests on: equal for equal data, in any run."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(shared_data(task, root)):
        values = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def load_study(folder: Path) -> StudyResult:
    """A study from its folder.

    Raises:
        ValueError: the folder holds no study, or a file of it cannot be read.
    """
    from experiments.noise.predictions import load_predictions

    config = run_folder.read_json(folder, run_folder.CONFIG, "noise EXPERIMENT", ("experiment",))
    if "noise" not in config:
        raise ValueError(f"{folder} holds no study of noise; make one with `seedmap noise`")
    variants, notes = read_variants(folder, config["noise"])
    dataset = run_folder.read_dataset(folder)
    try:
        barriers = xr.load_dataset(folder / run_folder.BARRIERS, engine="h5netcdf")["error"].values
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{folder / run_folder.BARRIERS} cannot be read ({error}); make the study anew"
        ) from None
    params, predictions = run_folder.load_params(folder), load_predictions(folder)
    check_together(folder, variants, dataset, params, predictions, barriers)
    return StudyResult(
<<<<<<< HEAD
        [Variant(**v | {"varied": tuple(v["varied"])}) for v in config["noise"]["variants"]],
        dataset,
        run_folder.load_params(folder),
        dataset.diverged.values,
        load_predictions(folder),
        barriers,
        config["noise"]["notes"],
        config["noise"]["ulp_step"],
=======
        variants, dataset, params, dataset.diverged.values, predictions, barriers, notes
>>>>>>> H
    )
