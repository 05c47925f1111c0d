"""Figures of a study's sources: their shares of variance, and convergence as survival."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seedmap.experiments.noise.components import BRANCH, LOSS, ROOT
from seedmap.experiments.noise.convergence import Convergence
from seedmap.experiments.noise.measures.components import Commitment
from seedmap.experiments.noise.measures.shares import shares_along
from seedmap.experiments.noise.report.answer import (
    compared_measures,
    is_bare,
    is_determined,
    lines_of,
    says_something,
)
from seedmap.experiments.noise.report.figure_parts import Look, looks, marking
from seedmap.experiments.noise.results import StudySummary
from seedmap.hmm.figures.style import (
    GREY,
    INK,
    PALE,
    PAPER,
    WIDTH,
    Drawing,
    add_legend,
    say_nothing_to_show,
    shorten,
    state_colour,
    styled,
)
from seedmap.hmm.training_map.survival import SurvivalCurve, kaplan_meier
from seedmap.text import NOT_DETERMINED, says_nothing

MOST_MEASURES = 4
GROUP_DASHES = ("-", (0, (4, 1.5)))
_TITLES = {
    "log_convergence_time": "Convergence time",
    "accuracy": "Accuracy",
    "loss": "Loss",
    "churn": "Predictions",
    "l2_distance": "Weights",
    "path": "Path",
}
_SHARE_TITLES = {"churn": "Churn", "distance": "Distance of weights"}
MOST_SHARE = 1.6  # of the axis: what is beyond is all the same more than all
_ROOT_LOOK = Look(GREY, "s", "-", "")


@styled
def plot_components(summary: StudySummary) -> Figure:
    """Draws each source's share of the variance of up to four measures, a row for each source."""
    measures = compared_measures(summary)[:MOST_MEASURES]
    sources = [line.source for line in lines_of(summary, measures[0])]
    for measure in measures:
        sources += [s for line in lines_of(summary, measure) if (s := line.source) not in sources]
    drawn = looks(summary.variants) | {ROOT: _ROOT_LOOK}
    figure = Drawing(figsize=(WIDTH, 1.2 + 0.25 * len(sources)), layout="constrained")
    axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for ax, measure in zip(axes, measures, strict=True):
        by_source = {line.source: line for line in lines_of(summary, measure)}
        for position, source in enumerate(sources):
            ax.axhline(position, color=PALE, linewidth=0.6, zorder=0)
            line = by_source.get(source)
            if line is None or not is_determined(line):
                style = {"ha": "center", "va": "center", "color": GREY, "fontsize": 6.5}
                ax.text(50, position, NOT_DETERMINED if line else "\N{EN DASH}", **style)
                continue
            ends = 100 * line.low, 100 * line.high
            ax.hlines(position, *ends, color=drawn[source].colour, linewidth=1.6)
            ax.plot(100 * line.share, position, gid=source, **marking(drawn[source]))
        ax.set(title=_TITLES.get(measure, measure.replace("_", " ")), xlim=(-3, 103))
        ax.set_xticks([0, 50, 100])
    axes[0].set_ylim(len(sources) - 0.5, -0.5)
    axes[0].set_yticks(range(len(sources)), [shorten(source) for source in sources])
    axes[0].tick_params(axis="y", length=0)
    figure.supxlabel("share of the variance over all trainings (%)", color=INK, fontsize=8)
    return figure


@styled
def plot_convergence(
    summary: StudySummary,
    times: Convergence,
    rows: Mapping[str, np.ndarray],
    groups: Mapping[str, Sequence[np.ndarray]] = MappingProxyType({}),
) -> Figure:
    """Draws the share of replicas that have not converged, a panel for each variant and grouping.

    Args:
        summary: content of `noise.json`.
        times: of all replicas.
        rows: of each variant, int [root, replica].
        groups: by title of the panel, the rows of each group of replicas, none of them empty.
    """
    shown = [v for v in summary.variants if v.survival is not None and v.kind != "fork"]
    drawn, panels = looks(summary.variants), len(shown) + len(groups)
    columns = min(panels, 4)
    lines = -(-panels // columns)
    figure = Drawing(figsize=(WIDTH, 0.6 + 1.5 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[panels:]:
        ax.set_axis_off()
    for ax in axes.flat[max(0, panels - columns) : panels]:
        ax.tick_params(labelbottom=True)  # of each column the last that is drawn
    for ax, variant in zip(axes.flat, shown, strict=False):
        colour, own = drawn[variant.name].colour, rows[variant.name]
        if len(own) > 1:
            for root in own:
                _draw_survival(ax, times, root, colour, linewidth=0.6, alpha=0.6)
        curve = _draw_banded(ax, times, own.ravel(), colour)
        title = f"{shorten(variant.name)}, {curve.num_converged} of {curve.num_runs}"
        ax.set_title(title, fontsize=8)
    for ax, (title, members) in zip(axes.flat[len(shown) :], groups.items(), strict=False):
        for number, own in enumerate(members):
            style = {"linestyle": GROUP_DASHES[number % 2], "gid": f"{title} {number}"}
            _draw_survival(ax, times, own, state_colour(number), linewidth=1.4, **style)
        ax.set_title(title, fontsize=8)
    for ax in axes.flat[:panels]:
        ax.set(xlim=(0, times.end), ylim=(-0.02, 1.02))
    figure.supxlabel(times.unit, fontsize=8)
    figure.supylabel("share not converged", fontsize=8)
    return figure


def _draw_banded(ax: Axes, times: Convergence, rows: np.ndarray, colour: str) -> SurvivalCurve:
    """Draws a bold Kaplan-Meier curve with its 95 % intervals and returns it."""
    curve = _draw_survival(ax, times, rows, colour, linewidth=1.8)
    steps = np.r_[0.0, curve.times, times.end]
    low, high = (np.r_[1.0, ends, ends[-1:]] for ends in (curve.low, curve.high))
    if curve.num_converged:
        ax.fill_between(steps, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
    return curve


def _draw_survival(
    ax: Axes, times: Convergence, rows: np.ndarray, colour: str, **line: Any
) -> SurvivalCurve:
    """Draws a Kaplan-Meier curve of some replicas and returns it."""
    curve = kaplan_meier(times.time[rows], times.observed[rows])
    held = np.r_[1.0, curve.survival]
    steps = np.r_[0.0, curve.times, times.end]
    ax.step(steps, np.r_[held, held[-1]], where="post", color=colour, **line)
    return curve


@styled
def plot_commitment(summary: StudySummary) -> Figure:
    """Draws how much of the convergence time, and of the branch, is fixed by each step.

    Points whose interval leaves nearly everything open are left out; those that have none, since
    replicas differ in too few roots, are hollow.
    """
    measures = list(dict.fromkeys(point.measure for point in summary.commitment))
    figure = Drawing(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    drawn = looks(summary.variants)
    for ax, measure in zip(axes, measures, strict=True):
        of_measure = [p for p in summary.commitment if p.measure == measure]
        points = [p for p in of_measure if _is_known(p) or is_bare(p.fixed, p.low, p.high)]
        sources = list(dict.fromkeys(point.source for point in points))
        for number, source in enumerate(sources):
            own = sorted((p for p in points if p.source == source), key=lambda p: p.step)
            steps = np.array([p.step for p in own], float)
            look = drawn.get(source, _ROOT_LOOK)
            style = {"color": look.colour, "linestyle": look.dash, "marker": look.marker}
            label = "test loss at the step" if source == LOSS else source
            ax.plot(steps, [100 * p.fixed for p in own], label=label, markersize=4, **style)
            bare = [p for p in own if is_bare(p.fixed, p.low, p.high)]
            hollow = style | {"linestyle": "", "markerfacecolor": PAPER, "markersize": 4}
            ax.plot([p.step for p in bare], [100 * p.fixed for p in bare], **hollow)
            # Side by side, so that intervals do not hide one another.
            ends = [(p.step, 100 * p.low, 100 * p.high) for p in own if _is_known(p)]
            positions, low, high = np.array(ends, float).reshape(-1, 3).T
            positions = positions + 0.004 * number * max(p.step for p in points)
            ax.vlines(positions, low, high, color=look.colour, linewidth=1.0, alpha=0.7)
        ax.set(xlabel="shared steps", ylim=(-3, 103))
        ax.set_title("Branch" if measure == BRANCH else "Convergence time")
        if sources:
            ax.legend(loc="lower right", fontsize=7)
        else:
            say_nothing_to_show(ax, NOT_DETERMINED)
    axes[0].set_ylabel("fixed (% of variance)")
    return figure


def _is_known(point: Commitment) -> bool:
    return point.fixed is not None and says_something(point.low, point.high)


@styled
def plot_shares(summary: StudySummary) -> Figure:
    """Draws each source's share of churn and of distance over training, with 95 % intervals.

    Where an interval says nothing neither it nor the share is drawn.
    """
    measures = list(dict.fromkeys(curve.measure for curve in summary.shares))
    figure = Drawing(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    drawn = looks(summary.variants)
    for ax, measure in zip(axes, measures, strict=True):
        ax.axhline(1, color=INK, linewidth=0.8)
        for curve in (curve for curve in summary.shares if curve.measure == measure):
            look, points = drawn[curve.source], shares_along(curve)
            known = [not says_nothing(point) for point in points]
            value, low, high = (
                np.array([np.nan if end is None else end for end in ends], float)
                for ends in (curve.share, curve.low, curve.high)
            )
            value, low, high = (np.where(known, ends, np.nan) for ends in (value, low, high))
            style = {"color": look.colour, "linestyle": look.dash, "label": curve.source}
            ax.plot(curve.steps, value, gid=f"{measure} {curve.source}", **style)
            ax.fill_between(curve.steps, low, high, color=look.colour, alpha=0.15, linewidth=0)
        ax.set(xlabel="step", ylim=(-0.03, MOST_SHARE), title=_SHARE_TITLES[measure])
    axes[0].set_ylabel(f"share of that of {shorten(summary.whole)}")
    add_legend(figure, axes[0].get_lines()[1:])
    return figure
