"""What forecasts of convergence are worth on runs that had no part in learning them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from seedmap.errors import UserError
from seedmap.hmm.forecasting.causal import MINIMUM, causal_z_score
from seedmap.hmm.forecasting.forecaster import (
    FORECAST_SWEEP,
    MIN_AT_RISK,
    Forecaster,
    convergence_distribution,
    fit_forecaster,
    interval,
    median,
)
from seedmap.hmm.inference import filtered
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.sequences import Sequences

PENALTIES = 10.0 ** np.arange(-2, 7)
"""Ridge penalties tried; metrics are standardised, so the largest is the mean alone."""


@dataclass(frozen=True)
class Skill:
    """Skill 1 - MAE / MAE(mean) of a forecaster over left-out runs, and its standard error.

    Attributes:
        value: 1 is perfect, 0 no better than the mean.
        standard_error: over runs, of the ratio of two means (linearised; Cochran 1977, 6.4).
    """

    value: float
    standard_error: float


@dataclass(frozen=True)
class SkillRow:
    """Left-out forecasts made at one step.

    Attributes:
        upto: the step; nothing after it was read.
        num_runs: left-out runs that converge later and were forecast.
        mean_error: mean absolute error of forecasting the mean, in units of the steps.
        hmm: skill of `hmm.forecasting.forecaster`.
        regression: skill of ridge regression of log remaining time on the raw metrics at the step.
        median: skill of the median without looking at the run. Times are skewed and errors
            absolute, so it beats the mean; only what is above it is knowledge of the run.
        coverage: share of `num_runs` inside the HMM's interval.
        level: share that the interval is to hold.
        width: median width of the interval; infinite where it is unbounded for half of the runs.
    """

    upto: float
    num_runs: int
    mean_error: float
    hmm: Skill
    regression: Skill
    median: Skill
    coverage: float
    level: float
    width: float


def forecast_skill(
    sequences: Sequences,
    outcome: Real[np.ndarray, " run"],
    steps: Real[np.ndarray, " time"],
    upto: Sequence[float] | Real[np.ndarray, " step"],
    folds: int = 5,
    config: SweepConfig = FORECAST_SWEEP,
    seed: int = 0,
    level: float = 0.8,
    minimum: int = MINIMUM,
) -> list[SkillRow]:
    """Forecasts each run from the other folds' runs, at several steps, and by simpler means.

    At a step, only runs that converge later take part, left out or learnt from: those that have
    converged need no forecast. Runs that never converge are learnt from (by the HMM as censored;
    the mean and the regression cannot use them) and not scored. All forecasts end with training.

    Args:
        sequences: raw metrics of all runs.
        outcome: float [run], step of convergence; NaN for a run that did not converge.
        steps: [time], step of each checkpoint, increasing.
        upto: steps to forecast at; the last checkpoint not after each is the last one seen.
        folds: groups of runs, each left out in turn.
        config: sweep of the HMM.
        seed: of the folds and of the HMM.
        level: of the intervals.
        minimum: checkpoints before the first forecast.

    Returns:
        A row for each step at which at least 5 left-out runs can be forecast (from at least 5
        training runs that converge later) and the mean is not exact.

    Raises:
        UserError: as `fit_forecaster`, folds that are not between 2 and the number of runs, or a
            step before the first forecast.
    """
    outcome, steps = np.asarray(outcome, dtype=float), np.asarray(steps, dtype=float)
    indices = _last_seen(steps, np.asarray(upto, dtype=float), minimum)
    by_fold = [
        [_forecasts(split, index, level) for index in indices.tolist()]
        for split in _splits(sequences, outcome, steps, folds, config, seed, minimum)
    ]
    by_step = [np.concatenate(folds, axis=1) for folds in zip(*by_fold, strict=True)]
    rows = [_row(float(step), made, level) for step, made in zip(upto, by_step, strict=True)]
    return [row for row in rows if row is not None]


def _last_seen(steps: np.ndarray, upto: np.ndarray, minimum: int) -> np.ndarray:
    """Index of the last checkpoint not after each step, int [step]."""
    indices = np.searchsorted(steps, upto, side="right") - 1
    if (indices < minimum - 1).any():
        raise UserError(
            f"step {upto.min():g} is before the first forecast, at checkpoint {minimum}; the steps "
            f"run from {steps[0]:g} to {steps[-1]:g}"
        )
    return indices


@dataclass(frozen=True, eq=False)
class _Split:
    """One fold: what was learnt, the runs learnt from and those left out, in raw metrics."""

    forecaster: Forecaster
    train: Sequences
    train_outcome: np.ndarray  # [training run]
    left_out: Sequences
    outcome: np.ndarray  # [left-out run]


def _splits(sequences, outcome, steps, folds, config, seed, minimum) -> Iterator[_Split]:
    """Leave out each fold in turn."""
    if not 2 <= folds <= sequences.num_runs:
        raise UserError(f"folds must lie between 2 and {sequences.num_runs} runs, not {folds}")
    order = np.random.default_rng(seed).permutation(sequences.num_runs)
    for fold in range(folds):
        left_out = np.sort(order[fold::folds])
        learnt = np.setdiff1d(order, left_out)
        train = sequences.select(learnt)
        forecaster = fit_forecaster(train, outcome[learnt], steps, config, seed, minimum)
        yield _Split(
            forecaster, train, outcome[learnt], sequences.select(left_out), outcome[left_out]
        )


def _forecasts(split: _Split, index: int, level: float) -> np.ndarray:
    """Truth, the forecasts of mean, median, regression and HMM, low and high: float [7, run]."""
    forecaster, now = split.forecaster, split.forecaster.steps[index]
    later = np.flatnonzero(split.train_outcome > now)  # False for NaN
    scored = np.flatnonzero(split.outcome > now)
    if len(later) < MIN_AT_RISK or len(scored) == 0:
        return np.empty((7, 0))
    left_out = split.left_out.select(scored)
    beliefs = filtered(forecaster.parameters, causal_z_score(left_out, forecaster.minimum))
    beliefs = beliefs[:, index - forecaster.minimum + 1]
    distribution = convergence_distribution(forecaster, beliefs, index)
    remaining = ridge(
        split.train.values[later, index],
        np.log(split.train_outcome[later] - now),
        left_out.values[:, index],
    )
    forecasts = [
        np.full(len(scored), split.train_outcome[later].mean()),
        np.full(len(scored), _median(split, index)),
        now + np.exp(remaining),
        median(forecaster, distribution, index),
    ]
    ends = interval(forecaster, distribution, index, level)
    return np.stack([split.outcome[scored], *np.minimum(forecasts, forecaster.steps[-1]), *ends])


def _median(split: _Split, index: int) -> float:
    """Kaplan-Meier median of the training runs at risk; infinite where there is none."""
    steps = split.forecaster.steps
    last = steps[split.train.lengths - 1]
    times = np.where(np.isnan(split.train_outcome), last, split.train_outcome)
    at_risk = times > steps[index]
    observed = at_risk & ~np.isnan(split.train_outcome)
    from scipy import stats  # here, for it takes half a second that `import hmm` need not take

    sample = stats.CensoredData(uncensored=times[observed], right=times[at_risk & ~observed])
    survival = stats.ecdf(sample).sf
    reached = survival.probabilities <= 0.5
    return float(survival.quantiles[reached.argmax()]) if reached.any() else np.inf


def _row(upto: float, made: np.ndarray, level: float) -> SkillRow | None:
    """The row of one step from `_forecasts` of all folds; None where skill is undefined."""
    truth, *forecasts, low, high = made
    mean, median, regression, medians = np.abs(np.stack(forecasts) - truth)
    if len(truth) < MIN_AT_RISK or not mean.any():
        return None
    return SkillRow(
        upto=upto,
        num_runs=len(truth),
        mean_error=float(mean.mean()),
        hmm=skill(medians, mean),
        regression=skill(regression, mean),
        median=skill(median, mean),
        coverage=float(((low <= truth) & (truth <= high)).mean()),
        level=level,
        width=float(np.median(high - low)),
    )


def skill(errors: Real[np.ndarray, " run"], reference: Real[np.ndarray, " run"]) -> Skill:
    """Returns the skill 1 - mean(errors) / mean(reference) of absolute errors [run], n >= 2 runs.

    Its standard error is sd(errors - (1 - skill) reference) / (sqrt(n) mean(reference)).

    Example:
        >>> skill(np.array([1.0, 1.0]), np.array([2.0, 2.0]))
        Skill(value=0.5, standard_error=0.0)
    """
    ratio = errors.mean() / reference.mean()
    deviation = (errors - ratio * reference).std(ddof=1)
    error = deviation / (np.sqrt(len(errors)) * reference.mean())
    return Skill(float(1 - ratio), float(error))


def ridge(
    features: Real[np.ndarray, "run feature"],
    outcome: Real[np.ndarray, " run"],
    new: Real[np.ndarray, "new_run feature"],
) -> Float[np.ndarray, " new_run"]:
    """Predicts by ridge regression with an intercept, its penalty chosen by leave-one-out error.

    Features are standardised; one that does not vary, or is missing anywhere, has no part. With H
    the hat matrix of a penalty, the error of a left-out run is its residual / (1 - H_ii).

    Args:
        features: float [run, feature].
        outcome: float [run].
        new: float [other run, feature].

    Returns:
        Predictions for the new runs, float64 [other run].
    """
    known = ~np.isnan(np.vstack([features, new])).any(axis=0)
    features, new = features[:, known], new[:, known]
    mean, std = features.mean(axis=0), features.std(axis=0)
    scale = np.where(std > 1e-9 * np.abs(mean), std, np.inf)
    left, singular, right = np.linalg.svd((features - mean) / scale, full_matrices=False)
    centred = outcome - outcome.mean()
    shrinkage = singular**2 / (singular**2 + PENALTIES[:, None])  # [penalty, direction]
    fitted = (shrinkage * (left.T @ centred)) @ left.T
    leverage = shrinkage @ (left.T**2) + 1 / len(outcome)
    errors = (centred - fitted) / (1 - leverage)
    best = int(np.argmin((errors**2).sum(axis=1)))
    coordinates = singular / (singular**2 + PENALTIES[best]) * (left.T @ centred)
    return outcome.mean() + (new - mean) / scale @ right.T @ coordinates
