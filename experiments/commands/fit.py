"""`seedmap fit PATH`: the HMM sweep of a run, of recorded runs, or of a folder of CSV files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from seedmap.experiments.commands.experiment_flags import Flat
from seedmap.experiments.commands.folder_options import check_is_folder, check_is_run
from seedmap.experiments.commands.parsing import UsageError, parse
from seedmap.experiments.report.progress import fit_bar
from seedmap.experiments.tasks.base import FitConfig


@dataclass(frozen=True)
class FitOptions:
    """Options of `seedmap fit`."""

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Run folder, folder that seedmap.Recorder writes, or folder of CSV files: a file a run, with a
    column step or epoch."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Run folder to write; by default the run folder given. Needed for CSV files."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace the run in --out, or the fit and map of the run given."""
    converged: Annotated[str | None, tyro.conf.arg(metavar="'COLUMN > NUMBER'")] = None
    """For recorded runs and CSV files: when a run has converged, as of `seedmap import`."""
    threshold: float | None = None
    """For these: short for an evaluation accuracy above a threshold; by default 0.9."""
    fit: Flat[FitConfig] = field(default_factory=FitConfig)


def fit_command(argv: Sequence[str]) -> None:
    """Runs `seedmap fit PATH`."""
    options = parse(FitOptions, "fit", argv)
    from seedmap.experiments.runs.fit_and_map import fit_run
    from seedmap.experiments.runs.settings import check_fit, check_threshold

    check_fit(options.fit)  # refuse wrong settings before a folder is read
    check_threshold(options.threshold)
    with _claimed(options) as folder, fit_bar() as callback:
        new = _read(options, folder)
        fit_run(folder, options.fit, callback, new)
    print(f"Fitted: {folder}. Next: seedmap map {folder}")


@contextmanager
def _claimed(options: FitOptions) -> Iterator[Path]:
    """Claims the run folder to write: PATH itself, or --out."""
    from seedmap.experiments.runs.folder import METRICS
    from seedmap.experiments.runs.session import claimed
    from seedmap.hmm.readers.kinds.recorded import is_recorded
    from seedmap.transaction import claim, settled

    settled(options.path)
    run = (options.path / METRICS).is_file()
    recorded = is_recorded(options.path)
    if not run and not recorded:
        _check_csv_folder(options)
    elif options.out is None:
        with claim(options.path, "fit", lambda: _check_replaced(options)):
            yield options.path
        return
    elif options.out.resolve() == options.path.resolve():
        raise UsageError(f"--out: {options.out} is the run itself; omit --out to fit it in place")
    with claimed(options.out, "fit", options.overwrite):
        yield options.out


def _read(options: FitOptions, folder: Path):
    """Reads the run to fit; None: it is the one that is in the folder."""
    from seedmap.experiments.runs.fit_and_map import copy_of
    from seedmap.experiments.runs.folder import METRICS
    from seedmap.experiments.runs.import_metrics import ImportSettings, read_logs
    from seedmap.hmm.readers.kinds.recorded import RECORDED, is_recorded

    recorded = is_recorded(options.path)  # read anew: runs may have gone on
    if (options.path / METRICS).is_file() and not recorded:
        _check_has_convergence(options)
        return None if folder == options.path else copy_of(options.path)
    settings = ImportSettings(
        options.fit.metrics,
        kind=RECORDED.name if recorded else "csv",
        converged=options.converged,
        threshold=options.threshold,
    )
    return read_logs(options.path, settings, folder)


def _check_has_convergence(options: FitOptions) -> None:
    """Refuses to say what convergence is of a run that says it itself."""
    if options.converged is not None:
        raise UsageError(
            f"--converged: {options.path} says what convergence is; import the logs again to change"
            " it"
        )


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
        check_is_run("fit", options.path)  # names the runs that lie in it
        raise UsageError(
            f"{options.path} has neither metrics.nc nor CSV files; make a run with `seedmap train`"
        )
    if options.out is None:
        raise UsageError(f"{options.path} holds CSV files; name a run folder to write with --out")
