"""Figures of how classes and subgroups of test examples spread over replicas."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seedmap.experiments.noise.report.figure_parts import Look, chosen, handles, looks, marking
from seedmap.experiments.noise.results import VariantSummary
from seedmap.hmm.figures.style import (
    GREY,
    INK,
    PALE,
    PAPER,
    WIDTH,
    Drawing,
    add_legend,
    say_nothing_to_show,
    set_wide_scale,
    shorten,
    styled,
)

MOST_BARS = 25  # classes each shown by bars of their own


@styled
def plot_classes(variants: list[VariantSummary]) -> Figure:
    """Draws SD of each class's accuracy over the overall one: bars, or curves for many classes."""
    # Where the top line does not vary there is no ratio to it.
    shown = [
        variant
        for variant in chosen(variants, "classes")
        if any(of_class.ratio is not None for of_class in variant.classes)
    ]
    figure = Drawing(figsize=(WIDTH, 2.9), layout="constrained")
    ax = figure.add_subplot()
    if not shown:
        say_nothing_to_show(ax, "top-line accuracy does not vary: no ratio to it")
        return figure
    if max(len(variant.classes) for variant in shown) <= MOST_BARS:
        _draw_bars(ax, shown, looks(variants))
    else:
        _draw_sorted(ax, shown, looks(variants))
    by_size = math.sqrt(max(len(variant.classes) for variant in shown))
    for ratio, dash in ((1, "-"), (by_size, "--")):
        ax.axhline(ratio, color=PAPER, linewidth=2.4)  # a rim, for black bars
        ax.axhline(ratio, color=INK, linewidth=0.8, ls=dash)
    ax.set_ylabel("SD of the class's accuracy\nover SD of top-line accuracy")
    ax.set_title("Spread of classes over replicas (line: as the top line; dashes: by size alone)")
    return figure


def _draw_bars(ax: Axes, shown: list[VariantSummary], look: dict[str, Look]) -> None:
    width = 0.8 / len(shown)
    for number, variant in enumerate(shown):
        drawn = look[variant.name]
        having = [(k, c.ratio) for k, c in enumerate(variant.classes) if c.ratio is not None]
        places, heights = np.array(having, float).T
        places = places + (number + 0.5) * width - 0.4
        style = {"facecolor": drawn.colour, "edgecolor": PAPER, "linewidth": 0.4}
        hatch = {"hatch": drawn.hatch * (len(shown) > 1), "label": variant.name}
        ax.bar(places, heights, width, gid=variant.name, **style, **hatch)
        known = [c.interval for c in variant.classes if c.ratio is not None]
        bounded = [i for i, each in enumerate(known) if None not in (each.low, each.high)]
        ends = [(known[i].low, known[i].high) for i in bounded]
        for colour, line in ((PAPER, 2.4), (INK, 0.9)):  # a rim, for black bars
            low, high = np.array(ends, float).reshape(-1, 2).T
            ax.vlines(places[bounded], low, high, color=colour, linewidth=line)
    names = [str(c.label) for c in max((v.classes for v in shown), key=len)]
    ax.set_xticks(range(len(names)), names)
    ax.tick_params(axis="x", length=0)
    ax.set_xlabel("class")
    ax.set_xlim(-0.5, len(names) - 0.5)
    largest = max(c.ratio for v in shown for c in v.classes if c.ratio is not None)
    ax.set_ylim(0, 1.3 * max(largest, math.sqrt(len(names))))  # intervals beyond are cut off
    ax.get_figure().legend(loc="outside lower center", ncols=len(shown))


def _draw_sorted(ax: Axes, shown: list[VariantSummary], look: dict[str, Look]) -> None:
    """Draws ratios from the largest to the smallest, over the share of classes as large."""
    for variant in shown:
        ratios = np.sort([c.ratio for c in variant.classes if c.ratio is not None])[::-1]
        shares = 100 * (np.arange(len(ratios)) + 0.5) / len(ratios)
        drawn = look[variant.name]
        ax.plot(shares, ratios, color=drawn.colour, ls=drawn.dash, gid=variant.name)
    ax.set_ylim(bottom=0)
    ax.set_xlim(0, 100)
    count = max(len(variant.classes) for variant in shown)
    ax.set_xlabel(f"% of the {count} classes, largest spread first")
    add_legend(ax.get_figure(), handles(shown, marks=False))


@styled
def plot_groups(variants: list[VariantSummary]) -> Figure:
    """Draws SD of accuracy and both error rates by subgroup, over the overall ones."""
    shown, look = chosen(variants, "groups"), looks(variants)
    groups = shown[0].groups
    height = 1.2 + max(0.2, 0.11 * len(shown)) * len(groups)
    figure = Drawing(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    titles = {"accuracy": "Accuracy", "fpr": "False positive rate", "fnr": "False negative rate"}
    for ax, (rate, title) in zip(axes, titles.items(), strict=True):
        for position in range(len(groups) - 1):
            ax.axhline(position + 0.5, color=PALE, linewidth=0.6, zorder=0)
        ratios = []
        for number, variant in enumerate(shown):
            offset = 0.8 * ((number + 0.5) / len(shown) - 0.5)
            points = [
                (getattr(group, rate).ratio, position + offset)
                for position, group in enumerate(variant.groups)
                if getattr(group, rate).ratio is not None
            ]
            ratios += [ratio for ratio, _ in points]
            name = variant.name
            if points:
                ax.plot(*zip(*points, strict=True), gid=name, **marking(look[name], 4.5))
            for position, group in enumerate(variant.groups):
                known = getattr(group, rate).interval
                if known is not None and known.low is not None and known.high is not None:
                    ends = max(0.0, known.low), known.high  # what is beyond the axis is cut off
                    ax.hlines(position + offset, *ends, color=look[name].colour, linewidth=1)
        _scale_ratios(ax, ratios)
        ax.axvline(1, color=INK, linewidth=0.8, zorder=0)
        ax.set_title(title)
    axes[1].set_xlabel("SD over SD of all test examples")
    axes[0].set_ylim(len(groups) - 0.5, -0.5)
    names = [f"{shorten(group.group, 26)} ({group.size})" for group in groups]
    axes[0].set_yticks(range(len(groups)), names)
    axes[0].tick_params(axis="y", length=0)
    add_legend(figure, handles(shown))
    return figure


def _scale_ratios(ax: Axes, ratios: list[float]) -> None:
    if not ratios:
        at = {"transform": ax.transAxes, "ha": "center", "va": "center", "color": GREY}
        ax.text(0.5, 0.5, "not defined", **at)
    ax.set_xlim(0, 1.1 * max([1.0, *ratios]))
    set_wide_scale(ax, np.array(ratios, float), "x")
