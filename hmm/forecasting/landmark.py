"""Time of convergence of runs that have not converged by a checkpoint, by the state they are in.

Kaplan-Meier over the runs at risk at a checkpoint, the landmark (van Houwelingen 2007), each run
with a weight: how likely it is to be in the state there.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

_PRIOR = 1.0  # runs spread evenly over all at risk that every state has besides
_LEAST = 1e-9


def distribution_by_weight(
    weights: Float[np.ndarray, "run curve"],
    arrivals: Int[np.ndarray, " run"],
    observed: Bool[np.ndarray, " run"],
    index: int,
    num_steps: int,
) -> Float[np.ndarray, "curve checkpoint"]:
    """Returns the probability to have converged by each checkpoint to come, given none so far.

    One less the product of 1 - d / n, with d the weight of the runs that converge at a checkpoint
    and n that of the runs that are recorded there and had not converged before.

    Args:
        weights: float [run, curve], not negative; each column makes a curve.
        arrivals: int [run], first checkpoint at which a run has converged, or else their number.
        observed: bool [run], whether it converged.
        index: of the checkpoint at which forecasts are made; all runs converge or end later.
        num_steps: number of checkpoints of training.

    Returns:
        float64 [curve, 1 + checkpoints to come], not decreasing, from 0.

    Example:
        >>> found = distribution_by_weight(
        ...     np.ones((3, 1)), np.array([1, 2, 2]), np.array([True, True, False]), 0, 3)
        >>> found.round(2)  # the last run ends before checkpoint 2
        array([[0.  , 0.33, 1.  ]])
    """
    checkpoints = np.arange(index + 1, num_steps)
    last = np.where(observed, arrivals, arrivals - 1)[:, None]  # known not to have converged before
    at_risk = weights.T @ (last >= checkpoints)
    events = weights.T @ ((last == checkpoints) & observed[:, None])
    hazard = np.clip(events / np.where(at_risk > _LEAST, at_risk, np.inf), 0, 1)
    return np.pad(1 - np.cumprod(1 - hazard, axis=1), ((0, 0), (1, 0)))


def distribution_by_state(
    beliefs: Float[np.ndarray, "run state"],
    arrivals: Int[np.ndarray, " run"],
    observed: Bool[np.ndarray, " run"],
    new: Float[np.ndarray, "new_run state"],
    index: int,
    num_steps: int,
) -> Float[np.ndarray, "new_run checkpoint"]:
    """Returns the distributions of new runs: those of the states, mixed by how likely each is.

    A state that few runs are in is drawn to all runs at risk, by one run spread over them. One
    state alone is time alone.

    Args:
        beliefs: float [run, state], filtered states at checkpoint `index` of the runs at risk.
        arrivals: int [run], as in `distribution_by_weight`.
        observed: bool [run], likewise.
        new: float [new run, state], filtered states of the runs to forecast.
        index: of the checkpoint.
        num_steps: number of checkpoints of training.

    Returns:
        float64 [new run, 1 + checkpoints to come].
    """
    weights = beliefs + _PRIOR / len(beliefs)
    curves = distribution_by_weight(weights, arrivals, observed, index, num_steps)
    return np.clip(new @ curves / new.sum(axis=1, keepdims=True), 0, 1)  # rounding


def distribution_by_time(
    arrivals: Int[np.ndarray, " run"],
    observed: Bool[np.ndarray, " run"],
    index: int,
    num_steps: int,
) -> Float[np.ndarray, " checkpoint"]:
    """Returns the distribution that time alone gives, of runs at risk at checkpoint `index`.

    Arguments as those of `distribution_by_weight`.
    """
    weights = np.ones((len(arrivals), 1))
    return distribution_by_weight(weights, arrivals, observed, index, num_steps)[0]
