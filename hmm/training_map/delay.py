"""Whether the runs that take a branch converge later than others of their speed, and by how much.

Runs may differ in speed eightfold, which hides a delay that steps alone would have to show. Each
run has a clock: the time it took up to where the groups part. The time from there on is compared as

    after / before^b,    b = slope of log after on log before within the groups, from 0 to 1,

so that b = 0 is time in steps, b = 1 multiples of the run's own time, and b lies between as far as
the time before tells the speed. Runs that have not converged are censored at their last record.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Real

from seedmap.hmm.training_map.survival import log_rank

PERMUTATIONS = 999
_FACTORS = np.exp(np.linspace(-3, 3, 241))


@dataclass(frozen=True)
class Delay:
    """How much later visitors converge, from leaving the place where the groups were together.

    Attributes:
        factor: by which the visitors' times are longer at the same speed: with them divided by it,
            the log-rank statistic is 0. None where no visitor converges, or only a factor above 20
            would do.
        low: lower end of its 95 % interval, the factors that a permutation test at 5 % accepts; 0
            where there is none.
        high: upper end, None where there is none.
        pvalue: one-sided permutation p-value of the log-rank test, at the same speed.
        p_steps: the same of times in steps, whatever the speed.
        slope: b above.
        visitors: visitors that had not converged when they left that place.
        skippers: the same of the others.
        converged_visitors: those of `visitors` that converged.
        converged_skippers: those of `skippers` that converged.
    """

    factor: float | None
    low: float
    high: float | None
    pvalue: float
    p_steps: float
    slope: float
    visitors: int
    skippers: int
    converged_visitors: int
    converged_skippers: int


def measure_delay(
    leaving: Real[np.ndarray, " run"],
    convergence: Real[np.ndarray, " run"],
    last: Real[np.ndarray, " run"],
    start: float | Real[np.ndarray, " run"],
    visitor: Bool[np.ndarray, " run"],
    rng: np.random.Generator,
) -> Delay | None:
    """Compares the times to convergence of the two groups of runs.

    Args:
        leaving: step at which each run leaves the place where the groups were together.
        convergence: step of convergence, NaN where it never came.
        last: step of the last record.
        start: step at which runs begin.
        visitor: whether the run takes the branch.
        rng: of the permutations.

    Returns:
        The delay; None unless each group has 2 runs that had not converged by then, and some run
        converges.
    """
    observed = np.isfinite(convergence)
    after = np.where(observed, convergence, last) - leaving
    at_risk = (after > 0) & (leaving > start)
    before = (leaving - start)[at_risk]
    after, observed, visitor = after[at_risk], observed[at_risk], visitor[at_risk]
    if min(visitor.sum(), (~visitor).sum()) < 2 or not observed.any():
        return None
    slope = _slope(before, after, visitor, observed)
    own = after / before**slope
    shuffled = np.stack([rng.permutation(visitor) for _ in range(PERMUTATIONS)])
    factor, low, high = _factor(own, observed, visitor, shuffled)
    return Delay(
        factor=factor,
        low=low,
        high=high,
        pvalue=_later(own, observed, visitor, shuffled),
        p_steps=_later(after, observed, visitor, shuffled),
        slope=slope,
        visitors=int(visitor.sum()),
        skippers=int((~visitor).sum()),
        converged_visitors=int((visitor & observed).sum()),
        converged_skippers=int((~visitor & observed).sum()),
    )


def _slope(before, after, visitor, observed):
    """Slope of log after on log before within the two groups, over observed runs, from 0 to 1."""
    x, y = np.log(before[observed]), np.log(after[observed])
    for group in (visitor[observed], ~visitor[observed]):
        if group.any():
            x[group] -= x[group].mean()
            y[group] -= y[group].mean()
    return float(np.clip((x @ y) / max(x @ x, 1e-12), 0, 1))


def _later(times, observed, visitor, shuffled):
    """One-sided p-value of "visitors later" against the shuffled labels."""
    statistic = log_rank(times, observed, visitor)
    reached = (log_rank(times, observed, shuffled) >= statistic - 1e-12).sum()
    return float((1 + reached) / (1 + len(shuffled)))


def _factor(times, observed, visitor, shuffled):
    """The factor of the visitors' times at which the log-rank statistic is 0, and its interval."""
    scaled = np.where(visitor, times / _FACTORS[:, None], times)
    statistic = np.array([log_rank(row, observed, visitor) for row in scaled])
    converges = (visitor & observed).any()
    best = int((statistic <= 0).argmax()) if converges and (statistic <= 0).any() else -1
    null = log_rank(scaled[best], observed, shuffled)
    lowest, highest = np.quantile(null, [0.025, 0.975])
    kept = (statistic >= lowest) & (statistic <= highest)
    factor = float(_FACTORS[best]) if best >= 0 else None
    if not kept.any():
        return factor, 0.0, None
    low, high = _FACTORS[kept][[0, -1]].tolist()
    return factor, 0.0 if kept[0] else low, high if converges and not kept[-1] else None


def holm(pvalues: Real[np.ndarray, " claim"], level: float) -> Bool[np.ndarray, " claim"]:
    """Returns which claims Holm's procedure keeps at a family-wise level.

    Example:
        >>> holm(np.array([0.004, 0.02, 0.03]), 0.05).tolist()
        [True, True, True]
    """
    order = np.argsort(pvalues)
    kept = np.asarray(pvalues)[order] * np.arange(len(order), 0, -1) <= level
    holds = np.zeros(len(order), bool)
    holds[order] = np.cumprod(kept).astype(bool)
    return holds
