"""Figures of what modes cost, by network and by kernel size."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seedmap.experiments.overhead.modes import DEFAULT
from seedmap.experiments.overhead.results import Result
from seedmap.experiments.overhead.statistics import Interval
from seedmap.hmm.figures.style import (
    GREY,
    INK,
    PALE,
    WIDTH,
    Drawing,
    add_legend,
    say_nothing_to_show,
    set_log_scale,
    shorten,
    state_colour,
    styled,
)

_PANELS = 3  # in a row: the longest name of a mode fits above one
_FAILED = "#d55e00"


def _modes(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.mode for result in results))


def _colours(results: Sequence[Result]) -> dict[str, str]:
    return {mode: state_colour(index) for index, mode in enumerate(_modes(results))}


@styled
def plot_overhead(results: Sequence[Result]) -> Figure:
    """Draws bars of the time over the default mode's, a panel a mode, a bar a network.

    Bars begin at 1, the default mode; whiskers are intervals. A failure is written in its place.

    Args:
        results: of all networks and modes.

    Returns:
        The figure.
    """
    modes = [mode for mode in _modes(results) if mode != DEFAULT]
    networks = list(dict.fromkeys(result.network for result in results))
    rows, columns = -(-max(1, len(modes)) // _PANELS), min(_PANELS, max(1, len(modes)))
    height = rows * (0.75 + 0.2 * len(networks)) + 0.2
    figure = Drawing(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for ax in axes[len(modes) :]:
        ax.set_visible(False)
    if not modes:
        say_nothing_to_show(axes[0], "only the default mode was timed")
    for ax, mode in zip(axes, modes, strict=False):
        of_mode = {r.network: r for r in results if r.mode == mode}
        _draw_panel(ax, [of_mode[network] for network in networks], _colours(results)[mode])
        ax.set(title=shorten(mode), xlabel="time / default")
        ax.set_yticks(range(len(networks)), networks)
        ax.set_ylim(len(networks) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
    return figure


def _draw_panel(ax: Axes, results: Sequence[Result], colour: str) -> None:
    ax.axvline(1, color=INK, linewidth=0.8)
    ends = [1.0]
    for row, result in enumerate(results):
        if result.ratio is None:
            words = "failed" if result.error else "no default"
            ax.text(1, row, f" {words}", va="center", color=_FAILED, fontsize=7, gid="failed")
            continue
        ratio = result.ratio
        ax.barh(row, ratio.median - 1, left=1, height=0.65, color=colour)
        line = {"color": INK, "linewidth": 0.9, "capsize": 1.5}
        ax.errorbar(ratio.median, row, xerr=_around(ratio), fmt="none", **line)
        ends += [ratio.low, ratio.high]
    margin = max(0.08 * (max(ends) - min(ends)), 0.02)
    ax.set_xlim(min(ends) - margin, max(ends) + margin)


def _around(interval: Interval) -> np.ndarray:
    """Returns lengths of the whiskers, float [2, 1]."""
    below, above = interval.median - interval.low, interval.high - interval.median
    return np.array([[below], [above]])


@styled
def plot_kernels(results: Sequence[Result]) -> Figure | None:
    """Draws time of a step, and over the default mode's, by kernel size of the six-layer networks.

    Args:
        results: of all networks and modes.

    Returns:
        The figure; None where fewer than two kernel sizes were timed.
    """
    results = sorted((r for r in results if r.kernel_size), key=lambda r: r.kernel_size)
    sizes = sorted({result.kernel_size for result in results})
    if len(sizes) < 2:
        return None
    figure = Drawing(figsize=(WIDTH, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set(title="Time of a training step", ylabel="milliseconds a seed")
    right.set(title="Over the default mode", ylabel="time / default")
    right.axhline(1, color=PALE, zorder=0)
    handles = []
    for position, (mode, colour) in enumerate(_colours(results).items()):
        of_mode = [result for result in results if result.mode == mode]
        # A little apart, since whiskers of modes that cost the same would hide each other.
        shift = 0.12 * (position - (len(_modes(results)) - 1) / 2)
        handles.append(_draw_line(left, [(r, r.step_ms) for r in of_mode], shift, colour, mode))
        if mode != DEFAULT:
            _draw_line(right, [(r, r.ratio) for r in of_mode], shift, colour, mode)
    for ax in (left, right):
        ax.set(xlabel="kernel size", xlim=(min(sizes) - 0.6, max(sizes) + 0.6))
        ax.set_xticks(sizes, [f"{size}\N{MULTIPLICATION SIGN}{size}" for size in sizes])
    set_log_scale(left, np.array([r.step_ms.median for r in results if r.step_ms]))
    add_legend(figure, handles)
    return figure


def _draw_line(ax: Axes, points, shift: float, colour: str, label: str):
    """Draws a line through the points present; × at the bottom where one failed."""
    timed = [(result.kernel_size + shift, value) for result, value in points if value is not None]
    (line,) = ax.plot(
        [x for x, _ in timed], [v.median for _, v in timed], "o-", ms=3, color=colour, label=label
    )
    for x, value in timed:
        ax.errorbar(x, value.median, yerr=_around(value), color=colour, lw=0.9, capsize=1.5)
    for result, value in points:
        if value is None and result.error:
            bottom = {"transform": ax.get_xaxis_transform(), "clip_on": False, "gid": "failed"}
            ax.plot(result.kernel_size + shift, 0.03, "x", ms=5, color=colour, **bottom)
            ax.annotate(
                "failed",
                (result.kernel_size + shift, 0.03),
                xycoords=ax.get_xaxis_transform(),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=6,
                color=GREY,
            )
    return line
