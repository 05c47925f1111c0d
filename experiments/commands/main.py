"""The `seedmap` command: a thin shell around the functions of `experiments.runs.fit_and_map`."""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import tyro

from seedmap.errors import UserError
from seedmap.experiments import EXPERIMENTS
from seedmap.experiments.commands.compare import compare_command
from seedmap.experiments.commands.experiment_flags import (
    Config,
    Flat,
    TrainOptions,
    folder_of,
    parse_experiment,
)
from seedmap.experiments.commands.import_runs import import_command
from seedmap.experiments.commands.parsing import UsageError, parse
from seedmap.experiments.processes.compile_cache import keep_compiled_programs
from seedmap.experiments.report.progress import fit_bar, group_bar, training_bar
from seedmap.experiments.tasks.base import Experiment, FitConfig, MapConfig

_FORMAT = warnings.formatwarning

USAGE = """\
usage: seedmap COMMAND ...

Train many seeds at once, record their weights, fit an HMM, see how randomness shows.

commands:
  run EXPERIMENT     train, fit, map and report in one go
  train EXPERIMENT   train all seeds and record their metrics
  import KIND        make a run of checkpoints or metrics that were recorded elsewhere
  collect DIR        put together what several processes have trained
  fit PATH           fit the HMM sweep to a run's metrics, or to CSV files, and decode every run
  map DIR            build the training map of a fitted run: summary.json
  report DIR         draw the figures and write report.html
  baselines DIR      the regression beside k-means, HMMs on fewer metrics, and early checkpoints
  noise EXPERIMENT   what each source of randomness does: initialisation, order, rounding, ...
  noise compare      studies of noise trained in separate processes, replica by replica
  noise backend      one replica under other flags, threads and batching, a process for each
  compare RUN RUN    what several runs found, side by side, and one HMM for all of them
  forecast DIR       forecast seeds that have not converged by --upto, each without itself
  overhead           time training steps: what determinism, precision and many seeds cost

experiments:
{experiments}

`seedmap COMMAND --help` and `seedmap run EXPERIMENT --help` list every flag with its default.
"""


@dataclass(frozen=True, kw_only=True)
class RunOptions(TrainOptions[Config]):
    """Options of `seedmap run`."""

    fit: Flat[FitConfig]
    map: Flat[MapConfig]


@dataclass(frozen=True)
class FolderOptions:
    """Options of a step on a run folder."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Run folder, as `seedmap train` makes it."""


@dataclass(frozen=True)
class FitOptions:
    """Options of `seedmap fit`."""

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Run folder, or folder of CSV files: a file a run, with a column step or epoch."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Run folder to write; by default the run folder given. Needed for CSV files."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace the run that stands in the folder."""
    threshold: float = 0.9
    """For CSV files: evaluation accuracy above which a run has converged."""
    fit: Flat[FitConfig] = field(default_factory=FitConfig)


@dataclass(frozen=True)
class MapOptions(FolderOptions):
    """Options of `seedmap map`."""

    map: Flat[MapConfig] = field(default_factory=MapConfig)


@dataclass(frozen=True)
class ForecastOptions(FolderOptions):
    """Options of `seedmap forecast`."""

    upto: float
    """Forecast from the records up to this time (epochs, or steps where there are no epochs)."""
    skill: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also measure, over the run's seeds, what such forecasts are worth: figures/forecast.png."""


def _train(
    experiment: Experiment,
    options: TrainOptions,
    folder: Path,
    threshold: float,
    check: Callable[[int], None] | None = None,
) -> bool:
    """Trains; returns whether the run is complete."""
    session = options.session
    if session.resume and options.place.out is None:
        raise UsageError("--resume needs --out: name the run folder to go on with")
    given = [session.coordinator, session.num_processes, session.process_id]
    if not session.distributed and any(value is not None for value in given):
        raise UsageError("--coordinator, --num-processes and --process-id go with --distributed")
    if session.distributed:
        from seedmap.experiments.runs.hosts import join

        join(session.coordinator, session.num_processes, session.process_id)
    from seedmap.experiments.runs.tensorboard import tensorboard_writer
    from seedmap.experiments.runs.train import train_run

    try:
        with training_bar() as show, tensorboard_writer(session.tensorboard) as write:

            def on_progress(progress):
                show(progress)
                write(progress)

            return train_run(
                experiment,
                options.training,
                folder,
                threshold,
                overwrite=options.place.overwrite,
                resume=session.resume,
                save_seconds=session.save_seconds,
                on_progress=on_progress,
                check=check,
            )
    except KeyboardInterrupt:
        from seedmap.experiments.runs.folder import can_resume

        if can_resume(folder):
            raise KeyboardInterrupt(f"; go on with --resume --out {folder}") from None
        raise


def _fit(folder: Path, config: FitConfig) -> None:
    from seedmap.experiments.runs.fit_and_map import fit_run

    with fit_bar() as callback:
        fit_run(folder, config, callback)


def run_command(argv: Sequence[str]) -> None:
    """`seedmap run EXPERIMENT`: every step, then a short table."""
    experiment, options = parse_experiment(RunOptions, "run", argv, ("training", "fit", "map"))
    from seedmap.experiments.report.run_text import summary_text
    from seedmap.experiments.runs.fit_and_map import map_run, report_run
    from seedmap.experiments.runs.settings import check_run, check_states

    check_run(options.training, options.fit, options.map)  # before the long part
    if options.session.distributed:
        raise UsageError("--distributed goes with `seedmap train`; collect, fit and map come after")
    folder = folder_of(experiment, options.place)

    def check(num_train: int) -> None:
        check_states(options.training, options.fit, num_train)

    _train(experiment, options, folder, options.map.threshold, check)
    _fit(folder, options.fit)
    summary = map_run(folder, options.map)
    report = report_run(folder)
    print(summary_text(summary))
    print(f"Report: {report}")


def train_command(argv: Sequence[str]) -> None:
    """`seedmap train EXPERIMENT`."""
    experiment, options = parse_experiment(TrainOptions, "train", argv)
    folder = folder_of(experiment, options.place)
    threshold = experiment.presets[options.place.preset].map.threshold
    complete = _train(experiment, options, folder, threshold)
    print(f"Trained: {folder}. Next: seedmap {'fit' if complete else 'collect'} {folder}")


def collect_command(argv: Sequence[str]) -> None:
    """`seedmap collect DIR`."""
    options = parse(FolderOptions, "collect", argv)
    from seedmap.experiments.runs.train import collect_run

    collect_run(options.folder)
    print(f"Collected: {options.folder}. Next: seedmap fit {options.folder}")


def fit_command(argv: Sequence[str]) -> None:
    """`seedmap fit PATH`."""
    options = parse(FitOptions, "fit", argv)
    from seedmap.experiments.runs.settings import check_threshold, sweep_config

    sweep_config(options.fit)  # refuse wrong settings before a folder is made
    check_threshold(options.threshold)
    folder = _fit_folder(options)
    _fit(folder, options.fit)
    print(f"Fitted: {folder}. Next: seedmap map {folder}")


def _fit_folder(options: FitOptions) -> Path:
    """The run folder to fit; made here if the path is not one, or if another is asked for."""
    from seedmap.experiments.runs.folder import METRICS
    from seedmap.experiments.runs.import_metrics import copy_run, import_csv

    is_run = (options.path / METRICS).is_file()
    if is_run and options.out is None:
        return options.path
    if is_run:
        copy_run(options.path, options.out, options.overwrite)
    else:
        _check_csv_folder(options)
        metrics = options.fit.metrics
        import_csv(options.path, options.out, metrics, options.threshold, options.overwrite)
    return options.out


def _check_csv_folder(options: FitOptions) -> None:
    from seedmap.experiments.runs.folder import can_resume

    if not options.path.is_dir():
        raise UsageError(f"{options.path} is not a folder; name a run folder or one of CSV files")
    if can_resume(options.path):
        raise UsageError(
            f"{options.path} is not complete; go on with the command that began it and --resume, "
            "or `seedmap collect` what several processes have trained"
        )
    if not any(options.path.glob("*.[cC][sS][vV]")):
        raise UsageError(
            f"{options.path} has neither metrics.nc nor CSV files; make a run with `seedmap train`"
        )
    if options.out is None:
        raise UsageError(f"{options.path} holds CSV files; name a run folder to write with --out")


def map_command(argv: Sequence[str]) -> None:
    """`seedmap map DIR`."""
    options = parse(MapOptions, "map", argv)
    from seedmap.experiments.report.run_text import summary_text
    from seedmap.experiments.runs.fit_and_map import map_run

    print(summary_text(map_run(options.folder, options.map)))
    print(f"Next: seedmap report {options.folder}")


def report_command(argv: Sequence[str]) -> None:
    """`seedmap report DIR`."""
    options = parse(FolderOptions, "report", argv)
    from seedmap.experiments.runs.fit_and_map import report_run

    print(f"Report: {report_run(options.folder)}")


def forecast_command(argv: Sequence[str]) -> None:
    """`seedmap forecast DIR --upto TIME`."""
    options = parse(ForecastOptions, "forecast", argv)
    from seedmap.experiments.report.run_text import forecasts
    from seedmap.experiments.runs.folder import FORECAST
    from seedmap.experiments.runs.forecast import forecast_run, skill_run

    with group_bar() as callback:
        rows = forecast_run(options.folder, options.upto, callback)
    print(forecasts(rows))
    print(f"Written: {options.folder / FORECAST}")
    if options.skill:
        print(f"Skill: {skill_run(options.folder)}")


def baselines_command(argv: Sequence[str]) -> None:
    """`seedmap baselines DIR`."""
    options = parse(FolderOptions, "baselines", argv)
    from seedmap.experiments.report.run_text import baselines
    from seedmap.experiments.runs.baselines import baselines_run
    from seedmap.experiments.runs.folder import BASELINES

    print(baselines(baselines_run(options.folder)))
    print(f"Written: {options.folder / BASELINES}. Next: seedmap report {options.folder}")


def noise_command(argv: Sequence[str]) -> None:
    """`seedmap noise ...`."""
    from seedmap.experiments.commands import (
        noise as command,  # with SciPy's statistics, which the others do not need
    )

    command.noise_command(argv)


def overhead_command(argv: Sequence[str]) -> None:
    """`seedmap overhead`."""
    from seedmap.experiments.commands import overhead as command  # as above

    command.overhead_command(argv)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "run": run_command,
    "train": train_command,
    "import": import_command,
    "collect": collect_command,
    "fit": fit_command,
    "map": map_command,
    "report": report_command,
    "forecast": forecast_command,
    "baselines": baselines_command,
    "compare": compare_command,
    "noise": noise_command,
    "overhead": overhead_command,
}


def _plain(message, category, filename, lineno, line=None) -> str:
    """A warning as one line, without the place in the code that gave it."""
    if issubclass(category, UserWarning):
        return f"seedmap: warning: {message}\n"
    return _FORMAT(message, category, filename, lineno, line)


def guarded(command: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    """Runs a command; exits with 2 and one line on wrong input, with 130 and one on Ctrl-C."""
    try:
        warnings.formatwarning = _plain
        command(argv)
    except UserError as error:
        print(f"seedmap: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"seedmap: cannot write or read {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print(f"seedmap: stopped{stop}", file=sys.stderr, flush=True)
        os._exit(130)  # a thread that still compiles would crash the interpreter's own exit
    finally:
        warnings.formatwarning = _FORMAT


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 2 and one line on wrong input."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["--version"]:
        print(f"seedmap {version('seedmap')}")
        sys.exit(0)
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<18} {e.description}" for name, e in EXPERIMENTS.items())
        print(USAGE.format(experiments=lines), end="")
        sys.exit(0 if argv else 2)
    guarded(_command, argv)


def _command(argv: Sequence[str]) -> None:
    if argv[0] not in COMMANDS:
        raise UsageError(f"unknown command {argv[0]!r}; commands are: {', '.join(COMMANDS)}")
    keep_compiled_programs()
    COMMANDS[argv[0]](argv[1:])
