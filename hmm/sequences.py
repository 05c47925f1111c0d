"""Sequences of training metrics: the input of every function of this package.

One run is one sequence of checkpoints, one checkpoint a vector of metrics. Runs may have different
lengths; they are stored in one padded array so that a compiled program sees one shape.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from seedmap.errors import UserError

FIRST_RECORDS = 1000  # of each run are what HMMs see (Hu et al. 2023)
ROUNDING = 4 * np.finfo(np.float32).eps  # a spread below this share of the level is none
MIN_RUNS = 5  # fewer leave less than one run for validation at an 80/20 split


@dataclass(frozen=True, eq=False)
class Sequences:
    """Metrics of several runs, padded to one length.

    Attributes:
        values: float64 [run, time, metric]; zeros where time >= lengths[run]; NaN = missing value.
        lengths: int64 [run], number of checkpoints of each run, at least 1.
        metrics: Names of the metrics, one a column.
        runs: Names of the runs, one a row (seeds as decimal strings, or file stems).
    """

    values: Float[np.ndarray, "run time metric"]
    lengths: Int[np.ndarray, " run"]
    metrics: tuple[str, ...]
    runs: tuple[str, ...]

    @property
    def num_runs(self) -> int:
        """Number of runs."""
        return len(self.lengths)

    @property
    def num_metrics(self) -> int:
        """Number of metrics at a checkpoint."""
        return self.values.shape[2]

    @property
    def num_observations(self) -> int:
        """Number of checkpoints over all runs, padding left out."""
        return int(self.lengths.sum())

    @property
    def mask(self) -> Bool[np.ndarray, "run time"]:
        """Bool [run, time]: True where a checkpoint was recorded, False on padding."""
        return np.arange(self.values.shape[1]) < self.lengths[:, None]

    def observations(self) -> Float[np.ndarray, "observation metric"]:
        """All checkpoints in a row, float64 [observation, metric], run by run."""
        return self.values[self.mask]

    def select(self, indices: Sequence[int] | Int[np.ndarray, " index"]) -> "Sequences":
        """The runs at `indices`, in that order, as a new `Sequences` of the same padded length."""
        indices = np.asarray(indices, int)
        runs = tuple(self.runs[i] for i in indices)
        return replace(self, values=self.values[indices], lengths=self.lengths[indices], runs=runs)


def from_arrays(
    values: Real[np.ndarray, "run time metric"] | Sequence[Any],
    lengths: Sequence[int] | Int[np.ndarray, " _run"] | None = None,
    metrics: Sequence[object] | None = None,
    runs: Sequence[object] | None = None,
) -> Sequences:
    """Builds `Sequences` from one array or from a list of arrays of unequal length.

    Args:
        values: Array [run, time, metric], or one array [time, metric] for each run.
        lengths: Number of checkpoints of each run, [run]; rows beyond are ignored. Default: all.
        metrics: Names of the metrics. Default: "metric_0", "metric_1", ...
        runs: Names of the runs. Default: "0", "1", ...

    Returns:
        The sequences, float64, with zeros on the padding.

    Raises:
        UserError: On wrong shapes, empty runs, names that are too few or not unique, or an
            infinite value.
    """
    padded, own_lengths = _pad(values)
    lengths = own_lengths if lengths is None else np.asarray(lengths, np.int64)
    num_runs, num_steps, num_metrics = padded.shape
    if lengths.shape != (num_runs,) or lengths.min() < 1 or lengths.max() > num_steps:
        raise UserError(
            f"lengths must be {num_runs} whole numbers between 1 and {num_steps}; "
            f"got {lengths.tolist()}"
        )
    metrics = _names(metrics, "metric", [f"metric_{i}" for i in range(num_metrics)])
    runs = _names(runs, "run", [str(i) for i in range(num_runs)])
    mask = np.arange(num_steps) < lengths[:, None]
    sequences = Sequences(np.where(mask[:, :, None], padded, 0.0), lengths, metrics, runs)
    _refuse_infinite(sequences)
    return sequences


def first_records(sequences: Sequences, count: int = FIRST_RECORDS) -> Sequences:
    """Returns the first `count` records of each run."""
    lengths = np.minimum(sequences.lengths, count)
    return replace(sequences, values=sequences.values[:, :count], lengths=lengths)


def _pad(values) -> tuple[np.ndarray, np.ndarray]:
    """Returns a new float64 array [run, time, metric] and the lengths [run]."""
    arrays = [np.asarray(v, np.float64) for v in values]
    if not arrays or any(a.ndim != 2 or 0 in a.shape for a in arrays):
        raise UserError(
            "values must be an array [run, time, metric] or a list of arrays [time, metric], none "
            f"of them empty; got shapes {[a.shape for a in arrays][:3]}"
        )
    if len({a.shape[1] for a in arrays}) > 1:
        raise UserError(
            "all runs must have the same metrics; got runs with "
            f"{sorted({a.shape[1] for a in arrays})} columns"
        )
    lengths = np.array([len(a) for a in arrays], np.int64)
    padded = np.zeros((len(arrays), lengths.max(), arrays[0].shape[1]))
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded, lengths


def _names(names, what: str, default: list[str]) -> tuple[str, ...]:
    """`names` as strings after checking their number and that none comes twice."""
    names = tuple(default if names is None else (str(n) for n in names))
    if len(names) != len(default) or len(set(names)) != len(names):
        raise UserError(f"need {len(default)} different {what} names, got {list(names)}")
    return names


def _refuse_infinite(sequences: Sequences) -> None:
    """Raises on the first infinite value: it is neither a number nor a missing value."""
    where = np.argwhere(np.isinf(sequences.values))
    if len(where):
        run, time, metric = where[0]
        raise UserError(
            f"run {sequences.runs[run]} diverged: {sequences.metrics[metric]} is infinite at "
            f"checkpoint {time}; pass lengths that end before it, or leave the run out"
        )


def z_score(sequences: Sequences, first: int = 1000, per: str = "run") -> Sequences:
    """Scales every metric to mean 0 and standard deviation 1: z = (x - mean) / std.

    Mean and standard deviation (population, without Bessel's correction) are taken over up to the
    first `first` checkpoints, of each run alone or of all runs pooled. A metric that is constant
    there cannot be scaled; its z-score is set to 0 for the whole run and a warning names it.

    Args:
        sequences: The raw metrics; missing values (NaN) stay missing.
        first: How many checkpoints of a run give its mean and standard deviation.
        per: "run" (Hu et al. 2023) or "pooled".

    Returns:
        The z-scores, with the same lengths and names.

    Raises:
        UserError: If `per` is neither "run" nor "pooled" or `first` is below 1.
    """
    if per not in ("run", "pooled") or first < 1:
        raise UserError(
            f"z_score needs per='run' or 'pooled' and first >= 1; got per={per!r}, first={first}"
        )
    seen = sequences.mask & (np.arange(sequences.values.shape[1]) < first)
    known = seen[:, :, None] & ~np.isnan(sequences.values)
    axes = (1,) if per == "run" else (0, 1)
    mean, std, constant = _moments(sequences.values, known, axes)
    z = np.where(constant, 0.0, (sequences.values - mean) / np.where(constant, 1.0, std))
    z = np.where(np.isnan(sequences.values), np.nan, z)
    _warn_constant(sequences, np.broadcast_to(constant[:, 0], z[:, 0].shape))
    return replace(sequences, values=np.where(sequences.mask[:, :, None], z, 0.0))


def _moments(values, known, axes):
    """Mean, standard deviation and whether constant, over `axes`, where `known`."""
    count = np.maximum(known.sum(axes, keepdims=True), 1)
    mean = np.where(known, values, 0.0).sum(axes, keepdims=True) / count
    deviation = np.where(known, values - mean, 0.0)
    std = np.sqrt((deviation**2).sum(axes, keepdims=True) / count)
    size = np.where(known, np.abs(values), 0.0).max(axes, keepdims=True)
    return mean, std, std <= ROUNDING * size


def _warn_constant(sequences: Sequences, constant: np.ndarray) -> None:
    """Names, in one warning, the metrics that are constant in some run; constant [run, metric]."""
    counts = constant.sum(0)
    if counts.any():
        named = ", ".join(
            f"{name} ({count} of {sequences.num_runs} runs)"
            for name, count in zip(sequences.metrics, counts, strict=True)
            if count
        )
        warnings.warn(f"constant metrics, z-score set to 0: {named}", stacklevel=3)


def split_runs(
    num_runs: int, validation_share: float = 0.2, seed: int = 0
) -> tuple[Int[np.ndarray, " fitted"], Int[np.ndarray, " held_out"]]:
    """Splits runs at random into training and validation runs (Hu et al. 2023: 80/20).

    Args:
        num_runs: Number of runs, at least 5.
        validation_share: Share of runs to hold out, rounded, at least one run on either side.
        seed: Seed of the split.

    Returns:
        Sorted indices of the training runs and of the validation runs, int64.

    Raises:
        UserError: With fewer than 5 runs or a share outside (0, 1).
    """
    check_num_runs(num_runs)
    if not 0 < validation_share < 1:
        raise UserError(
            f"validation share must lie between 0 and 1, for example 0.2; got {validation_share}"
        )
    num_validation = min(max(1, round(validation_share * num_runs)), num_runs - 1)
    order = np.random.default_rng(seed).permutation(num_runs)
    return np.sort(order[num_validation:]), np.sort(order[:num_validation])


def check_num_runs(num_runs: int) -> None:
    """Raises UserError with fewer than 5 runs."""
    if num_runs < MIN_RUNS:
        raise UserError(f"the HMM needs at least {MIN_RUNS} runs; got {num_runs}: train more seeds")
