"""Runs trained elsewhere, as a run folder: from then on they are treated like our own."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from seedmap import files, limits
from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder, ids, session
from seedmap.experiments.runs.dataset import CONVERGED, CONVERGENCE
from seedmap.hmm.readers.criterion import DEFAULT_ACCURACY
from seedmap.hmm.readers.memory import from_pandas
from seedmap.hmm.readers.names import plain
from seedmap.hmm.readers.read import read_metrics
from seedmap.hmm.readers.run_table import RunTable

# What a run folder's dataset calls its own.
TAKEN = ("seed", "step", "diverged", CONVERGENCE, "state_agreement", "state_by_size", "num_states")
_MOST_UP = 3  # folders above the run folder; farther off a path tells of the machine alone
OWN = (*TAKEN, "state")  # which states that came with the runs, left out without a word, are


@dataclass(frozen=True)
class ImportSettings:
    """How to read metrics; see `hmm.readers.read.read_metrics`.

    Attributes:
        metrics: columns the HMM is to see, by our names; none for those of Hu et al. 2023 that all
            runs have.
        columns: our name -> theirs.
        run: of one long table, the column that names the run.
        step: the column that orders the records.
        kind: of logs; None: what it looks like.
        every: take one record every so many steps.
        converged: when a run has converged, such as "train_loss < 1.6".
        threshold: the same by the accuracy on examples not trained on.
    """

    metrics: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None
    step: str | None = None
    kind: str | None = None
    every: float | None = None
    converged: str | None = None
    threshold: float | None = None


def to_dataset(table: RunTable) -> xr.Dataset:
    """Makes the dataset of a run folder: dimensions seed, step; NaN where nothing was recorded.

    Decoded states that came with the runs are left out. Where convergence is recorded, its exact
    times are the variable `convergence`, and what it is the attribute `converged`.

    Raises:
        UserError: the dataset has its own of a metric's name, or there are too many variables.

    Warns:
        UserWarning: names the columns left out because the dataset has its own of that name.
    """
    runs, metrics = table.sequences.runs, table.sequences.metrics
    _check_names(metrics, len(metrics) + len(table.outcomes))
    taken = [name for name in TAKEN if name in table.outcomes]
    if taken:
        warnings.warn(
            f"columns left out, a run folder has its own of the name: {', '.join(taken)}",
            stacklevel=2,
        )
    values = np.where(table.sequences.mask[:, :, None], table.sequences.values, np.nan)
    steps = np.nanmax(table.steps, axis=0)  # which all runs share
    variables = {name: values[:, :, i] for i, name in enumerate(metrics)} | table.outcomes
    coordinates: dict[str, Any] = {"seed": np.array(runs, dtype=str), "step": steps}
    if plain(table.step_name) in ("epoch", "epochs"):
        coordinates["epoch"] = ("step", steps)
        variables.pop("epoch", None)
    cut = np.array([table.cut.get(run, -1) for run in runs])
    dataset = xr.Dataset(
        {name: (("seed", "step"), array) for name, array in variables.items() if name not in OWN}
        | {"diverged": ("seed", cut)},
        coordinates,
    )
    if table.criterion is None:
        return dataset
    times = dataset.assign({CONVERGENCE: ("seed", table.convergence)})
    return times.assign_attrs({CONVERGED: str(table.criterion)})


def _check_names(metrics: Sequence[str], count: int) -> None:
    """Raises UserError for metrics that a run folder cannot have, or too many columns."""
    own = [name for name in metrics if name in OWN]
    if own:
        raise UserError(
            f"metrics: {own[0]!r} is a name of the run folder's own, for no metric; if it is one, "
            f"rename it (--columns my_{own[0]}={own[0]})"
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


def read_logs(source: Path, settings: ImportSettings, folder: Path) -> NewRun:
    """Reads logs of any kind as a run.

    Args:
        source: a file with all runs, or a folder with a file or folder for each.
        settings: how.
        folder: the run folder to be, from which the source's path is told.

    Raises:
        UserError: there is nothing to read, or a file cannot be understood.
    """
    table = read_metrics(
        source,
        list(settings.metrics) or None,
        settings.columns,
        settings.run,
        settings.step,
        settings.kind,
        settings.every,
        settings.converged,
        settings.threshold,
    )
    where = relative(source, folder)
    origin = "the records in its folder" if where == "." else f"metrics in {where}"
    return _make_run(table, source.resolve().stem, origin)


def relative(source: Path, folder: Path) -> str:
    """Returns the path of what was read, seen from the run folder; its name where that is far."""
    try:
        path = Path(os.path.relpath(source.resolve(), folder.resolve()))
    except ValueError:  # on another drive
        return source.name
    ups = sum(step == ".." for step in path.parts)
    return path.as_posix() if ups <= _MOST_UP else source.name


def import_metrics(source: Path, folder: Path, overwrite: bool = False, **settings: Any) -> None:
    """Makes a run folder from recorded metrics of any kind that `hmm.readers.kinds` know.

    Args:
        source: a file with all runs, or a folder with a file or folder for each.
        folder: the run folder to make.
        overwrite: whether a run in the folder may be replaced.
        **settings: fields of `ImportSettings`.

    Raises:
        UserError: there is nothing to read, a file cannot be understood, or the folder is taken.
    """
    if (source / run_folder.METRICS).is_file():
        raise UserError(f"{source} is a run folder already; continue with `seedmap fit {source}`")
    with session.claimed(folder, "import metrics", overwrite):
        _write_run(read_logs(source, ImportSettings(**settings), folder), folder)


def import_frame(
    frame: Any,
    folder: Path,
    overwrite: bool = False,
    name: str = "frame",
    **settings: Any,
) -> None:
    """Makes a run folder from a pandas frame, or from a frame for each run.

    Args:
        frame: a row for each record of each run, or a mapping from run name to such a frame.
        folder: the run folder to make.
        overwrite: whether a run in the folder may be replaced.
        name: what the run folder calls the experiment.
        **settings: fields of `ImportSettings`.

    Raises:
        UserError: a column is missing or not numeric, or the folder is taken.
    """
    asked = ImportSettings(**settings)
    with session.claimed(folder, "import metrics", overwrite):
        table = from_pandas(
            frame,
            list(asked.metrics) or None,
            asked.run,
            asked.step,
            asked.columns,
            asked.every,
            asked.converged,
            asked.threshold,
        )
        _write_run(_make_run(table, name, "a pandas frame"), folder)


def _make_run(table: RunTable, name: str, origin: str) -> NewRun:
    criterion = table.criterion
    config = {
        "experiment": name,
        "imported_from": origin,
        "hyperparameters": {},
        "threshold": DEFAULT_ACCURACY if criterion is None else criterion.value,
        "converged": None if criterion is None else str(criterion),
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
