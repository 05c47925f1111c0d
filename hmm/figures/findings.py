"""Figures of survival, of path or speed, and of what moves first."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seedmap.hmm.figures.style import (
    GREY,
    INK,
    PALE,
    WIDTH,
    Drawing,
    drawn,
    on_axes,
    shorten,
    state_colour,
    styled,
)
from seedmap.hmm.training_map.moves_first import MovesFirst
from seedmap.hmm.training_map.path_or_speed import PathOrSpeed
from seedmap.hmm.training_map.survival import SurvivalCurve
from seedmap.text import p_equals, whole_percent

MOST_METRICS = 14
_DASHES = ("-", "--", ":", "-.")  # beside colour
_MARKERS = "os^vDPX"


@styled
def plot_survival(
    curves: Mapping[str, SurvivalCurve],
    end: float,
    unit: str = "step",
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draws the share of runs that have not converged over time, a curve for each group of runs.

    Args:
        curves: name of the group, such as "visitors of state 3", to its curve.
        end: last time of the axis, such as the last record's.
        unit: of the times.
        ax: axes to draw on. Default: a new figure.

    Returns:
        `ax`, or the figure; bands are 95 % intervals.
    """
    given, ax = ax, on_axes(ax, WIDTH, 3.2)
    for index, (name, curve) in enumerate(curves.items()):
        times = np.r_[0.0, curve.times, max(end, *curve.times, 0.0)]
        colour = state_colour(index)
        label = f"{shorten(name)} ({curve.num_converged} of {curve.num_runs} converge)"
        dash = _DASHES[index % len(_DASHES)]
        ax.step(
            *(times, _held(curve.survival)), where="post", color=colour, linestyle=dash, label=label
        )
        low, high = _held(curve.low), _held(curve.high)
        ax.fill_between(times, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
    ax.set(xlabel=unit, ylabel="share not converged", xlim=(0, end), ylim=(-0.02, 1.02))
    ax.set_title("Convergence as survival, with 95 % intervals")
    ax.legend(loc="upper right")
    return drawn(ax, given)


def _held(heights: np.ndarray) -> np.ndarray:
    """Heights of a curve of steps that begins at 1 and holds its last height to the end."""
    held = np.concatenate([[1.0], heights])
    return np.append(held, held[-1])


@styled
def plot_path_or_speed(found: PathOrSpeed) -> Figure:
    """Draws how much of the difference between runs is timing and how much is place.

    Returns:
        A figure with one axes: a bar with the interval of the border between the two shares.
    """
    figure = Drawing(figsize=(WIDTH, 1.3), layout="constrained")
    ax = figure.subplots()
    ax.barh(0, found.timing, color=state_colour(0), height=0.5)
    hatched: dict[str, Any] = {"facecolor": PALE, "edgecolor": GREY, "hatch": "////"}
    ax.barh(0, found.place, left=found.timing, height=0.5, **hatched)
    around = [[max(found.timing - found.low, 0)], [max(found.high - found.timing, 0)]]
    ax.errorbar(found.timing, 0, xerr=around, color=INK, capsize=3)
    ax.text(0.0, 0.42, f"speed {whole_percent(found.timing)}", ha="left", color=state_colour(0))
    ax.text(1.0, 0.42, f"path {whole_percent(found.place)}", ha="right", color=GREY)
    ax.set(xlim=(0, 1), ylim=(-0.4, 0.7), yticks=[], xlabel="share of the difference between runs")
    ax.spines["left"].set_visible(False)
    ax.set_title(f"Path or speed, {found.runs} runs (timing: {p_equals(found.pvalue)})")
    return figure


@styled
def plot_moves_first(found: MovesFirst, event: str, unit: str = "step") -> Figure:
    """Draws metrics around the event, and the leads of those that turn, the earliest on top.

    Args:
        found: the order; at most 14 metrics are drawn.
        event: what leads are counted to, such as "convergence".
        unit: of the leads.

    Returns:
        A figure with two axes: median curves, and medians of leads with 95 % intervals.
    """
    turns = found.turns[:MOST_METRICS]
    figure = Drawing(figsize=(WIDTH, 1.6 + 0.16 * max(len(turns), 6)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, turn in enumerate(turns):
        curve = found.curves[found.metrics.index(turn.metric)]
        left.plot(found.offsets, curve, markevery=(index, 9), **_look(index))
    left.axvline(0, color=GREY, linewidth=0.8)
    left.set(xlabel=f"records from {event}", ylabel="median metric, scaled in each run")
    left.set_title(f"Metrics around {event}, {found.runs} runs")
    for index, turn in enumerate(turns):
        reach = None
        if turn.low is not None and turn.high is not None:
            reach = [[turn.lead - turn.low], [turn.high - turn.lead]]
        right.errorbar(turn.lead, index, xerr=reach, **_look(index))
    right.set_yticks(range(len(turns)), [shorten(turn.metric) for turn in turns])
    right.set_ylim(max(len(turns), 1) - 0.5, -0.5)
    right.invert_xaxis()
    right.axvline(0, color=GREY, linewidth=0.8)
    right.set_xlabel(f"lead in {unit}s, 95 % interval")
    right.set_title("What moves first")
    return figure


def _look(index: int) -> dict[str, Any]:
    """Colour and marker of a metric."""
    marker = _MARKERS[index % len(_MARKERS)]
    return {"color": state_colour(index), "marker": marker, "markersize": 3}
