"""Readers: metrics of runs from xarray, pandas, or files: CSV, JSON lines, the JSON of Hu et al.

Each reader brings its source into one form, columns of raw cells for each run (`make_run`), from
which `run_table` goes on alone, so that the same data give the same `RunTable` by every route.
Neither pandas nor xarray is imported: who has a frame or a dataset to pass has them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seedmap import limits
from seedmap.errors import UserError
from seedmap.hmm.readers.paper_json import released_tables
from seedmap.hmm.readers.run_table import (
    Rows,
    RunTable,
    listed,
    make_run,
    natural,
    run_table,
)
from seedmap.hmm.readers.tables import (
    Table,
    csv_table,
    json_lines_table,
    renamed,
    several_runs,
    single_run,
)

__all__ = [
    "RunTable",
    "from_pandas",
    "from_xarray",
    "read_csv_folder",
    "read_metrics",
]

TABLES = {".csv": csv_table, ".jsonl": json_lines_table, ".ndjson": json_lines_table}


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
        UserError: there is no CSV file, or one cannot be understood; the message names the file
            and the line or column, and says how to mend it.

    Warns:
        UserWarning: names the runs left out because fewer than 2 checkpoints of them are usable,
            and the metrics of the paper left out because only some files have them.
    """
    return run_table(
        [single_run(path.stem, csv_table(path), metrics) for path in _csv_files(Path(folder))],
        metrics,
    )


def read_metrics(
    path: str | Path,
    metrics: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    run: str | None = None,
    step: str | None = None,
) -> RunTable:
    """Reads runs from files, whatever their format.

    - A file `.csv` or `.jsonl` (a JSON object a line): one long table, whose runs a column tells
      apart.
    - A folder of such files, all of one format: a file a run, named by its stem.
    - A folder with a folder for each run, of the JSON files of the code of Hu et al. 2023 (see
      `hmm.readers.paper_json`); also one of files that name their seed.

    Columns are understood as in `read_csv_folder`.

    Args:
        path: the file or folder.
        metrics: columns the HMM is to see, by our names; but for them, those of `columns`, losses
            and accuracies nothing is read then. Default: those of `PAPER_METRICS` that all runs
            have.
        columns: our name -> theirs, for columns that are called otherwise there.
        run: of one long table, the column that tells runs apart. Default: "run", or else "seed".
        step: the column that orders the checkpoints. Default: "step", or else "epoch".

    Returns:
        The runs, cut where they diverged; see `RunTable`.

    Raises:
        UserError: there is nothing to read, or a file cannot be understood; the message names the
            file and the line or column, what is expected and what was found.

    Warns:
        UserWarning: as `read_csv_folder`.
    """
    path = Path(path)
    if path.is_file():
        if path.suffix.lower() not in TABLES:
            raise UserError(f"{path} is none of {', '.join(TABLES)}; name a file of these")
        table = TABLES[path.suffix.lower()](path)
        return run_table(several_runs(table, metrics, columns, run, step), metrics)
    if run is not None:
        raise UserError(f"run: {run!r} is for one long table; {path} is not a file")
    tables = _folder_tables(path)
    runs = [single_run(*item, metrics, columns, step) for item in tables.items()]
    return run_table(runs, metrics)


def from_pandas(
    data: Any,
    metrics: Sequence[str] | None = None,
    run: str = "seed",
    step: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> RunTable:
    """Takes runs from one pandas frame, or from a frame for each run.

    Columns are understood as in `read_csv_folder`; named index levels count as columns, and names
    that are no text are read as theirs (0 as "0").

    Args:
        data: a frame with a row for each checkpoint of each run, or a mapping from run name to
            the frame of that run. Runs keep the order in which they first appear.
        metrics: columns the HMM is to see. Default: those of `PAPER_METRICS` that all runs have.
        run: the column of a single frame that tells its runs apart.
        step: the column that orders the checkpoints. Default: "step", or else "epoch".
        columns: our name -> theirs, for columns that are called otherwise in the frame.

    Returns:
        The runs, cut where they diverged; see `RunTable`.

    Raises:
        UserError: a column is missing or not numeric, or a step comes twice in a run.

    Warns:
        UserWarning: as `read_csv_folder`.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"seed": [0, 0, 1, 1], "step": [1, 2, 1, 2], "l2": range(4)})
        >>> from_pandas(frame).sequences.values[:, :, 0].tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    frames = data.items() if isinstance(data, Mapping) else _split(data, str(run))
    metrics = None if metrics is None else list(map(str, metrics))
    columns = {str(ours): str(theirs) for ours, theirs in (columns or {}).items()}
    step = None if step is None else str(step)
    runs = []
    for name, frame in frames:
        frame = _with_index(frame)
        cells = [frame.iloc[:, i] for i in range(frame.shape[1])]
        rows = Rows(f"run {name}", "row", range(len(frame)))
        header = renamed(rows.where, list(frame.columns), columns)
        runs.append(make_run(str(name), rows, header, cells, step))
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
        UserError: a dimension or a metric is missing, or a step comes twice.

    Warns:
        UserWarning: as `read_csv_folder`.
    """
    if not hasattr(dataset, "data_vars"):
        raise UserError(f"from_xarray takes a Dataset; got {type(dataset).__name__}")
    for argument, dim in (("run_dim", run_dim), ("step_dim", step_dim)):
        if dim not in dataset.dims:
            raise UserError(
                f"the dataset has no dimension {dim!r} but {listed(dataset.dims)}; "
                f"name the right one as {argument}"
            )
    limits.check_count("the dataset", dataset.sizes[run_dim], limits.MOST_RUNS)
    names = [
        name
        for name in dict.fromkeys([step_dim, *dataset.variables])
        if step_dim in dataset[name].dims and {run_dim, step_dim}.issuperset(dataset[name].dims)
    ]
    runs = []
    for i, run in enumerate(dataset[run_dim].values):
        record = dataset.isel({run_dim: i})
        rows = Rows(f"run {run}", "checkpoint", range(dataset.sizes[step_dim]))
        cells = [record[name].values for name in names]
        runs.append(make_run(str(run), rows, list(map(str, names)), cells, step_dim))
    return run_table(runs, metrics)


def _folder_tables(folder: Path) -> dict[str, Table]:
    """Name and table of each run in a folder."""
    if not folder.is_dir():
        raise UserError(f"there is no {folder}; name a file or folder of metrics")
    files = {suffix: _files(folder, suffix) for suffix in TABLES}
    released = released_tables(folder)
    kinds = [f"*{suffix}" for suffix, paths in files.items() if paths]
    kinds += ["JSON files of the code of Hu et al."] * bool(released)
    if not kinds:
        held = listed(sorted(path.name for path in folder.iterdir()))
        raise UserError(
            f"{folder} holds no metrics: expected files {', '.join(TABLES)}, or a folder for each "
            f"run with files such as epoch10.json of the code of Hu et al.; found {held}"
        )
    if len(kinds) > 1:
        raise UserError(f"{folder} holds {' and '.join(kinds)}; keep one kind there")
    if released:
        return {name: released[name] for name in sorted(released, key=natural)}
    (paths,) = filter(None, files.values())
    return {path.stem: TABLES[path.suffix.lower()](path) for path in paths}


def _csv_files(folder: Path) -> list[Path]:
    """The CSV files of a folder in natural order of their names."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name one that holds a CSV file for each run")
    paths = _files(folder, ".csv")
    if not paths:
        raise UserError(f"{folder} holds no file *.csv; put a CSV file for each run there")
    return paths


def _files(folder: Path, suffix: str) -> list[Path]:
    """The files of a format in a folder, in natural order of their names."""
    paths = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() == suffix and not path.name.startswith(".") and path.is_file()
    ]
    limits.check_count(str(folder), len(paths), limits.MOST_RUNS)
    by_stem: dict[str, Path] = {}
    for path in paths:
        if by_stem.setdefault(path.stem, path) != path:
            both = " and ".join(sorted([by_stem[path.stem].name, path.name]))
            raise UserError(f"{folder}: {both} would be one run's name; rename one of them")
    return sorted(paths, key=lambda path: natural(path.stem))


def _with_index(frame: Any) -> Any:
    """The frame with the named levels of its index as columns."""
    if not hasattr(frame, "iloc"):
        raise UserError(
            "from_pandas takes a DataFrame or a mapping from run names to DataFrames; "
            f"got {type(frame).__name__}"
        )
    levels = [name for name in frame.index.names if name is not None and name not in frame.columns]
    frame = frame.reset_index(level=levels) if levels else frame
    return frame.set_axis([str(name) for name in frame.columns], axis="columns")


def _split(frame: Any, run: str) -> list[tuple[str, Any]]:
    """Name and frame of each run in a single frame, in order of appearance."""
    frame = _with_index(frame)
    if list(frame.columns).count(run) != 1:
        raise UserError(
            f"the frame needs one column {run!r} to tell its runs apart and has "
            f"{listed(frame.columns)}; name the right one as run, or pass a mapping of frames"
        )
    if frame[run].isna().any():
        row = int(np.argmax(frame[run].isna().to_numpy()))
        raise UserError(f"row {row} has no {run!r}; every row needs its run's name")
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(frame[run]):
        positions.setdefault(str(name), []).append(position)
    limits.check_count(f"the frame, by its column {run!r},", len(positions), limits.MOST_RUNS)
    return [(name, frame.iloc[rows].drop(columns=run)) for name, rows in positions.items()]
