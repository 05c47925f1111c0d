"""An estimate with its interval, as `noise.json` has it."""

from dataclasses import dataclass

import numpy as np

from seedmap.experiments.noise.measures.intervals import Interval
from seedmap.results import to_json

WITHIN = {
    "churn": (0.0, 1.0),
    "l2_distance": (0.0, 2.0),
    "angle": (0.0, np.pi),
    "logit_correlation": (-1.0, 1.0),
    "ensemble_gain": (-1.0, 1.0),
}
"""The values that measures of two replicas can have."""


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its 95 % interval over replicas, or roots if there are several.

    Attributes:
        value: from all replicas.
        low: lower end; None where there are too few replicas to tell, or none are sampled.
        high: upper end; None likewise, and beside a `low` where nothing bounds it.
    """

    value: float | None
    low: float | None
    high: float | None


def estimate(interval: Interval, within: tuple[float, float] = (0.0, np.inf)) -> Estimate:
    """Returns an interval cut to the values there can be: with few replicas it reaches beyond."""
    low, high = max(interval.low, within[0]), min(interval.high, within[1])
    return Estimate(*to_json([float(interval.value), float(low), float(high)]))
