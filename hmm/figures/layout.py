"""Geometry of the training map: where states stand, how edges bend, where labels fit.

All lengths are inches. States stand in layers from left to right by first visit. Edges are
quadratic Bézier curves; which way and how far each bends, and where along it its label stands, is
chosen by coordinate descent on a cost that counts collisions.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import networkx as nx
import numpy as np

_SAMPLES = np.linspace(0.0, 1.0, 81)
_LABEL_TIMES = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74)
_CLEARANCE = 0.05  # between a curve and what it passes
_CELL = 0.1  # of the grid that counts curves
_SWEEPS = 3
_BASELINE = 0.36  # height of a single row of states, as a share: most edges bend upwards
_COLLISION = 20.0  # cost of two things that must not touch
_MEETING = 1.0  # cost of an arrowhead on another curve


class Route(NamedTuple):
    """How one edge is drawn.

    Attributes:
        bend: Height of the curve's middle over the straight line, to the left of its direction.
        label: Centre of the label, float [2].
        clear: Whether label and curve touch nothing that they must not touch.
    """

    bend: float
    label: np.ndarray
    clear: bool


class Scene(NamedTuple):
    """What edges have to get round.

    Attributes:
        centres: Centres of the states, float [state, 2].
        radii: Radii of the states, float [state].
        captions: Boxes (left, bottom, right, top) of the states' captions, float [state, 4].
        size: Width and height of the panel.
    """

    centres: np.ndarray
    radii: np.ndarray
    captions: np.ndarray
    size: tuple[float, float]


def layers(edges: Sequence[tuple[int, int]], first_visit: np.ndarray) -> list[list[int]]:
    """Sort the visited states into layers by the longest path of forward edges.

    An edge is forward if its target is first visited later than its source, so that the forward
    edges have no cycle; states between which the runs choose share a layer. A state that only
    backward edges reach follows the state visited before it.

    Args:
        edges: Pairs (source, target).
        first_visit: Mean index of first visit, float [state]; NaN where no run visits the state.

    Returns:
        States of each layer, layers from left to right, each in order of first visit.
    """
    order = [int(k) for k in np.argsort(first_visit, kind="stable") if np.isfinite(first_visit[k])]
    rank = {state: position for position, state in enumerate(order)}
    reached = {target for _, target in edges}
    graph = nx.DiGraph()
    graph.add_nodes_from(order)
    graph.add_edges_from((j, k) for j, k in edges if rank[j] < rank[k])
    for before, state in itertools.pairwise(order):
        if state in reached and not graph.in_degree(state):
            graph.add_edge(before, state)
    return [sorted(layer, key=rank.__getitem__) for layer in nx.topological_generations(graph)]


def centres_of(
    layered: list[list[int]], num_states: int, size: tuple[float, float], margin: float = 0.6
) -> np.ndarray:
    """Centres of the states, float [num_states, 2]; NaN for states in no layer."""
    width, height = size
    rows = max(len(layer) for layer in layered)
    centres = np.full((num_states, 2), np.nan)
    for column, layer in enumerate(layered):
        share = column / (len(layered) - 1) if len(layered) > 1 else 0.5
        for row, state in enumerate(layer):
            up = 1 - (row + 0.5) / len(layer) if rows > 1 else _BASELINE
            centres[state] = margin + share * (width - 2 * margin), height * up
    return centres


def curve(source: np.ndarray, target: np.ndarray, bend: float) -> np.ndarray:
    """Points of the quadratic Bézier curve between two points, float [81, 2]."""
    along = target - source
    normal = np.array([-along[1], along[0]]) / np.hypot(*along)
    control = (source + target) / 2 + 2 * bend * normal
    t = _SAMPLES[:, None]
    return (1 - t) ** 2 * source + 2 * t * (1 - t) * control + t**2 * target


def box(centre: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Box (left, bottom, right, top) about a centre, float [..., 4]."""
    return np.concatenate([centre - size / 2, centre + size / 2], axis=-1)


def route(
    edges: Sequence[tuple[int, int]], scene: Scene, label_sizes: np.ndarray, off_curve: bool
) -> list[Route]:
    """Choose the bend and the label's position of every edge.

    Args:
        edges: Pairs (source, target), the most important first.
        scene: States and their captions.
        label_sizes: Width and height of each edge's label, float [edge, 2]; zero for no label.
        off_curve: Whether labels stand above or below their curve rather than on it.

    Returns:
        A route per edge.
    """
    crowd = np.zeros([round(side / _CELL) + 1 for side in scene.size], dtype=int)
    drawn: dict[int, tuple[Route, tuple[np.ndarray, np.ndarray], np.ndarray]] = {}
    for _ in range(_SWEEPS):
        for index, edge in enumerate(edges):
            if index in drawn:
                crowd[drawn.pop(index)[1]] -= 1
            labels = np.array([label for _, _, label in drawn.values()]).reshape(-1, 4)
            drawn[index] = _best_route(edge, scene, label_sizes[index], off_curve, crowd, labels)
            crowd[drawn[index][1]] += 1
    return [drawn[index][0] for index in range(len(edges))]


def _best_route(edge, scene, label_size, off_curve, crowd, labels):
    """The cheapest route of one edge with all others held fixed, its grid cells and label box."""
    source, target = scene.centres[edge[0]], scene.centres[edge[1]]
    obstacles = np.concatenate([scene.captions, _node_boxes(scene), labels])
    sums = _area_sums(crowd > 0)
    best_cost, best = np.inf, None
    for bend in _bends(scene):
        if abs(bend) >= best_cost:  # bends come in order and cost at least their height
            break
        points = _outside_ends(curve(source, target, bend), edge, scene)
        cells = _cells(points, crowd.shape)
        bend_cost, blocked = _curve_cost(points, bend, edge, scene, labels, crowd[cells])
        bend_cost += _MEETING * (crowd[_cells(points[-1:], crowd.shape)] > 0).item()
        times, centres = _label_centres(points, label_size, off_curve)
        boxes = box(centres, label_size)
        label_costs, covered = _label_costs(boxes, times, scene, obstacles, sums)
        index = int(np.argmin(bend_cost + label_costs))
        if bend_cost + label_costs[index] < best_cost:
            best_cost = bend_cost + label_costs[index]
            clear = not (blocked or covered[index])
            best = Route(bend, centres[index], clear), cells, boxes[index]
    return best


def _bends(scene: Scene) -> np.ndarray:
    """Bends to try: straight first, then further and further out on both sides."""
    steps = np.arange(0.12, scene.size[1], 0.12)
    return np.concatenate([[0.0], np.stack([steps, -steps], axis=1).ravel()])


def _outside_ends(points: np.ndarray, edge: tuple[int, int], scene: Scene) -> np.ndarray:
    """The points of a curve that lie outside the two states it joins."""
    ends = list(edge)
    distance = np.linalg.norm(points[:, None] - scene.centres[ends], axis=-1)
    outside = points[(distance > scene.radii[ends]).all(axis=1)]
    return outside if len(outside) else points[len(points) // 2][None]


def _cells(points: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the grid cells that a curve passes, each once."""
    cells = np.clip((points / _CELL).astype(int), 0, np.array(shape) - 1)
    flat = np.unique(np.ravel_multi_index((cells[:, 0], cells[:, 1]), shape))
    rows, columns = np.unravel_index(flat, shape)
    return rows, columns


def _curve_cost(points, bend, edge, scene, labels, crowd):
    """Cost of a curve, and whether it hits a state or a caption or leaves the panel."""
    gaps = np.linalg.norm(points[:, None] - scene.centres, axis=-1) - scene.radii
    gaps[:, list(edge)] = np.inf
    hits = (gaps < _CLEARANCE).sum() + _inside(points, scene.captions).sum()
    away = ((points < 0.02) | (points > np.array(scene.size) - 0.02)).any(axis=1).sum()
    on_labels = _inside(points, labels).sum()
    cost = _COLLISION * (hits + away) + 4.0 * on_labels + 0.3 * (crowd > 0).sum()
    cost += abs(bend) + (0.3 if bend < 0 else 0.0)  # forward edges over, backward ones under
    return cost, bool(hits + away)


def _label_centres(points, size, off_curve):
    """Centres to try for a label and where on its curve: on it, or above and below."""
    times = np.array(_LABEL_TIMES)
    positions = np.round(times * (len(points) - 1)).astype(int)
    centres = points[positions]
    if not off_curve:
        return times, centres
    along = np.gradient(points, axis=0)[positions]
    normals = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.hypot(*along.T)[:, None]
    shifts = (np.abs(normals) @ size / 2 + _CLEARANCE)[:, None] * normals
    both = np.stack([centres + shifts, centres - shifts], axis=1)
    return np.repeat(times, 2), both.reshape(-1, 2)


def _area_sums(filled: np.ndarray) -> np.ndarray:
    """Sums over the cells left of and below each corner, int [row + 1, column + 1]."""
    return np.pad(filled.astype(int).cumsum(0).cumsum(1), ((1, 0), (1, 0)))


def _label_costs(labels, times, scene, obstacles, sums):
    """Costs of label boxes [label, 4], and which of them cover what they must not."""
    overlaps = _overlapping(labels, obstacles).sum(axis=1)
    away = (labels[:, :2] < 0).sum(axis=1) + (labels[:, 2:] > np.array(scene.size)).sum(axis=1)
    cells = np.clip((labels / _CELL).astype(int), 0, None) + np.array([0, 0, 1, 1])
    left, right = np.minimum(cells[:, ::2], sums.shape[0] - 1).T
    bottom, top = np.minimum(cells[:, 1::2], sums.shape[1] - 1).T
    inside = sums[right, top] - sums[left, top] - sums[right, bottom] + sums[left, bottom]
    crossed = np.where(labels[:, 0] < labels[:, 2], inside, 0)
    costs = _COLLISION * (overlaps + away) + 2.0 * crossed + 0.5 * np.abs(times - 0.5)
    return costs, overlaps + away + crossed > 0


def _node_boxes(scene: Scene) -> np.ndarray:
    """Boxes about the states' circles, float [state, 4]."""
    side = 2 * scene.radii[:, None] * np.ones(2)
    return box(scene.centres, side + 0.04)


def _inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which points lie in which boxes, bool [point, box]."""
    above = points[:, None] >= boxes[:, :2]
    below = points[:, None] <= boxes[:, 2:]
    return np.all(above & below, axis=-1)


def _overlapping(labels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which boxes share area with which labels' boxes, bool [label, box]."""
    above = labels[:, None, :2] < boxes[:, 2:]
    below = boxes[:, :2] < labels[:, None, 2:]
    return np.all(above & below, axis=-1)
