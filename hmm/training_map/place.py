"""Whether two groups of runs pass through two places, or through one place at two speeds.

Places are compared in units of the differences between runs within a state, and along the runs'
polylines, so that a run that passes between two records still has a place. The groups were found
by looking at the data, so the null is the best split of one cloud, not a random one.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from seedmap.hmm.training_map.offsets import run_means

WHITENING_SHRINKAGE = 0.05
SEPARATION_SHRINKAGE = 0.2
NULL_SAMPLES = 100


class Whitening(NamedTuple):
    """Units of the differences between runs.

    Attributes:
        matrix: float64 [component, component]; points times it have unit covariance between runs.
        centres: float64 [state, component], mean over visiting runs of their means in the state,
            whitened; NaN for a state of fewer than 2 visitors.
    """

    matrix: Float[np.ndarray, "component component"]
    centres: Float[np.ndarray, "state component"]


def whiten(
    features: Float[np.ndarray, "run time component"],
    paths: Int[np.ndarray, "run time"],
    visited: Bool[np.ndarray, "run state"],
) -> Whitening:
    """Returns the whitening by the pooled covariance of runs' means within states, shrunk 5 %.

    Args:
        features: float [run, time, component], NaN past a run's end.
        paths: int [run, time], states, -1 past a run's end.
        visited: bool [run, state].
    """
    means = run_means(features, paths, visited)
    centres = np.full(means.shape[1:], np.nan)
    several = visited.sum(0) >= 2
    centres[several] = np.nanmean(means[:, several], 0)
    deviations = (means - centres)[visited & several]
    freedom = len(deviations) - several.sum()
    scatter = deviations.T @ deviations
    covariance = _shrink(scatter / max(freedom, 1), WHITENING_SHRINKAGE, keep=1.0)
    values, vectors = np.linalg.eigh(covariance)
    matrix = vectors / np.sqrt(values)
    return Whitening(matrix, centres @ matrix)


def _shrink(covariance, share, keep):
    """Returns keep * C + share * (mean variance) * I, for C [..., component, component]."""
    size = covariance.shape[-1]
    mean = np.trace(covariance, axis1=-2, axis2=-1)[..., None, None] / size
    return keep * covariance + (share * mean + 1e-12) * np.eye(size)


def closest_points(
    points: Float[np.ndarray, "run time component"],
    target: Float[np.ndarray, " component"],
    begin: Int[np.ndarray, " run"],
) -> tuple[Float[np.ndarray, "run component"], Int[np.ndarray, " run"]]:
    """Returns the point of each run's polyline closest to a target, and the segment it lies on.

    Args:
        points: float [run, time, component], NaN past a run's end; at least 2 records a run.
        target: float [component].
        begin: int [run], first record that counts; the last segment of a run always does.

    Returns:
        float64 [run, component], and int [run]: segment t joins the records t and t + 1.
    """
    start, step = points[:, :-1], np.diff(points, axis=1)
    along = ((target - start) * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-12)
    nearest = start + np.clip(along, 0, 1)[..., None] * step
    distance = ((nearest - target) ** 2).sum(-1)
    exists = ~np.isnan(distance)
    first = np.minimum(begin, exists.sum(1) - 1)
    counts = exists & (np.arange(distance.shape[1]) >= first[:, None])
    segment = np.where(counts, distance, np.inf).argmin(1)
    return nearest[np.arange(len(points)), segment], segment


def separation(
    points: Float[np.ndarray, "*batch point component"], group: Bool[np.ndarray, "*batch point"]
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch component"]]:
    """Returns how far two groups lie apart, and in which direction.

    Along Fisher's direction w = S^-1 (m1 - m0), with S the pooled covariance shrunk by 20 %, the
    difference of the groups' means in pooled deviations (of n - 2 degrees of freedom).

    Args:
        points: float [..., point, component].
        group: bool [..., point]; both groups have members.

    Returns:
        float64 [...], and unit vectors [..., component] that point to the True group.
    """
    weight = np.stack([group, ~group], -2).astype(float)  # [..., 2, point]
    count = weight.sum(-1, keepdims=True)
    means = weight @ points / count
    within = points - np.take_along_axis(means, (~group).astype(int)[..., None], -2)
    freedom = points.shape[-2] - 2
    pooled = np.swapaxes(within, -1, -2) @ within / freedom
    shrunk = _shrink(pooled, SEPARATION_SHRINKAGE, keep=1 - SEPARATION_SHRINKAGE)
    difference = means[..., 0, :] - means[..., 1, :]
    direction = np.linalg.solve(shrunk, difference[..., None])[..., 0]
    direction /= np.maximum(np.linalg.norm(direction, axis=-1, keepdims=True), 1e-300)
    variance = np.einsum("...i,...ij,...j->...", direction, pooled, direction)
    gap = (difference * direction).sum(-1)
    return gap / np.sqrt(np.maximum(variance, 1e-18)), direction


def null_separations(
    points: Float[np.ndarray, "point component"],
    smallest: int,
    rng: np.random.Generator,
    num_samples: int = NULL_SAMPLES,
) -> Float[np.ndarray, " sample"]:
    """Returns the separations of the best splits of one cloud with the points' covariance.

    The cloud is uniform along its leading axis, the flattest of unimodal shapes, and normal along
    the others. Splits begin across either of the two leading axes and follow Fisher's direction
    for three rounds; each side has at least `smallest` points.

    Args:
        points: float [point, component], at least 2 x smallest.
        smallest: least number of points on a side.
        rng: of the samples.
        num_samples: samples.
    """
    number, size = points.shape
    values, _ = np.linalg.eigh(np.atleast_2d(np.cov(points.T)))
    cloud = rng.normal(size=(num_samples, number, size))
    cloud[..., -1] = rng.uniform(-np.sqrt(3), np.sqrt(3), (num_samples, number))
    cloud *= np.sqrt(np.maximum(values, 1e-12))
    best = np.zeros(num_samples)
    for axis in range(max(size - 2, 0), size):
        direction = np.broadcast_to(np.eye(size)[axis], (num_samples, size))
        for _ in range(3):
            group = _best_split(np.einsum("spc,sc->sp", cloud, direction), smallest)
            separations, direction = separation(cloud, group)
            best = np.maximum(best, separations)
    return best


def _best_split(line, smallest):
    """The upper side, bool [sample, point], of the split of points on a line that parts them best.

    Both sides have at least `smallest` points; best is the largest difference of means in pooled
    deviations.
    """
    number = line.shape[1]
    order = np.argsort(line, axis=1)
    ordered = np.take_along_axis(line - line.mean(1, keepdims=True), order, 1)
    below = np.arange(smallest, number - smallest + 1)
    sums = np.cumsum(ordered, axis=1)[:, below - 1]
    low, high = sums / below, -sums / (number - below)
    within = (ordered**2).sum(1, keepdims=True) - below * low**2 - (number - below) * high**2
    gain = (high - low) / np.sqrt(np.maximum(within, 1e-12))
    cut = below[gain.argmax(1)]
    upper = np.empty(line.shape, bool)
    np.put_along_axis(upper, order, np.arange(number) >= cut[:, None], 1)
    return upper
