"""Figure of forecasts: how much they are worth as more of a run is seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seedmap.hmm.figures.style import GREY, INK, PALE, WIDTH, say_nothing_to_show, styled
from seedmap.hmm.forecasting.skill import SkillRow

_LOWEST = -1.0  # skill below which the axis ends: how bad a bad forecast is does not matter
_MOST_TICKS = 8
_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "hmm": ("HMM", {"color": INK, "linestyle": "-", "marker": "o"}),
    "regression": ("regression on raw metrics", {"color": GREY, "linestyle": "--", "marker": "s"}),
    "median": ("median of the training runs", {"color": GREY, "linestyle": ":", "marker": ""}),
}


@styled
def plot_forecast_skill(rows: Sequence[SkillRow], unit: str = "step") -> Figure:
    """Show skill against time seen, and how often the intervals held.

    Left: skill of the HMM with a band of one standard error, of regression on the raw metrics with
    bars of one, and of the median that does not look at the run; 0 is the mean. The axis ends at
    -1. Under it, the number of runs forecast. Right: coverage of the HMM's intervals, with bars of
    one binomial standard error at the level they are made for.

    Args:
        rows: From `hmm.forecasting.skill.forecast_skill`, by step.
        unit: What steps are counted in.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    skill, coverage = figure.subplots(1, 2, width_ratios=(2, 1))
    skill.set_title("Skill of left-out forecasts of convergence")
    coverage.set_title("Coverage of intervals")
    if not rows:
        for ax in (skill, coverage):
            say_nothing_to_show(ax, "too few runs to forecast")
        return figure
    _draw_skill(skill, rows)
    _draw_coverage(coverage, rows)
    figure.legend(*skill.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    skill.set_xlabel(f"{unit}s seen (and runs forecast)")
    coverage.set_xlabel(f"{unit}s seen")
    return figure


def _draw_skill(ax: Axes, rows: Sequence[SkillRow]) -> None:
    steps = np.array([row.upto for row in rows])
    for name, (label, style) in _LINES.items():
        values = np.array([getattr(row, name).value for row in rows])
        errors = np.array([getattr(row, name).standard_error for row in rows])
        ax.plot(steps, values, label=label, markersize=3.5, gid=name, **style)
        if name == "hmm":
            ax.fill_between(steps, values - errors, values + errors, color=PALE, zorder=0)
        elif name == "regression":
            ax.errorbar(steps, values, errors, fmt="none", ecolor=GREY, elinewidth=0.7)
    ax.axhline(0, color=INK, linewidth=0.6)
    ax.set_ylim(max(ax.get_ylim()[0], _LOWEST), 1)
    shown = rows[:: -(-len(rows) // _MOST_TICKS)]
    ax.set_xticks([row.upto for row in shown], [f"{row.upto:g}\n({row.num_runs})" for row in shown])
    ax.set_ylabel("1 \N{MINUS SIGN} MAE / MAE of the mean")


def _draw_coverage(ax: Axes, rows: Sequence[SkillRow]) -> None:
    steps, level = np.array([row.upto for row in rows]), rows[0].level
    errors = np.sqrt(level * (1 - level) / np.array([row.num_runs for row in rows]))
    ax.errorbar(steps, np.full(len(rows), level), errors, fmt="none", ecolor=GREY, elinewidth=0.7)
    ax.axhline(level, color=GREY, linestyle="--", linewidth=0.8)
    ax.plot(steps, [row.coverage for row in rows], "o", color=INK, markersize=3.5, gid="coverage")
    ax.set_ylim(0, 1.05)
    ax.set_ylabel(f"share inside {100 * level:g} % interval")
