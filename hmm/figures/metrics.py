"""Figures of what was recorded: metrics over time, a line a run."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seedmap.hmm.figures.style import WIDTH, Drawing, drawn, on_axes, shorten, state_colour, styled

MOST_PANELS = 12
_COLUMNS = 4


@styled
def plot_metric(
    name: str,
    values: Float[np.ndarray, "run time"],
    steps: Float[np.ndarray, "run _"],
    unit: str = "step",
    ax: Axes | None = None,
) -> Figure | Axes:
    """Show a metric over time, a line a run.

    Args:
        name: of the metric.
        values: float [run, time], NaN where nothing was recorded.
        steps: float [run, time], at least as many, when records were made.
        unit: of the steps.
        ax: axes to draw on. Default: a new figure.

    Returns:
        `ax`, or the figure.
    """
    given, ax = ax, on_axes(ax, 0.75 * WIDTH, 2.8)
    _draw(ax, values, steps)
    ax.set(title=name, xlabel=unit)
    return drawn(ax, given)


@styled
def plot_metrics(
    values: Mapping[str, Float[np.ndarray, "run time"]],
    steps: Float[np.ndarray, "run _"],
    unit: str = "step",
) -> Figure:
    """Show metrics over time, a panel each, at most 12; arguments are those of `plot_metric`."""
    shown = dict(list(values.items())[:MOST_PANELS])
    rows = -(-len(shown) // _COLUMNS)
    figure = Drawing(figsize=(WIDTH, 0.6 + 1.3 * rows), layout="constrained")
    axes = figure.subplots(rows, min(_COLUMNS, len(shown)), squeeze=False).ravel()
    for ax, (name, curves) in zip(axes, shown.items(), strict=False):
        _draw(ax, curves, steps)
        ax.set_title(shorten(name))
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    figure.supxlabel(unit, fontsize=8)
    return figure


def _draw(ax: Axes, values: np.ndarray, steps: np.ndarray) -> None:
    for when, line in zip(steps[:, : values.shape[1]], values, strict=True):
        ax.plot(when, line, color=state_colour(0), linewidth=0.7)
