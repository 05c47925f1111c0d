"""Runs trained elsewhere, as a run folder: from then on they are treated like our own."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xarray as xr

from experiments import run_folder
from hmm.readers import RunTable, read_csv_folder


def to_dataset(table: RunTable) -> xr.Dataset:
    """The dataset of a run folder: dimensions seed, step; NaN after a run's end.

    Runs whose steps are a beginning of the longest run's share its steps. Where runs were recorded
    at other steps than each other, the `step` coordinate counts checkpoints from 1.
    """
    runs, metrics = table.sequences.runs, table.sequences.metrics
    values = np.where(table.sequences.mask[:, :, None], table.sequences.values, np.nan)
    longest = table.steps[np.argmax(table.sequences.lengths)]
    shared = np.all(np.isnan(table.steps) | (table.steps == longest))
    steps = longest if shared else 1.0 + np.arange(values.shape[1])
    variables = {name: values[:, :, i] for i, name in enumerate(metrics)} | table.outcomes
    coordinates = {"seed": np.array(runs, dtype=str), "step": steps}
    if shared and table.step_name == "epoch":
        coordinates["epoch"] = ("step", steps)
    cut = np.array([table.cut.get(run, -1) for run in runs])
    return xr.Dataset(
        {name: (("seed", "step"), array) for name, array in variables.items() if name != "state"}
        | {"diverged": ("seed", cut)},
        coordinates,
    )


def import_csv(
    source: Path, folder: Path, metrics: Sequence[str], threshold: float, overwrite: bool = False
) -> None:
    """Makes a run folder from a folder of CSV files (`hmm.readers.read_csv_folder`).

    Args:
        source: folder with a CSV file for each run.
        folder: the run folder to make.
        metrics: columns the HMM is to see; none for the paper's metrics that all files have.
        threshold: evaluation accuracy of convergence, where `eval_accuracy` is a column.
        overwrite: whether a run that stands there may be replaced.

    Raises:
        ValueError: a file cannot be understood, or the folder is taken.
    """
    dataset = to_dataset(read_csv_folder(source, list(metrics) or None))
    config = {
        "experiment": source.name,
        "imported_from": "CSV files",
        "hyperparameters": {},
        "threshold": threshold,
        **run_folder.environment(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": {"compile": 0.0, "train": 0.0},
    }
    with run_folder.claimed(folder, overwrite, config):
        run_folder.clear(folder, run_folder.OWN)
        run_folder.write_json(folder / run_folder.CONFIG, config)
        run_folder.write_dataset(folder, dataset)


def copy_run(source: Path, folder: Path, overwrite: bool = False) -> None:
    """Makes a run folder with the metrics and the configuration of another, to fit it anew.

    Raises:
        ValueError: the source is not a run, or the folder is taken.
    """
    dataset = run_folder.read_dataset(source).drop_vars("state", errors="ignore")
    config = run_folder.read_json(source, run_folder.CONFIG, "train")
    if folder.resolve() == source.resolve():
        raise ValueError(f"--out: {folder} is the run itself; leave --out away to fit it in place")
    with run_folder.claimed(folder, overwrite, config):
        run_folder.clear(folder, run_folder.OWN)
        run_folder.write_json(folder / run_folder.CONFIG, config)
        run_folder.write_dataset(folder, dataset)
