"""How far the map depends on the restart of EM and on which runs were trained.

Two questions. Do other restarts decode the runs alike: the adjusted Rand index of their paths
(Hubert & Arabie 1985), which needs no matching of labels, and the share of restarts that have each
edge. Would other runs give the same edges: how often each edge appears when runs are drawn again,
with replacement, from those at hand.
"""

import numpy as np
from jaxtyping import Float, Int

from seedmap.errors import UserError
from seedmap.hmm.training_map.transitions import transitions_made


def adjusted_rand_index(
    first: Int[np.ndarray, "_run _time"], other: Int[np.ndarray, "_run _time"]
) -> float:
    """Returns the agreement of two decodings of the same runs, whatever their labels.

    ``(P - E) / ((A + B) / 2 - E)`` with ``E = A B / N``, where N is the number of pairs of
    checkpoints, A and B how many of them share a state in the first and in the other decoding, and
    P how many do in both.

    Args:
        first: int [run, time], states, -1 on padding.
        other: int [run, time], states, -1 on the same padding; may have another number of states.

    Returns:
        1 for the same partition of the checkpoints, 0 on average for independent ones.

    Raises:
        UserError: other shapes, or other padding.

    Example:
        >>> adjusted_rand_index(np.array([[0, 0, 1, 1]]), np.array([[1, 1, 0, 0]]))
        1.0
    """
    counts = _contingency(first, other)
    pairs = _pairs(counts).sum()
    pairs_first, pairs_other = _pairs(counts.sum(axis=1)).sum(), _pairs(counts.sum(axis=0)).sum()
    if pairs_first == pairs_other == pairs:
        return 1.0  # the same partition; also where the quotient below is 0/0
    expected = pairs_first * pairs_other / _pairs(counts.sum())
    return float((pairs - expected) / ((pairs_first + pairs_other) / 2 - expected))


def decoding_agreement(
    decodings: list[Int[np.ndarray, "_run _time"]],
) -> Float[np.ndarray, "decoding decoding"]:
    """Returns the adjusted Rand index of every pair of decodings, for instance one per restart.

    Args:
        decodings: each int [run, time], -1 on padding.

    Returns:
        float64 [decoding, decoding], symmetric, ones on the diagonal.

    Raises:
        UserError: as `adjusted_rand_index`.
    """
    return np.array([[adjusted_rand_index(a, b) for b in decodings] for a in decodings])


def match_states(
    reference: Int[np.ndarray, "_run _time"], other: Int[np.ndarray, "run time"]
) -> Int[np.ndarray, "run time"]:
    """Gives another decoding the reference's labels, one to one, for most checkpoints in common.

    Args:
        reference: int [run, time], states, -1 on padding.
        other: int [run, time], states of another fit of the same runs.

    Returns:
        int [run, time]: `other` relabelled. Its states in excess of the reference's, if any, get
        labels above all of the reference's; padding stays -1.

    Raises:
        UserError: as `adjusted_rand_index`.
    """
    from scipy.optimize import linear_sum_assignment  # here, as `import hmm` need not wait for it

    counts = _contingency(other, reference)
    old, new = linear_sum_assignment(counts, maximize=True)
    labels = np.append(counts.shape[1] + np.arange(counts.shape[0]), -1)  # label -1 reads the last
    labels[old] = new
    return labels[other]


def edge_recurrence(
    reference: Int[np.ndarray, "_run _time"],
    others: list[Int[np.ndarray, "_run _time"]],
    num_states: int,
) -> Float[np.ndarray, "state state"]:
    """Returns the share of the other decodings in which some run makes each transition.

    Args:
        reference: int [run, time], the decoding whose labels count.
        others: decodings of the same runs by other restarts, labelled in any way.
        num_states: K of the reference.

    Returns:
        float64 [source, target], zero diagonal.

    Raises:
        UserError: no other decoding, or as `adjusted_rand_index`.
    """
    if not others:
        raise UserError("edge_recurrence needs at least one other decoding")
    matched = [match_states(reference, other) for other in others]
    used = [_runs_per_edge(paths, num_states) > 0 for paths in matched]
    return np.mean(used, axis=0)


def edge_inclusion(
    paths: Int[np.ndarray, "run time"], num_states: int
) -> Float[np.ndarray, "state state"]:
    """Returns the probability that a bootstrap resample of the runs still has each edge.

    An edge that m of n runs use is missed by one draw with probability 1 - m/n, so the frequency
    over infinitely many resamples is ``1 - (1 - m/n)^n``: no sampling. It asks nothing of the HMM,
    whose parameters are held; an edge of a single run has about 0.63.

    Args:
        paths: int [run, time], decoded states, -1 on padding.
        num_states: K.

    Returns:
        float64 [source, target], zero diagonal.
    """
    return 1 - (1 - _runs_per_edge(paths, num_states) / len(paths)) ** len(paths)


def _contingency(first: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Checkpoints [state of first, state of other] in each pair of states."""
    first, other = np.asarray(first), np.asarray(other)
    real = first >= 0
    if first.shape != other.shape or (real != (other >= 0)).any():
        raise UserError("decodings to compare must be of the same runs, with the same padding")
    counts = np.zeros((first.max() + 1, other.max() + 1), dtype=np.int64)
    np.add.at(counts, (first[real], other[real]), 1)
    return counts


def _pairs(counts: np.ndarray | np.integer) -> np.ndarray | np.floating:
    return counts * (counts - 1) / 2


def _runs_per_edge(paths: np.ndarray, num_states: int) -> np.ndarray:
    """Number of runs [source, target] that make each transition between two of the K states."""
    made = transitions_made(paths)
    known = (made.sources < num_states) & (made.targets < num_states)
    used = np.zeros((len(paths), num_states, num_states), dtype=bool)
    used[made.runs[known], made.sources[known], made.targets[known]] = True
    return used.sum(axis=0)
