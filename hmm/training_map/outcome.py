"""Outcomes of runs that a map may explain."""

import numpy as np
from jaxtyping import Float, Real


def convergence_time(
    values: Real[np.ndarray, "run time"], steps: Real[np.ndarray, " time"], threshold: float
) -> Float[np.ndarray, " run"]:
    """Returns the first recorded step at which a value lies above a threshold.

    Args:
        values: float [run, time], for instance evaluation accuracy. NaN is never above.
        steps: [time], the step or epoch of each checkpoint.
        threshold: in units of `values`.

    Returns:
        float64 [run], in units of `steps`; NaN for a run that never gets there.

    Example:
        >>> accuracy = np.array([[0.5, 0.95, 1.0], [0.5, 0.5, 0.9]])
        >>> convergence_time(accuracy, np.array([0, 5, 10]), threshold=0.9)
        array([ 5., nan])
    """
    above = np.asarray(values) > threshold
    first = np.asarray(steps, dtype=float)[above.argmax(axis=1)]
    return np.where(above.any(axis=1), first, np.nan)
