"""Readers: metrics of runs from xarray, pandas or a folder of CSV files.

Each reader brings its source into one form, columns of raw cells for each run (`make_run`), from
which `run_table` goes on alone, so that the same data give the same `RunTable` by every route.
Neither pandas nor xarray is imported: who has a frame or a dataset to pass has them.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hmm.run_table import PAPER_METRICS, Rows, Run, RunTable, listed, make_run, run_table

__all__ = ["PAPER_METRICS", "RunTable", "from_pandas", "from_xarray", "read_csv_folder"]


def read_csv_folder(folder: str | Path, metrics: Sequence[str] | None = None) -> RunTable:
    """Reads a folder of CSV files: a file a run, with a header and then a row a checkpoint.

    A file needs a column `step`, or else `epoch`, by which its rows are sorted. Columns without a
    name (pandas writes its index so) and columns of text are ignored. Empty cells, NaN, NA, null
    and None are missing values. Runs are named by file stem and ordered by it, numbers in it
    counting as numbers (seed2 before seed10). Hidden files and other formats are ignored.

    Args:
        folder: where the files are.
        metrics: columns the HMM is to see. Default: those of `PAPER_METRICS` that all files have.

    Returns:
        The runs, cut where they diverged; see `RunTable`.

    Raises:
        ValueError: there is no CSV file, or one cannot be understood; the message names the file
            and the line or column, and says how to mend it.

    Warns:
        UserWarning: names the runs left out because fewer than 2 checkpoints of them are usable,
            and the metrics of the paper left out because only some files have them.
    """
    return run_table([_read_csv(path) for path in _csv_files(Path(folder))], metrics)


def from_pandas(
    data: Any, metrics: Sequence[str] | None = None, run: str = "seed", step: str | None = None
) -> RunTable:
    """Takes runs from one pandas frame, or from a frame for each run.

    Columns are understood as in `read_csv_folder`; named index levels count as columns.

    Args:
        data: a frame with a row for each checkpoint of each run, or a mapping from run name to
            the frame of that run. Runs keep the order in which they first appear.
        metrics: columns the HMM is to see. Default: those of `PAPER_METRICS` that all runs have.
        run: the column of a single frame that tells its runs apart.
        step: the column that orders the checkpoints. Default: "step", or else "epoch".

    Returns:
        The runs, cut where they diverged; see `RunTable`.

    Raises:
        ValueError: a column is missing or not numeric, or a step comes twice in a run.

    Warns:
        UserWarning: as `read_csv_folder`.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"seed": [0, 0, 1, 1], "step": [1, 2, 1, 2], "l2": range(4)})
        >>> from_pandas(frame).sequences.values[:, :, 0].tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    frames = data.items() if isinstance(data, Mapping) else _split(data, run)
    runs = []
    for name, frame in frames:
        frame = _with_index(frame)
        cells = [frame.iloc[:, i] for i in range(frame.shape[1])]
        rows = Rows(f"run {name}", "row", range(len(frame)))
        runs.append(make_run(str(name), rows, list(map(str, frame.columns)), cells, step))
    return run_table(runs, metrics)


def from_xarray(
    dataset: Any,
    metrics: Sequence[str] | None = None,
    run_dim: str = "seed",
    step_dim: str = "step",
) -> RunTable:
    """Takes runs from an xarray dataset, for instance one that `trainer.train` made.

    Every variable and coordinate with the dimension `step_dim`, and `run_dim` or no other, is a
    column, as in `read_csv_folder`; the rest is ignored. Runs are named by the coordinate of
    `run_dim`; a run shorter than the others ends in NaN.

    Args:
        dataset: an `xarray.Dataset`.
        metrics: variables the HMM is to see. Default: those of `PAPER_METRICS` that are there.
        run_dim: the dimension that counts runs.
        step_dim: the dimension that counts checkpoints; its coordinate gives the steps.

    Returns:
        The runs, cut where they diverged; see `RunTable`.

    Raises:
        ValueError: a dimension or a metric is missing, or a step comes twice.

    Warns:
        UserWarning: as `read_csv_folder`.
    """
    if not hasattr(dataset, "data_vars"):
        raise ValueError(f"from_xarray takes a Dataset; got {type(dataset).__name__}")
    for argument, dim in (("run_dim", run_dim), ("step_dim", step_dim)):
        if dim not in dataset.dims:
            raise ValueError(
                f"the dataset has no dimension {dim!r} but {listed(dataset.dims)}; "
                f"name the right one as {argument}"
            )
    names = [
        name
        for name in dict.fromkeys([step_dim, *dataset.variables])
        if step_dim in dataset[name].dims and {run_dim, step_dim}.issuperset(dataset[name].dims)
    ]
    runs = []
    for i, run in enumerate(dataset[run_dim].values):
        part = dataset.isel({run_dim: i})
        rows = Rows(f"run {run}", "checkpoint", range(dataset.sizes[step_dim]))
        cells = [part[name].values for name in names]
        runs.append(make_run(str(run), rows, list(map(str, names)), cells, step_dim))
    return run_table(runs, metrics)


def _csv_files(folder: Path) -> list[Path]:
    """The CSV files of a folder in natural order of their names."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; name one that holds a CSV file for each run")
    paths = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".csv" and not path.name.startswith(".") and path.is_file()
    ]
    if not paths:
        raise ValueError(f"{folder} holds no file *.csv; put a CSV file for each run there")
    by_stem: dict[str, Path] = {}
    for path in paths:
        if by_stem.setdefault(path.stem, path) != path:
            both = " and ".join(sorted([by_stem[path.stem].name, path.name]))
            raise ValueError(f"{folder}: {both} would be one run's name; rename one of them")
    return sorted(paths, key=_natural)


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Sort key: digits compare as numbers, so that seed2 comes before seed10."""
    parts = re.split("([0-9]+)", path.stem)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.name


def _read_csv(path: Path) -> Run:
    lines = csv_lines(path)
    if not lines:
        raise ValueError(f"{path} is empty; write a header and a row a checkpoint, or remove it")
    (_, header), *body = lines
    other = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
    if other is not None:
        raise ValueError(f"{path}: columns are separated by {other!r}; write it with commas")
    for line, row in body:
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {line} has {len(row)} cells, expected {len(header)} as in the "
                "header; complete the line or remove it"
            )
    rows = Rows(str(path), "line", [line for line, _ in body])
    return make_run(path.stem, rows, header, list(zip(*(row for _, row in body), strict=True)))


def csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Line number (where a row ends, from 1) and cells of every row that is not blank."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            return [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason}); save it as CSV in UTF-8"
        ) from None
    except (csv.Error, OSError) as error:
        raise ValueError(f"{path} cannot be read as CSV ({error}); write it anew") from None


def _with_index(frame: Any) -> Any:
    """The frame with the named levels of its index as columns."""
    if not hasattr(frame, "iloc"):
        raise ValueError(
            "from_pandas takes a DataFrame or a mapping from run names to DataFrames; "
            f"got {type(frame).__name__}"
        )
    levels = [name for name in frame.index.names if name is not None and name not in frame.columns]
    return frame.reset_index(level=levels) if levels else frame


def _split(frame: Any, run: str) -> list[tuple[str, Any]]:
    """Name and frame of each run in a single frame, in order of appearance."""
    frame = _with_index(frame)
    if list(frame.columns).count(run) != 1:
        raise ValueError(
            f"the frame needs one column {run!r} to tell its runs apart and has "
            f"{listed(frame.columns)}; name the right one as run, or pass a mapping of frames"
        )
    if frame[run].isna().any():
        row = int(np.argmax(frame[run].isna().to_numpy()))
        raise ValueError(f"row {row} has no {run!r}; every row needs its run's name")
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(frame[run]):
        positions.setdefault(str(name), []).append(position)
    return [(name, frame.iloc[rows].drop(columns=run)) for name, rows in positions.items()]
