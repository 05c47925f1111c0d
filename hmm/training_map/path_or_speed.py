"""Whether runs differ in the path they take or in how fast they take it.

Two runs at the same time differ for two reasons: one is further along, or they are in different
places. Elastic alignment (dynamic time warping; Sakoe & Chiba 1978) lets one run's clock stretch
until the runs are as near as they can be. With D the mean squared distance of two runs at the same
records, and A that along the best alignment, each record counting once in either run,

    aligned away = 1 - sum over pairs of A / sum over pairs of D.

Both runs begin together; one may end before the other does, as a slow run has not come as far.

A warp absorbs part of any difference: where a lasting offset points along the path it looks as if
the run were ahead. How large that part c is, is measured: all runs are aligned to the one that is
nearest to the others, and their differences from the mean, now of place alone, are put back with
components permuted and signs drawn at random, by run. In such runs there is no timing, and a share
c of the difference is aligned away. Hence

    place = (1 - aligned away) / (1 - c),    timing = 1 - place,

The test that there is timing at all asks whether more is aligned away than where the differences
from the mean, as they are, get such signs and orders of components: without timing they have
nothing to do with the direction in which runs move.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from seedmap.errors import UserError

GRID = 40
"""Records of each run that take part, evenly spread."""
SHUFFLES = 99
PLACES = 20
"""Sets of runs that differ in place alone, to measure c by."""
RESAMPLES = 400
_AT_ONCE = 256  # pairs, whose distances stay near the cache


@dataclass(frozen=True)
class PathOrSpeed:
    """How much of the difference between runs is timing and how much is place.

    Attributes:
        timing: share of the mean squared difference between runs that is timing, from 0 to 1.
        low: lower end of its 95 % interval, over resampled runs.
        high: upper end.
        place: 1 - timing.
        aligned_away: share that goes away when clocks are aligned.
        by_chance: c, the mean share that goes away where runs differ in place alone.
        pvalue: of `aligned_away` where differences have random directions.
        runs: runs compared.
    """

    timing: float
    low: float
    high: float
    place: float
    aligned_away: float
    by_chance: float
    pvalue: float
    runs: int


def path_or_speed(
    features: Float[np.ndarray, "run time component"], seed: int = 0, num_shuffles: int = SHUFFLES
) -> PathOrSpeed:
    """Returns how much of the difference between runs is timing and how much is place.

    Args:
        features: float [run, time, component], on one scale for all runs and with components of
            like variance, NaN past a run's end. Runs are compared up to the shortest one's end.
        seed: of the pairs, shuffles and resamples.
        num_shuffles: of the permutation test, 1 or more.

    Returns:
        The shares; with more than 20 runs, of random pairs in which each run comes equally often.

    Raises:
        UserError: fewer than 3 runs, fewer than 5 records in the shortest, or equal runs.
    """
    rng = np.random.default_rng(seed)
    curves = _on_grid(features)
    pairs = _pairs(len(curves), rng)
    unaligned, aligned = _distances(curves, pairs)
    if unaligned.sum() <= 0:
        raise UserError("features are the same in all runs: there is no difference to explain")
    places = _aligned_to_one(curves, pairs, aligned)
    by_chance = float(np.mean(_aligned_away(places, pairs, PLACES, rng)))
    null = _aligned_away(curves, pairs, num_shuffles, rng)
    away = float(1 - aligned.sum() / unaligned.sum())
    rest = 1 - np.array([away, *_resampled(unaligned, aligned, pairs, len(curves), rng)])
    timing, low, high = np.clip(1 - rest / max(1 - by_chance, 1e-9), 0, 1).tolist()
    return PathOrSpeed(
        timing=timing,
        low=low,
        high=high,
        place=1 - timing,
        aligned_away=away,
        by_chance=by_chance,
        pvalue=float((1 + (null >= away).sum()) / (1 + num_shuffles)),
        runs=len(curves),
    )


def _on_grid(features):
    """At most `GRID` evenly spread records of each run, up to the end of the shortest."""
    common = int((~np.isnan(features[..., 0])).sum(1).min()) if len(features) else 0
    if len(features) < 3 or common < 5:
        raise UserError(
            "features must hold at least 3 runs of 5 records to compare their paths; got "
            f"{len(features)} runs, the shortest of {common}"
        )
    records = np.unique(np.linspace(0, common - 1, min(GRID, common)).round().astype(int))
    return features[:, records]


def _pairs(num_runs: int, rng: np.random.Generator) -> Int[np.ndarray, "pair 2"]:
    """All pairs of up to 20 runs; of more, three rings of all runs in random order."""
    if num_runs <= 20:
        return np.stack(np.triu_indices(num_runs, 1), 1)
    rings = [rng.permutation(num_runs) for _ in range(3)]
    return np.concatenate([np.stack([ring, np.roll(ring, 1)], 1) for ring in rings])


def _squares(first, other):
    """Squared distances [time, other time, pair] of pairs of curves [pair, time, component]."""
    squares = np.zeros((first.shape[1], other.shape[1], len(first)))
    # One component after the other: all at once would go through memory several times.
    for own, others in zip(first.transpose(2, 1, 0), other.transpose(2, 1, 0), strict=True):
        gap = own[:, None] - others
        gap *= gap
        squares += gap
    return squares


def _distances(curves, pairs):
    """Mean squared distance of each pair at the same records, and along the best alignment."""
    chunks = [pairs[begin : begin + _AT_ONCE] for begin in range(0, len(pairs), _AT_ONCE)]
    unaligned, aligned = zip(*(_distances_of_chunk(curves, chunk) for chunk in chunks), strict=True)
    return np.concatenate(unaligned), np.concatenate(aligned)


def _distances_of_chunk(curves, pairs):
    squares = _squares(curves[pairs[:, 0]], curves[pairs[:, 1]])
    return np.einsum("ttp->p", squares) / len(squares), alignment_cost(squares)


def alignment_cost(
    squares: Float[np.ndarray, "time other_time pair"],
) -> Float[np.ndarray, " pair"]:
    """Returns the least mean cost over alignments that begin together and use up one run.

    A step onto (i, j) comes from (i-1, j-1) with weight 2, or from (i-1, j) or (i, j-1) with weight
    1, so that a path to (i, j) has weight i + j + 2 whatever its way, and the diagonal's mean cost
    is the mean of the costs on it. The end is any (i, j) with one run at its last record.

    Args:
        squares: float [time, other time, pair], cost of each pair of records.
    """
    bottom, right = _mean_costs(_total_costs(squares))
    return np.minimum(bottom.min(0), right.min(0))


def _total_costs(squares):
    """Least weighted sum of costs up to each pair of records, [time + 1, other time + 1, pair]."""
    height, width, num_pairs = squares.shape
    total = np.full((height + 1, width + 1, num_pairs), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(height + width - 1):
        i = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        j = diagonal - i
        cost = squares[i, j]
        across = np.minimum(total[i, j + 1], total[i + 1, j]) + cost
        total[i + 1, j + 1] = np.minimum(total[i, j] + 2 * cost, across)
    return total


def _mean_costs(total):
    """Mean cost of the best path to each end: first run at its last record, other one at its."""
    height, width = total.shape[0] - 1, total.shape[1] - 1
    bottom = total[-1, 1:] / (height + 1 + np.arange(width))[:, None]
    right = total[1:, -1] / (width + 1 + np.arange(height))[:, None]
    return bottom, right


def _aligned_to_one(curves, pairs, aligned):
    """All curves on the clock of the one that is nearest to those it is paired with."""
    cost = sum(np.bincount(pairs[:, i], aligned, len(curves)) for i in (0, 1))
    template = curves[int(np.argmin(cost))]
    squares = _squares(np.broadcast_to(template, curves.shape), curves)
    total = _total_costs(squares)
    bottom, right = _mean_costs(total)
    moved = np.empty_like(curves)
    for run, curve in enumerate(curves):
        end = _best_end(bottom[:, run], right[:, run])
        moved[run] = _on_clock(curve, _best_path(total[..., run], squares[..., run], *end))
    return moved


def _best_end(bottom, right):
    """The pair of records at which the best alignment of one pair ends."""
    if bottom.min() <= right.min():
        return len(right) - 1, int(bottom.argmin())
    return int(right.argmin()), len(bottom) - 1


def _best_path(total, squares, i, j):
    """The best alignment up to the pair of records (i, j), a list of pairs from the end."""
    path = [(i, j)]
    while i or j:
        cost = squares[i, j]
        before = (total[i, j] + 2 * cost, total[i, j + 1] + cost, total[i + 1, j] + cost)
        step = int(np.argmin(before))
        i, j = i - (step != 2), j - (step != 1)
        path.append((i, j))
    return path


def _on_clock(curve, path):
    """The curve at each record of the other run, its last place held where it ends before."""
    own, other = np.array(path[::-1]).T
    count = np.bincount(own, minlength=len(curve))
    sums = np.array([np.bincount(own, column[other], len(curve)) for column in curve.T]).T
    reached = own.max() + 1
    moved = sums[:reached] / count[:reached, None]
    return np.concatenate([moved, np.repeat(moved[-1:], len(curve) - reached, axis=0)])


def _aligned_away(curves, pairs, number, rng):
    """Share of the difference that is aligned away in each of several shuffles of the runs."""
    shuffled = (_distances(_shuffle(curves, rng), pairs) for _ in range(number))
    return np.array([1 - aligned.sum() / unaligned.sum() for unaligned, aligned in shuffled])


def _shuffle(curves, rng):
    """The mean run plus the runs' differences from it, their components permuted and signed."""
    mean = curves.mean(0)
    num_runs, _, size = curves.shape
    order = np.argsort(rng.random((num_runs, size)), axis=1)
    signs = rng.choice([-1.0, 1.0], (num_runs, 1, size))
    moved = np.take_along_axis(curves - mean, order[:, None], axis=2)
    return mean + signs * moved


def _resampled(unaligned, aligned, pairs, num_runs, rng):
    """Ends of the 95 % interval of the share, pairs weighted by how often their runs are drawn."""
    drawn = rng.integers(num_runs, size=(RESAMPLES, num_runs))
    counts = np.stack([np.bincount(row, minlength=num_runs) for row in drawn])
    weights = counts[:, pairs[:, 0]] * counts[:, pairs[:, 1]]
    shares = 1 - (weights @ aligned) / np.maximum(weights @ unaligned, 1e-300)
    low, high = np.quantile(shares[weights.sum(1) > 0], [0.025, 0.975])
    return float(low), float(high)
