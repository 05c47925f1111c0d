"""Training into a run folder: begun, cut short, resumed, collected.

train_run(experiment, config, folder, threshold)    # config.json, metrics.nc, checkpoint/

While it lasts, records and checkpoints of every process stand in `training/` of the run folder;
`collect_run` makes the run's own files of them and takes that folder away.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.settings import MIN_SEEDS, check_saving, check_training, schedule
from seedmap.experiments.tasks.base import Experiment, TrainingConfig
from seedmap.trainer import (
    Perturbations,
    Progress,
    Replicas,
    Saving,
    Streams,
    TrainingRun,
    choose,
    train,
)
from seedmap.trainer.checks import check_seeds, check_sizes
from seedmap.trainer.storage import folder as store
from seedmap.trainer.storage import results as collect

SAVE_SECONDS = 60.0


class Study(NamedTuple):
    """Replicas that differ in what they are asked to, instead of seeds that differ in all.

    Attributes:
        settings: what distinguishes the study, JSON values; `config.json` has them as "noise".
        streams: keys [replica].
        perturb: noise of tools to imitate [replica].
        finish: called with a folder to write further files of the run to, and the run.
    """

    settings: dict[str, Any]
    streams: Streams
    perturb: Perturbations
    finish: Callable[[Path, TrainingRun], None]


def train_run(
    experiment: Experiment,
    config: TrainingConfig,
    folder: Path,
    threshold: float,
    overwrite: bool = False,
    resume: bool = False,
    save_seconds: float = SAVE_SECONDS,
    on_progress: Callable[[Progress], None] | None = None,
    check: Callable[[int], None] | None = None,
    study: Study | None = None,
) -> bool:
    """Trains all seeds and writes `config.json`, `metrics.nc`, `checkpoint/` and `log.jsonl`.

    Over several processes (`jax.distributed`) each writes its part of `training/` only, and
    `collect_run` makes the rest once all are there.

    Args:
        experiment: what to train.
        config: its hyperparameters.
        folder: the run folder, made here.
        threshold: evaluation accuracy above which a seed has converged.
        overwrite: whether a run that stands there may be replaced.
        resume: go on with the run that stands there, from its last save point; begin if none does.
        save_seconds: seconds between two save points.
        on_progress: as in `trainer.train`.
        check: called with the number of training examples before anything is written; refuses by
            a ValueError what a later step would.
        study: the replicas to train, `config.seeds` of them, numbered from 0 and each compared with
            the first; None: seeds.

    Returns:
        Whether the run is complete; False where other processes have parts of it.

    Raises:
        UserError: a hyperparameter is out of range, or the folder is taken or of other settings.
        OSError: the folder cannot be written; what was saved before is kept.
    """
    check_training(config, fewest=MIN_SEEDS if study is None else 1)
    check_saving(save_seconds)
    setup = experiment.setup(config)
    first = config.first_seed if study is None else 0
    seeds = range(first, first + config.seeds)
    check_sizes(setup.task, config.batch_size, config.record_every)
    check_seeds(seeds)
    steps, between = schedule(config, setup.task.num_train)
    if check is not None:
        check(setup.task.num_train)
    content = {
        "experiment": experiment.name,
        "hyperparameters": asdict(config),
        "threshold": threshold,
        **({} if study is None else {"noise": study.settings}),
        **run_folder.environment(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": {},
    }
    if resume and _is_complete(folder, content):
        return True
    with _claimed(folder, overwrite, resume, content):
        train(
            setup.task,
            setup.optimizer,
            seeds,
            batch_size=config.batch_size,
            steps=steps,
            record_every=between,
            replicas=Replicas(
                vary=config.vary,
                streams=study and study.streams,
                perturb=study and study.perturb,
                compare=study is not None,
            ),
            metrics=choose(config.record, setup.rule, config.spectrum),
            threshold=threshold,
            early_stop=config.early_stop,
            precision=config.precision,
            seeds_at_once=config.seeds_at_once,
            saving=Saving(folder / run_folder.TRAINING, resume, _identity(content), save_seconds),
            on_progress=on_progress,
        )
        if jax.process_count() > 1:
            return False
        collect_run(folder, study and study.finish)
    return True


def _identity(content: dict[str, Any]) -> dict[str, Any]:
    """What decides the results; how many seeds go side by side is kept by the trainer."""
    decided = {k: v for k, v in content["hyperparameters"].items() if k != "seeds_at_once"}
    if "noise" in content:  # but for the notes on it, which are for readers
        decided["noise"] = {k: v for k, v in content["noise"].items() if k != "notes"}
    return {"experiment": content["experiment"], "experiment_settings": decided}


def _check_experiment(folder: Path, before: dict[str, Any], content: dict[str, Any]) -> None:
    if before["experiment"] != content["experiment"]:
        raise UserError(
            f"--resume: {folder} holds a training of {before['experiment']}, not of "
            f"{content['experiment']}; name another folder"
        )


def _is_complete(folder: Path, content: dict[str, Any]) -> bool:
    """Whether the run that stands in the folder is the one asked for, and trained to its end.

    Raises:
        UserError: it is trained, but with other settings.
    """
    if (folder / run_folder.TRAINING).exists() or not (folder / run_folder.METRICS).exists():
        return False
    before = run_folder.read_json(folder, run_folder.CONFIG, "train", ("experiment",))
    before |= {"hyperparameters": before.get("hyperparameters", {})}
    _check_experiment(folder, before, content)
    store.check_same(folder, _identity(before), _identity(content))
    return True


@contextmanager
def _claimed(
    folder: Path, overwrite: bool, resume: bool, content: dict[str, Any]
) -> Iterator[None]:
    """Claims the run folder: alone, or for all processes by the first of them."""
    if jax.process_count() == 1:
        _check_training(folder, resume)
        with run_folder.claimed(folder, overwrite, content, resume):
            _begin(folder, resume, content)
            yield
        return
    refusal = None
    if jax.process_index() == 0:
        try:
            _check_training(folder, resume)
            run_folder.claim(folder, overwrite, content, resume)
            _begin(folder, resume, content)
        except ValueError as error:
            refusal = error
    accepted = multihost_utils.broadcast_one_to_all(np.int32(refusal is None))
    if refusal is not None:
        raise refusal
    if not accepted:
        raise UserError(f"--out: process 0 refuses {folder}; its message says why")
    (folder / run_folder.TRAINING).mkdir(parents=True, exist_ok=True)  # where disks are not shared
    yield


def _check_training(folder: Path, resume: bool) -> None:
    """Refuses to go on where an import was cut short: it would be lost."""
    if resume and any((folder / run_folder.TRAINING).glob("import.json*")):
        raise UserError(
            f"--resume: {folder} holds an import cut short, not a training; name another folder"
        )


def _begin(folder: Path, resume: bool, content: dict[str, Any]) -> None:
    """Makes `training/` with the `config.json` to be, that of the first session where resumed."""
    training = folder / run_folder.TRAINING
    if not resume:
        run_folder.clear(folder, (run_folder.TRAINING,))
    training.mkdir(exist_ok=True)
    if (training / run_folder.CONFIG).exists():
        before = run_folder.read_json(training, run_folder.CONFIG, "train", ("experiment",))
        _check_experiment(folder, before, content)
    else:
        run_folder.write_json(training / run_folder.CONFIG, content)


def collect_run(folder: Path, finish: Callable[[Path, TrainingRun], None] | None = None) -> None:
    """Makes `config.json`, `metrics.nc`, `checkpoint/` and `log.jsonl` of a trained `training/`.

    `finish` writes what else the run is to have. All are written inside `training/` first and moved
    when whole: cut short, it can be done again.

    Raises:
        UserError: there is nothing to collect, parts are missing or not trained to their end, or
            it is a study of noise, whose further files `finish` has to write.
    """
    training = folder / run_folder.TRAINING
    if not training.is_dir():
        done = (folder / run_folder.METRICS).is_file()
        reason = f"it is collected; next: seedmap fit {folder}" if done else "see `seedmap train`"
        raise UserError(f"{folder} holds no training to collect: {reason}")
    content = run_folder.read_json(training, run_folder.CONFIG, "train", ("wall_seconds",))
    if finish is None and "noise" in content:
        raise UserError(
            f"{folder} holds a study of noise cut short: go on with `seedmap noise "
            f"{content['experiment']}`, its flags and --resume"
        )
    run = collect(training)
    parts = store.parts(training)
    jobs = [store.read_job(part) for part in parts]
    content["seeds_at_once"] = jobs[0].seeds_at_once
    content["device"] |= {"processes": len(jobs), "devices_used": sum(j.num_devices for j in jobs)}
    content["wall_seconds"] = {"compile": run.compile_seconds, "train": run.train_seconds}
    dataset = run.dataset.assign(
        diverged=("seed", run.diverged, {"long_name": "step at which a seed diverged, else -1"})
    )
    draft = training / "collected"
    run_folder.clear(training, (draft.name,))
    draft.mkdir()
    run_folder.save_params(draft, run.params)
    run_folder.write_dataset(draft, dataset)
    (draft / run_folder.LOG).write_bytes(
        b"".join((part / store.LOG).read_bytes() for part in parts)
    )
    run_folder.write_json(draft / run_folder.CONFIG, content)
    if finish is not None:
        finish(draft, run)
    run_folder.clear(folder, run_folder.OWN - {run_folder.TRAINING})
    for made in draft.iterdir():
        made.rename(folder / made.name)
    run_folder.clear(folder, (run_folder.TRAINING,))
