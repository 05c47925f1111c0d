"""Figures of several experiments side by side."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from seedmap.hmm.figures.style import (
    GREY,
    INK,
    PALE,
    WIDTH,
    Drawing,
    add_legend,
    shorten,
    state_colour,
    state_handles,
    styled,
    text_colour,
)

_FORK: dict[str, Any] = {"color": state_colour(1), "marker": "^", "linestyle": ""}
_PATH: dict[str, Any] = {"color": state_colour(0), "marker": "o", "linestyle": ""}
_LEAST_LABELLED = 0.06  # share of time below which a bar's piece has no room for its number


class Experiment(NamedTuple):
    """What is shown of an experiment; None where it is not defined.

    Attributes:
        name: its name.
        r2: of the outcome on the bag of states.
        dissimilarity: of its runs.
        spread: standard deviation over mean of the times of convergence.
        states: number of states.
        forks: whether its runs fork.
        published: r2, dissimilarity and states that were published of it, if any.
    """

    name: str
    r2: float | None
    dissimilarity: float | None
    spread: float | None
    states: int
    forks: bool
    published: tuple[float | None, float | None, int] | None = None


@styled
def plot_comparison(experiments: Sequence[Experiment]) -> Figure:
    """Show what each experiment found, a row each: R², dissimilarity, spread, number of states.

    A triangle is an experiment whose runs fork, a dot one with a single path; a hollow
    diamond is what was published.

    Args:
        experiments: From top to bottom.

    Returns:
        The figure.
    """
    figure = Drawing(figsize=(WIDTH, 1.3 + 0.34 * len(experiments)), layout="constrained")
    axes = figure.subplots(1, 4, sharey=True, width_ratios=(3, 3, 3, 2))
    titles = ("R² of bag of states", "Dissimilarity (index)", "Spread of convergence", "States")
    labels = ("share of variance", "mean over pairs of runs", "standard deviation / mean", "number")
    published = [e.published or (None, None, None) for e in experiments]
    columns: tuple[tuple[Sequence[float | None], Sequence[float | None] | None], ...] = (
        ([e.r2 for e in experiments], [p[0] for p in published]),
        ([e.dissimilarity for e in experiments], [p[1] for p in published]),
        ([e.spread for e in experiments], None),
        ([e.states for e in experiments], [p[2] for p in published]),
    )
    for ax, title, label, (ours, theirs) in zip(axes, titles, labels, columns, strict=True):
        ax.set(title=title, xlabel=label)
        _draw_column(ax, ours, theirs, [e.forks for e in experiments])
    axes[0].set_xlim(-0.05, 1.05)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_yticks(range(len(experiments)), [shorten(e.name) for e in experiments])
    axes[0].set_ylim(len(experiments) - 0.5, -0.5)
    add_legend(figure, _handles(any(e.published for e in experiments)))
    return figure


def _draw_column(
    ax: Axes,
    ours: Sequence[float | None],
    theirs: Sequence[float | None] | None,
    forks: Sequence[bool],
) -> None:
    for row, (value, fork) in enumerate(zip(ours, forks, strict=True)):
        ax.axhline(row, color=PALE, linewidth=0.8, zorder=0)
        if value is None:
            ax.annotate("\N{EN DASH}", (0.02, row), xycoords=("axes fraction", "data"), color=GREY)
        else:
            look = _FORK if fork else _PATH
            ax.plot(value, row, markersize=6, gid="ours", clip_on=False, **look)
    for row, value in enumerate(theirs or ()):
        if value is not None:
            ax.plot(value, row, gid="published", **_diamond())
    ax.set_xlim(*_limits([value for value in [*ours, *(theirs or ())] if value is not None]))
    ax.tick_params(axis="y", length=0)


def _diamond() -> dict[str, Any]:
    hollow = {"markerfacecolor": "none", "markeredgecolor": INK, "markersize": 8}
    return {"marker": "D", "linestyle": "", "clip_on": False, **hollow}


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """From a little under zero to a little over the largest."""
    most = max(values, default=0.0) or 1.0
    return -0.06 * most, 1.1 * most


def _handles(any_published: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], label=label, **look)
        for look, label in ((_FORK, "runs fork"), (_PATH, "no fork found"))
    ]
    if any_published:
        handles.append(Line2D([], [], label="published (Hu et al. 2023)", **_diamond()))
    return handles


@styled
def plot_shared_states(shares: np.ndarray, names: Sequence[str]) -> Figure:
    """Show how each experiment spends its time over the states of one HMM, a bar each.

    Args:
        shares: Mean over its runs of the share of checkpoints in each state, float
            [experiment, state], rows sum to 1.
        names: Names of the experiments.

    Returns:
        The figure.
    """
    figure = Drawing(figsize=(WIDTH, 1.1 + 0.36 * len(names)), layout="constrained")
    ax = figure.add_subplot()
    starts = np.cumsum(shares, axis=1) - shares
    for state in range(shares.shape[1]):
        colour = state_colour(state)
        rows = range(len(names))
        ax.barh(rows, shares[:, state], left=starts[:, state], color=colour, height=0.7)
        for row in rows:
            if shares[row, state] >= _LEAST_LABELLED:
                middle = starts[row, state] + shares[row, state] / 2
                colours: dict[str, Any] = {"color": text_colour(colour), "fontsize": 7}
                ax.text(middle, row, f"{state}", ha="center", va="center", **colours)
    ax.set(xlim=(0, 1), xlabel="mean share of checkpoints", title="Time in each state of one HMM")
    ax.set_yticks(range(len(names)), [shorten(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    add_legend(figure, state_handles(shares.shape[1]))
    return figure
