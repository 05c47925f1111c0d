"""Figures of noise over training, along lines between replicas, and through the training map."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from seedmap.errors import UserError
from seedmap.experiments.noise.measures.divergence import growth_curve
from seedmap.experiments.noise.report.figure_parts import Look, label_at_side, looks
from seedmap.experiments.noise.results import VariantSummary
from seedmap.hmm.figures.style import (
    GREY,
    INK,
    PALE,
    PAPER,
    WIDTH,
    Drawing,
    add_legend,
    plain_tick,
    say_nothing_to_show,
    shorten,
    state_colormap,
    state_handles,
    styled,
)
from seedmap.text import DASH, number

_PANEL = 2.6  # inches, height of the axes of the divergence
_MOST_HEIGHT = 9.0  # inches, of the raster


@styled
def plot_divergence(variants: Sequence[VariantSummary], dataset: xr.Dataset) -> Figure:
    """Draws distance to the first replica, its growth rate, and churn over training steps.

    A thin line for each replica but a variant's first, which is the first of all anew; the median
    bold. The distance is relative to the length of the first replica's weights, on a logarithmic
    axis; where it is exactly 0 it stands on a line of its own under the axis's numbers. How fast is
    its local growth exponent (`growth_curve`), the median over replicas alone.

    Args:
        variants: of `noise.json`.
        dataset: `relative_distance` and perhaps `churn`, [seed, step].

    Returns:
        The figure.
    """
    names = ["relative_distance"] + ["churn"] * ("churn" in dataset)
    panels = 1 + len(names)
    figure = Drawing(figsize=(WIDTH, (_PANEL + 0.5) * panels), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True)
    steps = dataset.step.values
    curves = {name: {v.name: _others(dataset[name].values, v) for v in variants} for name in names}
    look = looks(variants)
    _draw_distances(axes[0], steps, curves["relative_distance"], look)
    _draw_growth(axes[1], steps, curves["relative_distance"], look)
    if "churn" in dataset:
        _draw_churn(axes[2], steps, curves["churn"], look)
    axes[-1].set_xlabel("step")
    return figure


def _others(values: np.ndarray, variant: VariantSummary) -> np.ndarray:
    first, end = variant.rows
    return np.asarray(values[first + 1 : end], dtype=float)


def median_curve(values: np.ndarray) -> np.ndarray:
    """Returns the median over the replicas that have a record; NaN where none has."""
    known = np.isfinite(values).any(axis=0)
    medians = np.full(values.shape[1], np.nan)
    medians[known] = np.nanmedian(values[:, known], axis=0)
    return medians


def _draw_distances(ax: Axes, steps: np.ndarray, curves: dict, look: dict[str, Look]) -> None:
    every = np.concatenate(list(curves.values()))
    positive = every[np.isfinite(every) & (every > 0)]
    ax.set_title("Distance of weights to replica 0, over the length of its weights")
    if not len(positive) and not (every == 0).any():
        say_nothing_to_show(ax, "no replica has a distance to another")
        return
    lowest = np.floor(np.log10(positive.min())) if len(positive) else 0.0
    highest = np.ceil(np.log10(positive.max())) if len(positive) else 0.0
    decades = max(1.0, highest - lowest)
    floor = 10.0 ** (lowest - 0.12 * decades)
    ends = {}
    for name, values in curves.items():
        for row in values:
            _draw_line(ax, steps, row, floor, look[name], thin=True)
        middle = median_curve(values)
        _draw_line(ax, steps, middle, floor, look[name], thin=False, gid=name)
        ends |= _end(
            name, steps, np.where(middle > 0, middle, np.where(middle == 0, floor, np.nan))
        )
    ax.set_yscale("log")
    ax.set_ylim(10.0 ** (lowest - 0.17 * decades), 10.0 ** (lowest + 1.05 * decades))
    stride = int(np.ceil(decades / 6))
    exponents = np.arange(lowest, lowest + decades + 1, stride)
    labels = [f"1e{plain_tick(exponent)}" for exponent in exponents]
    ax.set_yticks([floor, *10.0**exponents], ["0", *labels])
    ax.yaxis.set_minor_locator(NullLocator() if decades > 4 else LogLocator(subs=range(2, 10)))
    ax.yaxis.set_minor_formatter("")
    ax.axhline(10.0 ** (lowest - 0.06 * decades), color=GREY, linewidth=0.6, linestyle=(0, (1, 2)))
    ax.set_ylabel("relative distance (0: identical to the bit)")
    label_at_side(ax, ends, look, _PANEL)


def _draw_line(
    ax: Axes,
    steps: np.ndarray,
    values: np.ndarray,
    floor: float,
    look: Look,
    *,
    thin: bool,
    gid: str | None = None,
) -> None:
    """Draws a curve where it is above 0, and its zeros along the floor, unconnected."""
    style = (
        {"color": look.colour, "linewidth": 0.4, "alpha": 0.35}
        if thin
        else {"color": look.colour, "linewidth": 1.8, "linestyle": look.dash}
    )
    if (values > 0).any():
        ax.plot(steps, np.where(values > 0, values, np.nan), gid=gid, **style)
    if (values == 0).any():
        gid = gid and f"{gid} 0"
        ax.plot(steps, np.where(values == 0, floor, np.nan), gid=gid, **style)


def _end(name: str, steps: np.ndarray, values: np.ndarray) -> dict[str, tuple[float, float]]:
    """Returns the end of a curve, for its label; {} where it has no value."""
    known = np.flatnonzero(np.isfinite(values))
    return {name: (float(steps[known[-1]]), float(values[known[-1]]))} if len(known) else {}


def _draw_growth(ax: Axes, steps: np.ndarray, curves: dict, look: dict[str, Look]) -> None:
    ax.set_title("Growth of that distance: slope of its logarithm")
    ax.set_ylabel("growth exponent (1 / step)")
    ax.axhline(0, color=GREY, linewidth=0.6)
    ends = {}
    for name, values in curves.items():
        if not (values > 0).any():
            continue
        # A distance of 0 has no exponent; nor has one that is not finite.
        middles, exponents = growth_curve(np.where(np.isfinite(values), values, 0), steps)
        middle = median_curve(exponents)
        style = {"color": look[name].colour, "linewidth": 1.4, "linestyle": look[name].dash}
        ax.plot(middles, middle, gid=f"growth of {name}", **style)
        ends |= _end(name, middles, middle)
    if not ends:
        say_nothing_to_show(ax, "no distance changes")
        return
    label_at_side(ax, ends, look, _PANEL)


def _draw_churn(ax: Axes, steps: np.ndarray, curves: dict, look: dict[str, Look]) -> None:
    ends = {}
    for name, values in curves.items():
        for row in values:
            ax.plot(steps, 100 * row, color=look[name].colour, linewidth=0.4, alpha=0.35)
        middle = 100 * median_curve(values)
        style = {"color": look[name].colour, "linewidth": 1.8, "linestyle": look[name].dash}
        ax.plot(steps, middle, gid=name, **style)
        ends |= _end(name, steps, middle)
    most = max([100 * np.nanmax(v) for v in curves.values() if np.isfinite(v).any()], default=0.0)
    ax.set_ylim(-0.04 * (most or 1.0), 1.05 * (most or 1.0))
    ax.set_ylabel("churn (% of test examples)")
    ax.set_title("Disagreement with replica 0")
    label_at_side(ax, ends, look, _PANEL)


@styled
def plot_barriers(variants: Sequence[VariantSummary], errors: np.ndarray) -> Figure:
    """Draws errors along lines between pairs of replicas, a panel for each variant with some.

    Args:
        variants: of `noise.json`.
        errors: float [variant, pair, point], the first point that of the pair's first replica;
            NaN where there is no such pair.

    Returns:
        The figure.
    """
    known = np.isfinite(errors).all(axis=2)
    shown = [i for i in range(len(variants)) if known[i].any()]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    size = (WIDTH * max(columns, 2) / 4 + 0.4, 0.9 + 1.45 * rows)
    figure = Drawing(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    look, shares = looks(variants), np.linspace(0.0, 1.0, errors.shape[2])
    for ax, i in zip(axes.flat, shown, strict=False):
        name, pairs = variants[i].name, 100 * errors[i, known[i]]
        for pair in pairs:
            ax.plot(shares, pair, color=look[name].colour, linewidth=0.6, alpha=0.6)
        mean = pairs.mean(axis=0)
        ax.plot([0, 1], mean[[0, -1]], color=INK, linewidth=0.7, linestyle=(0, (2, 2)))
        ax.plot(shares, mean, color=look[name].colour, linewidth=1.8, gid=name)
        ax.set_title(f"{shorten(name, 16)}\n{_rise(variants[i])}", fontsize=8)
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    for column in range(columns):
        last = max(i for i in range(len(shown)) if i % columns == column) // columns
        axes[last, column].tick_params(labelbottom=True)
    axes[0, 0].set_ylim(bottom=0)
    figure.supxlabel("weight given to the pair's second replica", fontsize=8)
    figure.supylabel("error on test examples (%)", fontsize=8)
    return figure


def _rise(variant: VariantSummary) -> str:
    barrier = variant.barrier
    return DASH if barrier is None else f"+{number(100 * barrier.mean)} points"


@styled
def plot_paths(
    variants: Sequence[VariantSummary], paths: np.ndarray, steps: np.ndarray, num_states: int
) -> Figure:
    """Draws the state of every replica of the first root over time, variant by variant.

    Colours are the map's.

    Args:
        variants: of `noise.json`.
        paths: int [row, time], -1 where a replica has no record, shown grey; rows of further roots
            are not drawn.
        steps: when each record was taken, [time].
        num_states: of the map.

    Returns:
        The figure.

    Raises:
        UserError: paths and steps differ in length.
    """
    if paths.shape[1] != len(steps):
        raise UserError(f"paths have {paths.shape[1]} records, but the study has {len(steps)}")
    paths = paths[: max(variant.rows[1] for variant in variants)]
    fewest = min(end - first for first, end in (variant.rows for variant in variants))
    row = max(0.05, 0.14 / fewest)
    height = min(_MOST_HEIGHT, 1.3 + row * len(paths))
    figure = Drawing(figsize=(WIDTH, height), layout="constrained")
    ax = figure.add_subplot()
    ax.set_facecolor(PALE)
    colormap, norm = state_colormap(num_states)
    states = np.ma.masked_less(paths, 0)
    edges = np.arange(len(paths) + 1) - 0.5
    ax.pcolormesh(_edges(steps), edges, states, cmap=colormap, norm=norm, linewidth=0)
    for variant in variants[1:]:
        ax.axhline(variant.rows[0] - 0.5, color=PAPER, linewidth=2.2)
        ax.axhline(variant.rows[0] - 0.5, color=INK, linewidth=0.8, gid="group")
    middles = [(sum(variant.rows) - 1) / 2 for variant in variants]
    ax.set_yticks(middles, [shorten(variant.name) for variant in variants])
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set(xlabel="step", title="State of every replica, grouped by what varies between them")
    missing = Line2D([], [], marker="s", linestyle="", color=PALE, label="no record")
    add_legend(figure, state_handles(num_states) + [missing] * bool((paths < 0).any()))
    return figure


def _edges(steps: np.ndarray) -> np.ndarray:
    """Returns edges of columns half way between records, float [time + 1]."""
    steps = np.asarray(steps, float)
    gaps = np.diff(steps) if len(steps) > 1 else np.ones(1)
    inner = steps[:-1] + np.diff(steps) / 2
    return np.concatenate([[steps[0] - gaps[0] / 2], inner, [steps[-1] + gaps[-1] / 2]])
