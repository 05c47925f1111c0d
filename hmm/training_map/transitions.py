"""The transitions that decoded runs make."""

from typing import NamedTuple

import numpy as np


class Transitions(NamedTuple):
    """Every change of state of every run, by run, then time.

    Attributes:
        runs: int [transition], its run.
        times: int [transition], index of the last checkpoint in the state left.
        sources: int [transition], state left.
        targets: int [transition], state entered.
    """

    runs: np.ndarray
    times: np.ndarray
    sources: np.ndarray
    targets: np.ndarray


def transitions_made(paths: np.ndarray) -> Transitions:
    """Returns the transitions between two different states in paths int [run, time], -1 padding."""
    before, after = paths[:, :-1], paths[:, 1:]
    runs, times = np.nonzero((before != after) & (after >= 0))
    return Transitions(runs, times, before[runs, times], after[runs, times])


def returns(path: np.ndarray) -> bool:
    """Tells whether a run comes back to a state it had left.

    Args:
        path: int [time], states, -1 past the run's end.
    """
    seen = path[path >= 0]
    stays = seen[np.flatnonzero(np.diff(seen, prepend=-1))]
    return len(np.unique(stays)) < len(stays)
