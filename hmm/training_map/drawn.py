"""The map that is drawn: of the chosen number of states, or of one that shows the named branches.

The number of states is chosen without a thought of branches, and most branches are in maps of more
states. A picture that names a branch shows it, so it may be of another number of states.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from seedmap.hmm.parameters import Parameters, with_least_variance
from seedmap.hmm.sequences import Sequences
from seedmap.hmm.training_map.branches import Branch, states_with_branches
from seedmap.hmm.training_map.build import TrainingMap, build_map

_LEAST_COUNT = 0.01  # of transitions, as in the fit of maps


@dataclass(frozen=True, eq=False)
class DrawnMap:
    """A map to draw.

    Attributes:
        training_map: what is drawn.
        branches: its states that are named branches, detours included.
        detours: those that are detours.
        heading: what it is a map of.
    """

    training_map: TrainingMap
    branches: tuple[int, ...] = ()
    detours: tuple[int, ...] = ()
    heading: str = "Training map"


def map_to_draw(
    chosen: TrainingMap,
    branches: Sequence[Branch],
    sequences: Sequences,
    decodings: Mapping[int, Int[np.ndarray, "_run _time"]],
) -> DrawnMap:
    """Returns the map in which most of the named branches can be seen.

    Args:
        chosen: of the chosen number of states.
        branches: of `find_branches`.
        sequences: the runs on the map, in the units its states are described in.
        decodings: of these runs, by number of states; those of the branches' maps are there.
    """
    size = states_with_branches(branches, chosen.num_states)
    drawn, heading = chosen, "Training map"
    if size != chosen.num_states:
        paths = decodings[size]
        drawn = build_map(moments_of_paths(sequences, paths, size), sequences, paths)
        heading = f"Map of {size} states (chosen: {chosen.num_states})"
    return DrawnMap(drawn, *states_of_branches(branches, size), heading)


def states_of_branches(
    branches: Sequence[Branch], num_states: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the states of a map that are named branches, and those of them that are detours."""
    pairs = {
        (state, branch.detour)
        for branch in branches
        if branch.named
        for size, state in branch.maps
        if size == num_states
    }
    return tuple(sorted({s for s, _ in pairs})), tuple(sorted({s for s, detour in pairs if detour}))


def branch_marks(branches: Sequence[Branch], num_states: int) -> dict[int, str]:
    """Returns "branch" or "detour" of each state of a map that is a named one."""
    named, detours = states_of_branches(branches, num_states)
    return dict.fromkeys(named, "branch") | dict.fromkeys(detours, "detour")


def moments_of_paths(
    sequences: Sequences, paths: Int[np.ndarray, "run time"], num_states: int
) -> Parameters:
    """Returns decoded states as a Gaussian HMM: means, covariances and counts of their records.

    Args:
        sequences: the runs, NaN where a metric is missing.
        paths: int [run, time], states, -1 past a run's end.
        num_states: K; a state that none visits has mean 0 and unit covariance.
    """
    moments = [_moments(sequences.values[paths == state]) for state in range(num_states)]
    starts = np.bincount(paths[:, 0], minlength=num_states) + _LEAST_COUNT
    counts = np.full((num_states, num_states), _LEAST_COUNT)
    going = paths[:, 1:] >= 0
    np.add.at(counts, (paths[:, :-1][going], paths[:, 1:][going]), 1)
    return Parameters(
        starts / starts.sum(),
        counts / counts.sum(axis=1, keepdims=True),
        np.array([mean for mean, _ in moments]),
        np.array([covariance for _, covariance in moments]),
    )


def _moments(
    values: Float[np.ndarray, "record metric"],
) -> tuple[Float[np.ndarray, " metric"], Float[np.ndarray, "metric metric"]]:
    """Mean and covariance of what is known, the covariance of pairs that are."""
    if not len(values):
        return np.zeros(values.shape[1]), np.eye(values.shape[1])
    known = ~np.isnan(values)
    mean = np.where(known, values, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    centred = np.where(known, values - mean, 0.0)
    pairs = known.T.astype(float) @ known
    return mean, with_least_variance(centred.T @ centred / np.maximum(pairs, 1))
