"""Figures of a study of noise, drawn from the numbers of `noise.json` and the recorded runs.

They hold their own against few replicas (no interval is drawn), replicas that diverged (a dash for
a variant that has no numbers), tasks without classes (what needs them is left out) and a thousand
classes (their distribution is shown).
"""

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from seedmap.experiments.noise.convergence import Convergence, distinct_rows, group_rows
from seedmap.experiments.noise.report.answer import compared_measures
from seedmap.experiments.noise.report.figure_classes import plot_classes, plot_groups
from seedmap.experiments.noise.report.figure_curves import (
    plot_barriers,
    plot_divergence,
    plot_paths,
)
from seedmap.experiments.noise.report.figure_parts import (
    Row,
    chosen,
    draw_rows,
    from_zero,
    has_values,
    label_at_side,
    looks,
    marking,
    reach,
    rows_of_intervals,
)
from seedmap.experiments.noise.report.figure_sources import (
    plot_commitment,
    plot_components,
    plot_convergence,
    plot_shares,
)
from seedmap.experiments.noise.results import (
    Estimate,
    PathSummary,
    StudySummary,
    VariantSummary,
)
from seedmap.experiments.noise.variants import rows_by_root
from seedmap.hmm.figures.style import (
    GREY,
    INK,
    WIDTH,
    Drawing,
    shorten,
    styled,
)
from seedmap.text import says_nothing

LINEAR_UP_TO = 4.0  # share above which the axis of shares is logarithmic
_SHARES = {
    "share_of_variance": "Variance of accuracy",
    "share_of_churn": "Churn",
    "share_of_l2": "Distance of weights",
}


def make_figures(
    summary: StudySummary,
    dataset: xr.Dataset,
    paths: np.ndarray | None = None,
    barriers: np.ndarray | None = None,
    convergence: Convergence | None = None,
) -> dict[str, Figure]:
    """Returns all figures of a study that it has numbers for, by name.

    Args:
        summary: content of `noise.json`.
        dataset: content of `metrics.nc`: `relative_distance` and, where the task has classes,
            `churn`, each [seed, step].
        paths: decoded states of every replica, int [row, time], -1 where a replica has no record.
        barriers: errors along lines between two replicas, float [variant, pair, point], NaN where
            there is no such pair.
        convergence: of every replica; None without a threshold.

    Returns:
        Of `components`, `commitment`, `survival`, `share_over_steps`, `noise_budget`,
        `churn_accuracy`, `class_spread`, `group_spread`, `divergence`, `barriers`,
        `paths_by_source` and `dissimilarity_by_source` those that can be drawn.
    """
    variants = summary.variants
    drawn = {"divergence": plot_divergence(variants, dataset)}
    if compared_measures(summary):
        drawn["components"] = plot_components(summary)
    if any(point.fixed is not None for point in summary.commitment):
        drawn["commitment"] = plot_commitment(summary)
    if convergence is not None and any(variant.survival for variant in variants):
        rows = rows_by_root(variants, summary.roots)
        groups = _groups_to_draw(summary, paths)
        drawn["survival"] = plot_convergence(summary, convergence, rows, groups)
    if any(share is not None for curve in summary.shares for share in curve.share):
        drawn["share_over_steps"] = plot_shares(summary)
    if has_shares(summary):
        drawn["noise_budget"] = plot_budget(summary)
    if any(variant.churn for variant in variants):
        drawn["churn_accuracy"] = plot_churn(variants)
    if chosen(variants, "classes"):
        drawn["class_spread"] = plot_classes(variants)
    if chosen(variants, "groups"):
        drawn["group_spread"] = plot_groups(variants)
    if barriers is not None and np.isfinite(barriers).any():
        drawn["barriers"] = plot_barriers(variants, barriers)
    if paths is not None:
        states = int(paths.max()) + 1 if summary.map is None else summary.map.num_states
        drawn["paths_by_source"] = plot_paths(variants, paths, dataset.step.values, states)
    if any(variant.paths and variant.paths.dissimilarity for variant in variants):
        drawn["dissimilarity_by_source"] = plot_dissimilarities(variants)
    return drawn


def _groups_to_draw(
    summary: StudySummary, paths: np.ndarray | None
) -> dict[str, Sequence[np.ndarray]]:
    """Returns the rows of each root, and of either side of every branch, by title of a panel."""
    drawn: dict[str, Sequence[np.ndarray]] = {}
    if any(group.root is not None for group in summary.groups):
        drawn["by root"] = distinct_rows(summary.variants, summary.roots)
    for state in dict.fromkeys(g.state for g in summary.groups if g.state is not None):
        sides = group_rows(summary.variants, paths, state, summary.roots)
        title = f"state {state}: visit, pass by"
        drawn[title] = [np.concatenate(side) for side in sides]
    return drawn


def share(summary: StudySummary, variant: VariantSummary, key: str) -> Estimate | None:
    """Returns a variant's share of all sources together; None where it has none.

    The share of all together is 1 by definition; CONTROL has none in `noise.json`, and gets the
    bare ratio, which is 0 where its replicas are one.

    Args:
        summary: content of `noise.json`.
        variant: one of its variants.
        key: `share_of_variance`, `share_of_churn` or `share_of_l2`.
    """
    estimate = getattr(variant, key)
    if estimate is not None and estimate.value is not None:
        return estimate
    size, of_all = _size(variant, key), _size(summary.all_sources, key)
    if size is None or not of_all:
        return None
    power = 2 if key == "share_of_variance" else 1
    return Estimate((size / of_all) ** power, None, None)


def has_shares(summary: StudySummary) -> list[str]:
    """Returns the shares that any variant but CONTROL has."""
    others = [variant for variant in summary.variants if variant.kind != "control"]
    return [
        key
        for key in _SHARES
        if any(share(summary, variant, key) is not None for variant in others)
    ]


def _size(variant: VariantSummary, key: str) -> float | None:
    """Returns the quantity of a share: SD of accuracy, churn, or distance of weights."""
    estimate = {
        "share_of_variance": variant.accuracy and variant.accuracy.sd,
        "share_of_churn": variant.churn,
        "share_of_l2": variant.l2_distance,
    }[key]
    return estimate and estimate.value


@styled
def plot_budget(summary: StudySummary) -> Figure:
    """Draws shares of variance, churn and distance by source, with intervals, a row each."""
    variants = summary.variants
    lost = any(variant.num_diverged for variant in variants)
    height = 1.2 + (0.32 if lost else 0.25) * len(variants)
    figure = Drawing(figsize=(WIDTH, height), layout="constrained")
    keys = has_shares(summary)
    axes = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    for ax, key in zip(axes, keys, strict=True):
        rows = rows_of_intervals(variants, lambda v, key=key: share(summary, v, key))
        ax.axvline(1, color=INK, linewidth=0.8)
        ax.axvline(0, color=GREY, linewidth=0.8, linestyle=(0, (1, 1)))
        draw_rows(ax, rows, name=ax is axes[0])
        ax.set(title=_SHARES[key], xlabel=f"share of that of {shorten(summary.whole)}")
        _scale_shares(ax, rows)
    return figure


def _scale_shares(ax: Axes, rows: list[Row]) -> None:
    """Scales an axis linearly from 0; beyond 1, if values go far beyond, by logarithms."""
    end = reach(rows, most=100.0)
    if end <= LINEAR_UP_TO:
        from_zero(ax, rows, least=1.1)
        return
    ax.set_xscale("symlog", linthresh=1.0)
    ticks = [0.0, 1.0, *10.0 ** np.arange(1, np.ceil(np.log10(end)) + 1)]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(-0.08, 1.2 * end)


@styled
def plot_churn(variants: list[VariantSummary]) -> Figure:
    """Draws churn against SD of accuracy, a point with both intervals for each variant."""
    figure = Drawing(figsize=(WIDTH, 3.9), layout="constrained")
    ax = figure.add_subplot()
    across = rows_of_intervals(variants, lambda v: v.accuracy and v.accuracy.sd, 100.0)
    up = rows_of_intervals(variants, lambda v: v.churn, 100.0)
    look, points = looks(variants), {}
    for x, y in zip(across, up, strict=True):
        name = x.variant.name
        if x.value is None or y.value is None or says_nothing(x) or says_nothing(y):
            continue
        line = {"color": look[name].colour, "linewidth": 1.0, "alpha": 0.8}
        if x.low is not None and x.high is not None:
            ax.hlines(y.value, x.low, x.high, **line)
        if y.low is not None and y.high is not None:
            ax.vlines(x.value, y.low, y.high, **line)
        ax.plot(x.value, y.value, gid=name, **marking(look[name], 6.5))
        points[name] = (x.value, y.value)
    from_zero(ax, across, "x")
    from_zero(ax, up, "y")
    label_at_side(ax, points, look, 3.2)
    ax.set_xlabel("standard deviation of accuracy over replicas (percentage points)")
    ax.set_ylabel("churn (% of test examples)")
    ax.set_title("Disagreement of two replicas, and spread of their accuracies")
    return figure


@styled
def plot_dissimilarities(variants: list[VariantSummary]) -> Figure:
    """Draws the dissimilarity of each variant's paths through the map, a row for each."""
    lost = any(variant.num_diverged for variant in variants)
    units = {v.paths.convergence.unit for v in variants if v.paths}
    unit = next(iter(units), "step")
    columns = (
        ("Dissimilarity", "of paths, discrete", _discrete, 1.0),
        ("Detours", "% that take one", _detour_rate, 100.0),
        ("Time in detours", f"its SD ({unit}s)", _detour_sd, 1.0),
        ("Convergence", f"its SD ({unit}s)", _convergence_sd, 1.0),
    )
    known = [
        (title, label, rows, factor)
        for title, label, get, factor in columns
        if has_values(rows := _of_paths(variants, get, factor))
    ]
    height = 1.1 + (0.32 if lost else 0.25) * len(variants)
    figure = Drawing(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(1, len(known), sharey=True, squeeze=False)[0]
    for ax, (title, label, rows, factor) in zip(axes, known, strict=True):
        draw_rows(ax, rows, name=ax is axes[0])
        from_zero(ax, rows)
        if "SD" not in label:  # of shares there are none beyond 1
            ax.set_xlim(right=min(ax.get_xlim()[1], 1.05 * factor))
        ax.set(title=title, xlabel=label)
    return figure


def _of_paths(
    variants: list[VariantSummary],
    get: Callable[[PathSummary], Estimate | float | None],
    factor: float,
) -> list[Row]:
    return rows_of_intervals(variants, lambda v: v.paths and get(v.paths), factor)


def _discrete(paths: PathSummary) -> Estimate | None:
    return paths.dissimilarity and paths.dissimilarity.discrete


def _detour_rate(paths: PathSummary) -> float | None:
    return paths.detour_rate


def _detour_sd(paths: PathSummary) -> Estimate | None:
    return paths.detour_time and paths.detour_time.sd


def _convergence_sd(paths: PathSummary) -> Estimate | None:
    return paths.convergence.sd
