"""`seedmap noise EXPERIMENT`: effects of each source of randomness on training."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic

import tyro

from seedmap.experiments.commands.experiment_flags import (
    Config,
    Flat,
    Output,
    folder_of,
    parse_experiment,
)
from seedmap.experiments.commands.parsing import UsageError
from seedmap.experiments.noise.folder import Prepared, prepare, record_names, train_study, trial
from seedmap.experiments.noise.study import NoiseConfig, check_noise
from seedmap.experiments.runs.folder import METRICS, TRAINING, can_resume
from seedmap.experiments.tasks.base import Experiment, TrainingConfig
from seedmap.text import duration
from seedmap.timings import timed

_REFUSED = {
    "seeds": "--replicas sets the number for each variant",
    "vary": "--sources sets what varies",
}


@dataclass(frozen=True)
class NoiseSession:
    """Saving and resuming, which do not change the results, and the map to read replicas with."""

    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Continue the study in --out from its last save point, to the bit; begin it if there is
    none."""
    save_seconds: float = 60.0
    """Seconds between two save points."""
    map: str = "own"
    """Training map to decode the replicas with: a run folder of the same experiment, own to fit a
    map to the replicas, or none."""


@dataclass(frozen=True, kw_only=True)
class NoiseOptions(Generic[Config]):
    """Options of `seedmap noise EXPERIMENT`."""

    output: Flat[Output]
    session: Flat[NoiseSession] = field(default_factory=NoiseSession)
    noise: Flat[NoiseConfig] = field(default_factory=NoiseConfig)
    training: Flat[Config]


def noise_command(argv: Sequence[str]) -> None:
    """Runs `seedmap noise EXPERIMENT`."""
    # A preset's number of seeds side by side is for its number of seeds, not for a study's.
    experiment, options = parse_experiment(NoiseOptions, "noise", argv, seeds_at_once=None)
    check_noise(options.noise)
    check_flags(experiment, options.output, options.training)
    _check_map(experiment, options.session.map, options.output)
    run(experiment, options)


def check_flags(experiment: Experiment, output: Output, config: TrainingConfig) -> None:
    """Refuses flags of `seedmap run` that a study answers otherwise."""
    default = experiment.presets[output.preset].training
    for name, instead in _REFUSED.items():
        if getattr(config, name) != getattr(default, name):
            raise UsageError(f"--{name} is a flag of `seedmap run`; in a study {instead}")


def _check_map(experiment: Experiment, map_from: str, output: Output) -> None:
    """Refuses a map that the replicas could not be read with, before they are trained."""
    from seedmap.experiments.noise.map_paths import read_map
    from seedmap.experiments.runs.folder import SUMMARY

    if map_from in ("own", "none"):
        return
    if not (Path(map_from) / SUMMARY).is_file():
        raise UsageError(
            f"--map: {map_from} is no run folder with a training map; name one, or own, or none"
        )
    read_map(experiment.name, Path(map_from))
    out = output.out and Path(output.out).resolve()
    if output.overwrite and out in [Path(map_from).resolve(), *Path(map_from).resolve().parents]:
        raise UsageError(f"--map: --overwrite would delete {map_from}; choose another --out")


def run(experiment: Experiment, options: NoiseOptions) -> None:
    """Trains the study, measures it, draws the report and prints the short table."""
    from seedmap.experiments.runs.session import claimed
    from seedmap.experiments.runs.settings import check_saving

    output, session = options.output, options.session
    check_saving(session.save_seconds)
    if session.resume and output.out is None:
        raise UsageError("--resume needs --out: name the folder to continue")
    folder = folder_of(experiment, output)
    with claimed(folder, "noise", output.overwrite or session.resume):
        try:
            _train(experiment, options, folder)
        except KeyboardInterrupt:
            if not can_resume(folder):
                raise
            raise KeyboardInterrupt(f"; continue with --resume --out {folder}") from None
        _measure(experiment, options, folder)


def _train(experiment: Experiment, options: NoiseOptions, folder: Path) -> None:
    """Trains the study in its folder, after saying what that takes."""
    from seedmap.experiments.noise.map_paths import check_metrics, read_map
    from seedmap.experiments.report.progress import training_bar

    output, session, noise = options.output, options.session, options.noise
    prepared = prepare(experiment, options.training, noise)
    if session.map not in ("own", "none"):
        run_of_map = Path(session.map)
        check_metrics(run_of_map, read_map(experiment.name, run_of_map)[1], record_names(prepared))
    trained = (folder / METRICS).exists() and not (folder / TRAINING).exists()
    if not (session.resume and trained):
        group = trial(prepared)  # a resumed study keeps its number side by side
        print(cost(prepared, group.seconds), file=sys.stderr)
        config = replace(prepared.config, seeds_at_once=group.seeds_at_once)
        prepared = prepared._replace(config=config)
    with timed("train"), training_bar() as show:
        train_study(
            prepared,
            settings(noise),
            folder,
            experiment.presets[output.preset].map.threshold,
            overwrite=output.overwrite,
            resume=session.resume,
            save_seconds=session.save_seconds,
            on_progress=show,
        )


def _measure(experiment: Experiment, options: NoiseOptions, folder: Path) -> None:
    """Measures the study and draws its report."""
    from seedmap.experiments.noise.report.page import terminal
    from seedmap.experiments.noise.steps import measure_study, report_study
    from seedmap.experiments.report.progress import fit_bar

    preset = experiment.presets[options.output.preset]
    with timed("measures"), fit_bar() as callback:
        summary = measure_study(folder, options.session.map, preset.fit, preset.map, callback)
    print(terminal(summary))
    with timed("figures"):
        page = report_study(folder)
    print(f"Report: {page}")


def settings(noise: NoiseConfig) -> dict[str, Any]:
    """Returns the study's part of `config.json`, the sources asked for as a list."""
    from seedmap.experiments.noise.variants import parse_sources

    return {
        "asked": list(parse_sources(noise.sources)),
        **({} if noise.roots == 1 else {"roots": noise.roots}),
        "replicas": noise.num_replicas,
        "ulp_step": noise.ulp_step,
        "fork_steps": list(noise.fork_steps),
        **({"commit_steps": list(noise.commit_steps)} if noise.commit_steps else {}),
    }


def cost(prepared: Prepared, seconds: float) -> str:
    """Estimates the training time, in one line, without evaluation and measures.

    Args:
        prepared: the study.
        seconds: of a training step of one replica.
    """
    replicas, steps = prepared.config.seeds, prepared.steps
    total = seconds * replicas * steps
    count, roots = len(prepared.variants), prepared.roots
    around = f" around each of {roots} roots" if roots > 1 else ""
    return (
        f"{count} variant{'s' * (count > 1)}{around}, {replicas} replicas in all x {steps} steps x "
        f"{1000 * seconds:.3g} ms a step = {duration(total)} of training, without records"
    )
