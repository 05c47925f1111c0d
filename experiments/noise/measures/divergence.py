"""Time at which two replicas diverge, and the growth of their distance.

Replicas that differ by one unit in the last place, or by the order of a sum, first stay together
to a rounding error; then their distance grows, by a factor a step where training is unstable
(Summers & Dinneen, arXiv 2103.04514, moved one weight by one bit), by a power of the time where
differences merely pile up, until it saturates at the distance of unrelated replicas.

Distances are any that `experiments.noise.measures.replicas` has, or of losses, recorded at steps
counted from the first at which the replicas could differ.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from seedmap.errors import UserError

SATURATION_SHARE = 0.25
"""Share of the saturation level at which the growth phase ends.

Under logistic growth, d' = r d (1 - d/S), the exponent has fallen by this share by then. Least
squares to a quarter of S find r too low by about 1.8 / L², where distances span L e-foldings (0.5 %
from 1e-8 on), and to a half by 4.3 / L². Less than a quarter leaves slow growth too few records.
"""


class Growth(NamedTuple):
    """Growth of a distance, in the phase between parting and saturation.

    Attributes:
        rate: Exponential growth exponent, the slope of log distance by step, 1 / step; None with
            fewer than 3 records in the phase: the distance was at its level at once, or never
            above 0.
        rate_r2: R² of that line; None likewise, or where the distance does not change.
        power: Exponent p of distance ∝ step^p, the slope on logarithms of both.
        power_r2: R² of that line.
        better: Which of the two lines has the higher R²; None where there are none.
        start: Step of the first record above 0; None where there is none.
        end: Step of the first record at `SATURATION_SHARE` of the saturation level.
        saturation: Median distance of the last quarter of the records.
        records: Records in the phase: at `start` and later, before `end`, at steps above 0.
    """

    rate: float | None
    rate_r2: float | None
    power: float | None
    power_r2: float | None
    better: Literal["exponential", "power"] | None
    start: int | None
    end: int | None
    saturation: float
    records: int


class GrowthCurve(NamedTuple):
    """Local growth exponent over time.

    Attributes:
        step_T: float64 [interval], middle of every interval between two records.
        exponent_T: float64 [..., interval], d log distance / d step in it, 1 / step; NaN where a
            distance at one of its ends is 0.
    """

    step_T: Float[np.ndarray, " interval"]
    exponent_T: Float[np.ndarray, "*pair interval"]


def first_apart(
    distance_T: Shaped[np.ndarray, "..."], step_T: Shaped[np.ndarray, "..."]
) -> int | None:
    """Returns the first recorded step with a distance above 0; None where there is none.

    Args:
        distance_T: float [record], at or above 0.
        step_T: int [record], rising.

    Returns:
        The step: the replicas parted after the record before it.

    Raises:
        UserError: a distance is below 0 or not finite, steps do not rise, or lengths differ.
    """
    distance_T, step_T = _checked(distance_T, step_T, dimensions=1)
    apart_T = distance_T > 0
    return int(step_T[np.argmax(apart_T)]) if apart_T.any() else None


def growth(distance_T: Shaped[np.ndarray, "..."], step_T: Shaped[np.ndarray, "..."]) -> Growth:
    """Fits the growth between first difference and saturation, as exponential and as a power.

    Least squares of log d(t) = rate · t + c, and beside it of log d(t) = power · log t + c, on the
    same records: from the first above 0, without one at step 0, which has no logarithm, until the
    distance first reaches `SATURATION_SHARE` of its saturation level, the median of the last
    quarter of all records. A distance that still grows at the end has its last values for level.

    Args:
        distance_T: float [record], at or above 0.
        step_T: int [record], rising, counted from where the replicas could first differ.

    Returns:
        Both exponents, their fit, and the phase they were read from.

    Raises:
        UserError: a distance is below 0 or not finite, steps do not rise or are below 0, or
            lengths differ.
    """
    distance_T, step_T = _checked(distance_T, step_T, dimensions=1)
    if step_T[0] < 0:
        raise UserError(f"steps count from where replicas could differ; found {step_T[0]}")
    start = first_apart(distance_T, step_T)
    saturation = float(np.median(distance_T[-max(1, len(distance_T) // 4) :]))
    if start is None:
        return Growth(None, None, None, None, None, None, None, saturation, 0)
    reached_T = (step_T >= start) & (distance_T >= SATURATION_SHARE * saturation)
    end = int(step_T[np.argmax(reached_T)])  # the level is a median: some record reaches it
    phase_T = (step_T >= max(start, 1)) & (step_T < end) & (distance_T > 0)
    records = int(phase_T.sum())
    if records < 3:
        return Growth(None, None, None, None, None, start, end, saturation, records)
    log_distance = np.log(distance_T[phase_T])
    rate, rate_r2 = _line(step_T[phase_T], log_distance)
    power, power_r2 = _line(np.log(step_T[phase_T]), log_distance)
    better = None
    if rate_r2 is not None and power_r2 is not None:
        better = "exponential" if rate_r2 >= power_r2 else "power"
    return Growth(rate, rate_r2, power, power_r2, better, start, end, saturation, records)


def growth_curve(
    distance_T: Shaped[np.ndarray, "..."], step_T: Shaped[np.ndarray, "..."]
) -> GrowthCurve:
    """Computes the local growth exponent, (log d(t_k+1) - log d(t_k)) / (t_k+1 - t_k), as a curve.

    Args:
        distance_T: float [..., record], at or above 0, of one or more pairs of replicas.
        step_T: int [record], rising.

    Returns:
        A value for every interval between records.

    Raises:
        UserError: a distance is below 0 or not finite, steps do not rise, or lengths differ.
    """
    distance_T, step_T = _checked(distance_T, step_T)
    log_T = np.log(np.where(distance_T > 0, distance_T, np.nan))
    return GrowthCurve((step_T[1:] + step_T[:-1]) / 2, np.diff(log_T, axis=-1) / np.diff(step_T))


def _checked(
    distance_T: np.ndarray, step_T: np.ndarray, dimensions: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    distance_T, step_T = np.asarray(distance_T, np.float64), np.asarray(step_T)
    shapes = f"distances {distance_T.shape} at steps {step_T.shape}"
    if step_T.ndim != 1 or not len(step_T) or distance_T.shape[-1:] != step_T.shape:
        raise UserError(f"every record needs a distance and a step: {shapes}")
    if dimensions is not None and distance_T.ndim != dimensions:
        raise UserError(f"the distances of one pair of replicas at a time: {shapes}")
    if not (np.isfinite(distance_T) & (distance_T >= 0)).all():
        raise UserError("a distance is below 0 or not finite; leave the replica out")
    if (np.diff(step_T) <= 0).any():
        raise UserError("steps of the records must rise")
    return distance_T, step_T


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float | None]:
    """Returns the slope of the least-squares line, and its R²; None where y does not change."""
    x, y = x - x.mean(), y - y.mean()
    slope, total = x @ y / (x @ x), y @ y
    return float(slope), float(1 - np.sum((y - slope * x) ** 2) / total) if total > 0 else None
