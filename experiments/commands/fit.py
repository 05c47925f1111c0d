"""`seedmap fit PATH`: the HMM sweep of a run, or of a folder of CSV files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from seedmap.experiments.commands.experiment_flags import Flat
from seedmap.experiments.commands.folder_options import check_is_folder
from seedmap.experiments.commands.parsing import UsageError, parse
from seedmap.experiments.report.progress import fit_bar
from seedmap.experiments.tasks.base import FitConfig


@dataclass(frozen=True)
class FitOptions:
    """Options of `seedmap fit`."""

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Run folder, or folder of CSV files: a file a run, with a column step or epoch."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Run folder to write; by default the run folder given. Needed for CSV files."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace the run in --out, or the fit and map of the run given."""
    threshold: float = 0.9
    """For CSV files: evaluation accuracy above which a run has converged."""
    fit: Flat[FitConfig] = field(default_factory=FitConfig)


def fit_command(argv: Sequence[str]) -> None:
    """Runs `seedmap fit PATH`."""
    options = parse(FitOptions, "fit", argv)
    from seedmap.experiments.runs.fit_and_map import fit_run
    from seedmap.experiments.runs.settings import check_threshold, sweep_config

    sweep_config(options.fit)  # refuse wrong settings before a folder is made
    check_threshold(options.threshold)
    folder = _fit_folder(options)
    with fit_bar() as callback:
        fit_run(folder, options.fit, callback)
    print(f"Fitted: {folder}. Next: seedmap map {folder}")


def _fit_folder(options: FitOptions) -> Path:
    """Returns the run folder to fit; makes it if PATH is none, or if --out names another."""
    from seedmap.experiments.runs.folder import METRICS
    from seedmap.experiments.runs.import_metrics import copy_run, import_csv

    is_run = (options.path / METRICS).is_file()
    if is_run and options.out is None:
        _check_replaced(options)
        return options.path
    if is_run:
        copy_run(options.path, options.out, options.overwrite)
    else:
        _check_csv_folder(options)
        metrics = options.fit.metrics
        import_csv(options.path, options.out, metrics, options.threshold, options.overwrite)
    return options.out


def _check_replaced(options: FitOptions) -> None:
    """Refuses to replace a map without --overwrite."""
    from seedmap.experiments.runs.folder import SUMMARY

    if (options.path / SUMMARY).is_file() and not options.overwrite:
        raise UsageError(
            f"{options.path} has a training map, which a new fit makes stale; add --overwrite to "
            "replace fit and map, or --out to fit a copy"
        )


def _check_csv_folder(options: FitOptions) -> None:
    from seedmap.experiments.runs.folder import can_resume

    check_is_folder("fit", options.path)
    if can_resume(options.path):
        raise UsageError(
            f"{options.path} is not complete; continue with the command that began it and "
            "--resume, "
            "or merge several processes with `seedmap collect`"
        )
    if not any(options.path.glob("*.[cC][sS][vV]")):
        raise UsageError(
            f"{options.path} has neither metrics.nc nor CSV files; make a run with `seedmap train`"
        )
    if options.out is None:
        raise UsageError(f"{options.path} holds CSV files; name a run folder to write with --out")
