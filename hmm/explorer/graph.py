"""The states and transitions of decoded paths, laid out on a plane."""

import itertools
from typing import Any

import numpy as np
from jaxtyping import Int

from seedmap.hmm.figures import layout

SIZE = (7.0, 3.0)  # of the plane
_POINTS = 4  # every which point of a curve is kept


def state_graph(
    paths: Int[np.ndarray, "run time"], num_states: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the states and the transitions that runs make, ready for JSON.

    Args:
        paths: int [run, time], -1 past a run's end.
        num_states: K.

    Returns:
        A dict per state: its share of all records, the number of runs that visit it, its place
        (None where no run does); and a dict per transition: from, to, number of runs, and the
        points of its curve.
    """
    visits = [list(dict.fromkeys(path[path >= 0].tolist())) for path in paths]
    counts = np.bincount(paths[paths >= 0], minlength=num_states)
    made = [set(itertools.pairwise(path[path >= 0].tolist())) for path in paths]
    pairs = sorted({(j, k) for own in made for j, k in own if j != k})
    centres = _centres(paths, pairs, num_states)
    states = [
        {
            "share": float(counts[k] / counts.sum()),
            "runs": sum(k in visited for visited in visits),
            "x": _place(centres[k, 0]),
            "y": _place(centres[k, 1]),
        }
        for k in range(num_states)
    ]
    edges = [
        {
            "from": j,
            "to": k,
            "runs": sum((j, k) in own for own in made),
            **_curve(centres, j, k, (k, j) in pairs),
        }
        for j, k in pairs
    ]
    return states, edges


def _place(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def _centres(paths: np.ndarray, pairs: list[tuple[int, int]], num_states: int) -> np.ndarray:
    """Places of the states, from left to right by first visit; NaN of those that none visits."""
    first = np.full((len(paths), num_states), np.nan)
    for state in range(num_states):
        here = paths == state
        visited = here.any(1)
        first[visited, state] = here[visited].argmax(1)
    known = np.isfinite(first).any(0)
    mean = np.full(num_states, np.nan)
    mean[known] = np.nanmean(first[:, known], axis=0)
    return layout.centres_of(layout.layers(pairs, mean), num_states, SIZE)


def _curve(centres: np.ndarray, source: int, target: int, both_ways: bool) -> dict[str, Any]:
    """Points of a transition's curve, which goes round the states between its ends."""
    start, end = centres[source], centres[target]
    between = centres[np.isfinite(centres[:, 0])]
    low, high = sorted((start[0], end[0]))
    passed = len(
        np.unique(between[(between[:, 0] > low + 0.01) & (between[:, 0] < high - 0.01), 0])
    )
    bend = 0.2 * both_ways + (0.35 + 0.15 * passed) * (passed > 0)
    points = layout.curve(start, end, bend)[::_POINTS]
    return {"xs": points[:, 0].round(3).tolist(), "ys": points[:, 1].round(3).tolist()}
