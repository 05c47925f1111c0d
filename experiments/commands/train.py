"""`seedmap run`, `train` and `collect`: experiments trained into run folders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from seedmap.experiments.commands.experiment_flags import (
    Config,
    Flat,
    TrainOptions,
    folder_of,
    parse_experiment,
)
from seedmap.experiments.commands.folder_options import FolderOptions
from seedmap.experiments.commands.parsing import UsageError, parse
from seedmap.experiments.report.progress import fit_bar, training_bar
from seedmap.experiments.tasks.base import Experiment, FitConfig, MapConfig


@dataclass(frozen=True, kw_only=True)
class RunOptions(TrainOptions[Config]):
    """Options of `seedmap run`."""

    fit: Flat[FitConfig]
    map: Flat[MapConfig]


def run_command(argv: Sequence[str]) -> None:
    """Runs `seedmap run EXPERIMENT`: every step, then a short table."""
    experiment, options = parse_experiment(RunOptions, "run", argv, ("training", "fit", "map"))
    from seedmap.experiments.report.run_text import summary_text
    from seedmap.experiments.runs.fit_and_map import fit_run, map_run
    from seedmap.experiments.runs.report import report_run
    from seedmap.experiments.runs.session import claimed
    from seedmap.experiments.runs.settings import check_run, check_states

    check_run(options.training, options.fit, options.map)  # before the long part
    if options.session.distributed:
        raise UsageError("--distributed goes with `seedmap train`; collect, fit and map come after")
    folder = folder_of(experiment, options.output)

    def check(num_train: int) -> None:
        check_states(options.training, options.fit, num_train)

    with claimed(folder, "run", options.output.overwrite or options.session.resume):
        _train(experiment, options, folder, options.map.threshold, check)
        with fit_bar() as callback:
            fitted = fit_run(folder, options.fit, callback)
        mapped = map_run(fitted, options.map)
        report = report_run(mapped)
        print(summary_text(mapped.summary))
        print(f"Report: {report}")


def train_command(argv: Sequence[str]) -> None:
    """Runs `seedmap train EXPERIMENT`."""
    experiment, options = parse_experiment(TrainOptions, "train", argv)
    folder = folder_of(experiment, options.output)
    threshold = experiment.presets[options.output.preset].map.threshold
    complete = _train(experiment, options, folder, threshold)
    print(f"Trained: {folder}. Next: seedmap {'fit' if complete else 'collect'} {folder}")


def collect_command(argv: Sequence[str]) -> None:
    """Runs `seedmap collect DIR`."""
    options = parse(FolderOptions, "collect", argv)
    from seedmap.experiments.checkpoints.importing import collect_import
    from seedmap.experiments.runs.folder import IMPORT, TRAINING
    from seedmap.experiments.runs.train import collect_run

    imported = (options.folder / TRAINING / IMPORT).is_file()
    (collect_import if imported else collect_run)(options.folder)
    print(f"Collected: {options.folder}. Next: seedmap fit {options.folder}")


def _train(
    experiment: Experiment,
    options: TrainOptions,
    folder: Path,
    threshold: float,
    check: Callable[[int], None] | None = None,
) -> bool:
    """Trains; returns whether the run is complete."""
    session = options.session
    if session.resume and options.output.out is None:
        raise UsageError("--resume needs --out: name the run folder to continue")
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
                overwrite=options.output.overwrite,
                resume=session.resume,
                save_seconds=session.save_seconds,
                on_progress=on_progress,
                check=check,
            )
    except KeyboardInterrupt:
        from seedmap.experiments.runs.folder import can_resume

        if can_resume(folder):
            raise KeyboardInterrupt(f"; continue with --resume --out {folder}") from None
        raise
