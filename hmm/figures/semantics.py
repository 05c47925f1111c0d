"""Figures of what states mean for a run: regression coefficients, dissimilarity of runs."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from seedmap.hmm.figures.style import (
    GREY,
    INK,
    PAPER,
    WIDTH,
    drawn,
    figure_of,
    name_ticks,
    on_axes,
    say_nothing_to_show,
    set_wide_scale,
    state_colour,
    styled,
)
from seedmap.hmm.training_map.regression import Coefficient, Regression
from seedmap.text import UNDEFINED, fixed

MORE_TIME = 0.1  # share of time whose effect is shown


@styled
def plot_coefficients(
    regression: Regression,
    detours: Collection[int] = (),
    measure: str = "steps later than the mean run",
    ax: Axes | None = None,
) -> Figure | Axes:
    """Show what more time in each state goes with, a row per state, with intervals.

    That is a tenth of the regression's coefficient: the effect on the mean run of 10 % more of its
    time in the state, taken from the other states alike. (The coefficient itself is about a run
    that is nowhere else, which no run comes near.)

    Args:
        regression: Convergence time on the bag of states.
        detours: States that are detours.
        measure: What a positive coefficient says of a run, the unit first.
        ax: axes to draw on. Default: a new figure.

    Returns:
        `ax`, or the figure; states whose coefficient the runs do not determine are said to be so.
    """
    coefficients = sorted(regression.coefficients, key=lambda c: c.state)
    given, ax = ax, on_axes(ax, 0.8 * WIDTH, 1.3 + 0.28 * len(coefficients))
    if not regression.num_runs:
        say_nothing_to_show(ax, "no run converged: nothing to regress on")
        return drawn(ax, given)
    ax.axvline(0, color=INK, linewidth=0.8)
    for coefficient in coefficients:
        _add_coefficient(ax, coefficient)
    bounds = [(c.value, c.low, c.high) for c in coefficients]
    set_wide_scale(ax, MORE_TIME * np.array(bounds, dtype=float), "x")
    labels = [f"state {c.state}" + " (detour)" * (c.state in detours) for c in coefficients]
    ax.set_yticks([c.state for c in coefficients], labels)
    ax.set_ylim(len(coefficients) - 0.5, -0.5)
    interval = f"{100 * regression.confidence:g} % interval"
    more = f"{100 * MORE_TIME:g} % more of the time in the state"
    ax.set_xlabel(f"{measure}\nfor {more} ({interval})")
    ax.set_title(_statistics(regression))
    return drawn(ax, given)


def _add_coefficient(ax: Axes, coefficient: Coefficient) -> None:
    """Draw one row: value and interval, as far as they are determined."""
    state, colour = coefficient.state, state_colour(coefficient.state)
    if coefficient.value is None:
        style: dict[str, Any] = {
            "xycoords": ("axes fraction", "data"),
            "va": "center",
            "ha": "center",
            "bbox": {"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none"},
        }
        ax.annotate("not estimable", (0.5, state), color=GREY, fontsize=7, **style)
        return
    if coefficient.low is not None and coefficient.high is not None:
        low, high = MORE_TIME * coefficient.low, MORE_TIME * coefficient.high
        ax.hlines(state, low, high, color=colour, linewidth=2)
    value = MORE_TIME * coefficient.value
    ax.plot(value, state, "o", color=colour, markeredgecolor=INK, markersize=6)


def _statistics(regression: Regression) -> str:
    """R², its left-out twin and the p-value of the F-test in a line."""
    shares = (regression.r2, regression.leave_one_out_r2)
    r2, left_out = (fixed(share, undefined=UNDEFINED) for share in shares)
    p = regression.f_pvalue
    p_text = "p undefined" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    return f"R² {r2}, left out {left_out}, {p_text} ({regression.num_runs} runs)"


_MOST_ORDERED = 500


def cluster_order(dissimilarity: np.ndarray) -> np.ndarray:
    """Order of the runs in which similar ones stand together.

    Average-linkage clustering, leaves of at most 500 runs ordered so that neighbours are as similar
    as can be (Bar-Joseph et al. 2001), whose time grows with the cube of their number.

    Args:
        dissimilarity: Symmetric with zero diagonal, float [run, run].

    Returns:
        Indices, int [run].
    """
    if len(dissimilarity) < 3:
        return np.arange(len(dissimilarity))
    condensed = squareform(dissimilarity, checks=False)
    best = len(dissimilarity) <= _MOST_ORDERED
    return hierarchy.leaves_list(hierarchy.linkage(condensed, "average", optimal_ordering=best))


@styled
def plot_dissimilarity(
    dissimilarity: np.ndarray,
    runs: Sequence[str],
    ground: str = "discrete",
    drawn_from: int | None = None,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Show the dissimilarity of every pair of runs, similar runs next to each other.

    Args:
        dissimilarity: Symmetric with zero diagonal, float [run, run].
        runs: Names of the runs.
        ground: Name of the ground metric.
        drawn_from: Number of all runs, where these are a part of them.
        ax: axes to draw on. Default: a new figure.

    Returns:
        `ax`, or the figure.
    """
    order = cluster_order(dissimilarity)
    given, ax = ax, on_axes(ax, 0.75 * WIDTH, 4.3)
    largest = dissimilarity.max() or 1.0
    image = ax.imshow(dissimilarity[np.ix_(order, order)], cmap="cividis", vmin=0, vmax=largest)
    ticks, names, size = name_ticks([runs[i] for i in order])
    ax.set_yticks(ticks, names, fontsize=size)
    ax.set_xticks(ticks, names, fontsize=size, rotation=90)
    ax.tick_params(length=1)
    figure_of(ax).colorbar(image, label=f"dissimilarity ({ground})", shrink=0.8, ax=ax)
    of_all = "" if drawn_from in (None, len(runs)) else f"{len(runs)} of {drawn_from} "
    ax.set_title(f"Dissimilarity of {of_all}runs, clustered")
    return drawn(ax, given)
