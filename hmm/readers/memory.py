"""Runs from what is in memory: pandas frames, xarray datasets, arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Real

from seedmap import limits
from seedmap.errors import UserError, printable
from seedmap.hmm.readers.kinds.tables import with_index
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.long import LongTable, long_frame, long_table, with_divergence
from seedmap.hmm.readers.names import RUN_NAMES, first_of, listed, our_name
from seedmap.hmm.readers.read import asked_of, criterion_of, runs_from
from seedmap.hmm.readers.run_table import RunTable, run_table


def from_pandas(
    data: Any,
    metrics: Sequence[str] | None = None,
    run: str | None = None,
    step: str | None = None,
    columns: Mapping[str, str] | None = None,
    interval: float | None = None,
    converged: str | None = None,
    threshold: float | None = None,
) -> RunTable:
    """Takes runs from one pandas frame, or from a frame for each run.

    Columns are understood as in `read_metrics`; named index levels count as columns, and names
    that are no text are read as theirs (0 as "0"). NaN is a missing value, as pandas means it.

    Args:
        data: a frame with a row for each record of each run, or a mapping from run name to the
            frame of that run. Runs keep the order in which they first appear.
        metrics: columns the HMM is to see. Default: those of `PAPER_METRICS` that all runs have.
        run: the column of a single frame that tells its runs apart. Default: "run", "seed" or like.
        step: the column that orders the records. Default: "step", "epoch" or like.
        columns: our name -> theirs, for columns that are called otherwise in the frame.
        interval: take one record every so many steps. Default: all.
        converged: when a run has converged, such as "train_loss < 1.6".
        threshold: the same by the accuracy on examples not trained on. Default: 0.9.

    Returns:
        The runs at the union of their steps, cut where they diverged; see `RunTable`.

    Raises:
        UserError: a column is missing or not numeric, or two rows of one step contradict.

    Warns:
        UserWarning: as `run_table`.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"seed": [0, 0, 1, 1], "step": [1, 2, 1, 2], "l2": range(4)})
        >>> from_pandas(frame).sequences.values[:, :, 0].tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    wanted = asked_of(metrics, columns, run, step, converged)
    asked = replace(wanted, metrics=None, also=(*wanted.also, *(wanted.metrics or ())))
    if isinstance(data, Mapping):
        logs = [Log(_cells(frame), f"run {name}", str(name), "row") for name, frame in data.items()]
    else:
        frame = _cells(data)
        name = first_of(RUN_NAMES, frame.columns) if asked.run is None else asked.run
        if list(frame.columns).count(name) != 1:
            raise UserError(
                f"the frame needs one column {name or 'run'!r} to tell its runs apart and has "
                f"{listed(frame.columns)}; name the right one as run, or pass a mapping of frames"
            )
        logs = [Log(frame, "the frame", None, "row")]
    table = long_table(logs, asked)
    return runs_from(table, wanted.metrics, interval, converged, threshold)


def _cells(frame: Any) -> pd.DataFrame:
    """A frame as raw cells: its index as columns, and None for what is missing among objects."""
    if not hasattr(frame, "iloc"):
        raise UserError(
            "from_pandas takes a DataFrame or a mapping from run names to DataFrames; "
            f"got {type(frame).__name__}"
        )
    cells = with_index(frame)
    columns = [_plain_missing(cells.iloc[:, i]) for i in range(cells.shape[1])]
    joined = pd.concat(columns, axis="columns") if columns else cells
    return joined.set_axis(cells.columns, axis="columns")


def _plain_missing(column: pd.Series) -> pd.Series:
    if column.dtype.kind in "biuf":
        return column
    cells = column.astype(object)
    return cells.mask(cells.isna(), None)


def from_xarray(
    dataset: Any,
    metrics: Sequence[str] | None = None,
    run_dim: str = "seed",
    step_dim: str = "step",
    converged: str | None = None,
    threshold: float | None = None,
) -> RunTable:
    """Takes runs from an xarray dataset, for instance one that `trainer.train` made.

    Every variable and coordinate with the dimension `step_dim`, and `run_dim` or no other, is a
    column, as in `read_metrics`; the rest is ignored. Runs are named by the coordinate of
    `run_dim`; a run shorter than the others ends in NaN.

    Args:
        dataset: an `xarray.Dataset`.
        metrics: variables the HMM is to see. Default: those of `PAPER_METRICS` that are there.
        run_dim: the dimension that counts runs.
        step_dim: the dimension that counts records; its coordinate gives the steps.
        converged: when a run has converged, such as "train_loss < 1.6".
        threshold: the same by the accuracy on examples not trained on. Default: 0.9.

    Returns:
        The runs, cut where they diverged; see `RunTable`.

    Raises:
        UserError: a dimension or a metric is missing, or a step comes twice.

    Warns:
        UserWarning: as `run_table`.
    """
    if not hasattr(dataset, "data_vars"):
        raise UserError(f"from_xarray takes a Dataset; got {type(dataset).__name__}")
    for argument, dim in (("run_dim", run_dim), ("step_dim", step_dim)):
        if dim not in dataset.dims:
            raise UserError(
                f"the dataset has no dimension {dim!r} but {listed(dataset.dims)}; "
                f"name the right one as {argument}"
            )
    shape = (dataset.sizes[run_dim], dataset.sizes[step_dim])
    limits.check_count("the dataset", shape[0], limits.MOST_RUNS)
    columns = {
        str(name): np.broadcast_to(
            variable.transpose(*(d for d in (run_dim, step_dim) if d in variable.dims)).values,
            shape,
        )
        for name, variable in dataset.variables.items()
        if step_dim in variable.dims
        and {run_dim, step_dim}.issuperset(variable.dims)
        and name != step_dim
        and variable.dtype.kind in "biuf"
    }
    steps = np.asarray(dataset[step_dim].values, float)
    runs = list(map(str, dataset[run_dim].values))
    table = long_of_arrays(runs, step_dim, steps, columns)
    criterion = criterion_of(table, converged, threshold)
    return run_table(table, metrics, criterion, np.sort(steps))


def long_of_arrays(
    runs: Sequence[str],
    step_name: str,
    steps: Real[np.ndarray, " time"],
    columns: Mapping[str, Real[np.ndarray, "run time"]],
    ended: Bool[np.ndarray, "run time"] | None = None,
    lengths: Int[np.ndarray, " run"] | None = None,
) -> LongTable:
    """Returns the long table of runs that were recorded at the same steps.

    Args:
        runs: their names.
        step_name: what steps are counted in.
        steps: of the records.
        columns: name -> values, NaN where there is none.
        ended: where a NaN is a divergence, if it stays to the end. Default: everywhere.
        lengths: records of each run. Default: all.

    Raises:
        UserError: a step comes twice, or is no number.
    """
    order = np.argsort(steps, kind="stable")
    rising = np.asarray(steps, float)[order]
    if not np.isfinite(rising).all() or (np.diff(rising) == 0).any():
        raise UserError(f"{step_name!r} must be numbers, each once; got {listed(steps)}")
    shape = (len(runs), len(steps))
    recorded = np.ones(shape, bool)
    if lengths is not None:
        recorded = (np.arange(len(steps)) < lengths[:, None])[:, order]
    run, time = np.nonzero(recorded)
    values = pd.DataFrame(
        {our_name(name): np.asarray(of, float)[:, order][recorded] for name, of in columns.items()},
        pd.RangeIndex(len(run)),
    )
    diverged = np.ones(len(run), bool) if ended is None else ended[:, order][recorded]
    not_a_number = values.isna() & diverged[:, None]
    not_a_number = not_a_number.loc[:, not_a_number.any()]
    names = list(map(printable, runs))
    frame = long_frame(with_divergence(values, not_a_number, run), names, run, rising[time])
    return LongTable(frame, step_name, None, {name: f"run {name}" for name in names})
