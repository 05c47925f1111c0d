"""Figure of forecasts: how much they are worth as more of a run is seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seedmap.hmm.figures.style import GREY, INK, PALE, WIDTH, Drawing, say_nothing_to_show, styled
from seedmap.hmm.forecasting.skill import SkillRow

_MOST_TICKS = 8
_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "hmm": ("HMM", {"color": INK, "linestyle": "-", "marker": "o"}),
    "regression": ("regression on raw metrics", {"color": GREY, "linestyle": "--", "marker": "s"}),
    "time": ("time alone", {"color": GREY, "linestyle": ":", "marker": ""}),
}


@styled
def plot_forecast_skill(rows: Sequence[SkillRow], unit: str = "step") -> Figure:
    """Show scores of forecasts against time seen, and how often the intervals held.

    Left: Brier score of the HMM with its 95 % interval, of regression on the raw metrics and of
    time alone; low is good. Under it, the number of runs forecast. Middle: C-index, likewise; high
    is good and 0.5 knows nothing. Right: coverage of the HMM's intervals with its 95 % interval,
    and the level that they are made for.

    Args:
        rows: From `hmm.forecasting.skill.forecast_skill`, by step.
        unit: What steps are counted in.

    Returns:
        The figure.
    """
    figure = Drawing(figsize=(WIDTH, 2.8), layout="constrained")
    brier, concordance, coverage = figure.subplots(1, 3)
    brier.set_title("Brier score")
    concordance.set_title("C-index")
    coverage.set_title("Coverage of intervals")
    if not rows:
        for ax in (brier, concordance, coverage):
            say_nothing_to_show(ax, "too few runs to forecast")
        return figure
    _draw_scores(brier, rows, "brier")
    _draw_scores(concordance, rows, "concordance")
    _draw_coverage(coverage, rows)
    brier.set_ylim(bottom=0)
    concordance.set_ylim(0, 1.05)
    figure.legend(*brier.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    shown = rows[:: -(-len(rows) // (_MOST_TICKS // 2))]
    brier.set_xticks(
        [row.upto for row in shown], [f"{row.upto:.3g}\n({row.num_runs})" for row in shown]
    )
    brier.set_xlabel(f"{unit}s seen (and runs)")
    for ax in (concordance, coverage):
        ax.set_xlabel(f"{unit}s seen")
    return figure


def _draw_scores(ax: Axes, rows: Sequence[SkillRow], score: str) -> None:
    steps = np.array([row.upto for row in rows])
    for name, (label, style) in _LINES.items():
        intervals = [getattr(getattr(row, score), name) for row in rows]
        values = np.array([i.value for i in intervals])
        ax.plot(steps, values, label=label, markersize=3.5, gid=f"{score} {name}", **style)
        if name == "hmm":
            low, high = (np.array([getattr(i, end) for i in intervals]) for end in ("low", "high"))
            ax.fill_between(steps, low, high, color=PALE, zorder=0)


def _draw_coverage(ax: Axes, rows: Sequence[SkillRow]) -> None:
    level, steps = rows[0].level, [row.upto for row in rows]
    values = np.array([row.coverage.value for row in rows])
    below = values - [row.coverage.low for row in rows]
    above = np.array([row.coverage.high for row in rows]) - values
    ax.axhline(level, color=GREY, linestyle="--", linewidth=0.8)
    ends = np.maximum([below, above], 0)  # rounding
    ax.errorbar(steps, values, ends, fmt="none", ecolor=GREY, elinewidth=0.7)
    ax.plot(steps, values, "o", color=INK, markersize=3.5, gid="coverage")
    ax.set_ylim(0, 1.05)
    ax.set_ylabel(f"share inside {100 * level:g} % interval")
