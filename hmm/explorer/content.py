"""What the explorer's script gets: runs, maps of every number of states, curves."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from seedmap.hmm.autoregressive.choice import SizeCandidate
from seedmap.hmm.autoregressive.map_sweep import SizeRow
from seedmap.hmm.explorer.graph import state_graph
from seedmap.hmm.figures.style import state_colour, text_colour
from seedmap.hmm.training_map.build import Edge
from seedmap.text import changes

_NOT_TRIED = "Decoded to seek branches only: its stability was not measured."
MOST_RUNS = 200
MOST_NUMBERS = 200_000  # of all curves: 1 MB in the page


@dataclass(frozen=True, eq=False)
class Explored:
    """A map and all that is shown with it.

    Attributes:
        runs: names.
        steps: float [run, time], when each record was made; NaN on padding.
        unit: of `steps` and `convergence`.
        convergence: float [run], NaN where it never came.
        paths: by number of states, int [run, time], -1 past a run's end.
        num_states: the number that was chosen.
        curves: by name, float [run, time], whatever was recorded.
        scales: by name of a curve, mean and standard deviation that the HMM sees it by; other
            curves are scaled by their own, over all runs.
        on_the_map: int, rows of the runs that maps are made of; the others are odd.
        diverged: rows of those that diverged.
        edges: of some maps, by number of states.
        marks: "branch" or "detour" of the states that are one, likewise.
        drawn: the number of states that is shown first; None: the chosen one.
        reasons: by number of states, how stable it is, in words.
        names: of states of the chosen map that have one.
    """

    runs: Sequence[str]
    steps: Float[np.ndarray, "run time"]
    unit: str
    convergence: Float[np.ndarray, " run"]
    paths: Mapping[int, Int[np.ndarray, "run time"]]
    num_states: int
    curves: Mapping[str, Float[np.ndarray, "run time"]]
    scales: Mapping[str, tuple[float, float]]
    on_the_map: Int[np.ndarray, " index"]
    diverged: Sequence[int] = ()
    edges: Mapping[int, Sequence[Edge]] = field(default_factory=dict)
    marks: Mapping[int, Mapping[int, str]] = field(default_factory=dict)
    drawn: int | None = None
    reasons: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)


def to_content(explored: Explored) -> dict[str, Any]:
    """Returns what the script gets, ready for JSON.

    Maps count all runs; of more than `MOST_RUNS` runs, or more than `MOST_NUMBERS` numbers of
    curves, a part is shown, and `sampled` says which.
    """
    rows = _shown_rows(explored.convergence)
    length = max(paths.shape[1] for paths in explored.paths.values())
    stride = max(1, -(-len(rows) * length * len(explored.curves) // MOST_NUMBERS))
    most = max(*explored.paths, explored.num_states)
    return {
        "unit": explored.unit,
        "runs": [_run(explored, row) for row in rows],
        "times": _times(explored.steps[rows, :length]),
        "chosen": explored.num_states,
        "drawn": explored.drawn or explored.num_states,
        "sizes": [_size(explored, size, rows) for size in sorted(explored.paths)],
        "colours": [state_colour(state) for state in range(most)],
        "inks": [text_colour(state_colour(state)) for state in range(most)],
        "names": {str(state): name for state, name in explored.names.items()},
        "stride": stride,
        "curves": [_curve(explored, name, rows, length, stride) for name in explored.curves],
        "sampled": _sampled(len(explored.runs), len(rows), stride),
    }


def size_sentences(sizes: Iterable[SizeRow | SizeCandidate]) -> dict[int, str]:
    """Returns how stable each number of states is, in words, by number of states."""
    return {row.num_states: _size_sentence(row) for row in sizes}


def _size_sentence(row: SizeRow | SizeCandidate) -> str:
    reason = f"{row.reason[0].upper()}{row.reason[1:]}."
    if row.num_states == 1 or row.agreement is None or np.isnan(row.agreement):
        return reason
    return f"{reason} Halves of the runs agree {row.agreement:.2f}, by chance {row.chance:.2f}."


def _shown_rows(convergence: np.ndarray) -> np.ndarray:
    """Rows in order of convergence, at most `MOST_RUNS` evenly spread over them."""
    order = np.argsort(convergence, kind="stable")
    if len(order) <= MOST_RUNS:
        return order
    return order[np.linspace(0, len(order) - 1, MOST_RUNS).round().astype(int)]


def _sampled(num_runs: int, num_shown: int, stride: int) -> str | None:
    notes = []
    if num_shown < num_runs:
        notes.append(
            f"{num_shown} of {num_runs} runs are shown, evenly spread from the first to converge "
            "to the last; the map is of all of them"
        )
    if stride > 1:
        notes.append(f"curves have one record in {stride}")
    return "; ".join(notes) + "." if notes else None


def _run(explored: Explored, row: int) -> dict[str, Any]:
    converged = explored.convergence[row]
    notes = {"odd": row not in explored.on_the_map, "diverged": row in explored.diverged}
    return {
        "name": str(explored.runs[row]),
        "convergence": float(converged) if np.isfinite(converged) else None,
        "note": ", ".join(word for word, holds in notes.items() if holds),
        "records": int((explored.paths[explored.num_states][row] >= 0).sum()),
    }


def _times(steps: np.ndarray) -> list[list[float]]:
    """The times of each run; one list where all have the same."""
    rows = [[float(f"{time:.7g}") for time in row[np.isfinite(row)]] for row in steps]
    longest = max(rows, key=len)
    alike = all(row == longest[: len(row)] for row in rows)
    return [longest] if alike else rows


def _size(explored: Explored, size: int, rows: np.ndarray) -> dict[str, Any]:
    """The map of a number of states and every run's stays in it."""
    paths, marks = explored.paths[size], explored.marks.get(size, {})
    mapped = paths[explored.on_the_map]
    states, edges = state_graph(mapped, size)
    changes = {(e.source, e.target): e for e in explored.edges.get(size, ())}
    return {
        "states": [state | {"mark": marks.get(k, "")} for k, state in enumerate(states)],
        "edges": [edge | _changes(changes.get((edge["from"], edge["to"]))) for edge in edges],
        "runs": len(mapped),
        "size": size,
        "reason": explored.reasons.get(size, _NOT_TRIED),
        "stays": [stays(paths[row]) for row in rows],
    }


def _changes(edge: Edge | None) -> dict[str, Any]:
    """What the HMM says of an edge of the chosen map."""
    if edge is None:
        return {"probability": None, "changes": ""}
    return {"probability": float(edge.probability), "changes": changes(edge.top_features)}


def stays(path: Int[np.ndarray, " time"]) -> list[list[int]]:
    """Returns the stays of a path, each a state and its number of records; padding left out.

    Example:
        >>> stays(np.array([0, 0, 2, 2, 2, -1]))
        [[0, 2], [2, 3]]
    """
    own = path[path >= 0]
    starts = np.flatnonzero(np.diff(own, prepend=-1))
    lengths = np.diff([*starts, len(own)])
    pairs = zip(own[starts], lengths, strict=True)
    return [[int(state), int(length)] for state, length in pairs]


def _curve(
    explored: Explored, name: str, rows: np.ndarray, length: int, stride: int
) -> dict[str, Any]:
    values = explored.curves[name][:, :length]
    known = values[np.isfinite(values)]
    own = (float(known.mean()), float(known.std()) or 1.0) if known.size else (0.0, 1.0)
    mean, std = explored.scales.get(name, own)
    shown = np.full((len(rows), length), np.nan)
    shown[:, : values.shape[1]] = values[rows]
    return {"name": name, "mean": mean, "std": std, "values": packed(shown[:, ::stride])}


def packed(values: Float[np.ndarray, "run time"]) -> str:
    """Returns numbers as base64 of little-endian float32, row after row."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")
