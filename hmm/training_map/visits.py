"""Which states each run visits, and when."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

SHORTEST_STAY = 2
"""Records in a row that make a visit; the last record of a run makes one alone, as it may stay."""


class Visits(NamedTuple):
    """The visits of runs to states.

    Attributes:
        visited: bool [run, state].
        entered: int [run, state], record at which the first visit begins, -1 where there is none.
        departed: int [run, state], record after the first visit, -1 where there is none.
        left: int [run, state], record after the last visit.
        last: int [run], state of the last record.
    """

    visited: Bool[np.ndarray, "run state"]
    entered: Int[np.ndarray, "run state"]
    departed: Int[np.ndarray, "run state"]
    left: Int[np.ndarray, "run state"]
    last: Int[np.ndarray, " run"]


def find_visits(paths: Int[np.ndarray, "run time"], num_states: int) -> Visits:
    """Returns the visits of runs: stays of at least `SHORTEST_STAY` records, or up to the end.

    Args:
        paths: int [run, time], decoded states, -1 past a run's end.
        num_states: K.
    """
    shape = (len(paths), num_states)
    entered, departed, left = (np.full(shape, -1) for _ in range(3))
    last = np.empty(len(paths), int)
    for run, path in enumerate(paths):
        path = path[path >= 0]
        begins = np.r_[0, np.flatnonzero(np.diff(path)) + 1]
        ends = np.r_[begins[1:], len(path)]
        stays = (ends - begins >= SHORTEST_STAY) | (ends == len(path))
        begins, ends = begins[stays], ends[stays]
        left[run, path[begins]] = ends  # of several, the last one counts
        entered[run, path[begins[::-1]]] = begins[::-1]  # and the first one
        departed[run, path[begins[::-1]]] = ends[::-1]
        last[run] = path[-1]
    return Visits(entered >= 0, entered, departed, left, last)
