"""Decoding with a fitted HMM: Viterbi paths, posteriors, filter, log-likelihood.

Emission log-densities are computed in float64 on the host and shifted by their maximum over the
states before messages are passed over them: the shift cancels in every posterior, is
added back to the log-likelihood, and keeps float32 exact where densities differ by thousands of
nats.

Dynamax is imported where it is used: it takes 0.6 s, which training need not wait for.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from seedmap.errors import UserError
from seedmap.hmm.parameters import Parameters, log_densities
from seedmap.hmm.sequences import Sequences

# Dynamax's filter fails silently where only transitions of probability 0 explain the data. This
# floor makes such a run very unlikely instead; it is far below what any run can tell from 0.
_FLOOR = 1e-15


def viterbi(parameters: Parameters, sequences: Sequences) -> Int[np.ndarray, "run time"]:
    """Returns the most likely state path of every run.

    Args:
        parameters: The fitted model.
        sequences: Runs with the same metrics (z-scored as in the fit).

    Returns:
        int32 [run, time], -1 on padding.
    """
    initial, transition, shifted, _ = _prepare(parameters, sequences)
    paths = np.array(best_paths(initial, transition, shifted, sequences.mask), np.int32)
    return np.where(sequences.mask, paths, -1)


def posterior(parameters: Parameters, sequences: Sequences) -> Float[np.ndarray, "run time state"]:
    """Returns the smoothed probabilities p(state_t = k | run), [run, time, K], 0 on padding.

    Arguments as those of `viterbi`.
    """
    initial, transition, shifted, _ = _prepare(parameters, sequences)
    smoothed = np.asarray(_smooth(initial, transition, shifted))
    return np.where(sequences.mask[:, :, None], smoothed, 0.0)


def filtered(parameters: Parameters, sequences: Sequences) -> Float[np.ndarray, "run time state"]:
    """Returns the filtered probabilities p(state_t = k | checkpoints 1..t), 0 on padding.

    They use no later checkpoint (Hu et al. 2023 take their importances from them).
    """
    initial, transition, shifted, _ = _prepare(parameters, sequences)
    probabilities, _ = _filter(initial, transition, shifted)
    return np.where(sequences.mask[:, :, None], probabilities, 0.0)


def filtered_and_smoothed(
    parameters: Parameters, sequences: Sequences
) -> tuple[Float[np.ndarray, "run time state"], Float[np.ndarray, "run time state"]]:
    """Returns p(state_t = k | checkpoints 1..t) and p(state_t = k | run), padding as it comes.

    In NumPy, by the backward recursion of Kitagawa (1987): with a_jk the transitions and q
    the predicted probabilities,

        p(s_t = j | run) = p(s_t = j | 1..t) sum_k a_jk p(s_t+1 = k | run) / q_t+1(k).
    """
    initial, transition, shifted, _ = _prepare(parameters, sequences)
    beliefs, _ = _filter(initial, transition, shifted)
    transition = np.asarray(transition, float)
    smoothed = beliefs.copy()
    for time in range(beliefs.shape[1] - 2, -1, -1):
        predicted = beliefs[:, time] @ transition  # above 0, as the transitions are
        smoothed[:, time] *= (smoothed[:, time + 1] / predicted) @ transition.T
    return beliefs, smoothed


def filter_states(
    initial: Float[np.ndarray, " state"],
    transition: Float[np.ndarray, "state state"],
    log_densities: Float[np.ndarray, "run time state"],
) -> Float[np.ndarray, "run time state"]:
    """Returns p(state_t = k | checkpoints 1..t) of any emission, from its log-densities."""
    if not log_densities.shape[1]:
        return np.zeros(log_densities.shape)
    shifted = log_densities - log_densities.max(-1, keepdims=True)
    return _filter(np.maximum(initial, _FLOOR), np.maximum(transition, _FLOOR), shifted)[0]


def log_likelihood(parameters: Parameters, sequences: Sequences) -> Float[np.ndarray, " run"]:
    """Returns the log-likelihood log p(run) of every run under the model, in nats."""
    initial, transition, shifted, shift = _prepare(parameters, sequences)
    return shift.sum(1) + _filter(initial, transition, shifted)[1]


def _prepare(parameters: Parameters, sequences: Sequences):
    """Floored probabilities, log-densities [run, time, K] with maximum 0, and the maxima."""
    if parameters.means.shape[-1] != sequences.num_metrics:
        raise UserError(
            f"the model has {parameters.means.shape[-1]} metrics and the data "
            f"{sequences.num_metrics} ({', '.join(sequences.metrics)}): pass the metrics it was "
            "fitted on"
        )
    densities = log_densities(parameters, sequences.values)
    densities = np.where(sequences.mask[:, :, None], densities, 0.0)
    shift = densities.max(-1)
    initial, transition = (
        np.maximum(p, _FLOOR) for p in (parameters.initial, parameters.transition)
    )
    return initial, transition, densities - shift[:, :, None], shift


def _filter(initial, transition, log_likelihoods) -> tuple[np.ndarray, np.ndarray]:
    """Filtered probabilities [run, time, K] and log p(run) [run], in float64.

    In NumPy: compiling Dynamax's takes longer than it runs. Padded steps have log-density 0 in
    every state and so normaliser 1: nothing to mask.
    """
    initial, transition = (np.asarray(rows, float) for rows in (initial, transition))
    densities = np.exp(np.asarray(log_likelihoods, float))
    filtered, total = np.empty_like(densities), np.zeros(len(densities))
    predicted = np.broadcast_to(initial, densities[:, 0].shape)
    for time in range(densities.shape[1]):
        joint = predicted * densities[:, time]
        normaliser = joint.sum(1)
        filtered[:, time] = joint / normaliser[:, None]
        total += np.log(normaliser)
        predicted = filtered[:, time] @ transition
    return filtered, total


@jax.jit
def _smooth(initial, transition, log_likelihoods):
    # hmm_smoother drops states whose predicted probability is below 1e-8; this one does not.
    from dynamax.hidden_markov_model import hmm_two_filter_smoother

    smoother = jax.vmap(hmm_two_filter_smoother, (None, None, 0))
    return smoother(initial, transition, log_likelihoods).smoothed_probs


@jax.jit
def best_paths(initial, transition, log_likelihoods, mask):
    """Viterbi paths int [run, time] of runs [run, time, K], as one program; any on padding."""
    from dynamax.hidden_markov_model import hmm_posterior_mode

    def mode(log_likelihoods, mask):
        # Into padding every transition costs nothing, or the padding would pull the last state.
        # One padded step more, because Dynamax cannot take a run of a single step.
        goes_on = jnp.append(mask[1:], False)
        free = jnp.where(goes_on[:, None, None], transition, 1.0)
        return hmm_posterior_mode(initial, free, jnp.pad(log_likelihoods, ((0, 1), (0, 0))))[:-1]

    return jax.vmap(mode)(log_likelihoods, mask)
