"""Variance components of a source of randomness: replicas nested in roots.

The replicas of a root differ in the source alone, its roots differ in everything. With y the
outcome of a training, X what the source does not decide and the same y over all trainings,

    Var(y) = E[Var(y | X)] + Var(E[y | X]),

the first term is the component within roots, and its share of the whole the total-effect index of
the source (Homma & Saltelli 1996): what is left to the source once all else is fixed. Each share
lies between 0 and 1; those of several sources need not sum to 1, as sources act together.

Both sides are means over pairs, which needs no model: of y, half the squared difference of two
replicas of a root, and of two of different roots. Without replicas left out these are made of the
mean squares of the balanced nested analysis of variance (Searle, Casella & McCulloch 1992, section
3.2): MSW within, and MSW + (MSB - MSW) / K in all. A distance of two trainings, such as churn, is
taken in place of half the square.

Intervals resample whole roots and are share * exp(± t s), s the bootstrap's standard error of the
log share, inflated by sqrt(R / (R - 1)), t of R - 1 degrees of freedom, cut to [0, 1]. Of 400
studies of 5 roots with 3 replicas each, planted shares were held with a probability (per cent, 95
wanted) of

| share | normal | Student's t(5) | within-root variances exponential |
|---|---|---|---|
| 0.02 | 96 | 99 | 97 |
| 0.2 | 91 | 97 | 97 |
| 0.5 | 92 | 89 | 95 |
| 0.9 | 98 | 97 | 98 |
| 1 | 98 | 98 | 99 |

The intervals were 0.5 to 0.9 wide: so few roots tell a small share from a large one, and no more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import special, stats

from seedmap.errors import UserError

RESAMPLES = 1000
IMPUTATIONS, BURN_IN, THIN = 40, 100, 5


class Pairs(NamedTuple):
    """Mean differences of replicas: what components are made of.

    Attributes:
        within: float64 [imputation, root], of two replicas of a root; NaN with fewer than two.
        between: float64 [imputation, root, root], of two replicas of different roots; the diagonal
            counts for nothing. There is one imputation where nothing is censored.
    """

    within: Float[np.ndarray, "imputation root"]
    between: Float[np.ndarray, "imputation root root"]


class Component(NamedTuple):
    """A source's component of a measure, and its share with a 95 % interval.

    Attributes:
        variance: within roots; of distances their mean.
        share: of all variance, at most 1; NaN where nothing varies.
        low: lower end of the share; NaN where the source does something in fewer than three roots.
        high: upper end; NaN likewise.
        total: all variance.
    """

    variance: float
    share: float
    low: float
    high: float
    total: float


@dataclass(frozen=True)
class Commitment:
    """How much of a measure is fixed by a step, in `noise.json`.

    Attributes:
        source: what differs from the step on; "loss" for what the test loss at the step tells.
        step: shared steps.
        measure: `log_convergence_time` or `branch`.
        fixed: share of the variance over all trainings; None where it is not determined.
        low: lower end of its 95 % interval; None likewise.
        high: upper end; None likewise.
    """

    source: str
    step: int
    measure: str
    fixed: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SourceComponent:
    """What a source does to a measure: its variance component in `noise.json`.

    Attributes:
        source: a source or a set of them; "root" for what they leave.
        measure: `log_convergence_time`, `accuracy`, `loss`, `churn`, `l2_distance`, `path` or
            `time_in_state_K`.
        variance: within roots; of churn and distances their mean. None where it is not determined.
        share: of all variance, in 0 .. 1; None where nothing varies, or it is not determined.
        low: lower end of its 95 % interval; None where fewer than three roots show any.
        high: upper end; None likewise.
    """

    source: str
    measure: str
    variance: float | None
    share: float | None
    low: float | None
    high: float | None


def pairs_of_values(y: Sequence[Float[np.ndarray, " replica"]]) -> Pairs:
    """Returns half the mean squared differences of a number.

    Args:
        y: of each root, float [replica]; their numbers may differ.
    """

    def half_square(first, second):
        return (first[:, None] - second) ** 2 / 2

    return _pairs(y, half_square)


def pairs_of_distances(distance: Float[np.ndarray, "row row"], rows: Sequence[np.ndarray]) -> Pairs:
    """Returns mean distances of replicas.

    Args:
        distance: symmetric, between all rows.
        rows: of each root, int [replica].
    """
    return _pairs(rows, lambda first, second: distance[np.ix_(first, second)])


def _pairs(of_roots: Sequence[np.ndarray], squares: Callable) -> Pairs:
    num = len(of_roots)
    between = np.full((num, num), np.nan)
    within = np.full(num, np.nan)
    for i, first in enumerate(of_roots):
        for j, second in enumerate(of_roots):
            if i != j:
                between[i, j] = _mean(squares(first, second))
        within[i] = _mean(squares(first, first)[np.triu_indices(len(first), 1)])
    return Pairs(within[None], between[None])


def _mean(values: np.ndarray) -> float:
    """Returns the mean of what is known; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan


def censored_pairs(
    y: Sequence[Float[np.ndarray, " replica"]],
    censored: Sequence[Bool[np.ndarray, " replica"]],
    seed: int = 0,
) -> Pairs | None:
    """Returns half the mean squared differences of a number of which some are known from below.

    Those are imputed several times over, from their posterior under y = mu + a_root + e with normal
    a and e (data augmentation, Tanner & Wong 1987; flat priors of mu and of the SD of a, Gelman
    2006), so that they are neither dropped nor taken for what they were censored at.

    Args:
        y: of each root, float [replica]; where censored, the value it exceeds.
        censored: of each root, bool [replica].
        seed: of the imputations.

    Returns:
        Pairs; None where fewer than half of the values are known: the model would decide then.
    """
    samples = completed(y, censored, seed)
    if samples is None:
        return None
    ends = np.cumsum([len(own) for own in y])[:-1]
    drawn = [pairs_of_values(np.split(sample, ends)) for sample in samples]
    return Pairs(*(np.concatenate(arrays) for arrays in zip(*drawn, strict=True)))


def completed(
    y: Sequence[Float[np.ndarray, " replica"]],
    censored: Sequence[Bool[np.ndarray, " replica"]],
    seed: int = 0,
) -> Float[np.ndarray, "imputation row"] | None:
    """Returns the values of all roots in a row, censored ones imputed, as of `censored_pairs`."""
    values, marks = np.concatenate(y), np.concatenate(censored)
    if not marks.any():
        return values[None]
    if 2 * marks.sum() > len(marks) or len(y) < 3:
        return None
    root = np.repeat(np.arange(len(y)), [len(own) for own in y])
    return np.stack(_imputations(values, marks, root, len(y), np.random.default_rng(seed)))


def squared_correlation(
    x: Float[np.ndarray, "root replica"],
    y: Float[np.ndarray, "imputation root replica"],
    seed: int = 0,
) -> tuple[float, float, float]:
    """Returns the squared correlation of two numbers, with the percentile interval over roots.

    Args:
        x: known of every replica.
        y: likewise, censored values imputed several times.
        seed: of the resamples of roots.
    """

    def squared(x, y):
        return np.corrcoef(x.ravel(), y.ravel())[0, 1] ** 2 if np.ptp(x) and np.ptp(y) else 0.0

    rng, num = np.random.default_rng(seed), len(x)
    resampled = []
    for b in range(RESAMPLES):
        roots = rng.integers(num, size=num)
        resampled.append(squared(x[roots], y[b % len(y)][roots]))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(np.mean([squared(x, sample) for sample in y])), float(low), float(high)


def _imputations(bound, censored, root, num_roots, rng):
    """Draws completed values [row], by Gibbs sampling of the nested normal model."""
    count = np.bincount(root, minlength=num_roots)
    y, a, mean = bound.copy(), np.zeros(num_roots), bound.mean()
    of_a = of_e = max(np.var(bound), 1e-12)
    samples = []
    for sweep in range(BURN_IN + IMPUTATIONS * THIN):
        centre = mean + a[root]
        above = special.ndtr(-(bound - centre) / np.sqrt(of_e))  # chance of exceeding the bound
        tail = np.maximum(rng.random(len(y)) * above, 1e-300)
        y = np.where(censored, centre - np.sqrt(of_e) * special.ndtri(tail), bound)
        precision = count / of_e + 1 / of_a
        sums = np.bincount(root, y - mean, num_roots)
        a = sums / of_e / precision + rng.normal(size=num_roots) / np.sqrt(precision)
        mean = (y - a[root]).mean() + rng.normal() * np.sqrt(of_e / len(y))
        of_e = max(np.sum((y - mean - a[root]) ** 2), 1e-12) / rng.chisquare(len(y))
        of_a = max(np.sum(a**2), 1e-12) / rng.chisquare(num_roots - 1)
        if sweep >= BURN_IN and (sweep - BURN_IN) % THIN == 0:
            samples.append(y)
    return samples


def component(
    within: Float[np.ndarray, "imputation root"],
    between: Float[np.ndarray, "imputation root root"],
    confidence: float = 0.95,
    seed: int = 0,
) -> Component:
    """Estimates a source's component and its share of all variance, with an interval.

    Args:
        within: as of `Pairs`.
        between: likewise; the mean of those of several sources is better known.
        confidence: probability that intervals made in this way hold the truth.
        seed: of the resamples.

    Raises:
        UserError: there are fewer than two roots with two replicas.

    Example:
        >>> y = [np.array([0.0, 2.0]), np.array([4.0, 6.0]), np.array([1.0, 1.0])]
        >>> round(component(*pairs_of_values(y)).variance, 3)
        1.333
    """
    known = np.isfinite(within[0])
    within, between = within[:, known], between[:, known][:, :, known]
    num = int(known.sum())
    if num < 2:
        raise UserError(
            f"components need two roots with two replicas each; there are {num}: more --roots"
        )
    every = np.ones((len(within), num))
    variance, total = (estimates.mean() for estimates in _resampled(within, between, every))
    variance, total = float(variance), float(total)
    if total <= 0:
        return Component(variance, np.nan, np.nan, np.nan, total)
    share = float(min(variance / total, 1.0))
    if (within.mean(axis=0) > 0).sum() < 3:  # of few, or none, no bound follows
        return Component(variance, share, np.nan, np.nan, total)
    counts = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), RESAMPLES)
    counts = counts[(counts > 0).sum(1) > 1].astype(float)
    some = np.arange(len(counts)) % len(within)
    own, all_ = _resampled(within[some], between[some], counts)
    reach = _log_error(own, all_) * np.sqrt(num / (num - 1))
    reach *= stats.t.ppf((1 + confidence) / 2, num - 1)
    low, high = np.minimum(variance / total * np.exp([-reach, reach]), 1.0)
    return Component(variance, share, float(low), float(high), total)


def _resampled(within, between, counts):
    """Returns the component within roots and the whole, each [resample]."""
    num = within.shape[1]
    known = np.isfinite(between) & ~np.eye(num, dtype=bool)
    squares = np.where(known, between, 0.0)
    pairs = np.einsum("bi,bij,bj->b", counts, known.astype(float), counts)
    total = np.einsum("bi,bij,bj->b", counts, squares, counts) / np.maximum(pairs, 1e-300)
    return (counts * within).sum(1) / counts.sum(1), total


def _log_error(own, all_):
    """Returns the SD of log(own / all_); resamples at 0 count by the first-order error."""
    positive = (own > 1e-9 * own.mean()) & (all_ > 0)
    first_order = np.std(own / own.mean() - all_ / all_.mean())
    if positive.all():
        return float(np.std(np.log(own / all_)))
    return float(max(np.std(np.log(own[positive] / all_[positive])), first_order))
