"""Elements shared by the figures of noise: looks of variants, rows of intervals, side labels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from seedmap.experiments.noise.results import Estimate, VariantSummary
from seedmap.experiments.noise.variants import ALGO, BOTH, CONTROL, IMPL, IMPLEMENTATION, SOURCES
from seedmap.hmm.figures.style import GREY, INK, PALE, shorten, state_colour
from seedmap.text import DASH, NOT_DETERMINED, says_nothing

LABEL_HEIGHT = 0.125  # inches a label of 7 points needs
SHOWN_TOGETHER = 3  # variants shown side by side where each has many numbers
_MARKERS = "os^vPXd><D"
_DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
_KNOWN = {
    name: state_colour(k)
    for name, k in zip((*SOURCES, ALGO, IMPL, BOTH), (0, 1, 2, 3, 4, 5, 7, 8, 9, 6), strict=True)
} | {CONTROL: GREY}
_SPARE = (10, 12, 13, 14, 15, 16, 17, 18)  # of `state_colour`; 11 is too faint for a line


class Look(NamedTuple):
    """Colour, marker and line of a variant, the same in every figure and legible without colour.

    Attributes:
        colour: hex colour.
        marker: of points.
        dash: of lines.
        hatch: of bars.
    """

    colour: str
    marker: str
    dash: Any
    hatch: str


def looks(variants: Sequence[VariantSummary]) -> dict[str, Look]:
    """Returns the look of each variant by name.

    A source or set has its own colour and marker; lines are solid for what we draw at random,
    dashed for what tools bring, dotted for replicas that share their first steps, and dashes with
    dots for sets.
    """
    by_name, strangers = {}, 0
    names = [*SOURCES, ALGO, IMPL, BOTH]
    for variant in variants:
        name = variant.name
        if name in _KNOWN:
            colour = _KNOWN[name]
            marker = _MARKERS[names.index(name)] if name in names else "h"
        else:
            colour = state_colour(_SPARE[strangers % len(_SPARE)])
            marker = "*pH8"[strangers % 4]
            strangers += 1
        by_name[name] = Look(colour, marker, _dash(variant), _hatch(variant))
    return by_name


def _dash(variant: VariantSummary) -> Any:
    family = {"control": 0, "fork": 2, "together": 3}.get(variant.kind)
    return _DASHES[int(variant.name in IMPLEMENTATION) if family is None else family]


def _hatch(variant: VariantSummary) -> str:
    return {ALGO: "////", IMPL: "....", BOTH: ""}.get(variant.name, "xxxx")


def handles(variants: Sequence[VariantSummary], marks: bool = True) -> list[Line2D]:
    """Returns legend entries of variants, by their markers or by their lines."""
    return [
        Line2D([], [], color=look.colour, label=name, linestyle="", marker=look.marker)
        if marks
        else Line2D([], [], color=look.colour, label=name, linestyle=look.dash)
        for name, look in looks(variants).items()
    ]


def chosen(variants: Sequence[VariantSummary], key: str) -> list[VariantSummary]:
    """Returns at most three variants that have some numbers: sets of sources first."""
    having = [v for v in variants if getattr(v, key) and v.kind != "control"]
    kinds = ("together", "source", "fork")
    ranked = sorted(having, key=lambda variant: kinds.index(variant.kind))[:SHOWN_TOGETHER]
    return [variant for variant in having if variant in ranked]


def tick_name(variant: VariantSummary) -> str:
    """Returns a variant's axis label, with the number of its diverged replicas left out."""
    lost = variant.num_diverged
    return shorten(variant.name) + (f"\n{lost} of {variant.replicas} diverged" * bool(lost))


class Row(NamedTuple):
    """A variant's number and the ends of its interval, each None where it is not defined."""

    variant: VariantSummary
    value: float | None
    low: float | None = None
    high: float | None = None


def rows_of_intervals(
    variants: Sequence[VariantSummary],
    get: Callable[[VariantSummary], Estimate | float | None],
    factor: float = 1.0,
) -> list[Row]:
    """Draws a row for each variant: an interval, a bare number, or nothing.

    Args:
        variants: of `noise.json`.
        get: from a variant to what is shown of it.
        factor: what to multiply by, 100 for per cent.
    """
    return [Row(variant, *_scaled(get(variant), factor)) for variant in variants]


def _scaled(estimate: Estimate | float | None, factor: float) -> Iterator[float | None]:
    if not isinstance(estimate, Estimate):
        estimate = Estimate(estimate, None, None)
    for end in (estimate.value, estimate.low, estimate.high):
        yield None if end is None else factor * end


def has_values(rows: Sequence[Row]) -> bool:
    """Tells whether any row has a value."""
    return any(row.value is not None for row in rows)


def draw_rows(ax: Axes, rows: Sequence[Row], name: bool = True) -> None:
    """Draws a row of dot and interval for each variant, the first on top; a dash for nothing.

    An interval that says nothing is not drawn, nor its value, and named as not determined.
    """
    look = looks([row.variant for row in rows])
    for position, row in enumerate(rows):
        drawn = look[row.variant.name]
        ax.axhline(position, color=PALE, linewidth=0.6, zorder=0)
        if row.value is None or says_nothing(row):
            at = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 7}
            text = DASH if row.value is None else NOT_DETERMINED
            ax.annotate(text, (0.01, position), color=GREY, **at)
            continue
        if row.low is not None and row.high is not None:
            ax.hlines(position, row.low, row.high, color=drawn.colour, linewidth=1.6)
        ax.plot(row.value, position, gid=row.variant.name, **marking(drawn))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    if name:
        ax.set_yticks(range(len(rows)), [tick_name(row.variant) for row in rows])


def marking(look: Look, size: float = 5.5) -> dict[str, Any]:
    """Returns the keywords that draw a variant's point."""
    edge = {"markeredgecolor": INK, "markeredgewidth": 0.5, "clip_on": False, "zorder": 3}
    return {
        "marker": look.marker,
        "color": look.colour,
        "markersize": size,
        "linestyle": "",
        **edge,
    }


def reach(rows: Sequence[Row], most: float = 3.0) -> float:
    """Returns the end of an axis from 0: covers all intervals, up to `most` times the values.

    With few replicas an interval may reach a thousand times as far as its value; drawn whole, it
    would press all values together.
    """
    rows = [row for row in rows if not says_nothing(row)]
    values = [row.value for row in rows if row.value is not None]
    ends = [row.high for row in rows if row.high is not None]
    largest = max(values, default=0.0)
    return min(max([largest, *ends]), most * largest) or 1.0


def from_zero(ax: Axes, rows: Sequence[Row], axis: str = "x", least: float = 0.0) -> None:
    """Scales an axis from 0, with 0 itself in view, to what `reach` says or `least`."""
    end = max(reach(rows), least)
    getattr(ax, f"set_{axis}lim")(-0.04 * end, 1.05 * end)


def label_at_side(
    ax: Axes, points: Mapping[str, tuple[float, float]], look: Mapping[str, Look], height: float
) -> None:
    """Names points at the right of the axes, none over another, with a thin line to each.

    Args:
        ax: axes whose limits are final.
        points: places by name, in units of the data.
        look: of the names.
        height: of the axes, in inches, about.
    """
    if not points:
        return
    names = list(points)
    to_axes = ax.transData + ax.transAxes.inverted()
    wanted = to_axes.transform(np.array(list(points.values()), float))[:, 1]
    for name, height_of in zip(names, spread(wanted, LABEL_HEIGHT / height), strict=True):
        line = {
            "arrowstyle": "-",
            "color": look[name].colour,
            "linewidth": 0.5,
            "shrinkA": 1.0,
            "relpos": (0, 0.5),
        }
        ax.annotate(
            shorten(name),
            points[name],
            xytext=(1.04, height_of),
            textcoords="axes fraction",
            va="center",
            fontsize=7,
            color=INK,
            arrowprops={**line, "shrinkA": 1.0, "shrinkB": 2.0, "relpos": (0, 0.5)},
            annotation_clip=False,
        )


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Returns positions near those wanted, in order, `gap` apart, centred on 0.5 if packed.

    Least squares under the gaps: neighbours that are too close are pooled and share their mean
    (pool adjacent violators).

    Args:
        wanted: float [label], as shares of the height.
        gap: least distance.

    Returns:
        float [label]; within 0 to 1 where they fit.
    """
    order = np.argsort(wanted, kind="stable")
    offsets = gap * np.arange(len(wanted))
    pools: list[tuple[float, int]] = []
    for value in wanted[order] - offsets:
        mean, count = float(value), 1
        while pools and pools[-1][0] >= mean:
            other, number = pools.pop()
            mean = (mean * count + other * number) / (count + number)
            count += number
        pools.append((mean, count))
    base = np.concatenate([np.full(count, mean) for mean, count in pools])
    room = 1 - offsets[-1]
    placed = np.empty(len(wanted))
    placed[order] = (np.clip(base, 0, room) if room >= 0 else room / 2) + offsets
    return placed
