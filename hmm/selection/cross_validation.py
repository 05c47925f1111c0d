"""How likely runs are that a fit has not seen, summed up so that no single run decides.

The training runs are dealt into folds; a fit that holds a fold out is scored on its runs, each by
its log-likelihood per checkpoint. One run unlike all others can score hundreds of nats a checkpoint
below the rest (sparse parities: -450 against +11 for a run that never generalised, under full
covariances of nearly collinear metrics), so that a mean would choose the prior for that run alone.
The median over runs is what the prior and the number of states are chosen by.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What runs left out in turn say of a number of states under a prior.

    Attributes:
        num_states: Number of states K.
        prior_scale: Scatter that the prior adds, see `SweepConfig.prior`.
        run_log_likelihood: float64 [training run], log-likelihood per checkpoint, in nats, of each
            run under the fit that held it out.
    """

    num_states: int
    prior_scale: float
    run_log_likelihood: Float[np.ndarray, " run"]


def robust(values: Float[np.ndarray, " run"]) -> float:
    """Median over runs."""
    return float(np.median(values))


def robust_error(values: Float[np.ndarray, " run"]) -> float:
    """Standard error of the median, from the median absolute deviation, as for a Gaussian.

    sqrt(pi / 2) * 1.4826 * MAD / sqrt(number of runs).
    """
    deviation = np.median(np.abs(values - np.median(values)))
    return float(np.sqrt(np.pi / 2) * 1.4826 * deviation / np.sqrt(len(values)))


def best_scale(scores: list[CrossValidation]) -> float:
    """The scale under which the median run left out is most likely; the first if none is better."""
    return max(scores, key=lambda score: robust(score.run_log_likelihood)).prior_scale
