"""Parameters of a Gaussian HMM, their count, their densities, and the order of their states."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

from seedmap.hmm.em.emissions import FAMILIES, covariance_family

COVARIANCES = tuple(FAMILIES)
"""Names of the emission families."""


class Parameters(NamedTuple):
    """A Gaussian HMM with K states over D metrics; every field may have leading batch axes.

    Attributes:
        initial: float64 [K], probability of the state at the first checkpoint.
        transition: float64 [K, K], transition[j, k] = p(next state k | state j); rows sum to 1.
        means: float64 [K, D], mean of the metrics in each state.
        covariances: float64 [K, D, D], covariance of the metrics in each state.
    """

    initial: Float[np.ndarray, "*batch state"]
    transition: Float[np.ndarray, "*batch state state"]
    means: Float[np.ndarray, "*batch state metric"]
    covariances: Float[np.ndarray, "*batch state metric metric"]


_LEAST_VARIANCE = 1e-3  # in squared standard deviations of a metric


def with_least_variance(
    covariance: Float[np.ndarray, "metric metric"],
) -> Float[np.ndarray, "metric metric"]:
    """Returns a covariance of standardised metrics, no direction of which has less than 0.001."""
    variances, axes = np.linalg.eigh(covariance)
    return (axes * np.maximum(variances, _LEAST_VARIANCE)) @ axes.T


def num_parameters(num_states: int, num_metrics: int, covariance: str) -> int:
    """Returns the number of free parameters of the model, as hmmlearn counts them for AIC and BIC.

    With K states and D metrics: (K - 1) initial + K (K - 1) transition + K D means + covariance,
    where the covariance has K D (D + 1) / 2 (full), K D (diagonal), K (spherical) or
    D (D + 1) / 2 (shared) parameters.

    Raises:
        UserError: If `covariance` is unknown.
    """
    covariances = covariance_family(covariance).num_parameters(num_states, num_metrics)
    return num_states**2 - 1 + num_states * num_metrics + covariances


def log_densities(
    parameters: Parameters, values: Real[np.ndarray, "*batch metric"]
) -> Float[np.ndarray, "*batch state"]:
    """Returns the log-densities log N(x; mu_k, Sigma_k) in float64; missing values marginalised.

    The marginal of a Gaussian over the metrics that are present is the Gaussian with their means
    and their block of the covariance, so a NaN is integrated out exactly; a checkpoint where every
    metric is missing has log-density 0.

    Args:
        parameters: The model, without batch axes.
        values: float [..., D], NaN where missing.

    Returns:
        float64 [..., K], in nats.

    Raises:
        numpy.linalg.LinAlgError: If a covariance is not positive definite.
    """
    flat = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
    out = np.zeros((len(flat), len(parameters.means)))
    patterns, group = np.unique(~np.isnan(flat), axis=0, return_inverse=True)
    for index, known in enumerate(patterns):
        rows = group.reshape(-1) == index
        out[rows] = _marginal_log_densities(parameters, flat[rows][:, known], known)
    return out.reshape(*values.shape[:-1], -1)


def _marginal_log_densities(parameters, values, known) -> np.ndarray:
    """Log-densities [n, K] of `values` [n, known] under the marginal of the known metrics."""
    columns = []
    for mean, covariance in zip(parameters.means, parameters.covariances, strict=True):
        factor = np.linalg.cholesky(covariance[np.ix_(known, known)])
        whitened = np.linalg.solve(factor, (values - mean[known]).T)
        log_det = 2 * np.log(np.diag(factor)).sum()
        columns.append(-0.5 * ((whitened**2).sum(0) + log_det + known.sum() * np.log(2 * np.pi)))
    return np.stack(columns, -1)


def canonical_order(
    paths: Int[np.ndarray, "run time"], num_states: int
) -> Int[np.ndarray, " state"]:
    """Returns the order of the states by mean time of first visit over the runs that visit them.

    Args:
        paths: int [run, time], decoded states, -1 on padding.
        num_states: Number of states K.

    Returns:
        int64 [K]: order[i] is the old label of the state that comes i-th. States no run visits come
        last; ties keep their old order.
    """
    first = np.full(num_states, np.inf)
    for state in range(num_states):
        visited = (paths == state).any(1)
        if visited.any():
            first[state] = (paths[visited] == state).argmax(1).mean()
    return np.argsort(first, kind="stable")


def permute(parameters: Parameters, order: Int[np.ndarray, " state"]) -> Parameters:
    """Returns the parameters whose state i is the old state order[i]; the model stays the same."""
    return Parameters(
        parameters.initial[order],
        parameters.transition[np.ix_(order, order)],
        parameters.means[order],
        parameters.covariances[order],
    )


def relabel(
    paths: Int[np.ndarray, "*batch"], order: Int[np.ndarray, " state"]
) -> Int[np.ndarray, "*batch"]:
    """Returns decoded paths after `permute(parameters, order)`; padding (-1) stays -1."""
    new = np.append(np.argsort(order), -1)  # the last entry is what label -1 indexes
    return new[paths].astype(paths.dtype)
