"""Accuracy and error rates of classes and subgroups over replicas, against the whole test set.

Zhuang et al. 2022 (arXiv 2106.11872) find that classes and subgroups vary far more from
replica to replica than top-line accuracy.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from seedmap.errors import UserError
from seedmap.experiments.noise.measures.replicas import standard_deviation


class ClassAccuracy(NamedTuple):
    """Accuracy of every replica on the test points of each class.

    Attributes:
        classes: [class], the labels that occur, in order.
        accuracy_RxK: float64 [replica, class].
    """

    classes: Shaped[np.ndarray, " class"]
    accuracy_RxK: Float[np.ndarray, "replica class"]


def class_accuracy(
    correct_RxN: Shaped[np.ndarray, "..."], label_N: Shaped[np.ndarray, "..."]
) -> ClassAccuracy:
    """Computes each replica's accuracy on each class (Zhuang et al. 2022).

    acc_rk = sum_i correct_ri [label_i = k] / sum_i [label_i = k].

    Args:
        correct_RxN: bool, or 1.0 and 0.0, [replica, test point].
        label_N: int [test point].

    Returns:
        The classes that occur, and the accuracies.

    Raises:
        UserError: the two are of different numbers of test points, or of none.
    """
    _check_points(correct_RxN, label_N)
    order = np.argsort(label_N, kind="stable")
    classes, start = np.unique(label_N[order], return_index=True)
    right_RxK = np.add.reduceat(correct_RxN[:, order], start, axis=1, dtype=np.float64)
    return ClassAccuracy(classes, right_RxK / np.diff(start, append=len(order)))


class GroupRates(NamedTuple):
    """Rates of a binary classifier on groups of test points, each float64 [replica, group].

    Attributes:
        accuracy: Share of the group's points predicted right.
        fpr: False positive rate, of the points whose label is 0.
        fnr: False negative rate, of the points whose label is 1.
    """

    accuracy: Float[np.ndarray, "replica group"]
    fpr: Float[np.ndarray, "replica group"]
    fnr: Float[np.ndarray, "replica group"]


def group_rates(
    prediction_RxN: Shaped[np.ndarray, "..."],
    label_N: Shaped[np.ndarray, "..."],
    group_GxN: Shaped[np.ndarray, "..."],
) -> GroupRates:
    """Computes accuracy, false positive and false negative rate by subgroup (Zhuang et al. 2022).

    FPR = FP / (FP + TN), of the points that are negative, and FNR = FN / (FN + TP), of those that
    are positive. (The released code of Zhuang et al. (2022) has FNR over another denominator.)

    Args:
        prediction_RxN: [replica, test point], 0 or 1 (or bool).
        label_N: [test point], 0 or 1 (or bool).
        group_GxN: bool [group, test point]; groups may overlap, and one of all points is the whole.

    Returns:
        The rates; NaN where the group has no point to take the share of.

    Raises:
        UserError: numbers of test points differ, or a label or prediction is neither 0 nor 1.
    """
    _check_points(prediction_RxN, label_N)
    _check_points(group_GxN, label_N)
    for name, values in (("label", label_N), ("prediction", prediction_RxN)):
        other = np.setdiff1d(values, (0, 1))
        if other.size:
            raise UserError(f"a {name} must be 0 or 1 for rates by group; found {other[0]}")
    right_RxN, positive_N = prediction_RxN == label_N, np.asarray(label_N, bool)
    return GroupRates(
        accuracy=_shares(right_RxN, group_GxN),
        fpr=_shares(~right_RxN, group_GxN & ~positive_N),
        fnr=_shares(~right_RxN, group_GxN & positive_N),
    )


def relative_spread(
    rate_RxG: Float[np.ndarray, "_ group"], whole_R: Float[np.ndarray, " _"]
) -> Float[np.ndarray, " group"]:
    """Computes SD over replicas of each class or group over that of the whole test set.

    SD_r(rate_rg) / SD_r(whole_r) with ddof 1 (Zhuang et al. 2022: of classes over top-1
    accuracy, on CelebA of subgroups over the whole).

    Args:
        rate_RxG: float [replica, group], `ClassAccuracy.accuracy_RxK` or one of `GroupRates`.
        whole_R: float [replica], the same rate of all test points.

    Returns:
        float64 [group]; NaN where the whole does not vary, or the group's rate is NaN.

    Raises:
        UserError: numbers of replicas differ, or are below 2.
    """
    if len(rate_RxG) != len(whole_R):
        raise UserError(f"groups have {len(rate_RxG)} replicas and the whole {len(whole_R)}")
    spread = standard_deviation(whole_R)
    return standard_deviation(rate_RxG) / (spread if spread > 0 else np.nan)


def _check_points(rows: np.ndarray, label_N: np.ndarray) -> None:
    if np.ndim(rows) != 2 or np.shape(rows)[1:] != np.shape(label_N) or not len(label_N):
        raise UserError(f"rows of shape {np.shape(rows)} for {np.shape(label_N)} test points")


def _shares(of_RxN: np.ndarray, among_GxN: np.ndarray) -> np.ndarray:
    """Computes the share of each row of `among` that each row of `of` has; NaN of none."""
    count_G = among_GxN.sum(axis=1)
    return of_RxN.astype(np.float64) @ among_GxN.T / np.where(count_G, count_G, np.nan)
