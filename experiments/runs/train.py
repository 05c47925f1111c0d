"""Trains into a run folder: begun, cut short, resumed (`session`), collected.

train_run(experiment, config, folder, threshold)    # config.json, metrics.nc, checkpoint/

While it lasts, records and checkpoints of every process are in `training/` of the run folder;
`collect_run` makes the run's own files of them and removes that folder.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from seedmap import files, timings
from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder, ids, session
from seedmap.experiments.runs.records_share import share_of_records
from seedmap.experiments.runs.settings import MIN_SEEDS, check_saving, check_training, schedule
from seedmap.experiments.tasks.base import Experiment, Setup, TrainingConfig
from seedmap.identity import Mark, check_marks, identify
from seedmap.lock import lock
from seedmap.timings import timed
from seedmap.trainer import (
    Perturbations,
    Progress,
    Replicas,
    Saving,
    Streams,
    TrainingRun,
    choose,
    collect,
    train,
)
from seedmap.trainer.checks import check_seeds, check_sizes, check_width
from seedmap.trainer.storage import folder as store
from seedmap.transaction import claim, settle, settled

SAVE_SECONDS = 60.0


class Study(NamedTuple):
    """Replicas that differ in what they are asked to, instead of seeds that differ in all.

    Attributes:
        settings: what distinguishes the study, JSON values; `config.json` has them as "noise".
        streams: keys [replica].
        perturb: noise of tools to imitate [replica].
        finish: called with a folder to write further files of the run to, the run, and the id of
            the training, for these files to carry.
        families: equal parts of the replicas, each compared with its own first one.
    """

    settings: dict[str, Any]
    streams: Streams
    perturb: Perturbations
    finish: Callable[[Path, TrainingRun, str], None]
    families: int = 1


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
        overwrite: whether a run in the folder may be replaced.
        resume: continue the run in the folder from its last save point; begin if there is none.
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
    with timed("data"):
        setup = experiment.setup(config)
    first = config.first_seed if study is None else 0
    seeds = range(first, first + config.seeds)
    check_width()
    check_sizes(setup.task, config.batch_size, config.record_every)
    check_seeds(seeds)
    steps, between = schedule(config, setup.task.num_train)
    if check is not None:
        check(setup.task.num_train)
    content = _content(experiment, config, threshold, study)
    work = _work(content)
    with _claimed(folder, work, overwrite, resume):
        if resume and session.is_complete(folder, work):
            return True
        with timed("train"), _begun(folder, work, resume):
            run = train(
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
                    families=1 if study is None else study.families,
                ),
                metrics=choose(config.record, setup.rule, config.spectrum),
                threshold=threshold,
                early_stop=config.early_stop,
                precision=config.precision,
                seeds_at_once=config.seeds_at_once,
                saving=Saving(
                    folder / run_folder.TRAINING, resume, _identity(content), save_seconds
                ),
                on_progress=on_progress,
            )
            if jax.process_count() > 1:
                return False
            collect_run(folder, study and study.finish, run)
    if timings.is_on() and study is None:
        _time_records(folder, setup, config, run)
    return True


def _time_records(folder: Path, setup: Setup, config: TrainingConfig, run: TrainingRun) -> None:
    """Tells `--timings` what records took of a training."""
    with timed(timings.TIMING):
        at_once = run_folder.read_json(folder, run_folder.CONFIG, "train")["seeds_at_once"]
        timings.divide("train", "metrics", share_of_records(setup, config, run, at_once))


def _content(
    experiment: Experiment, config: TrainingConfig, threshold: float, study: Study | None
) -> dict[str, Any]:
    """Returns the content of `config.json` as far as it is known before the training."""
    return {
        "experiment": experiment.name,
        "hyperparameters": asdict(config),
        "threshold": threshold,
        **({} if study is None else {"noise": study.settings}),
        **run_folder.environment(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": {},
    }


def _identity(content: dict[str, Any]) -> dict[str, Any]:
    """Collects what decides the results; seeds side by side are kept by the trainer."""
    settings = content.get("hyperparameters", {})
    decided = {name: value for name, value in settings.items() if name != "seeds_at_once"}
    if "noise" in content:  # but for the notes on it, which are for readers
        decided["noise"] = {k: v for k, v in content["noise"].items() if k != "notes"}
    return {"experiment": content["experiment"], "experiment_settings": decided}


def _work(content: dict[str, Any]) -> session.Work:
    """Describes a training of this `config.json`."""

    def check(folder: Path, before: dict[str, Any]) -> None:
        if before.get("experiment") != content["experiment"]:
            raise UserError(
                f"--resume: {folder} holds a training of {before.get('experiment')}, not of "
                f"{content['experiment']}; name another folder"
            )
        store.check_same(folder, _identity(before), _identity(content))

    return session.Work(
        kind="a training",
        command="train",
        record=run_folder.CONFIG,
        content=content,
        progress="part-*",
        check_config=check,
        check_record=check,
        fields=("experiment",),
    )


@contextmanager
def _claimed(folder: Path, work: session.Work, overwrite: bool, resume: bool) -> Iterator[None]:
    """Claims the folder: alone, or a part of it for each process, checked by the first of them."""

    def check() -> None:
        session.check(folder, work, overwrite, resume)

    if jax.process_count() == 1:
        with claim(folder, work.command, check):
            yield
        return
    with ExitStack() as stack:
        with _agreed(folder):
            stack.enter_context(lock(folder, work.command, shared=True))
            stack.enter_context(lock(folder, work.command, part=jax.process_index()))
            if jax.process_index() == 0:
                settle(folder)
                check()
        yield


@contextmanager
def _begun(folder: Path, work: session.Work, resume: bool) -> Iterator[None]:
    """Begins the training in its folder: alone, or for all processes by the first of them."""
    if jax.process_count() == 1:
        with session.begun(folder, work, resume):
            yield
        return
    with _agreed(folder):
        if jax.process_index() == 0:
            session.begin(folder, work, resume)
    files.make_folder(folder / run_folder.TRAINING)  # where disks are not shared
    yield


@contextmanager
def _agreed(folder: Path) -> Iterator[None]:
    """Waits until all processes have done the block; refuses where one of them does.

    Raises:
        UserError: what the block raised, or that another process refuses.
    """
    refusal: Exception | None = None
    try:
        yield
    except (UserError, OSError) as error:
        refusal = error
    refused = multihost_utils.process_allgather(np.int32(refusal is not None))
    if refusal is not None:
        raise refusal
    if refused.any():
        number = np.argmax(refused)
        raise UserError(f"--out: process {number} refuses {folder}; its message says why")


def _check_begun_alike(
    training: Path, content: dict[str, Any], jobs: Mapping[Path, store.Job]
) -> None:
    """Refuses parts of another training than `training/config.json` says.

    Raises:
        UserError: the message names both files.
    """
    begun = _identity(content)
    marks = [Mark(training / run_folder.CONFIG, identify(begun))]
    for entry, job in jobs.items():
        marks.append(
            Mark(entry / store.JOB, identify({name: job.identity.get(name) for name in begun}))
        )
    check_marks("trainings", marks, "put back the file that was replaced")


def collect_run(
    folder: Path,
    finish: Callable[[Path, TrainingRun, str], None] | None = None,
    run: TrainingRun | None = None,
) -> None:
    """Makes `config.json`, `metrics.nc`, `checkpoint/` and `log.jsonl` of a trained `training/`.

    Cut short, it can be done again.

    Args:
        folder: the run folder.
        finish: writes what else the run is to have.
        run: the results, where they are in memory; None: read from `training/`.

    Raises:
        UserError: there is nothing to collect, parts are missing or not trained to their end, or
            it is a study of noise, whose further files `finish` has to write.
    """
    with claim(folder, "collect", lambda: _check_begun(folder)):
        training = folder / run_folder.TRAINING
        content = run_folder.read_json(training, run_folder.CONFIG, "train", ("wall_seconds",))
        if finish is None and "noise" in content:
            raise UserError(
                f"{folder} holds a study of noise cut short: continue with `seedmap noise "
                f"{content['experiment']}`, its flags and --resume"
            )
        jobs = store.read_jobs(training)
        _check_begun_alike(training, content, jobs)
        run = collect(training) if run is None else run
        _write_run(folder, content, jobs, run, finish)


def _check_begun(folder: Path) -> None:
    """Raises UserError where there is no training in a folder."""
    settled(folder)
    if not (folder / run_folder.TRAINING).is_dir():
        done = (folder / run_folder.METRICS).is_file()
        reason = f"it is collected; next: seedmap fit {folder}" if done else "see `seedmap train`"
        raise UserError(f"{folder} holds no training to collect: {reason}")


def _write_run(
    folder: Path,
    content: dict[str, Any],
    jobs: Mapping[Path, store.Job],
    run: TrainingRun,
    finish: Callable[[Path, TrainingRun, str], None] | None,
) -> None:
    """Replaces what is in the folder by the run, of which `content` is the `config.json`."""
    trained = list(jobs.values())
    content["seeds_at_once"] = trained[0].seeds_at_once
    content["device"] |= {
        "processes": len(trained),
        "devices_used": sum(j.num_devices for j in trained),
    }
    content["wall_seconds"] = {"compile": run.compile_seconds, "train": run.train_seconds}
    dataset = run.dataset.assign(
        diverged=("seed", run.diverged, {"long_name": "step at which a seed diverged, else -1"})
    )
    content, dataset = ids.stamped(content, dataset)
    training_id = content[ids.TRAINING]
    with session.collected(folder, "collect") as draft:
        run_folder.save_params(draft, run.params, training_id)
        run_folder.write_dataset(draft, dataset)
        log = b"".join((entry / store.LOG).read_bytes() for entry in jobs)
        files.write_bytes(draft / run_folder.LOG, log)
        files.write_json(draft / run_folder.CONFIG, content)
        if finish is not None:
            finish(draft, run, training_id)
