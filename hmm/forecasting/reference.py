"""The forecast that an HMM has to beat: by a regression on the raw metrics."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

from seedmap.hmm.forecasting.scores import outcome_weights

PENALTIES = 10.0 ** np.arange(-2, 7)
"""Ridge penalties tried; metrics are standardised, so the largest is the mean alone."""


class Ridge(NamedTuple):
    """A ridge regression.

    Attributes:
        predictions: float64 [new run].
        residuals: float64 [run], each left out.
    """

    predictions: Float[np.ndarray, " new_run"]
    residuals: Float[np.ndarray, " run"]


def by_regression(
    metrics: Real[np.ndarray, "run metric"],
    outcome: Real[np.ndarray, " run"],
    arrivals: Int[np.ndarray, " run"],
    new: Real[np.ndarray, "new_run metric"],
    steps: Real[np.ndarray, " time"],
    index: int,
) -> Float[np.ndarray, "new_run checkpoint"]:
    """Returns distributions of convergence by regression on the metrics of one checkpoint.

    Ridge regression of the log of the time left, over the runs that converge, weighted by inverse
    probability of censoring; around its prediction the residuals of runs left out. The share that
    never converges is the same for all.

    Args:
        metrics: [run, metric], raw, at the checkpoint, of runs that have not converged by then.
        outcome: [run], step of convergence, NaN where it never came.
        arrivals: int [run], first checkpoint at which a run has converged, or else their number.
        new: [new run, metric], at the checkpoint, of the runs to forecast.
        steps: [time], step of each checkpoint.
        index: of the checkpoint.

    Returns:
        float64 [new run, 1 + checkpoints to come], from 0 on.
    """
    converges = ~np.isnan(outcome)
    weights = outcome_weights(arrivals, converges, len(steps))
    share = weights[converges].sum() / weights.sum()
    left = np.log(outcome[converges] - steps[index])
    own = weights[converges]
    fitted = ridge(metrics[converges], left, new, own)
    outcomes = fitted.predictions[:, None] + np.sort(fitted.residuals)
    reached = np.append(0.0, own[np.argsort(fitted.residuals)].cumsum() / own.sum())
    horizons = np.log(steps[index + 1 :] - steps[index])
    distributions = [reached[np.searchsorted(row, horizons, side="right")] for row in outcomes]
    return share * np.pad(np.stack(distributions), ((0, 0), (1, 0)))


def ridge(
    features: Real[np.ndarray, "run feature"],
    outcome: Real[np.ndarray, " run"],
    new: Real[np.ndarray, "new_run feature"],
    weights: Real[np.ndarray, " run"],
) -> Ridge:
    """Predicts by ridge regression with an intercept, its penalty chosen by leave-one-out error.

    Features are standardised; one that does not vary, or is missing anywhere, has no part. With H
    the hat matrix of a penalty, the error of a left-out run is its residual / (1 - H_ii).

    Args:
        features: float [run, feature].
        outcome: float [run].
        new: float [other run, feature].
        weights: float [run], of the squared errors, positive.

    Returns:
        Predictions for the new runs, and the errors of left-out runs under the chosen penalty.
    """
    known = ~np.isnan(np.vstack([features, new])).any(axis=0)
    features, new, weights = features[:, known], new[:, known], weights / weights.mean()
    mean = np.average(features, axis=0, weights=weights)
    std = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weights))
    scale = np.where(std > 1e-9 * np.abs(mean), std, np.inf)
    root = np.sqrt(weights)
    level = np.average(outcome, weights=weights)
    left, singular, right = np.linalg.svd(
        root[:, None] * (features - mean) / scale, full_matrices=False
    )
    centred = root * (outcome - level)
    shrinkage = singular**2 / (singular**2 + PENALTIES[:, None])  # [penalty, direction]
    fitted = (shrinkage * (left.T @ centred)) @ left.T
    leverage = shrinkage @ (left.T**2) + weights / len(outcome)
    errors = (centred - fitted) / (1 - leverage)
    best = int(np.argmin((errors**2).sum(axis=1)))
    coordinates = singular / (singular**2 + PENALTIES[best]) * (left.T @ centred)
    return Ridge(level + (new - mean) / scale @ right.T @ coordinates, errors[best] / root)
