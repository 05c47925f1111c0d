"""Whether the runs that take a branch converge later than those that do not, and by how much.

Two clocks. Steps from leaving the common state before the branch; and that time as a multiple of
the run's own time up to there, which takes out that some runs are slow in everything. A delay has
to show on both. Runs that have not converged are kept as censored at their last record.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Real

from seedmap.hmm.training_map.survival import log_rank

PERMUTATIONS = 999
_FACTORS = np.exp(np.linspace(-3, 3, 241))


@dataclass(frozen=True)
class Delay:
    """How much later visitors converge, from leaving the state before the branch.

    Attributes:
        factor: on the runs' own clock, the factor by which the visitors' times are longer: with
            them divided by it, the log-rank statistic is 0. None where no visitor converges, or
            only a factor above 20 would do.
        low: lower end of its 95 % interval, the factors that a permutation test at 5 % accepts; 0
            where there is none.
        high: upper end, None where there is none.
        p_steps: one-sided permutation p-value of the log-rank test, time in steps.
        p_relative: the same on the runs' own clock.
        visitors: visitors that had not converged when they left the state before.
        skippers: the same of the others.
        converged_visitors: those of `visitors` that converged.
        converged_skippers: those of `skippers` that converged.
    """

    factor: float | None
    low: float
    high: float | None
    p_steps: float
    p_relative: float
    visitors: int
    skippers: int
    converged_visitors: int
    converged_skippers: int

    @property
    def pvalue(self) -> float:
        """The larger of the two p-values: the delay has to show on both clocks."""
        return max(self.p_steps, self.p_relative)


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
        leaving: step at which each run leaves the state before the branch.
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
    own = after / before
    shuffled = np.stack([rng.permutation(visitor) for _ in range(PERMUTATIONS)])
    factor, low, high = _factor(own, observed, visitor, shuffled)
    return Delay(
        factor=factor,
        low=low,
        high=high,
        p_steps=_later(after, observed, visitor, shuffled),
        p_relative=_later(own, observed, visitor, shuffled),
        visitors=int(visitor.sum()),
        skippers=int((~visitor).sum()),
        converged_visitors=int((visitor & observed).sum()),
        converged_skippers=int((~visitor & observed).sum()),
    )


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
