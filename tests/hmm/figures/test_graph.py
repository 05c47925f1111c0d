"""The drawing of the training map: circles, arrows, numbers, detours."""

import itertools

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle, FancyArrowPatch

from helpers.figure_data import MAPS, by_gid, hard_map, texts
from seedmap.hmm import figures
from seedmap.hmm.figures.layout import layers
from seedmap.hmm.figures.style import signed


def test_circle_areas_are_proportional_to_occupancy():
    training_map, detours = MAPS["hard"]
    circles = by_gid(figures.plot_training_map(training_map, detours), "state", Circle)
    areas = np.array([circle.radius**2 for circle in circles])
    np.testing.assert_allclose(areas / areas.sum(), training_map.occupancy)


def test_a_map_says_what_it_is_of_and_what_states_are_called():
    drawn = figures.plot_training_map(MAPS["easy"][0], heading="Map by X", names={2: "grokking"})
    written = [text.get_text() for text in drawn.axes[0].texts]
    assert "Map by X" in written
    assert "Training map" not in written
    assert [text.split("\n")[0] for text in written if "of time" in text][2] == "grokking"


def test_every_edge_is_drawn_as_wide_as_its_share_of_runs():
    training_map, detours = MAPS["hard"]
    arrows = by_gid(figures.plot_training_map(training_map, detours), "edge", FancyArrowPatch)
    runs = sorted((edge.num_runs for edge in training_map.edges), reverse=True)
    widths = [arrow.get_linewidth() for arrow in arrows]
    np.testing.assert_allclose(widths, 0.5 + 2.5 * np.array(runs) / 40)


def test_edges_are_described_beside_them_or_in_a_table():
    beside = by_gid(figures.plot_training_map(MAPS["easy"][0]), "edge label")
    assert beside[0].get_text().splitlines()[0] == "100 % of runs"
    change = MAPS["easy"][0].edges[0].top_features[0][1]
    arrow = "↑" if change > 0 else "↓"
    assert beside[0].get_text().splitlines()[1] == f"{arrow} l2 {signed(change)}"
    numbered = figures.plot_training_map(*MAPS["hard"])
    assert [t.get_text() for t in by_gid(numbered, "edge label")] == [str(i) for i in range(1, 21)]
    table = [text.get_text() for text in by_gid(numbered, "table")]
    for edge in MAPS["hard"][0].edges:
        assert f"{edge.source} → {edge.target}" in table


def test_arrows_join_their_circles_pass_their_numbers_and_no_other_circle():
    training_map, detours = MAPS["hard"]
    figure = figures.plot_training_map(training_map, detours)
    FigureCanvasAgg(figure).draw()
    inch = figure.dpi
    circles = [circle.get_window_extent() for circle in by_gid(figure, "state", Circle)]
    centres = np.array([(box.x0 + box.x1, box.y0 + box.y1) for box in circles]) / 2
    radii = np.array([box.width for box in circles]) / 2
    edges = sorted(training_map.edges, key=lambda e: (-e.num_runs, e.source, e.target))
    arrows, labels = by_gid(figure, "edge", FancyArrowPatch), by_gid(figure, "edge label")
    for edge, arrow, label in zip(edges, arrows, labels, strict=True):
        curve = flattened(arrow.get_path().transformed(arrow.get_transform()))
        gaps = np.linalg.norm(curve[:, None] - centres, axis=-1).min(axis=0) - radii
        ends = [edge.source, edge.target]
        assert (gaps[ends] < 0.12 * inch).all()
        assert (np.delete(gaps, ends) > 0).all()
        box = label.get_bbox_patch().get_window_extent()
        centre = [(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]
        assert np.linalg.norm(curve - centre, axis=1).min() < 0.05 * inch


def flattened(path):
    """Points along a path, at most a pixel apart."""
    corners = np.concatenate(path.to_polygons(closed_only=False))
    pieces = [
        np.linspace(a, b, 2 + int(np.hypot(*(b - a)))) for a, b in itertools.pairwise(corners)
    ]
    return np.concatenate(pieces)


def test_arrowheads_at_a_state_stand_apart():
    figure = figures.plot_training_map(*MAPS["hard"])
    FigureCanvasAgg(figure).draw()
    arrows = by_gid(figure, "edge", FancyArrowPatch)
    edges = sorted(hard_map().edges, key=lambda e: (-e.num_runs, e.source, e.target))
    arrows = [arrow for arrow, edge in zip(arrows, edges, strict=True) if edge.target == 0]
    assert len(arrows) == 2
    tips = [arrow.get_path().transformed(arrow.get_transform()).vertices for arrow in arrows]
    (zero, *_) = by_gid(figure, "state", Circle)
    centre = zero.get_transform().transform(zero.get_path().vertices).mean(axis=0)
    ends = [tip[np.linalg.norm(tip - centre, axis=1).argmin()] for tip in tips]
    assert np.linalg.norm(ends[0] - ends[1]) > 0.08 * figure.dpi


def test_detours_are_outlined_and_named():
    figure = figures.plot_training_map(*MAPS["hard"])
    circles, outlines = by_gid(figure, "state", Circle), by_gid(figure, "detour", Circle)
    assert [o.center for o in outlines] == [circles[3].center, circles[6].center]
    captions = [text.get_text() for text in by_gid(figure, "caption")]
    assert [k for k, text in enumerate(captions) if "detour" in text] == [3, 6]
    assert captions[0] == "10 % of time\n40/40 runs"
    assert captions[3].startswith("state 3\n0.5 % of time")


def test_states_nobody_visits_are_named_not_drawn():
    figure = figures.plot_training_map(*MAPS["no edges"])
    assert len(by_gid(figure, "state", Circle)) == 2
    assert any("no run visits state 2" in text.get_text() for text, _ in texts(figure))


def test_layers_follow_first_visits_and_put_choices_side_by_side():
    first = np.array([0.0, 5.0, 6.0, 20.0, np.nan])
    assert layers([(0, 1), (0, 2), (1, 3), (2, 3), (3, 0)], first) == [[0], [1, 2], [3]]
    starts = [(0, 2), (1, 2)]
    assert layers(starts, first[:3]) == [[0, 1], [2]]
    only_backward = [(0, 1), (1, 3), (3, 2)]  # reaches state 2
    assert layers(only_backward, first[:4]) == [[0], [1], [2, 3]]
