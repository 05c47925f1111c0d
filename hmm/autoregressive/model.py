"""The arrays that the engine works on: records, parameters, and what a fit is asked."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

Array = Any  # a JAX array within a program, a NumPy one outside


class Records(NamedTuple):
    """The records of all runs, as the products that densities and sums are linear in, time first.

    With u = [1, x_(t-1)] and d = x_t - x_(t-1), a record's row holds the products of pairs out of
    [u, d], times 1, and of pairs out of [1, x_t], times `LOCATION_WEIGHT`. Where the record before
    is not there, the former are 0 and the latter count 1 + `LOCATION_WEIGHT`, so that all records
    count alike; where the record itself is not there, all are 0, and so is its log-density.

    Attributes:
        products: float [time, run, column], of the records from the second on, padded with zeros.
        first: float [run, column], of the first records.
        mask: bool [time, run], False on padding.
        num_components: int [], D, those beyond are padding.
    """

    products: jax.Array
    first: jax.Array
    mask: jax.Array
    num_components: jax.Array


class Parameters(NamedTuple):
    """An HMM of K states over D components; arrays may have a leading axis of fits.

    Attributes:
        initial: float [K], probability of the state at the second record.
        transition: float [K, K], rows sum to 1.
        motion: float [K, 1 + D, D], x_t - x_(t-1) = [1, x_(t-1)] @ motion + noise.
        noise: float [K, D, D], covariance of that noise.
        location: float [K, D], mean of x_t.
        spread: float [K, D, D], covariance of x_t.
    """

    initial: Array
    transition: Array
    motion: Array
    noise: Array
    location: Array
    spread: Array


class Question(NamedTuple):
    """What each of a batch of fits is asked.

    Attributes:
        active: bool [F, Kmax], the states that a fit has.
        run_weights: float [F, run], how much each run counts; 0 holds it out.
        tempering: float [F], tau, the power of the emission densities.
    """

    active: Array
    run_weights: Array
    tempering: Array


class Regularisation(NamedTuple):
    """What keeps a state of few records sound; all in units of the components.

    Attributes:
        ridge: of the motion's dependence on x_(t-1), towards none; 1e-4 of it on the intercept.
        noise: added to the variances of the noise.
        spread: added to the variances of the location.
        counts: pseudo-count of every transition and of every initial state.
    """

    ridge: float = 1e-2
    noise: float = 1e-3
    spread: float = 1e-2
    counts: float = 1e-2


REGULARISATION = Regularisation()
LOCATION_WEIGHT = 0.2  # of the location's log-density beside that of the motion


def num_parameters(num_states: int, num_components: int) -> int:
    """Returns the free parameters that the choice of K counts.

    K^2 - 1 probabilities, and for every state D (D + 1) of the motion and D (D + 1) / 2 of its
    noise. The location follows from the same records and is not counted again.
    """
    square = num_components * (num_components + 1)
    return num_states**2 - 1 + num_states * (square + square // 2)


def default_tempering(lengths: Int[np.ndarray, " run"]) -> float:
    """Returns tau = min(1/2, 33 / T), T the median number of records after the first.

    Records close in time say nearly the same thing; tau is the share of them that counts.

    Args:
        lengths: int [run], records of each run.
    """
    return min(0.5, 33.0 / max(1.0, float(np.median(lengths - 1))))


def pairs(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows and columns of the upper triangle of a matrix of `size`, in order."""
    return np.triu_indices(size)
