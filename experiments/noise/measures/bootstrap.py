"""Resamples of replicas, drawn with replacement, and the standard errors that they give."""

import numpy as np
from scipy import stats

from seedmap.errors import UserError
from seedmap.experiments.noise.measures.replicas import check_replicas


def finite_values(x_R: np.ndarray) -> np.ndarray:
    """Returns a number of each replica, checked."""
    x_R = np.asarray(x_R, np.float64)
    if x_R.ndim != 1:
        raise UserError(f"an interval is of one number a replica; the shape is {x_R.shape}")
    check_replicas(len(x_R))
    if not np.isfinite(x_R).all():
        raise UserError(f"replica {np.argmin(np.isfinite(x_R))} is not finite; leave it out")
    return x_R


def symmetric(m_RxR: np.ndarray) -> np.ndarray:
    """Returns the pairs, checked, with a diagonal of 0."""
    m_RxR = np.array(m_RxR, np.float64)
    if m_RxR.ndim != 2 or m_RxR.shape[0] != m_RxR.shape[1]:
        raise UserError(f"pairs of replicas make a square matrix; the shape is {m_RxR.shape}")
    check_replicas(len(m_RxR))
    np.fill_diagonal(m_RxR, 0.0)
    finite_R = np.isfinite(m_RxR).all(axis=1)
    if not finite_R.all():
        raise UserError(f"pairs of replica {np.argmin(finite_R)} are not finite; leave it out")
    if not np.array_equal(m_RxR, m_RxR.T):
        raise UserError("the matrix of pairs must be symmetric")
    return m_RxR


def half_squares(x_R: np.ndarray) -> np.ndarray:
    """Returns (x_i - x_j)² / 2, whose mean over pairs is the variance with ddof 1."""
    x_R = finite_values(x_R)
    return np.square(x_R[:, None] - x_R) / 2


def resample_counts(replicas: int, resamples: int, seed: int) -> np.ndarray:
    """Returns how often each resample draws each replica, float64 [resample, replica]."""
    if resamples < 2:
        raise UserError(f"a bootstrap needs at least 2 resamples; got {resamples}")
    rng = np.random.default_rng(seed)
    return rng.multinomial(replicas, np.full(replicas, 1 / replicas), resamples).astype(np.float64)


def resampled_pairs(m_RxR: np.ndarray, resamples: int, seed: int) -> tuple[float, np.ndarray]:
    """Returns the mean over pairs, and its deviation in each resample that has a pair."""
    replicas = len(m_RxR)
    counts_BxR = resample_counts(replicas, resamples, seed)
    pairs_B = replicas**2 - np.sum(counts_BxR**2, axis=1)
    counts_BxR, pairs_B = counts_BxR[pairs_B > 0], pairs_B[pairs_B > 0]
    reference = m_RxR[0, 1]  # pairs that are all alike then have a spread of 0 exactly
    apart_RxR = (m_RxR - reference) * (1 - np.eye(replicas))
    off = apart_RxR.sum() / (replicas * (replicas - 1))
    spread_B = np.sum(counts_BxR @ apart_RxR * counts_BxR, axis=1) / pairs_B - off
    return float(reference + off), spread_B


def log_error(m_RxR: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """Returns the standard error of the log of the mean over pairs >= 0, and that mean.

    Resamples whose pairs are all at 0 have no logarithm; so that they count, the first-order error,
    s / mean, is taken where it is the larger.
    """
    replicas = len(m_RxR)
    value, spread_B = resampled_pairs(m_RxR, resamples, seed)
    if value == 0:
        return 0.0, 0.0
    if replicas == 2:
        return np.nan, value
    relative_B = 1 + spread_B / value
    error = max(np.std(np.log(relative_B[relative_B > 1e-9])), np.std(relative_B))
    return float(inflation(replicas) * error), value


def t_quantile(replicas: int, confidence: float) -> float:
    """Returns Student's t that reaches as far as the confidence asks on either side."""
    if not 0 < confidence < 1:
        raise UserError(f"confidence must lie between 0 and 1; got {confidence}")
    return float(stats.t.ppf((1 + confidence) / 2, replicas - 1))


def inflation(replicas: int) -> float:
    """Returns what undoes the bootstrap's shortfall in standard deviation."""
    return float(np.sqrt(replicas / (replicas - 1)))
