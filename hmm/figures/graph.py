"""The training map drawn as a graph."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from seedmap.hmm.figures import layout
from seedmap.hmm.figures.style import (
    GREY,
    INK,
    PAPER,
    WIDTH,
    Drawing,
    checked_axes,
    figure_of,
    shorten,
    signed,
    state_colour,
    styled,
    text_colour,
)
from seedmap.hmm.training_map.build import Edge, TrainingMap
from seedmap.text import whole_percent

MOST_LABELLED = 20  # edges with a number and a row in the table; all edges are drawn
_MOST_DESCRIBED = 8  # edges for which descriptions beside them are tried
_SMALL = 6.5  # points; all other lengths are inches
_HEADING_HEIGHT = 0.3
_MAP_HEIGHT = 2.7
_STATE_HEIGHT = 0.95  # of a state with its caption, at least
_ROW_HEIGHT = 0.135
_CAPTION_GAP = 0.04
_MARGIN = 0.2
_OUTLINE = 0.045  # between a branch's circle and its second outline
_ROOM_FOR_NUMBER = 0.1  # radius
_NARROW = 0.75  # distance between columns below which captions are short
_TEXT: dict[str, Any] = {"ha": "center", "fontsize": _SMALL, "color": INK, "linespacing": 1.2}
_PLAIN: dict[str, Any] = {
    "boxstyle": "square,pad=0.1",
    "facecolor": PAPER,
    "edgecolor": "none",
    "alpha": 0.8,
}
_DISC: dict[str, Any] = {
    "boxstyle": "circle,pad=0.25",
    "facecolor": PAPER,
    "edgecolor": GREY,
    "lw": 0.6,
}
_COLUMNS = (_MARGIN, 0.46, 0.94, 1.54, 3.33, 5.12)  # left edges of the table's columns


@styled
def plot_training_map(
    training_map: TrainingMap,
    detours: Collection[int] = (),
    claim: str | None = None,
    heading: str = "Training map",
    names: Mapping[int, str] = MappingProxyType({}),
    ax: Axes | None = None,
    branches: Collection[int] = (),
) -> Figure | Axes:
    """Draw the states as circles, left to right by first visit, and the edges between them.

    A circle's area is proportional to the share of checkpoints spent in the state, an arrow's width
    to the share of runs that take the edge. Each edge is described by that share and by the change
    of the metrics that matter most (Hu et al. 2023, arXiv 2308.09543): beside
    the edge where all labels fit, else by number in a table under the map. Branches have a
    second outline, dashed where they are detours, and say so. States that no run visits are named
    in the heading.

    Args:
        training_map: The map.
        detours: States that are detours.
        claim: What was found of forks, for the heading. Default: whether two runs visit states in
            different orders (Hu et al. 2023), and how many go back.
        heading: what it is a map of.
        names: of states that have one, by their number.
        ax: axes to draw on, at the place that they have now; edges say the share of runs only.
            Default: a new figure.
        branches: States that are named branches; the detours need not be among them.

    Returns:
        `ax`, or the figure, 7 inches wide and 1.5 to 6.2 inches high.
    """
    edges = sorted(training_map.edges, key=lambda e: (-e.num_runs, e.source, e.target))
    if claim is None:
        claim = training_map.order
    marks = dict.fromkeys(branches, "branch") | dict.fromkeys(detours, "detour")
    states = _States(training_map, marks, names)
    if ax is not None:
        _draw_small(checked_axes(ax), states, edges)
        ax.set_title(f"{heading} · {' · '.join(_claims(training_map, claim))}")
        return ax
    figure = None
    if 0 < len(edges) <= _MOST_DESCRIBED:
        figure = _draw_labelled(states, edges)
    figure = figure or _draw_numbered(states, edges)
    _write_heading(figure.axes[0], heading, _claims(training_map, claim))
    return figure


class _States(NamedTuple):
    """What is drawn of the states: the map, "branch" or "detour" of some, and names by number."""

    map: TrainingMap
    marks: Mapping[int, str]
    names: Mapping[int, str]


def _draw_small(ax: Axes, states: _States, edges: Sequence[Edge]) -> None:
    """The map on axes of any size."""
    box, dpi = ax.get_window_extent(), figure_of(ax).dpi
    ax.set(xlim=(0, box.width / dpi), ylim=(0, box.height / dpi))
    ax.set_axis_off()
    scene = _draw_states(ax, states, _layers(states.map))
    texts = [_percent(edge.num_runs / states.map.num_runs) for edge in edges]
    labels = [_edge_label(ax, text, _PLAIN) for text in texts]
    _draw_edges(ax, edges, labels, scene, states.map.num_runs, off_curve=True)


def _draw_labelled(states: _States, edges: Sequence[Edge]) -> Figure | None:
    """The map with each edge described beside it; None if descriptions would collide."""
    training_map = states.map
    layered = _layers(training_map)
    ax = _empty_map(1.25 * _MAP_HEIGHT, layered)
    scene = _draw_states(ax, states, layered)
    texts = [_edge_text(edge, training_map.num_runs) for edge in edges]
    labels = [_edge_label(ax, text, _PLAIN) for text in texts]
    clear = _draw_edges(ax, edges, labels, scene, training_map.num_runs, off_curve=True)
    _trim(ax, table_height=0.1)
    return figure_of(ax) if clear else None


def _draw_numbered(states: _States, edges: Sequence[Edge]) -> Figure:
    """The map with numbered edges and their descriptions in a table under it."""
    training_map = states.map
    rows = min(len(edges), MOST_LABELLED)
    table_height = (rows + 2.5) * _ROW_HEIGHT if rows else 0.1
    layered = _layers(training_map)
    ax = _empty_map(_MAP_HEIGHT, layered)
    scene = _draw_states(ax, states, layered)
    texts = [str(i) if i <= MOST_LABELLED else "" for i in range(1, len(edges) + 1)]
    labels = [_edge_label(ax, text, _DISC) for text in texts]
    _draw_edges(ax, edges, labels, scene, training_map.num_runs, off_curve=False)
    _trim(ax, table_height)
    if rows:
        _draw_table(_inch_axes(figure_of(ax), 0.0, table_height), edges, training_map.num_runs)
    return figure_of(ax)


def _layers(training_map: TrainingMap) -> list[list[int]]:
    """States from left to right."""
    pairs = [(edge.source, edge.target) for edge in training_map.edges]
    return layout.layers(pairs, np.asarray(training_map.first_visit, dtype=float))


def _empty_map(height: float, layered: list[list[int]]) -> Axes:
    """Axes in inches for the map, filling a new figure, with room for every row of states."""
    height = max(height, _STATE_HEIGHT * max(len(layer) for layer in layered))
    figure = Drawing(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)  # texts are measured before the figure is drawn
    return _inch_axes(figure, 0.0, height)


def _trim(ax: Axes, table_height: float) -> None:
    """Cut the map's height to what is drawn, and make room for the heading and the table."""
    figure = figure_of(ax)
    drawn = Bbox.union([artist.get_window_extent() for artist in (*ax.patches, *ax.texts)])
    low, high = drawn.y0 / figure.dpi - _MARGIN / 2, drawn.y1 / figure.dpi + _MARGIN / 2
    total = table_height + high - low + _HEADING_HEIGHT
    figure.set_size_inches(WIDTH, total)
    ax.set_position((0.0, table_height / total, 1.0, (high - low) / total))
    ax.set_ylim(low, high)


def _claims(training_map: TrainingMap, claim: str) -> list[str]:
    """What a heading says: number of runs, what was found of forks, and states left out."""
    unvisited = [str(k) for k in range(training_map.num_states) if not training_map.visits[k]]
    notes = [f"{training_map.num_runs} runs", claim]
    if training_map.returning and training_map.returning not in claim:
        notes.append(training_map.returning)
    if unvisited:
        notes.append("no run visits state " + ", ".join(unvisited))
    return notes


def _write_heading(ax: Axes, heading: str, claims: Sequence[str]) -> None:
    """Write over the map what it is of and what is said of it."""
    height = ax.get_ylim()[1] + 0.08
    ax.text(_MARGIN, height, heading, fontsize=9, color=INK)
    ax.text(WIDTH - _MARGIN, height, " · ".join(claims), ha="right", fontsize=7, color=GREY)


def _inch_axes(figure: Figure, bottom: float, height: float) -> Axes:
    """Axes as wide as the figure whose data unit is the inch."""
    total = figure.get_figheight()
    ax = figure.add_axes((0.0, bottom / total, 1.0, height / total))
    ax.set_xlim(0, WIDTH)
    ax.set_ylim(0, height)
    ax.set_axis_off()
    return ax


def _draw_states(ax: Axes, states: _States, layered: list[list[int]]) -> layout.Scene:
    """Draw circles and captions, and return what the edges have to get round."""
    training_map, marks, _ = states
    size = (ax.get_xlim()[1], ax.get_ylim()[1])
    centres = layout.centres_of(layered, training_map.num_states, size)
    across, down = _gaps(layered, size)
    share = np.asarray(training_map.occupancy, dtype=float)
    radii = min(0.36, 0.32 * across, 0.22 * down) * np.sqrt(share / share.max())
    outer = radii + _OUTLINE * np.isin(np.arange(len(radii)), list(marks))
    captions = np.full((training_map.num_states, 4), np.nan)
    for state in (k for layer in layered for k in layer):
        _draw_state(ax, state, centres[state], radii[state], marks.get(state))
        text = _caption(states, state, radii[state], across < _NARROW)
        captions[state] = _draw_caption(ax, text, centres[state], outer[state])
    return layout.Scene(centres, outer, captions, size)


def _gaps(layered: list[list[int]], size: tuple[float, float]) -> tuple[float, float]:
    """Distance between columns and smallest distance between rows of states."""
    across = (size[0] - 1.2) / max(len(layered) - 1, 1)
    return across, size[1] / max(len(layer) for layer in layered)


def _draw_state(ax: Axes, state: int, centre: np.ndarray, radius: float, mark: str | None) -> None:
    """Draw a state's circle with its number, and a second outline of a branch or detour."""
    colour, xy = state_colour(state), (centre[0], centre[1])
    ax.add_patch(Circle(xy, radius, facecolor=colour, edgecolor="none", zorder=4, gid="state"))
    if mark:
        dashes = (0, (3, 2)) if mark == "detour" else "-"
        line: dict[str, Any] = {"linestyle": dashes, "linewidth": 1.2, "edgecolor": INK}
        outline = Circle(xy, radius + _OUTLINE, facecolor="none", zorder=4, gid=mark, **line)
        ax.add_patch(outline)
    if radius > _ROOM_FOR_NUMBER:
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "zorder": 5}
        style |= {"fontweight": "bold", "color": text_colour(colour)}
        ax.text(*xy, str(state), gid="number", **style)


def _caption(states: _States, state: int, radius: float, narrow: bool) -> str:
    """What stands under a state: its number if its circle has no room, its name, time, runs."""
    training_map = states.map
    share = 100 * training_map.occupancy[state]
    lines = [] if radius > _ROOM_FOR_NUMBER else [f"state {state}"]
    if state in states.names:
        lines.append(shorten(states.names[state], 18))
    lines.append(f"{share:.2g} %" if share < 99.5 else f"{share:.0f} %")
    lines.append(f"{training_map.visits[state]}/{training_map.num_runs}")
    if not narrow:
        lines[-2:] = [f"{lines[-2]} of time", f"{lines[-1]} runs"]
    return "\n".join(filter(None, [*lines, states.marks.get(state)]))


def _draw_caption(ax: Axes, text: str, centre: np.ndarray, radius: float) -> np.ndarray:
    """Write a caption under its circle and return its box."""
    top = centre[1] - radius - _CAPTION_GAP
    label = ax.text(centre[0], top, text, va="top", zorder=6, gid="caption", **_TEXT)
    size = _size(label)
    return layout.box(np.array([centre[0], top - size[1] / 2]), size)


def _edge_text(edge: Edge, num_runs: int) -> str:
    """Share of runs and the three features with their change, a line each."""
    lines = [f"{_percent(edge.num_runs / num_runs)} of runs"]
    return "\n".join(lines + [_feature(*feature) for feature in edge.top_features])


def _feature(name: str, change: float) -> str:
    arrow = "↑" if change > 0 else "↓"
    return f"{arrow} {shorten(name, 22)} {signed(change)}"


def _percent(share: float) -> str:
    return whole_percent(share) if share >= 0.01 else f"{100 * share:.1g} %"


def _edge_label(ax: Axes, text: str, frame: dict[str, Any]) -> Text:
    """Text of an edge's label, to be moved to its edge."""
    box = frame if text else None
    return ax.text(0, 0, text, va="center", zorder=7, bbox=box, gid="edge label", **_TEXT)


def _size(text: Text) -> np.ndarray:
    """Width and height of a text with its frame, in inches, float [2]."""
    if not text.get_text():
        return np.zeros(2)
    figure, frame = text.get_figure(root=True), text.get_bbox_patch()
    assert figure is not None
    dpi = figure.dpi
    renderer = RendererAgg(1, 1, dpi)  # of any canvas: it measures only
    extent = text.get_window_extent(renderer)
    if frame is not None:
        text.update_bbox_position_size(renderer)
        extent = frame.get_window_extent(renderer)
    return np.array([extent.width, extent.height]) / dpi


def _draw_edges(ax, edges, labels, scene, num_runs, off_curve) -> bool:
    """Route and draw the edges, move the labels there, and say whether nothing collides."""
    sizes = np.array([_size(label) for label in labels]).reshape(-1, 2)
    sizes[:, 0] += 0.12 * off_curve  # descriptions side by side should not read as one
    pairs = [(edge.source, edge.target) for edge in edges]
    routes = layout.route(pairs, scene, sizes, off_curve)
    for edge, label, drawn in zip(edges, labels, routes, strict=True):
        label.set_position(drawn.label)
        ax.add_patch(_arrow(edge, drawn.bend, scene, num_runs))
    return all(drawn.clear for drawn in routes)


def _arrow(edge: Edge, bend: float, scene: layout.Scene, num_runs: int) -> FancyArrowPatch:
    """Curved arrow from circle to circle, wider the more runs take it."""
    source, target = scene.centres[edge.source], scene.centres[edge.target]
    length = np.hypot(*(target - source))
    share = edge.num_runs / num_runs
    return FancyArrowPatch(
        source,
        target,
        connectionstyle=f"arc3,rad={-2 * bend / length}",
        arrowstyle=f"-|>,head_length={3 + 3 * share},head_width={1.5 + 1.5 * share}",
        mutation_scale=1,
        shrinkA=72 * scene.radii[edge.source] + 1,  # points
        shrinkB=72 * scene.radii[edge.target] + 1.5,
        linewidth=0.5 + 2.5 * share,
        color=GREY,
        zorder=2 + share,
        gid="edge",
    )


def _draw_table(ax: Axes, edges: Sequence[Edge], num_runs: int) -> None:
    """List the numbered edges with their share of runs and their features."""
    heading = ("", "edge", "of runs", "most important metrics and their change in z units")
    rows: list[tuple[str, ...]] = [heading]
    for number, edge in enumerate(edges[:MOST_LABELLED], start=1):
        features = [_feature(*feature) for feature in edge.top_features]
        share = _percent(edge.num_runs / num_runs)
        rows.append((str(number), f"{edge.source} → {edge.target}", share, *features))
    top = ax.get_ylim()[1]
    for line, row in enumerate(rows):
        colour = INK if line else GREY
        style: dict[str, Any] = {"fontsize": _SMALL, "va": "center", "color": colour}
        for left, text in zip(_COLUMNS, row, strict=False):
            ax.text(left, top - (line + 0.5) * _ROW_HEIGHT, text, gid="table", **style)
    if len(edges) > MOST_LABELLED:
        note = f"The {MOST_LABELLED} edges most runs take are numbered, of {len(edges)} drawn."
        ax.text(_MARGIN, 0.6 * _ROW_HEIGHT, note, fontsize=_SMALL, color=GREY)
