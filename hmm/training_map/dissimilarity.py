"""How differently runs spend their time over the states (Hu et al. 2023, arXiv 2308.09543).

The distance between two runs is the Wasserstein-1 distance between their state distributions: the
least cost of moving the one's mass onto the other's, when moving a unit from state j to state k
costs the ground metric d(j, k).

| ground | d(j, k) | the distance is |
|---|---|---|
| "discrete" | 1 unless j = k | total variation |
| "means" | Euclidean distance between the emission means | solved as a linear program |
| "index" | abs(j - k), as in their code | the sum of the gaps between cumulative distributions |

"index" changes when the states are relabelled; the other two do not.
"""

import numpy as np
from jaxtyping import Float, Real
from scipy import sparse

from seedmap.errors import UserError

# Mass below this is rounding (shares are ratios of counts, at least about 1e-6).
_NO_MASS = 1e-12

# Pairs of runs solved in one linear program: few calls, and memory stays small for any number.
_PAIRS_PER_PROGRAM = 1000

_MOST_RUNS = 500  # by whose pairs a mean transport cost is known within a few hundredths


def pairwise_dissimilarity(
    bag: Real[np.ndarray, "run state"],
    ground: str = "discrete",
    means: Real[np.ndarray, "state metric"] | None = None,
) -> Float[np.ndarray, "run run"]:
    """Returns the Wasserstein-1 distance between the state distributions of every pair of runs.

    Args:
        bag: float [run, state], rows sum to 1 (`hmm.training_map.regression.bag_of_states`).
        ground: "discrete", "means" or "index" (see the module's table).
        means: float [state, metric], emission means; needed by "means" and only by it.

    Returns:
        float64 [run, run], symmetric, zero diagonal; in units of the ground metric.

    Raises:
        UserError: rows that do not sum to 1, an unknown `ground`, or `means` missing, superfluous
            or of the wrong shape.

    Example:
        >>> bag = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> [pairwise_dissimilarity(bag, ground)[0, 1].item() for ground in ("discrete", "index")]
        [1.0, 2.0]
    """
    bag = _checked(bag, ground, means)
    first, second = np.triu_indices(len(bag), 1)
    gaps = bag[first] - bag[second]
    if means is not None:
        distances = _transport(gaps, _mean_distances(means, bag.shape[1]))
    elif ground == "discrete":
        distances = np.abs(gaps).sum(axis=1) / 2
    else:
        distances = np.abs(gaps.cumsum(axis=1)[:, :-1]).sum(axis=1)
    matrix = np.zeros((len(bag), len(bag)))
    matrix[first, second] = matrix[second, first] = distances
    return matrix


def _checked(bag, ground: str, means) -> np.ndarray:
    """Returns the bag as float64; raises as `pairwise_dissimilarity`."""
    bag = np.asarray(bag, dtype=float)
    if bag.ndim != 2 or not np.allclose(bag.sum(axis=1), 1, atol=1e-5):
        raise UserError("the bag of states must be [run, state] with rows that sum to 1")
    if ground not in ("discrete", "means", "index"):
        raise UserError(f'ground must be "discrete", "means" or "index", not {ground!r}')
    if (means is not None) != (ground == "means"):
        raise UserError('give emission means with ground="means", and only then')
    return bag


def dissimilarity(
    bag: Real[np.ndarray, "run state"],
    ground: str = "discrete",
    means: Real[np.ndarray, "state metric"] | None = None,
) -> float:
    """Returns the mean over the pairs of runs of their Wasserstein-1 distance.

    Args:
        bag: float [run, state], rows sum to 1.
        ground: "discrete", "means" or "index" (see the module's table).
        means: float [state, metric], emission means, for "means".

    Returns:
        The mean distance; 0 if all runs spend their time alike. By "means", of more than 500 runs
        that of 500 drawn at random: programs for all pairs would take minutes.

    Raises:
        UserError: fewer than two runs, or as `pairwise_dissimilarity`.
    """
    if len(bag) < 2:
        raise UserError(f"dissimilarity needs at least 2 runs, not {len(bag)}")
    bag = _checked(bag, ground, means)
    if ground == "discrete":
        return float(_mean_gaps(bag).sum() / 2)
    if ground == "index":
        return float(_mean_gaps(bag.cumsum(axis=1)[:, :-1]).sum())
    if len(bag) > _MOST_RUNS:
        bag = np.random.default_rng(0).choice(bag, _MOST_RUNS, replace=False)
    matrix = pairwise_dissimilarity(bag, ground, means)
    return float(matrix[np.triu_indices(len(bag), 1)].mean())


def _mean_gaps(values: np.ndarray) -> np.ndarray:
    """Mean over the pairs of rows of abs(difference), by column, without going through the pairs.

    In order, row r of n is the larger one of r pairs and the smaller one of n - 1 - r.
    """
    num_rows = len(values)
    times = 2 * np.arange(num_rows) - (num_rows - 1)
    return times @ np.sort(values, axis=0) / (num_rows * (num_rows - 1) / 2)


def _mean_distances(means: np.ndarray, num_states: int) -> np.ndarray:
    """Euclidean distances [state, state] between the emission means."""
    means = np.asarray(means, dtype=float)
    if means.ndim != 2 or len(means) != num_states:
        raise UserError(f"means must be [state, metric] with {num_states} states: {means.shape}")
    return np.linalg.norm(means[:, None] - means[None], axis=-1)


def _transport(gaps: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Least transport cost [pair] that levels the gaps [pair, state] between two distributions."""
    scale = costs.max()
    if scale == 0:
        return np.zeros(len(gaps))
    cuts = range(_PAIRS_PER_PROGRAM, len(gaps), _PAIRS_PER_PROGRAM)
    costs_of_chunks = [_solve(chunk, costs / scale) for chunk in np.split(gaps, cuts)]
    return np.concatenate(costs_of_chunks) * scale


def _solve(gaps: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """One linear program for all pairs; its blocks, one a pair, do not interact.

    The ground metric obeys the triangle inequality, so mass that both distributions have in a state
    stays there, and flow only goes from states with a surplus to states with a deficit.
    """
    from scipy.optimize import linprog  # here, as `import hmm` need not wait for it

    surplus, deficit = gaps > _NO_MASS, gaps < -_NO_MASS
    pair, source, target = np.nonzero(surplus[:, :, None] & deficit[:, None, :])
    if len(pair) == 0:
        return np.zeros(len(gaps))
    num_states = gaps.shape[1]
    flow = np.arange(len(pair))
    nodes = np.concatenate([pair * num_states + source, pair * num_states + target])
    balance = sparse.csr_array(
        (np.ones(2 * len(flow)), (nodes, np.tile(flow, 2))), shape=(gaps.size, len(flow))
    )
    mass = np.where(surplus | deficit, np.abs(gaps), 0).ravel()
    cost = costs[source, target]
    result = linprog(cost, A_eq=balance, b_eq=mass, bounds=(0, None), method="highs-ds")
    if not result.success:
        raise RuntimeError(f"the transport program failed: {result.message}")
    return np.bincount(pair, weights=cost * result.x, minlength=len(gaps))
