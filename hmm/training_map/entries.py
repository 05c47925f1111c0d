"""When runs enter states, as far as it is known: the records around each decoded transition.

A decoded path says one record for each transition, and says it with hindsight. What a metric means
for entering a state is therefore averaged over the records at which the entry may have been, each
with its smoothed probability.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from seedmap.hmm.inference import filtered_and_smoothed
from seedmap.hmm.parameters import Parameters
from seedmap.hmm.sequences import Sequences
from seedmap.hmm.training_map.transitions import Transitions

LEAST_WEIGHT = 1e-3
"""Of a record, of the weight of its transition, below which it is left out."""


class Entries(NamedTuple):
    """Records at which transitions may have been; their weights sum to 1 over a transition.

    Attributes:
        transitions: int [entry], index of the transition.
        times: int [entry], first record in the state entered.
        weights: float64 [entry].
    """

    transitions: Int[np.ndarray, " entry"]
    times: Int[np.ndarray, " entry"]
    weights: Float[np.ndarray, " entry"]


def decoded_entries(made: Transitions) -> Entries:
    """Returns the record of each transition as decoded, with weight 1."""
    count = len(made.runs)
    return Entries(np.arange(count), made.times + 1, np.ones(count))


def smoothed_entries(
    parameters: Parameters,
    sequences: Sequences,
    paths: Int[np.ndarray, "run time"],
    made: Transitions,
) -> Entries:
    """Returns the records at which each transition may have been.

    The weight of record t for the transition from j to k is proportional to p(s_t-1 = j, s_t = k |
    run), over the stay in j and that in k on either side of the decoded transition. Where the HMM
    rules the transition out at all of them, the decoded record alone counts.

    Args:
        parameters: of the HMM, states in the order of `paths`.
        sequences: the runs, in the units the HMM was fitted in.
        paths: int [run, time], decoded states, -1 on padding.
        made: their transitions.
    """
    beliefs, smoothed = filtered_and_smoothed(parameters, sequences)
    number, times, weights = [], [], []
    for index, (run, last, source, target) in enumerate(zip(*made, strict=True)):
        begin, end = _stays(paths[run], last)
        window = np.arange(begin + 1, end)
        predicted = beliefs[run, window - 1] @ parameters.transition[:, target]
        share = smoothed[run, window, target] / np.maximum(predicted, 1e-300)
        joint = beliefs[run, window - 1, source] * parameters.transition[source, target] * share
        if not joint.sum() > 0:
            window, joint = np.array([last + 1]), np.ones(1)
        weight = joint / joint.sum()
        kept = weight >= LEAST_WEIGHT
        number.append(np.full(kept.sum(), index))
        times.append(window[kept])
        weights.append(weight[kept] / weight[kept].sum())
    if not number:
        return decoded_entries(made)
    return Entries(np.concatenate(number), np.concatenate(times), np.concatenate(weights))


def _stays(path, last):
    """First record of the stay that ends at `last`, and the one after the stay that follows."""
    changes = np.flatnonzero(np.diff(path)) + 1
    before, after = changes[changes <= last], changes[changes > last + 1]
    return (before[-1] if len(before) else 0), (after[0] if len(after) else len(path))
