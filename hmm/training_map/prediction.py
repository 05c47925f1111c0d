"""What the regression on the bag of states of some runs predicts of other runs."""

import numpy as np
from jaxtyping import Float, Real

# Relative size below which a direction of the shares counts as one that runs do not determine.
_TOLERANCE = 1e-9


def predict_outcome(
    bag: Real[np.ndarray, "run state"],
    outcome: Real[np.ndarray, " run"],
    new_bag: Real[np.ndarray, "new_run state"],
) -> Float[np.ndarray, " new_run"]:
    """Predicts outcomes of new runs by the regression of known ones, unchanged.

    ``mean(y) + (share - mean share) . b`` with the smallest b that fits the known runs best
    (`regress` fits the same). Directions that the known runs do not determine, such as towards a
    state that none of them visits, add nothing.

    Args:
        bag: float [run, state], shares of the known runs.
        outcome: float [run], theirs; NaN marks a run without one, which has no part.
        new_bag: float [new run, state].

    Returns:
        float64 [new run], in units of `outcome`; NaN where no known run has an outcome.
    """
    known = np.isfinite(outcome)
    if not known.any():
        return np.full(len(new_bag), np.nan)
    shares, values = np.asarray(bag, float)[known], np.asarray(outcome, float)[known]
    centre = shares.mean(axis=0)
    slopes = np.linalg.pinv(shares - centre, rcond=_TOLERANCE) @ (values - values.mean())
    return values.mean() + (np.asarray(new_bag, float) - centre) @ slopes


def prediction_r2(
    predicted: Real[np.ndarray, " run"], outcome: Real[np.ndarray, " run"]
) -> float | None:
    """Returns ``1 - sum (y - predicted)^2 / sum (y - mean(y))^2``, the means those of the new runs.

    Not a square: it is negative where the predictions are worse than the new runs' own mean, as
    they are when the other experiment only takes longer.

    Args:
        predicted: float [run].
        outcome: float [run]; NaN marks a run without one, which has no part.

    Returns:
        At most 1; None with fewer than two outcomes, or where they do not vary or are not
        predicted.

    Example:
        >>> prediction_r2(np.array([2.0, 3.0]), np.array([1.0, 3.0]))
        0.5
    """
    known = np.isfinite(outcome)
    values, guesses = np.asarray(outcome)[known], np.asarray(predicted)[known]
    total = ((values - values.mean()) ** 2).sum() if known.sum() > 1 else 0.0
    if total == 0 or not np.isfinite(guesses).all():
        return None
    return float(1 - ((values - guesses) ** 2).sum() / total)
