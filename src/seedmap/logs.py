"""Runs from the logs of trackers and loops; the keyword arguments are those of `from_frame`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seedmap.hmm.readers.kinds.mlflow import mlflow_logs
from seedmap.hmm.readers.kinds.wandb import wandb_logs
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.long import long_table
from seedmap.hmm.readers.read import asked_of, read_metrics, runs_from
from seedmap.runs import Runs, runs_of_table


def read(path: str | os.PathLike[str], *, kind: str | None = None, **columns: Any) -> Runs:
    """Returns the runs of log files, whatever wrote them (`seedmap import --help` lists kinds).

    Args:
        path: a file with all runs, or a folder with a file or a folder for each. For a run folder
            of seedmap's there is `load`.
        kind: how to read it, such as "csv" or "tensorboard". Default: what it looks like.
        **columns: run, step, metrics, columns, converged, threshold and every, as of `from_frame`.

    Returns:
        The runs with at least 2 usable records. A metric that is empty somewhere was not logged
        there; where a NaN or an infinity is written and no number follows, the run has diverged.

    Raises:
        UserError: there is nothing to read, or a file cannot be understood.

    Example:
        runs = read("logs", metrics=["train/loss", "grad_norm"], converged="val/acc > 0.9")
    """
    interval = columns.pop("every", None)
    return runs_of_table(read_metrics(Path(path), kind=kind, interval=interval, **columns))


def from_tensorboard(folder: str | os.PathLike[str], **columns: Any) -> Runs:
    """Returns the runs of a folder of TensorBoard's event files: a folder each.

    Every scalar is read, however many there are. Needs tensorboard, of the extra `trackers`.

    Args:
        folder: where the folders of the runs are.
        **columns: as of `read`.

    Raises:
        UserError: as `read`, or tensorboard is not installed.
    """
    return read(folder, kind="tensorboard", **columns)


def from_wandb(runs: Iterable[Any], **columns: Any) -> Runs:
    """Returns the runs of Weights & Biases, with every record that was logged.

    Args:
        runs: such as `wandb.Api().runs("entity/project")`: objects with `name`, `id` and
            `scan_history()`.
        **columns: as of `from_frame`, but run.

    Raises:
        UserError: as `from_frame`, or an object is no such run.

    Example:
        runs = from_wandb(wandb.Api().runs("me/parity"), metrics=["loss", "weights/l2"])
    """
    return _of_logs(wandb_logs(runs), columns)


def from_mlflow(runs: Iterable[Any], client: Any = None, **columns: Any) -> Runs:
    """Returns the runs of an MLflow tracking store, with every record that was logged.

    Args:
        runs: such as `mlflow.search_runs(["42"], output_format="list")`.
        client: an `mlflow.MlflowClient`. Default: that of the tracking URI that is set.
        **columns: as of `from_frame`, but run.

    Raises:
        UserError: as `from_frame`, or an object is no run of MLflow's.

    Example:
        runs = from_mlflow(mlflow.search_runs(["42"], output_format="list"), metrics=["loss"])
    """
    if client is None:
        from mlflow import MlflowClient

        client = MlflowClient()
    return _of_logs(mlflow_logs(runs, client), columns)


def _of_logs(logs: list[Log], columns: dict[str, Any]) -> Runs:
    interval, threshold = columns.pop("every", None), columns.pop("threshold", None)
    asked = asked_of(**columns)
    table = long_table(logs, asked)
    return runs_of_table(
        runs_from(table, asked.metrics, interval, columns.get("converged"), threshold)
    )
