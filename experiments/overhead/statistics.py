"""Medians and their intervals over rounds, and ratios of modes within rounds."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from seedmap.errors import UserError

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A median with its confidence interval.

    Attributes:
        median: of the values.
        low: lower end.
        high: upper end.
        coverage: probability that the interval holds the median of what the values are drawn from,
            whatever its distribution.
    """

    median: float
    low: float
    high: float
    coverage: float


def median_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Returns the median, and the interval between two order statistics.

    From the k-th smallest to the k-th largest of n independent values, the true median is inside
    with probability 1 - 2 P(Binomial(n, 1/2) < k), exactly and for any continuous distribution
    (David & Nagaraja 2003, Order Statistics, section 7.1). k is the largest with at least `level`;
    with fewer than 6 values none has 0.95, and the interval is from the smallest to the largest,
    with the coverage that this has.

    Args:
        values: float [n], n at least 1.
        level: coverage to reach.

    Raises:
        UserError: there are no values.
    """
    if len(values) == 0:
        raise UserError("no values to take the median of; give at least 1")
    ordered, size = np.sort(np.asarray(values, float)), len(values)
    k = max([k for k in range(1, size // 2 + 1) if _coverage(size, k) >= level], default=1)
    low, high = float(ordered[k - 1]), float(ordered[size - k])
    return Interval(float(np.median(ordered)), low, high, _coverage(size, k))


def _coverage(size: int, k: int) -> float:
    below = sum(math.comb(size, i) for i in range(k)) / 2**size
    return max(0.0, 1 - 2 * below)


def ratio_interval(values: ArrayLike, base: ArrayLike) -> Interval:
    """Returns the median of the ratios values[r] / base[r] within rounds, with its interval.

    Both are taken in the same round, so that a machine that slows down from round to round leaves
    the ratios as they are.

    Args:
        values: float [round].
        base: float [round], above 0.

    Raises:
        UserError: they are not of the same rounds.
    """
    if len(values) != len(base):
        raise UserError(
            f"{len(values)} rounds over {len(base)}; ratios are within rounds, give as many of both"
        )
    return median_interval([a / b for a, b in zip(values, base, strict=True)])
