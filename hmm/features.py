"""What the training map sees of a run: principal components on a scale that all runs share.

A z-score within each run uses the whole run's mean and spread, so that its first record already
tells when the run will converge (`leak`). The scale here is that of the training runs pooled, and
is stored with the model: runs held out, new ones and unfinished ones get the same, and no record
depends on a later one.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from seedmap.errors import UserError
from seedmap.hmm.sequences import ROUNDING, Sequences

VARIANCE_KEPT = 0.97  # by the components, of the variance of the scaled metrics
_LEAST_VARIANCE = 1e-6  # of any direction, of the largest: collinear metrics have no inverse


@dataclass(frozen=True, eq=False)
class Scale:
    """The map from metrics to components, fixed by the training runs.

    Attributes:
        metrics: names of the metrics.
        mean: float64 [metric], of the training records pooled.
        std: float64 [metric], likewise; 1 where the metric is constant.
        loadings: float64 [metric, component]; components are (x - mean) / std @ loadings and have
            variance 1 over the training records.
        covariance: float64 [metric, metric], of the scaled metrics, by which missing ones are
            filled in.
    """

    metrics: tuple[str, ...]
    mean: Float[np.ndarray, " metric"]
    std: Float[np.ndarray, " metric"]
    loadings: Float[np.ndarray, "metric component"]
    covariance: Float[np.ndarray, "metric metric"]

    @property
    def num_components(self) -> int:
        """Number of components."""
        return self.loadings.shape[1]

    @property
    def constant(self) -> tuple[str, ...]:
        """Names of the metrics that are constant but for rounding, and so have no part."""
        varies = np.diagonal(self.covariance) > 0
        return tuple(name for name, of in zip(self.metrics, varies, strict=True) if not of)


@dataclass(frozen=True, eq=False)
class Features:
    """Components of several runs, padded to one length.

    Attributes:
        x: float64 [run, time, component], zeros on padding and where nothing was recorded.
        lengths: int64 [run], records of each run.
        present: bool [run, time], whether any metric was recorded; False on padding.
        imputed: bool [run, time], whether some metrics, not all, were missing and filled in.
        runs: names of the runs.
    """

    x: Float[np.ndarray, "run time component"]
    lengths: Int[np.ndarray, " run"]
    present: Bool[np.ndarray, "run time"]
    imputed: Bool[np.ndarray, "run time"]
    runs: tuple[str, ...]

    @property
    def mask(self) -> Bool[np.ndarray, "run time"]:
        """Bool [run, time]: False on padding."""
        return np.arange(self.x.shape[1]) < self.lengths[:, None]

    @property
    def num_runs(self) -> int:
        """Number of runs."""
        return len(self.lengths)


@dataclass(frozen=True)
class Leak:
    """How much the first record tells of the time of convergence, before and after scaling.

    Attributes:
        raw: leave-one-out R^2 of log time on principal components of the first records as they
            are recorded.
        scaled: the same on the first records as the map sees them, with as many components.
        num_components: how many.
        num_runs: converged runs, which the regression is over.
    """

    raw: float
    scaled: float
    num_components: int
    num_runs: int

    @property
    def excess(self) -> float:
        """What the scale gives away: scaled less raw, both clipped at 0."""
        return max(self.scaled, 0.0) - max(self.raw, 0.0)


def fit_scale(sequences: Sequences, variance_kept: float = VARIANCE_KEPT) -> Scale:
    """Returns the scale of the training runs.

    Each metric gets mean 0 and standard deviation 1 over all records pooled; of the scaled metrics
    the principal components that hold the share `variance_kept` of the variance are kept, each
    brought to variance 1. A metric that is constant but for float32's rounding has no part.

    Args:
        sequences: the training runs, metrics as recorded, NaN where missing.
        variance_kept: share of the variance, in (0, 1].

    Raises:
        UserError: every metric is constant.
    """
    values = sequences.observations()
    known = ~np.isnan(values)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0.0).sum(0) / count
    deviation = np.where(known, values - mean, 0.0)
    std = np.sqrt((deviation**2).sum(0) / count)
    constant = std <= ROUNDING * np.abs(np.where(known, values, 0.0)).max(0)
    if constant.all():
        raise UserError("every metric is constant over all runs: record others")
    std = np.where(constant, 1.0, std)
    scaled = np.where(constant, 0.0, deviation / std)
    together = np.maximum(known.T.astype(float) @ known, 1)
    covariance = (scaled.T @ scaled) / together
    variances, axes = np.linalg.eigh(covariance)
    variances, axes = variances[::-1], axes[:, ::-1]
    shares = np.cumsum(np.maximum(variances, 0)) / np.maximum(variances, 0).sum()
    size = min(int((shares < variance_kept).sum()) + 1, int((variances > 0).sum()))
    axes = axes[:, :size] * np.sign(axes[np.abs(axes).argmax(0), np.arange(len(axes))])[:size]
    loadings = axes / np.sqrt(variances[:size])
    return Scale(sequences.metrics, mean, std, loadings, covariance)


def apply_scale(scale: Scale, sequences: Sequences) -> Features:
    """Returns the components of runs: the training runs, or any others with the same metrics.

    Where some metrics of a record are missing, they get their mean given those present, under the
    pooled covariance of the training records.

    Args:
        scale: of the training runs.
        sequences: metrics as recorded, NaN where missing.

    Raises:
        UserError: the runs have other metrics.
    """
    mask = sequences.mask
    known = ~np.isnan(sequences.values) & mask[:, :, None]
    scaled = np.where(known, scale_metrics(scale, sequences).values, 0.0)
    present = known.any(2)
    imputed = present & ~known.all(2)
    scaled[imputed] = _impute(scale.covariance, scaled[imputed], known[imputed])
    x = np.where(present[:, :, None], scaled @ scale.loadings, 0.0)
    return Features(x, sequences.lengths, present, imputed, sequences.runs)


def scale_metrics(scale: Scale, sequences: Sequences) -> Sequences:
    """Returns metrics in standard deviations of the training records, NaN where missing."""
    _check_metrics(scale, sequences)
    scaled = (sequences.values - scale.mean) / scale.std
    return replace(sequences, values=np.where(sequences.mask[:, :, None], scaled, 0.0))


def _check_metrics(scale: Scale, sequences: Sequences) -> None:
    """Raises UserError if the runs have other metrics than the scale."""
    if sequences.metrics != scale.metrics:
        raise UserError(
            f"the map was fitted to {', '.join(scale.metrics)}; the runs have "
            f"{', '.join(sequences.metrics)}"
        )


def _impute(covariance, values, known) -> np.ndarray:
    """Records [n, metric] with the missing metrics at their conditional means."""
    filled = values.copy()
    patterns, pattern = np.unique(known, axis=0, return_inverse=True)
    for index, observed in enumerate(patterns):
        rows = pattern.reshape(-1) == index
        block = covariance[np.ix_(observed, observed)]
        inverse = np.linalg.pinv(block, rcond=_LEAST_VARIANCE, hermitian=True)
        weights = inverse @ covariance[np.ix_(observed, ~observed)]
        filled[np.ix_(rows, ~observed)] = values[np.ix_(rows, observed)] @ weights
    return filled


def leak(
    first: Float[np.ndarray, "run component"],
    raw: Float[np.ndarray, "run metric"],
    times: Float[np.ndarray, " run"],
) -> Leak | None:
    """Returns how much of the log time of convergence the first record tells.

    Args:
        first: first records as the model sees them.
        raw: first records as recorded; as many of their principal components are taken.
        times: time of convergence, NaN for a run that has none and so no part.

    Returns:
        The two leave-one-out R^2; None with fewer converged runs than the number of components
        and 3, or where all converge at the same time.
    """
    used = np.isfinite(times) & (times > 0) & np.isfinite(raw).all(1) & np.isfinite(first).all(1)
    size = first.shape[1]
    logs = np.log(times[used])
    if used.sum() < size + 3 or np.ptp(logs) == 0:
        return None
    spread = raw[used].std(0)
    scaled = (raw[used] - raw[used].mean(0)) / np.where(spread > 0, spread, 1.0)
    left, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    components = (left * singular)[:, :size]
    return Leak(
        _left_out_r2(components, logs), _left_out_r2(first[used], logs), size, int(used.sum())
    )


def _left_out_r2(predictors: np.ndarray, outcome: np.ndarray) -> float:
    """R^2 of least squares with an intercept, each run predicted by the others."""
    design = np.column_stack([np.ones(len(outcome)), predictors])
    hat = design @ np.linalg.pinv(design, rcond=1e-10)
    left_out = (outcome - hat @ outcome) / np.maximum(1 - np.diag(hat), 1e-12)
    others = (outcome - outcome.mean()) * len(outcome) / (len(outcome) - 1)
    return float(1 - (left_out**2).sum() / (others**2).sum())
