"""Share of the accuracy's variance that is due to the finite test set.

Jordan, "On the Variance of Neural Network Training with respect to Test Sets and Distributions"
(ICLR 2024, arXiv 2304.01910): replicas err on different test points much as if each point were a
coin of its own, so that their accuracies differ on this test set though over the distribution it
was drawn from they are almost alike.
"""

import numpy as np
from jaxtyping import Shaped

from seedmap.errors import UserError
from seedmap.experiments.noise.measures.replicas import check_replicas


def independent_error_variance(correct_RxN: Shaped[np.ndarray, "..."]) -> float:
    """Computes the variance of test accuracy if replicas erred independently on every point.

    (1/N²) sum_i e_i (1 - e_i), e_i being the probability of an error at point i (Jordan, arXiv
    2304.01910, the hypothesis of independent errors). With e_i the share of R replicas the sum
    falls short by (R - 1)/R on average, so each term is R/(R - 1) e_i (1 - e_i), the unbiased
    variance of an indicator.

    Args:
        correct_RxN: bool, or 1.0 and 0.0, [replica, test point].

    Returns:
        The variance, of accuracy as a share.

    Raises:
        UserError: there are fewer than two replicas or no test point.
    """
    _check(correct_RxN, at_least=1)
    replicas, points = correct_RxN.shape
    error_N = 1 - np.mean(correct_RxN, axis=0, dtype=np.float64)
    return float(np.sum(error_N * (1 - error_N)) * replicas / (replicas - 1) / points**2)


def distribution_variance(correct_RxN: Shaped[np.ndarray, "..."]) -> float:
    """Estimates the variance of accuracy over the distribution of test points, unbiased.

    N/(N - 1) [Var_r(err_S) - (1/N²) sum_i Var_r(err_i)] with unbiased variances over replicas
    (Jordan, arXiv 2304.01910): err_S is the error on the test set, err_i that on its i-th point,
    and the second term is `independent_error_variance`.

    Args:
        correct_RxN: bool, or 1.0 and 0.0, [replica, test point].

    Returns:
        The variance, of accuracy as a share; it may be below 0, as an unbiased estimate of
        something near 0 must.

    Raises:
        UserError: there are fewer than two replicas or test points.
    """
    _check(correct_RxN, at_least=2)
    points = correct_RxN.shape[1]
    right_R = np.sum(correct_RxN, axis=1, dtype=np.float64)  # whole numbers: no rounding
    of_test_set = np.var(right_R, ddof=1) / points**2
    return float(points / (points - 1) * (of_test_set - independent_error_variance(correct_RxN)))


def _check(correct_RxN: np.ndarray, at_least: int) -> None:
    check_replicas(len(correct_RxN))
    if np.ndim(correct_RxN) != 2 or np.shape(correct_RxN)[1] < at_least:
        raise UserError(f"at least {at_least} test points; the shape is {np.shape(correct_RxN)}")
