"""An HMM's chain with convergence as one more state, which is never left.

With A the transition matrix of the HMM and e_j the probability to converge from state j at the next
checkpoint, the chain goes from j to k with probability C_jk = (1 - e_j) A_jk and to convergence
with e_j (Kemeny & Snell 1960, chapter 3).
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from seedmap.hmm.parameters import Parameters, log_densities

_LEAST_WEIGHT = 1e-9


def exit_probabilities(
    beliefs: Float[np.ndarray, "run time state"],
    lengths: Int[np.ndarray, " run"],
    observed: Bool[np.ndarray, " run"],
) -> Float[np.ndarray, " state"]:
    """Returns the probability of each state to converge at the next checkpoint, e_k.

    The expected number of convergences from the state over the expected number of checkpoints in
    it. A run that never converged does not tell what came after its last checkpoint.

    Args:
        beliefs: float [run, time, state], state probabilities before convergence.
        lengths: int [run], number of checkpoints before convergence, at least 1.
        observed: bool [run], whether the run converged at the next one.

    Returns:
        float64 [state]; 0 for a state that no run is ever in.
    """
    last = beliefs[np.arange(len(beliefs)), lengths - 1]
    converged = last[observed].sum(axis=0)
    stays = beliefs.sum(axis=(0, 1)) - last[~observed].sum(axis=0)
    return np.clip(converged / np.where(stays > _LEAST_WEIGHT, stays, np.inf), 0, 1)


def absorbed(
    transition: Float[np.ndarray, "state state"],
    exits: Float[np.ndarray, " state"],
    beliefs: Float[np.ndarray, "run state"],
    num_left: int,
) -> Float[np.ndarray, "run checkpoint"]:
    """Returns the probability to have converged after h = 0, 1, ... checkpoints, 1 - b C^h 1.

    C is the chain without exit.

    Args:
        transition: float [state, state], A.
        exits: float [state], e_j.
        beliefs: float [run, state], state probabilities b now.
        num_left: number of checkpoints to come.

    Returns:
        float64 [run, 1 + num_left], not decreasing, from 0.

    Example:
        >>> absorbed(np.eye(1), np.array([0.5]), np.ones((1, 1)), num_left=3)
        array([[0.   , 0.5  , 0.75 , 0.875]])
    """
    staying = (1 - exits)[:, None] * transition
    left = [np.ones(len(exits))]
    for _ in range(num_left):
        left.append(staying @ left[-1])
    total = beliefs.sum(axis=1, keepdims=True)  # 1 up to rounding
    return np.clip(1 - beliefs @ np.stack(left, axis=1) / total, 0, 1)


def pass_probabilities(
    parameters: Parameters,
    exits: Float[np.ndarray, " state"],
    values: Float[np.ndarray, "time metric"],
    num_left: int,
) -> Float[np.ndarray, " state"]:
    """Returns the probability of each state to be visited, in the past or before convergence.

    The complement of never being there. Let Q be the chain, convergence included, without state k,
    and a the filtered weights p(s_t = j, never k so far | x_1..t), with 0 for convergence. Then

        P(k is visited) = 1 - a Q^h 1        with h checkpoints to come.

    Args:
        parameters: of the HMM, without batch axes.
        exits: float [state], e_j, probability to converge at the next checkpoint.
        values: float [time, metric], checkpoints so far, in the units of the HMM; NaN = missing.
        num_left: number of checkpoints to come, h >= 0.

    Returns:
        float64 [state].

    Example:
        >>> chain = Parameters(np.array([1.0, 0]), np.array([[0.9, 0.1], [0, 1]]),
        ...                    np.zeros((2, 1)), np.ones((2, 1, 1)))
        >>> seen = np.zeros((1, 1))
        >>> pass_probabilities(chain, np.zeros(2), seen, num_left=2).round(2)  # 1 - 0.9^2
        array([1.  , 0.19])
        >>> pass_probabilities(chain, np.array([0.5, 0]), seen, num_left=1)  # half converge before
        array([1.  , 0.05])
    """
    logs = log_densities(parameters, values)
    densities = np.exp(logs - logs.max(axis=-1, keepdims=True))
    num_states = len(exits)
    allowed = np.vstack([np.ones(num_states), 1 - np.eye(num_states)])  # row 0 allows every state
    weights = parameters.initial * densities[0] * allowed
    weights = weights / weights[0].sum()
    for density in densities[1:]:
        weights = weights @ parameters.transition * density * allowed
        weights = weights / weights[0].sum()
    chain = np.eye(num_states + 1)
    chain[:-1] = np.column_stack([(1 - exits)[:, None] * parameters.transition, exits])
    kept = np.column_stack([allowed[1:], np.ones(num_states)])
    avoiding = np.linalg.matrix_power(chain * kept[:, :, None] * kept[:, None], num_left)
    never = np.einsum("kj,kji->k", weights[1:], avoiding[:, :-1])
    return np.clip(1 - never, 0, 1)
