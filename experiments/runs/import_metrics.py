"""Runs trained elsewhere, as a run folder: from then on they are treated like our own."""

import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from seedmap import files, limits
from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs import ids, session
from seedmap.hmm.readers.read import RunTable, from_pandas, read_csv_folder, read_metrics

TAKEN = ("seed", "step", "diverged")  # what a run folder's dataset calls its own
OWN = (*TAKEN, "state")  # which states that came with the runs, left out without a word, are


def to_dataset(table: RunTable) -> xr.Dataset:
    """Makes the dataset of a run folder: dimensions seed, step; NaN after a run's end.

    Runs whose steps are a beginning of the longest run's share its steps. Where runs were recorded
    at other steps than each other, the `step` coordinate counts checkpoints from 1. Decoded states
    that came with the runs are left out.

    Raises:
        UserError: the dataset has its own of a metric's name, NetCDF allows no such name, or there
            are too many variables.

    Warns:
        UserWarning: names the columns left out because the dataset has its own of that name, or
            because of a slash.
    """
    runs, metrics = table.sequences.runs, table.sequences.metrics
    _check_names(metrics, len(metrics) + len(table.outcomes))
    taken = [name for name in TAKEN if name in table.outcomes]
    parted = [name for name in table.outcomes if "/" in name]
    for names, reason in (
        (taken, "a run folder has its own of the name"),
        (parted, "NetCDF allows no slash in a name"),
    ):
        if names:
            warnings.warn(f"columns left out, {reason}: {', '.join(names)}", stacklevel=2)
    values = np.where(table.sequences.mask[:, :, None], table.sequences.values, np.nan)
    longest = table.steps[np.argmax(table.sequences.lengths)]
    shared = np.all(np.isnan(table.steps) | (table.steps == longest))
    steps = longest if shared else 1.0 + np.arange(values.shape[1])
    variables = {name: values[:, :, i] for i, name in enumerate(metrics)} | table.outcomes
    left_out = {*OWN, *parted}
    coordinates = {"seed": np.array(runs, dtype=str), "step": steps}
    if shared and table.step_name == "epoch":
        coordinates["epoch"] = ("step", steps)
    cut = np.array([table.cut.get(run, -1) for run in runs])
    return xr.Dataset(
        {
            name: (("seed", "step"), array)
            for name, array in variables.items()
            if name not in left_out
        }
        | {"diverged": ("seed", cut)},
        coordinates,
    )


def _check_names(metrics: Sequence[str], count: int) -> None:
    """Raises UserError for metrics that a run folder cannot have, or too many columns."""
    own = [name for name in metrics if name in OWN]
    if own:
        raise UserError(
            f"metrics: {own[0]!r} is a name of the run folder's own, for no metric; if it is one, "
            f"rename it (--columns my_{own[0]}={own[0]})"
        )
    parted = [name for name in metrics if "/" in name]
    if parted:
        raise UserError(
            f"metrics: {parted[0]!r} has a slash, which NetCDF does not allow; rename it "
            f"(--columns {parted[0].replace('/', '_')}={parted[0]})"
        )
    if count > limits.MOST_COLUMNS:
        raise UserError(f"metrics: {count} columns are over {limits.MOST_COLUMNS}; choose fewer")


class NewRun(NamedTuple):
    """A run read from elsewhere, still to be written to a folder.

    Both carry the id of the training (`runs.ids`).

    Attributes:
        config: content of `config.json`.
        dataset: metrics and outcomes of all seeds.
    """

    config: dict[str, Any]
    dataset: xr.Dataset


def read_csv_run(source: Path, metrics: Sequence[str], threshold: float) -> NewRun:
    """Reads a folder of CSV files (`hmm.readers.read.read_csv_folder`) as a run.

    Args:
        source: folder with a CSV file for each run.
        metrics: columns the HMM is to see; none for those of Hu et al. 2023
            that all files have.
        threshold: evaluation accuracy of convergence, where `eval_accuracy` is a column.

    Raises:
        UserError: a file cannot be understood.
    """
    table = read_csv_folder(source, list(metrics) or None)
    return _make_run(table, source.name, "CSV files", threshold)


def import_metrics(
    source: Path,
    folder: Path,
    metrics: Sequence[str] = (),
    threshold: float = 0.9,
    overwrite: bool = False,
    columns: Mapping[str, str] | None = None,
    run: str | None = None,
    step: str | None = None,
) -> None:
    """Makes a run folder from recorded metrics in any format of `hmm.readers.read.read_metrics`.

    Args:
        source: a file with all runs, or a folder with a file or folder for each.
        folder: the run folder to make.
        metrics: columns the HMM is to see, by our names; none for those of Hu et
            al. 2023 that all runs have.
        threshold: evaluation accuracy of convergence, where `eval_accuracy` is a column.
        overwrite: whether a run in the folder may be replaced.
        columns: our name -> theirs.
        run: of one long table, the column that names the run.
        step: the column that orders the checkpoints.

    Raises:
        UserError: there is nothing to read, a file cannot be understood, or the folder is taken.
    """
    if (source / run_folder.METRICS).is_file():
        raise UserError(f"{source} is a run folder already; continue with `seedmap fit {source}`")
    with session.claimed(folder, "import metrics", overwrite):
        table = read_metrics(source, list(metrics) or None, columns, run, step)
        origin = f"metrics in {source.name}"
        _write_run(_make_run(table, source.stem, origin, threshold), folder)


def import_frame(
    frame: Any,
    folder: Path,
    metrics: Sequence[str] = (),
    threshold: float = 0.9,
    overwrite: bool = False,
    columns: Mapping[str, str] | None = None,
    run: str = "seed",
    step: str | None = None,
    name: str = "frame",
) -> None:
    """Makes a run folder from a pandas frame, or from a frame for each run.

    Args:
        frame: a row for each checkpoint of each run, or a mapping from run name to such a frame.
        folder: the run folder to make.
        metrics: columns the HMM is to see, by our names; none for those of Hu et
            al. 2023 that all runs have.
        threshold: evaluation accuracy of convergence, where `eval_accuracy` is a column.
        overwrite: whether a run in the folder may be replaced.
        columns: our name -> theirs.
        run: the column of a single frame that names the run.
        step: the column that orders the checkpoints. Default: "step", or else "epoch".
        name: what the run folder calls the experiment.

    Raises:
        UserError: a column is missing or not numeric, or the folder is taken.
    """
    with session.claimed(folder, "import metrics", overwrite):
        table = from_pandas(frame, list(metrics) or None, run, step, columns)
        _write_run(_make_run(table, name, "a pandas frame", threshold), folder)


def _make_run(table: RunTable, name: str, origin: str, threshold: float) -> NewRun:
    config = {
        "experiment": name,
        "imported_from": origin,
        "hyperparameters": {},
        "threshold": threshold,
        **run_folder.environment(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": {"compile": 0.0, "train": 0.0},
    }
    return NewRun(*ids.stamped(config, to_dataset(table)))


def _write_run(run: NewRun, folder: Path) -> None:
    """Writes `config.json` and `metrics.nc`, in place of what is in the folder."""
    with session.collected(folder, "import metrics") as draft:
        files.write_json(draft / run_folder.CONFIG, run.config)
        run_folder.write_dataset(draft, run.dataset)
