"""Differences between replicas of one training: accuracy, predictions, logits and weights.

Replicas are trainings of one task that differ in nothing but sources of randomness. What the
measures take is an array with a row for every replica; measures of pairs come as symmetric
matrices, whose mean over distinct pairs and its interval `experiments.noise.measures.intervals`
has. Replicas that are alike bit for bit get differences of exactly 0.

Zhuang et al. 2022: Zhuang, Zhang, Song, Hooker, "Randomness in Neural Network Training:
Characterizing the Impact of Tooling", MLSys 2022, arXiv 2106.11872.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Shaped

from seedmap.errors import UserError

PIECE = 1 << 22  # float64 numbers held at once, 32 MiB


def correctness(
    logits: Float[np.ndarray, "*replica point class"], label: Shaped[np.ndarray, " point"]
) -> Bool[np.ndarray, "*replica point"]:
    """Tells where no other logit is as high as the label's: `classification.score_logits` in NumPy.

    Args:
        logits: float [..., class].
        label: int [...], 0 .. classes - 1.

    Returns:
        bool [...]. A tie for the highest logit is wrong, though argmax may fall on the label.
    """
    of_label = np.take_along_axis(logits, np.broadcast_to(label, logits.shape[:-1])[..., None], -1)
    return np.sum(logits >= of_label, axis=-1) == 1


def accuracy(correct_RxN: Shaped[np.ndarray, "replica point"]) -> Float[np.ndarray, " replica"]:
    """Computes the accuracy of each replica, (1/N) sum_i correct_i.

    Args:
        correct_RxN: bool, or 1.0 and 0.0, [replica, test point].

    Returns:
        float64 [replica].

    Raises:
        UserError: it is not a matrix with at least one test point.
    """
    _check_rows(correct_RxN, "correct_RxN")
    return np.mean(correct_RxN, axis=1, dtype=np.float64)


def standard_deviation(
    values: Shaped[np.ndarray, "replica ..."],
) -> Float[np.ndarray, "..."] | np.floating:
    """Computes the standard deviation over replicas, sqrt(sum_r (x_r - mean)² / (R - 1)).

    Of top-1 accuracy it is the measure of noise of Zhuang et al. 2022; Summers & Dinneen's code
    divides by R. Where all replicas have the same value it is 0 exactly, which `np.std` is not.

    Args:
        values: float [replica, ...].

    Returns:
        float64 [...].

    Raises:
        UserError: there are fewer than two replicas.
    """
    values = np.asarray(values, np.float64)
    check_replicas(len(values))
    return np.std(values - values[:1], axis=0, ddof=1)


def churn(
    prediction_RxN: Shaped[np.ndarray, "replica point"],
) -> Float[np.ndarray, "replica replica"]:
    """Computes the share of test points on which two replicas disagree, (1/N) sum_i [p_ri != p_si].

    A measure of Zhuang et al. 2022, whose released code computes the share on which they agree
    instead; Summers & Dinneen (arXiv 2103.04514) call it pairwise disagreement.

    Args:
        prediction_RxN: int [replica, test point], the classes predicted (argmax of the logits).

    Returns:
        float64 [replica, replica], symmetric with a diagonal of 0.

    Raises:
        UserError: it is not a matrix with at least one test point.
    """
    _check_rows(prediction_RxN, "prediction_RxN")
    churn_RxR = np.zeros((len(prediction_RxN),) * 2)
    for row, prediction_N in enumerate(prediction_RxN):
        churn_RxR[row, row + 1 :] = np.mean(prediction_RxN[row + 1 :] != prediction_N, axis=1)
    return churn_RxR + churn_RxR.T


class WeightDistances(NamedTuple):
    """Distances and angles between the weight vectors of two replicas.

    Attributes:
        l2_RxR: float64 [replica, replica], between weight vectors of unit length: 0 to 2.
        angle_RxR: float64 [replica, replica], between the vectors, in radians: 0 to pi.
    """

    l2_RxR: Float[np.ndarray, "replica replica"]
    angle_RxR: Float[np.ndarray, "replica replica"]


def weight_distances(params: Any) -> WeightDistances:
    """Computes distances of the replicas' weights, each as one vector of unit length.

    With u_r = w_r / |w_r|, l2_rs = |u_r - u_s| (Zhuang et al. 2022) and the angle between the two
    is 2 arcsin(l2_rs / 2). The differences are taken in float64 before they are squared, so that
    one weight of a million, moved by one unit in the last place, shows with its right size; an
    arccos of u_r · u_s would lose all angles below 1e-8.

    Args:
        params: Tree of arrays [replica, ...], of any float type.

    Returns:
        Symmetric matrices with a diagonal of 0.

    Raises:
        UserError: leaves differ in their number of replicas, a weight is not finite, or a replica
            has no weight but 0.
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    counts = {len(leaf) for leaf in leaves}
    if len(counts) != 1:
        raise UserError(f"leaves have {sorted(counts)} replicas; every leaf needs as many")
    leaves = [leaf.reshape(len(leaf), -1) for leaf in leaves]
    l2_RxR = np.sqrt(_unit_distances(leaves, np.zeros(len(leaves[0])), "weights"))
    return WeightDistances(l2_RxR, 2 * np.arcsin(np.minimum(l2_RxR / 2, 1.0)))


def logit_correlation(
    logits_RxNxC: Shaped[np.ndarray, "..."],
) -> Float[np.ndarray, "replica replica"]:
    """Computes Pearson's correlation of two replicas' logits over all test points and classes.

    corr_rs = sum_ic (l_ric - mean(l_r)) (l_sic - mean(l_s)) / (N C SD(l_r) SD(l_s)): Summers &
    Dinneen (arXiv 2103.04514), whose released code (evaluate.py) takes the N C logits of a model as
    one vector too, and prints Spearman's correlation besides. It is computed here as
    1 - |u_r - u_s|² / 2 of the centred vectors of unit length, so that equal replicas get 1.

    Args:
        logits_RxNxC: float [replica, test point, class], finite.

    Returns:
        float64 [replica, replica], symmetric with a diagonal of 1.

    Raises:
        UserError: a logit is not finite, or all logits of a replica are alike.
    """
    logits_RxM = np.reshape(logits_RxNxC, (len(logits_RxNxC), -1))
    _check_finite(np.isfinite(logits_RxM).all(axis=1), "logits")
    first_R = logits_RxM[:, 0].astype(np.float64)  # logits that are all alike are centred exactly
    centre_R = first_R + np.mean(logits_RxM - first_R[:, None], axis=1)
    return 1 - _unit_distances([logits_RxM], centre_R, "logits") / 2


def ensemble_gain(
    logits_RxNxC: Shaped[np.ndarray, "..."], label_N: Shaped[np.ndarray, "..."]
) -> Float[np.ndarray, "replica replica"]:
    """Computes acc((l_r + l_s) / 2) - (acc(l_r) + acc(l_s)) / 2, the gain of a pair's ensemble.

    Summers & Dinneen (arXiv 2103.04514): acc((l1 + l2) / 2) - acc(l_i), averaged over the two as in
    their released code.
    Logits are added in float64; `correctness` says what is right.

    Args:
        logits_RxNxC: float [replica, test point, class], finite.
        label_N: int [test point].

    Returns:
        float64 [replica, replica], symmetric with a diagonal of 0; it may be below 0.

    Raises:
        UserError: a logit is not finite.
    """
    _check_finite(np.isfinite(logits_RxNxC).all(axis=(1, 2)), "logits")
    alone_R = accuracy(correctness(logits_RxNxC, label_N))
    gain = np.zeros((len(alone_R),) * 2)
    for row, column in zip(*np.triu_indices(len(alone_R), k=1), strict=True):
        both = np.add(logits_RxNxC[row], logits_RxNxC[column], dtype=np.float64)
        together = np.mean(correctness(both, label_N))
        gain[row, column] = together - (alone_R[row] + alone_R[column]) / 2
    return gain + gain.T


def check_replicas(count: int) -> None:
    """Raises a ValueError where there are fewer than two replicas."""
    if count < 2:
        raise UserError(f"differences need at least 2 replicas; there is {count}")


def _check_rows(array: np.ndarray, name: str) -> None:
    if np.ndim(array) != 2 or not np.size(array):
        raise UserError(f"{name} must be [replica, test point], not of shape {np.shape(array)}")


def _check_finite(finite_R: np.ndarray, what: str) -> None:
    if not finite_R.all():
        raise UserError(f"{what} of replica {np.argmin(finite_R)} are not finite; leave it out")


def _pieces(leaves: list[np.ndarray], centre_R: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the leaves' columns [replica, column], centred, float64, a few at a time."""
    columns = max(1, PIECE // len(centre_R))
    for leaf in leaves:
        for start in range(0, leaf.shape[1], columns):
            yield leaf[:, start : start + columns].astype(np.float64) - centre_R[:, None]


def _unit_distances(leaves: list[np.ndarray], centre_R: np.ndarray, what: str) -> np.ndarray:
    """Computes |u_r - u_s|² between the replicas' centred vectors of unit length."""
    # Sums along rows go in one order in every row: equal replicas get equal norms, bit for bit.
    norm_R = np.sqrt(sum(np.square(piece).sum(axis=1) for piece in _pieces(leaves, centre_R)))
    _check_finite(np.isfinite(norm_R), what)
    if not norm_R.all():
        raise UserError(f"{what} of replica {np.argmin(norm_R)} are all alike: no direction")
    squared_RxR = np.zeros((len(norm_R),) * 2)
    for piece in _pieces(leaves, centre_R):
        piece /= norm_R[:, None]
        for row in range(len(piece) - 1):
            difference = piece[row + 1 :] - piece[row]
            squared_RxR[row, row + 1 :] += np.einsum("rp,rp->r", difference, difference)
    return squared_RxR + squared_RxR.T
