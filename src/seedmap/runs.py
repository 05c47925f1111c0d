"""Runs: the metrics of several trained networks, and what became of each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from jaxtyping import Bool, Float, Real

from seedmap import hmm
from seedmap.errors import UserError
from seedmap.hmm.readers.memory import long_of_arrays
from seedmap.hmm.readers.run_table import RunTable, run_table
from seedmap.showing import card

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GIVEN = "given by the caller"


@dataclass(frozen=True, eq=False)
class Runs:
    """Metrics of several runs and what became of them; [run] counts those with 2 records or more.

    Attributes:
        sequences: the metrics as recorded, NaN where one is missing.
        steps: float64 [run, time], when each record was made, in `unit`; NaN on padding.
        unit: what steps are counted in, such as "step" or "epoch".
        convergence: float64 [run], time of convergence in `unit`; NaN where it never came or is
            not recorded.
        diverged: bool [run], whether the run was cut where a metric was no longer finite.
        outcomes: whatever else was recorded, name to float64 [run, time].
        criterion: what convergence is, such as "eval_accuracy > 0.9"; None where it is not
            recorded.
    """

    sequences: hmm.Sequences
    steps: Float[np.ndarray, "run time"]
    unit: str
    convergence: Float[np.ndarray, " run"]
    diverged: Bool[np.ndarray, " run"]
    outcomes: Mapping[str, Float[np.ndarray, "run time"]]
    criterion: str | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return self.sequences.metrics

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the runs."""
        return self.sequences.runs

    def __len__(self) -> int:
        return self.sequences.num_runs

    def __repr__(self) -> str:
        records, converged = self.sequences.values.shape[1], ""
        if self.criterion is not None:
            converged = f", {int(np.isfinite(self.convergence).sum())} converged"
        return (
            f"Runs({len(self)} runs, up to {records} records of {len(self.metrics)} metrics"
            f"{converged})"
        )

    @overload
    def plot(self, metric: str | None = None, ax: None = None) -> "Figure": ...
    @overload
    def plot(self, metric: str, ax: "Axes") -> "Axes": ...
    def plot(self, metric: str | None = None, ax: "Axes | None" = None) -> "Figure | Axes":
        """Draws metrics over time, a line a run.

        Args:
            metric: name of a metric or outcome. Default: a panel for each metric, at most 12.
            ax: axes to draw one metric on. Default: a new figure.

        Returns:
            `ax`, or the figure.

        Raises:
            UserError: there is no such metric, or `ax` is given and `metric` is not.
        """
        from seedmap.hmm import figures

        recorded = {name: self.sequences.values[:, :, i] for i, name in enumerate(self.metrics)}
        if metric is None:
            if ax is not None:
                raise UserError(f"metric: name one to draw on ax, of {', '.join(recorded)}")
            return figures.plot_metrics(recorded, self.steps, self.unit)
        everything = {**recorded, **self.outcomes}
        if metric not in everything:
            raise UserError(f"metric: there is no {metric!r}; recorded are {', '.join(everything)}")
        return figures.plot_metric(metric, everything[metric], self.steps, self.unit, ax)

    def _repr_html_(self) -> str:
        header = ("run", "records", f"converged ({self.unit})", "diverged")
        lengths = self.sequences.lengths.tolist()
        became = (self.convergence.tolist(), ["yes" if cut else "" for cut in self.diverged])
        rows = zip(self.names, lengths, *became, strict=True)
        notes = [] if self.criterion is None else [f"converged: {self.criterion}"]
        return card(repr(self), self.plot(), notes, header, rows)

    def select(self, indices: Sequence[int]) -> "Runs":
        """Returns the runs at `indices`, in that order; a bool for each run chooses among them.

        Raises:
            UserError: an index is no whole number, or there is no run at it.
        """
        rows = np.asarray(indices)
        if rows.dtype == bool and rows.shape == (len(self),):
            rows = np.flatnonzero(rows)
        valid = rows.ndim == 1 and (rows.size == 0 or np.issubdtype(rows.dtype, np.integer))
        if not valid or (rows.size and not -len(self) <= rows.min() <= rows.max() < len(self)):
            raise UserError(f"indices must be whole numbers below {len(self)}; got {indices!r}")
        rows = rows.astype(int)
        return replace(
            self,
            sequences=self.sequences.select(rows),
            steps=self.steps[rows],
            convergence=self.convergence[rows],
            diverged=self.diverged[rows],
            outcomes={name: values[rows] for name, values in self.outcomes.items()},
        )


def from_arrays(
    values: Real[np.ndarray, "run time metric"] | Sequence[Real[np.ndarray, "_ metric"]],
    *,
    steps: Sequence[float] | Real[np.ndarray, " time"] | None = None,
    convergence: Sequence[float] | Real[np.ndarray, " run"] | None = None,
    metrics: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Runs:
    """Returns runs from arrays.

    Args:
        values: array [run, time, metric], or an array [time, metric] for each run. NaN is a
            missing value; a run that ends in NaN, or turns infinite, is cut there.
        steps: [time], when the records were made, ascending. Default: 0, 1, 2, ...
        convergence: [run], time of convergence of each run in the unit of `steps`; NaN where it
            never came. Default: not recorded.
        metrics: names of the metrics. Default: "metric_0", "metric_1", ...
        names: names of the runs. Default: "0", "1", ...

    Returns:
        The runs with at least 2 usable records.

    Raises:
        UserError: shapes that do not fit, steps that do not rise, or no run that is usable.

    Example:
        >>> import numpy as np
        >>> runs = from_arrays(np.random.default_rng(0).normal(size=(6, 20, 2)))
        >>> runs.names, runs.metrics
        (('0', '1', '2', '3', '4', '5'), ('metric_0', 'metric_1'))
    """
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise UserError(
            "values must be an array [run, time, metric] or a list of arrays [time, metric]; got "
            f"{type(values).__name__}"
        )
    arrays = [numbers("values", run) for run in values]
    shapes = [array.shape for array in arrays]
    if not arrays or any(len(shape) != 2 or 0 in shape for shape in shapes):
        raise UserError(
            "values must be an array [run, time, metric] or a list of arrays [time, metric], none "
            f"of them empty; got shapes {shapes[:3]}"
        )
    if len({width for _, width in shapes}) > 1:
        raise UserError(f"all runs need the same number of metrics; got shapes {shapes[:3]}")
    length, width = max(map(len, arrays)), arrays[0].shape[1]
    times = np.arange(length, dtype=float) if steps is None else numbers("steps", steps)
    rising = times.shape == (length,) and (np.diff(times) > 0).all()
    if not rising or not np.isfinite(times).all():
        raise UserError(f"steps must be {length} rising numbers, one per record")
    columns = [f"metric_{i}" for i in range(width)] if metrics is None else list(metrics)
    labels = [str(i) for i in range(len(arrays))] if names is None else list(map(str, names))
    for what, given in (("metrics", columns), ("names", labels)):
        if len(set(given)) < len(given):
            raise UserError(f"{what} must be different names; got {given[:20]}")
    if len(columns) != width or len(labels) != len(arrays):
        raise UserError(
            f"need {width} names of metrics and {len(arrays)} of runs; got {len(columns)} and "
            f"{len(labels)}"
        )
    reached = (
        np.full(len(arrays), np.nan) if convergence is None else np.asarray(convergence, float)
    )
    if reached.shape != (len(arrays),) or np.isinf(reached).any():
        raise UserError(f"convergence must be {len(arrays)} numbers, one per run; NaN where none")
    lengths = np.array([len(array) for array in arrays])
    padded = np.full((len(arrays), length, width), np.nan)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    recorded = dict(zip(columns, padded.transpose(2, 0, 1), strict=True))
    long = long_of_arrays(labels, "step", times, recorded, lengths=lengths)
    table = run_table(long, columns, steps=times)
    rows = [labels.index(name) for name in table.sequences.runs]
    criterion = None if convergence is None else GIVEN
    return replace(runs_of_table(table), convergence=reached[rows], criterion=criterion)


def from_frame(
    frame: Any,
    *,
    run: str | None = None,
    step: str | None = None,
    metrics: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    converged: str | None = None,
    threshold: float | None = None,
    every: float | None = None,
) -> Runs:
    """Returns runs from a pandas frame with a row for each record of each run.

    Records stand at the union of the steps of all runs; what a run did not record is missing.

    Args:
        frame: a `pandas.DataFrame`, or a mapping from run name to the frame of that run.
        run: column that tells the runs apart. Default: "run", "seed" or like.
        step: column that orders the records. Default: "step", "global_step", "epoch" or like.
        metrics: columns the HMM is to see. Default: those of the paper's 14 that are there.
        columns: our name -> the frame's, for columns that are called otherwise there.
        converged: when a run has converged: at the first record that meets it, such as
            "val_acc > 0.9" or "train_loss < 1.6". Default: by `threshold`, where an accuracy on
            examples not trained on is recorded (`eval_accuracy`, `val_acc` and the like).
        threshold: short for that accuracy above a threshold. Default: 0.9.
        every: take one record every so many steps, for runs recorded at different steps.

    Returns:
        The runs with at least 2 usable records, cut where a metric became infinite. Where nothing
        says what convergence is, none is recorded.

    Raises:
        UserError: a column is missing or not numeric, or two rows of one step contradict.

    Example:
        >>> import pandas as pd
        >>> log = {"id": [7, 7, 8, 8], "iter": [0, 9, 0, 9], "norm": [1, 2, 1, 3]}
        >>> log["val/acc"] = [0.1, 0.95, 0.1, 0.2]
        >>> runs = from_frame(pd.DataFrame(log), run="id", metrics=["norm"])
        >>> runs.names, runs.convergence, runs.criterion
        (('7', '8'), array([ 9., nan]), 'val/acc > 0.9')
    """
    return runs_of_table(
        hmm.from_pandas(frame, metrics, run, step, columns, every, converged, threshold)
    )


def from_xarray(
    dataset: Any,
    *,
    run_dim: str = "seed",
    step_dim: str = "step",
    metrics: Sequence[str] | None = None,
    converged: str | None = None,
    threshold: float | None = None,
) -> Runs:
    """Returns runs from an xarray dataset, such as `seedmap.train(...).dataset`.

    Args:
        dataset: an `xarray.Dataset` whose variables have the two dimensions.
        run_dim: dimension that counts runs; its coordinate names them.
        step_dim: dimension that counts records; its coordinate says when they were made.
        metrics: variables the HMM is to see. Default: those of the paper's 14 that are there.
        converged: as of `from_frame`.
        threshold: as of `from_frame`.

    Returns:
        The runs with at least 2 usable records, cut where a metric was no longer finite.

    Raises:
        UserError: a dimension or a metric is missing, or a step comes twice.

    Example:
        runs = from_xarray(run.dataset.swap_dims(step="epoch"), step_dim="epoch")
    """
    return runs_of_table(hmm.from_xarray(dataset, metrics, run_dim, step_dim, converged, threshold))


def numbers(name: str, values: Any) -> Float[np.ndarray, "..."]:
    """Returns values as a float64 array, masked entries as NaN.

    Args:
        name: of the argument, for the message.
        values: an array, or what NumPy makes one of.

    Raises:
        UserError: they are not real numbers.
    """
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(float), np.nan)
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"they are of type {array.dtype}")
        return array.astype(float)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{name} must be real numbers, as an array or lists: {reason}") from None


def check_is_runs(runs: Any) -> None:
    """Raises UserError unless these are `Runs`."""
    if not isinstance(runs, Runs):
        raise UserError(
            f"runs must be seedmap.Runs, not {type(runs).__name__}: make them with "
            "seedmap.from_arrays, from_frame, from_xarray, read or load"
        )


def runs_of_table(table: RunTable) -> Runs:
    """Returns the runs of a table."""
    diverged = np.array([name in table.cut for name in table.sequences.runs])
    return Runs(
        table.sequences,
        table.steps,
        table.step_name,
        table.convergence,
        diverged,
        table.outcomes,
        None if table.criterion is None else str(table.criterion),
    )
