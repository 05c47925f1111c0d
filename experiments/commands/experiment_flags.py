"""The command line of an experiment: `EXPERIMENT --preset NAME` and its flags, preset by preset."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

import tyro

from seedmap.experiments import EXPERIMENTS, load_experiment
from seedmap.experiments.commands import COMMANDS
from seedmap.experiments.commands.parsing import UsageError, parse
from seedmap.experiments.tasks.base import Experiment, TrainingConfig

Config = TypeVar("Config", bound=TrainingConfig)
Flat = tyro.conf.OmitArgPrefixes


@dataclass(frozen=True)
class Output:
    """Preset of the defaults, and the folder to write."""

    preset: str
    """Named set of defaults for the flags below; by default the experiment's first."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Run folder to write; by default runs/EXPERIMENT-DATE-TIME."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace the run in the folder."""


@dataclass(frozen=True)
class Session:
    """Saving, resuming and processes of a training; none of it changes the results."""

    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Continue the training in --out from its last save point, to the bit; begin it if there is
    none."""
    save_seconds: float = 60.0
    """Seconds between two save points."""
    tensorboard: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Also write mean, lowest and highest value over the seeds of every metric for TensorBoard."""
    distributed: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run as one of several processes (TPU pod, Slurm, or by the flags below), each with a share of
    the seeds: start the same command on every host, then `seedmap collect`."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Address of process 0, if the cluster does not provide it."""
    num_processes: int | None = None
    """Number of processes, if the cluster does not provide it."""
    process_id: int | None = None
    """Number of this process, from 0, if the cluster does not provide it."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Generic[Config]):
    """Options of `seedmap train`."""

    output: Flat[Output]
    session: Flat[Session] = Session()
    training: Flat[Config]


def parse_experiment(
    options: type,
    command: str,
    argv: Sequence[str],
    of_preset: Sequence[str] = ("training",),
    **changed: Any,
) -> tuple[Experiment, Any]:
    """Parses `EXPERIMENT --flags`, the defaults being those of the preset that is named.

    Args:
        options: A dataclass with a field `output`, an `Output`, and a type parameter for the
            experiment's `TrainingConfig`, as `TrainOptions` is.
        command: What follows `seedmap` on the command line, for messages.
        argv: The words after that.
        of_preset: Fields of `options` whose defaults are the preset's, under the same names.
        changed: Hyperparameters whose defaults are others than the preset's.

    Returns:
        The experiment, and the options.

    Raises:
        UsageError: The experiment, the preset or a flag is unknown or lacking.
        SystemExit: With code 0, after --help.
    """
    if not argv:
        raise UsageError(f"`seedmap {command}` needs an experiment: {', '.join(EXPERIMENTS)}")
    if argv[0].startswith("-") and not {"-h", "--help"} & set(argv):
        raise UsageError(f"name the experiment first: seedmap {command} EXPERIMENT {argv[0]} ...")
    asks_help = argv[0].startswith("-")
    longer = [w.removeprefix(f"{command} ") for w in COMMANDS if w.startswith(f"{command} ")]
    experiment = load_experiment(next(iter(EXPERIMENTS)) if asks_help else argv[0], longer)
    flags = list(argv) if asks_help else list(argv[1:])
    ahead = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    ahead.add_argument("--preset", default=next(iter(experiment.presets)))
    name = ahead.parse_known_args(flags)[0].preset
    if name not in experiment.presets:
        raise UsageError(
            f"--preset {name!r} is unknown; {experiment.name} has: {', '.join(experiment.presets)}"
        )
    preset = experiment.presets[name]
    default = {field: getattr(preset, field) for field in of_preset}
    default["training"] = replace(preset.training, **changed)
    about = EXPERIMENTS[experiment.name].description
    output = get_type_hints(options)["output"]
    parsed = parse(
        options[type(preset.training)],
        f"{command} {experiment.name}",
        flags,
        description=f"{about} Presets: {', '.join(experiment.presets)}.",
        default=options(output=output(preset=name), **default),
    )
    return experiment, parsed


def folder_of(experiment: Experiment, output: Output) -> Path:
    """Returns the run folder that is named, else a new one by experiment and time."""
    if output.out is not None:
        return output.out
    return Path("runs") / f"{experiment.name}-{datetime.now():%Y%m%d-%H%M%S}"
