"""The 14 metrics of a checkpoint, a tensor at a time: memory is that of the largest one.

The same numbers as `trainer.weight_metrics` (Hu et al. 2023, section 2.1), which holds all weights
at once. Sums are float64. The median over all weights takes two readings of every matrix: floats
are mapped to 32-bit integers in the same order, the first reading counts their upper 16 bits, the
second the lower ones in the one or two bins where the middle falls. That is exact.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from seedmap.experiments.checkpoints.formats import Checkpoint
from seedmap.experiments.checkpoints.rules import ROLES, Leaf
from seedmap.trainer.metrics.median import from_ordered_bits, ordered_bits

BLOCK = 1 << 18
"""Entries that are turned to float64 at a time."""
_BINS = 1 << 16


class Entries(NamedTuple):
    """Summary of all entries of the weights, or of the biases, from the first reading.

    Attributes:
        count: number of entries.
        mean: of them.
        squares: sum of their squared distances from the mean.
        upper: int64 [65536], entries by the upper half of their ordered bits.
        has_nan: whether one is not a number.
    """

    count: int
    mean: float
    squares: float
    upper: np.ndarray
    has_nan: bool


def _no_entries() -> Entries:
    return Entries(0, 0.0, 0.0, np.zeros(_BINS, np.int64), False)


def as_ordered(values: np.ndarray) -> np.ndarray:
    """Maps float32 numbers to unsigned integers in the same order."""
    return ordered_bits(np.ascontiguousarray(values).view(np.uint32), np.where)


def _as_float(key: int) -> float:
    return float(from_ordered_bits(np.uint32(key), np.where).view(np.float32))


def _blocks(matrix: np.ndarray) -> Iterator[np.ndarray]:
    """Yields rows of a matrix, about BLOCK entries at a time."""
    rows = max(1, BLOCK // max(1, matrix.shape[1]))
    return (matrix[i : i + rows] for i in range(0, len(matrix), rows))


def _add(entries: Entries, block: np.ndarray, exact: np.ndarray) -> Entries:
    """Returns the entries with those of a block added (float32, and the same in float64).

    Source: Chan, Golub, LeVeque 1983, updating formulae for the sum of squares.
    """
    mean = float(exact.mean())
    squares = float(np.square(exact - mean).sum())
    count = entries.count + block.size
    step = mean - entries.mean
    shared = entries.count * (block.size / count)
    upper = np.bincount((as_ordered(block) >> 16).ravel(), minlength=_BINS)
    return Entries(
        count,
        entries.mean + step * (block.size / count),
        entries.squares + squares + step * step * shared,
        entries.upper + upper,
        entries.has_nan or bool(np.isnan(block).any()),
    )


def _singular_values(gram: np.ndarray) -> np.ndarray:
    """Computes the singular values of W from W^T W in float64.

    They err by no more than sqrt(eps) = 1.5e-8 of the largest, less than a float32 decomposition
    of W itself errs, at a third of its time (`trainer.metrics.spectrum.gram_values` has the bound).
    """
    if not np.isfinite(gram).all():
        return np.full(len(gram), np.nan)
    return np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))


def _measure(matrix: np.ndarray, weights: Entries) -> tuple[dict[str, float], Entries]:
    """Returns values of one matrix [row, column], and the entries with its own added."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    gram = np.zeros((tall.shape[1], tall.shape[1]))
    l1 = 0.0
    for block in _blocks(tall):
        exact = block.astype(np.float64)
        weights = _add(weights, block, exact)
        l1 += float(np.abs(exact).sum())
        gram += exact.T @ exact
    values = _singular_values(gram)
    l2, trace = float(np.sqrt(np.trace(gram))), float(np.trace(matrix, dtype=np.float64))
    metrics = {
        "l1": l1,
        "l2": l2,
        "code_sparsity": float(np.divide(l1, l2)),
        "trace": trace,
        "spectral": float(values.max()),
        "computational_sparsity": float(np.divide(trace, values.max())),
        "mean_lambda": float(values.mean()),
        "var_lambda": float(values.var()),
    }
    return metrics, weights


def _kernel_norms(slices: np.ndarray) -> dict[str, float]:
    """Returns means over a convolution's kernels [slice, entry] of their norms."""
    l1 = np.abs(slices).sum(axis=1, dtype=np.float64)
    l2 = np.sqrt(np.einsum("se,se->s", slices, slices, dtype=np.float64))
    norms = {"l1": l1, "l2": l2, "code_sparsity": np.divide(l1, l2)}
    return {name: float(values.mean()) for name, values in norms.items()}


def _count_lower(array: np.ndarray, lower: dict[int, np.ndarray]) -> None:
    """Counts the entries in each of some upper bins by the lower half of their bits, in place."""
    for block in _blocks(array.reshape(-1, 1)):
        bits = as_ordered(block)
        for upper, counts in lower.items():
            counts += np.bincount(bits[bits >> 16 == upper] & 0xFFFF, minlength=_BINS)


def _median(entries: Entries, read: Callable[[str], np.ndarray], names: Sequence[str]) -> float:
    """Finds the median of all entries, by a second reading of the tensors they are in."""
    if entries.has_nan:
        return float("nan")
    ends = np.cumsum(entries.upper)
    ranks = ((entries.count - 1) // 2, entries.count // 2)
    bins = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
    lower = {upper: np.zeros(_BINS, np.int64) for upper in bins}
    for name in names:
        _count_lower(read(name), lower)  # no name is bound to it: it is gone before the next
    middle = []
    for rank, upper in zip(ranks, bins, strict=True):
        before = ends[upper] - entries.upper[upper]
        low = int(np.searchsorted(np.cumsum(lower[upper]), rank - before, side="right"))
        middle.append(_as_float(upper << 16 | low))
    return middle[0] if middle[0] == middle[1] else sum(middle) / 2


def _entry_values(
    entries: Entries, suffix: str, read: Callable[[str], np.ndarray], names: Sequence[str]
) -> dict[str, float]:
    return {
        f"mean_{suffix}": entries.mean,
        f"median_{suffix}": _median(entries, read, names),
        f"var_{suffix}": entries.squares / entries.count,
    }


class _Sums(NamedTuple):
    """Sums over some tensors: of the values of matrices, how many there are, all entries."""

    sums: Counter
    numbers: Counter
    weights: Entries
    biases: Entries


def _read_leaf(so_far: _Sums, leaf: Leaf, array: np.ndarray) -> _Sums:
    """Adds one more tensor."""
    sums, numbers, weights, biases = so_far
    if leaf.rule.role == "bias":
        for block in _blocks(array.reshape(-1, 1)):
            biases = _add(biases, block, block.astype(np.float64))
    elif leaf.rule.role == "kernels":
        for block in _blocks(array.reshape(-1, 1)):
            weights = _add(weights, block, block.astype(np.float64))
        for name, value in _kernel_norms(leaf.slices(array)).items():
            sums[name] += value
            numbers[name] += 1
    else:
        for matrix in leaf.matrices(array):
            values, weights = _measure(matrix, weights)
            for name, value in values.items():
                sums[name] += value
                numbers[name] += 1
    return _Sums(sums, numbers, weights, biases)


class Measured(NamedTuple):
    """The metrics of a checkpoint.

    Attributes:
        values: each of the 14 metrics to its value; no mean_b, median_b and var_b of a
            network without biases.
        counts: number of matrices, convolutions, weights and bias entries that went into it.
        tensors: checksum of each tensor of weights (float32), by their names in order.
    """

    values: dict[str, float]
    counts: dict[str, int]
    tensors: list[int]


def measure_checkpoint(checkpoint: Checkpoint, leaves: list[Leaf]) -> Measured:
    """Computes the 14 metrics, as `trainer.weight_metrics` defines them, a tensor at a time.

    Args:
        checkpoint: an open one.
        leaves: its tensors that count, by `rules.assign`.

    Returns:
        The metrics, NaN or infinite where the weights are, and what they were counted over.

    Source: Hu et al. 2023, section 2.1.
    """
    total = _Sums(Counter(), Counter(), _no_entries(), _no_entries())
    checksums: dict[str, int] = {}
    with np.errstate(all="ignore"):  # of a diverged run; 0 / 0 of a matrix of zeros
        for leaf in leaves:
            array = checkpoint.read(leaf.name)
            total = _read_leaf(total, leaf, array)
            if leaf.rule.role != "bias":
                checksums[leaf.name] = zlib.crc32(np.ascontiguousarray(array))
            del array  # it is gone before the next
    names = {role: [leaf.name for leaf in leaves if leaf.rule.role == role] for role in ROLES}
    values = {name: total.sums[name] / total.numbers[name] for name in total.sums}
    values |= _entry_values(total.weights, "w", checkpoint.read, names["matrix"] + names["kernels"])
    if total.biases.count:
        values |= _entry_values(total.biases, "b", checkpoint.read, names["bias"])
    matrices = total.numbers["trace"]
    counts = {
        "matrices": matrices,
        "kernels": total.numbers["l1"] - matrices,
        "weights": total.weights.count,
        "biases": total.biases.count,
    }
    return Measured(values, counts, [checksums[name] for name in sorted(checksums)])
