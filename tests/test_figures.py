import itertools
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.text import Text
from PIL import Image

from hmm import figures
from hmm.figures.layout import layers
from hmm.figures.runs import by_convergence, exemplary_runs
from hmm.figures.semantics import cluster_order
from hmm.figures.style import short_names, shorten, signed, text_colour
from hmm.parameters import Parameters
from hmm.regression import Coefficient, Regression, regress
from hmm.sweep import Fit, Sweep, SweepConfig
from hmm.training_map import Edge, TrainingMap

LONG_NAMES = ("computational_sparsity", "gradient_symmetry_of_embeddings", "median_$w_1$")


def make_map(pairs, occupancy, num_runs=40, names=("l2", "trace", "mean_lambda"), unvisited=()):
    rng = np.random.default_rng(0)
    edges = tuple(
        Edge(j, k, 0.1, runs, runs, tuple((name, float(rng.normal(0, 30))) for name in names))
        for j, k, runs in pairs
    )
    num_states = len(occupancy)
    first = np.arange(num_states, dtype=float)
    first[list(unvisited)] = np.nan
    visits = np.full(num_states, num_runs)
    visits[list(unvisited)] = 0
    occupancy = np.array(occupancy) / np.sum(occupancy)
    return TrainingMap(num_states, num_runs, edges, occupancy, visits, first, forking=True)


def hard_map():
    rng = np.random.default_rng(1)
    chain = [(k, k + 1) for k in range(7)]
    others = [p for p in itertools.permutations(range(8), 2) if p not in chain]
    rng.shuffle(others)
    pairs = [(j, k, int(rng.integers(25, 41))) for j, k in chain]
    pairs += [(int(j), int(k), int(rng.integers(1, 15))) for j, k in others[:13]]
    return make_map(pairs, [0.1, 0.25, 0.12, 0.005, 0.2, 0.08, 0.045, 0.2], names=LONG_NAMES)


MAPS = {
    "easy": (make_map([(0, 1, 40), (1, 2, 38), (0, 2, 2)], [1, 3, 2]), (1,)),
    "long names": (make_map([(0, 1, 40), (1, 2, 38)], [1, 3, 2], names=LONG_NAMES), ()),
    "fork": (make_map([(0, 1, 30), (0, 2, 10), (1, 3, 30), (2, 3, 9)], [1, 2, 1, 3]), (2,)),
    "hard": (hard_map(), (3, 6)),
    "twelve states": (make_map([(k, k + 1, 30) for k in range(11)], [1] * 12), (3,)),
    "one state": (make_map([], [1]), ()),
    "no edges": (make_map([], [3, 2, 0], unvisited=[2]), ()),
}


def make_runs(num_runs=40, num_times=60, num_states=8, num_never=2):
    rng = np.random.default_rng(0)
    steps = 5 * np.arange(num_times)
    cuts = np.sort(rng.integers(1, num_times, (num_runs, num_states - 1)), axis=1)
    paths = (np.arange(num_times)[None, :, None] >= cuts[:, None]).sum(axis=-1)
    convergence = steps[cuts[:, -1]].astype(float) if num_states > 1 else np.full(num_runs, 50.0)
    convergence[:num_never] = np.nan
    names = [str(seed) for seed in range(num_runs)]
    return paths, steps, convergence, names


def make_sweep(restarts=3, wild=False):
    rng = np.random.default_rng(0)
    fits = []
    for k, r in itertools.product(range(1, 9), range(restarts)):
        train, held_out = rng.normal(10 * k, 1), rng.normal(-1e6 if wild and k > 4 else -20, 5)
        fits.append(
            Fit(
                num_states=k,
                restart=r,
                parameters=Parameters(*[np.zeros(0)] * 4),
                train_log_likelihood=train,
                validation_log_likelihood=held_out,
                train_run_log_likelihood=np.zeros(0),
                validation_run_log_likelihood=np.zeros(0),
                penalised_log_likelihood=train,
                num_parameters=k,
                aic=-2 * held_out + 2 * k,
                bic=-2 * held_out + 5 * k,
                iterations=1,
                converged=True,
                degenerate=k == 8 or (k, r) == (7, 0),
                robust_log_likelihood=held_out + k,
            )
        )
    return Sweep(SweepConfig(), tuple(fits), ("l2",), ("0",), ("1",), 100, 10)


def make_regression(rows):
    coefficients = tuple(Coefficient(state, *row) for state, row in enumerate(rows))
    return Regression(
        *(0.961, 3.0, 0.032, (2, 35), -12.3, 38, 2, 0, "exclude", 0.95), coefficients, ()
    )


WIDE = make_regression(
    [(10, 5, 0, 20), (35, 12, 11, 59), (None,) * 4, (4e4, 9e4, -1.4e5, 2.2e5), (-3, *[None] * 3)]
)


def every_figure(names=None):
    """Every kind of figure on awkward data."""
    paths, steps, convergence, runs = make_runs()
    runs = names or runs
    curve = 1 / (1 + np.exp((steps - np.nan_to_num(convergence, nan=900)[:, None]) / 20))
    few = slice(0, 12)
    return {
        "map": figures.plot_training_map(*MAPS["hard"]),
        "raster": figures.plot_state_raster(paths, steps, convergence, runs, 8, "epoch"),
        "losses": figures.plot_losses(
            *({"train": curve, "eval": curve + 0.1}, {"eval": 1 - curve}),
            *(paths, steps, convergence, runs, 8, "epoch"),
        ),
        "convergence": figures.plot_convergence(convergence, 0.9, "epoch"),
        "selection": figures.plot_model_selection(make_sweep(), 3),
        "wild selection": figures.plot_model_selection(make_sweep(wild=True), 3),
        "coefficients": figures.plot_coefficients(WIDE, (1, 3), "epochs later than the mean run"),
        "held out": figures.plot_held_out(
            np.r_[np.full(11, 100.0), -36000.0], np.full(12, 100), runs[few]
        ),
        "dissimilarity": figures.plot_dissimilarity(
            np.abs(np.subtract.outer(*[curve[:, 9]] * 2)), runs
        ),
    }


@pytest.fixture(scope="module")
def drawn():
    return every_figure()


@pytest.fixture(scope="module")
def drawn_with_long_names():
    return every_figure([f"multiberts-$seed$_{i}-with-a-long-name" for i in range(40)])


def hidden_ticks(figure):
    """Labels of ticks outside the view, which matplotlib keeps but does not draw."""
    for ax, axis in itertools.product(figure.axes, ("xaxis", "yaxis")):
        low, high = sorted(getattr(ax, axis).get_view_interval())
        for tick in [*getattr(ax, axis).get_major_ticks(), *getattr(ax, axis).get_minor_ticks()]:
            if not low <= tick.get_loc() <= high:
                yield tick.label1


def texts(figure):
    """Texts that are drawn, with their boxes (frames included), in pixels."""
    FigureCanvasAgg(figure).draw()
    hidden = set(hidden_ticks(figure))
    found = []
    for text in set(figure.findobj(Text)) - hidden:
        if text.get_visible() and text.get_text().strip():
            found.append((text, (text.get_bbox_patch() or text).get_window_extent()))
    return found


def overlapping(a, b, slack=0.5):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > slack and min(a.y1, b.y1) - max(a.y0, b.y0) > slack


def assert_legible(figure):
    width, height = figure.bbox.size
    placed = texts(figure)
    for text, box in placed:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, f"{text.get_text()!r} is cut"
    for (one, a), (other, b) in itertools.combinations(placed, 2):
        assert not overlapping(a, b), f"{one.get_text()!r} covers {other.get_text()!r}"


def by_gid(figure, gid, kind=None):
    found = figure.findobj(lambda artist: artist.get_gid() == gid)
    return [artist for artist in found if kind is None or isinstance(artist, kind)]


@pytest.mark.parametrize("name", MAPS)
def test_map_labels_do_not_overlap(name):
    figure = figures.plot_training_map(*MAPS[name])
    assert_legible(figure)
    labels = by_gid(figure, "edge label") + by_gid(figure, "caption")
    for label, circle in itertools.product(labels, by_gid(figure, "state", Circle)):
        box = (label.get_bbox_patch() or label).get_window_extent()
        assert not overlapping(box, circle.get_window_extent()), label.get_text()


KINDS = [
    *("map", "raster", "losses", "convergence", "selection", "wild selection"),
    *("coefficients", "held out", "dissimilarity"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_is_cut_or_covered(drawn, kind):
    assert_legible(drawn[kind])


@pytest.mark.parametrize("kind", ["raster", "losses", "dissimilarity", "held out"])
def test_long_run_names_stay_legible(drawn_with_long_names, kind):
    assert_legible(drawn_with_long_names[kind])


def test_dollar_signs_in_names_are_not_mathematics(drawn_with_long_names):
    for figure in drawn_with_long_names.values():
        named = [text for text in figure.findobj(Text) if "$" in text.get_text()]
        assert not any(text.get_parse_math() for text in named)
    labels = by_gid(drawn_with_long_names["map"], "table")
    assert any("median_$w_1$" in label.get_text() for label in labels)


def test_settings_of_matplotlib_are_left_alone():
    before = dict(matplotlib.rcParams)
    figures.png(figures.plot_convergence(np.array([1.0, 2.0]), 0.9))
    assert dict(matplotlib.rcParams) == before


def test_save_writes_png_at_150_dpi(tmp_path):
    figure = figures.plot_convergence(np.array([5.0, 10.0, np.nan]), 0.9)
    path = figures.save(figure, tmp_path / "figures" / "convergence.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        np.testing.assert_allclose(image.size, 150 * figure.get_size_inches(), atol=1)
    with pytest.raises(ValueError, match=r"PNG"):
        figures.save(figure, tmp_path / "convergence.pdf")


# Colours


def lab(colour, vision):
    """CIELAB of a colour as seen by a colour-blind observer (Machado et al. 2009, severity 1)."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(VISION[vision] @ linear, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.01182, 0.04294, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.3039],
        ]
    ),
}


@pytest.mark.parametrize("vision", VISION)
def test_twelve_colours_stay_apart(vision):
    colours = [lab(figures.state_colour(k), vision) for k in range(12)]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2)]
    assert min(distances) > 15  # 2.3 is the least noticeable difference


def test_colours_beyond_twelve_are_all_different():
    assert len({figures.state_colour(k) for k in range(40)}) == 40


def test_text_has_the_better_contrast():
    assert [text_colour(c) for c in ("#000000", "#ffffff", "#0072b2")] == [
        "#ffffff",
        "#000000",
        "#ffffff",
    ]


def test_a_state_has_one_colour_in_all_figures(drawn):
    expected = [figures.state_colour(k) for k in range(8)]
    circles = by_gid(drawn["map"], "state", Circle)
    assert [to_hex(circle.get_facecolor()) for circle in circles] == expected
    (mesh,) = drawn["raster"].findobj(QuadMesh)
    assert [to_hex(mesh.cmap(mesh.norm(k))) for k in range(8)] == expected
    for kind in ("raster", "losses"):
        lines = {h.get_label(): h for h in drawn[kind].legends[0].legend_handles}
        assert [to_hex(lines[f"state {k}"].get_color()) for k in range(8)] == expected
    points = [line for line in drawn["coefficients"].axes[0].lines if line.get_marker() == "o"]
    seen = {int(line.get_ydata()[0]): to_hex(line.get_color()) for line in points}
    assert seen == {k: expected[k] for k in (0, 1, 3, 4)}


# Training map


def test_circle_areas_are_proportional_to_occupancy():
    training_map, detours = MAPS["hard"]
    circles = by_gid(figures.plot_training_map(training_map, detours), "state", Circle)
    areas = np.array([circle.radius**2 for circle in circles])
    np.testing.assert_allclose(areas / areas.sum(), training_map.occupancy)


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


# Runs


def test_raster_holds_the_paths_in_order_of_convergence():
    paths, steps, convergence, runs = make_runs()
    paths[5, 40:] = -1
    figure = figures.plot_state_raster(paths, steps, convergence, runs, 8, "epoch")
    order = np.lexsort((np.arange(40), np.nan_to_num(convergence, nan=np.inf)))
    (mesh,) = figure.findobj(QuadMesh)
    np.testing.assert_array_equal(mesh.get_array().filled(-1), paths[order])
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == [runs[i] for i in order]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.sort(convergence)[:38])
    (line,) = by_gid(figure, "group")
    assert line.get_ydata()[0] == 37.5  # over the two that never converge
    assert ax.get_xlabel() == "epoch"


def raster(convergence, cut, diverged=None):
    """Raster of runs named a, b, ... with the runs `cut` padded half way."""
    paths, steps, _, _ = make_runs(num_runs=len(convergence), num_states=2)
    paths[cut, 30:] = -1
    names = "abcdefgh"[: len(convergence)]
    convergence = np.array(convergence, dtype=float)
    figure = figures.plot_state_raster(paths, steps, convergence, names, 2, "epoch", diverged)
    ax = figure.axes[0]
    rows = "".join(label.get_text() for label in ax.get_yticklabels())
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    lines = [line.get_ydata()[0] for line in by_gid(figure, "group")]
    assert_legible(figure)
    return rows, ax.get_title("left"), lines, legend[2:], figure


def test_raster_tells_runs_that_diverged_from_those_that_never_converge():
    nan = np.nan
    rows, title, lines, legend, _ = raster([nan, 50, nan, nan, 20], cut=[0, 4])
    assert rows == "ebcda"  # e converged before it diverged
    assert title.endswith("soonest to converge first; under the line: 2 never converge, 1 diverged")
    assert lines == [1.5, 3.5]
    assert legend == ["diverged", "converged"]
    rows, title, lines, legend, _ = raster([nan, nan, nan], cut=[0])
    assert (rows, lines, legend) == ("bca", [1.5], ["diverged"])
    assert title == "Decoded states of all runs: 2 never converge, 1 diverged"
    _, title, lines, legend, _ = raster([10, 20], cut=[])
    assert title == "Decoded states, soonest to converge first"
    assert (lines, legend) == ([], ["converged"])


def test_raster_takes_a_shorter_run_for_diverged_only_if_it_is():
    nan = np.nan
    rows, title, _, legend, _ = raster([nan, nan], [0, 1], np.array([True, False]))
    assert (rows, legend) == ("ba", ["diverged or ended early"])
    assert title == "Decoded states of all runs: 1 never converges, 1 diverged"
    *_, legend, _ = raster([nan, 10], [0, 1], np.array([False, False]))
    assert legend == ["ended early", "converged"]


def test_raster_wastes_no_room_where_no_run_converges():
    figure = raster([np.nan] * 4, cut=[0])[-1]
    label = figure.axes[0].xaxis.label.get_window_extent()
    gap = label.y0 - figure.legends[0].get_window_extent().y1
    assert 0 < gap < 0.25 * figure.dpi


def test_raster_columns_reach_half_way_between_steps():
    paths = np.array([[0, 1, 1]])
    figure = figures.plot_state_raster(paths, [0, 10, 40], np.array([10.0]), ["a"], 2)
    (mesh,) = figure.findobj(QuadMesh)
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], [-5, 5, 25, 55])


def test_exemplary_runs():
    nan, lasts = np.nan, np.zeros(5, dtype=bool)
    assert exemplary_runs(np.array([30.0, nan, 10.0, 20.0, nan]), lasts) == {
        "fastest": 2,
        "median": 3,
        "slowest": 0,
        "never": 1,
    }
    assert exemplary_runs(np.array([30.0, 10.0]), lasts[:2]) == {"fastest": 1, "slowest": 0}
    assert exemplary_runs(np.array([nan]), lasts[:1]) == {"never": 0}
    assert by_convergence(np.array([nan, 2.0, nan, 2.0])).tolist() == [1, 3, 0, 2]


def test_a_diverged_run_is_the_example_only_where_no_other_is_left():
    convergence = np.array([np.nan, 10.0, np.nan, np.nan])
    diverged = np.array([True, True, False, False])
    assert exemplary_runs(convergence, diverged) == {"fastest": 1, "never": 2}
    assert exemplary_runs(convergence[:2], diverged[:2]) == {"fastest": 1, "diverged": 0}


def test_losses_say_when_the_example_diverged():
    paths = np.array([[0, 0, -1, -1], [0, 0, 0, 0]])
    loss = np.array([[2.0, 3.0, np.nan, np.nan], [2.0, 2.0, 2.0, 2.0]])
    steps, never = np.arange(4) * 10.0, np.full(2, np.nan)
    arguments = ({"eval": loss}, {}, paths, steps, never, ["a", "b"], 1)
    titles = [ax.get_title("left") for ax in figures.plot_losses(*arguments).axes]
    assert titles == ["never\nrun b"]
    only = ({"eval": loss[:1]}, {}, paths[:1], steps, never[:1], ["a"], 1)
    titles = [ax.get_title("left") for ax in figures.plot_losses(*only).axes]
    assert titles == ["diverged after 10\nrun a"]
    lasts = np.zeros(2, dtype=bool)
    titles = [ax.get_title("left") for ax in figures.plot_losses(*arguments, diverged=lasts).axes]
    assert titles == ["never\nrun a"]


def test_loss_curves_are_whole_and_coloured_by_state():
    paths = np.array([[0, 0, 1, 1, 0, -1]])
    steps = np.arange(6) * 10.0
    loss = np.array([[8.0, 4.0, 2.0, 1.0, 0.5, 0.0]])
    figure = figures.plot_losses({"eval": loss}, {}, paths, steps, np.array([30.0]), ["a"], 2)
    (curve,) = figure.findobj(LineCollection)
    pieces = [piece.tolist() for piece in curve.get_segments()]
    assert pieces == [[[0, 8], [10, 4], [20, 2]], [[20, 2], [30, 1], [40, 0.5]], [[40, 0.5]]]
    assert [to_hex(c) for c in curve.get_colors()] == [figures.state_colour(k) for k in (0, 1, 0)]
    assert figure.axes[0].get_yscale() == "log"


@pytest.mark.parametrize("loss", [[1.0, 0.1, 0.0], [1.0, -2.0, 100.0], [1.0, 1.1, 1.2]])
def test_loss_axis_is_linear_without_positive_values_over_a_decade(loss):
    paths, steps = np.zeros((1, 3), int), np.arange(3.0)
    figure = figures.plot_losses(
        {"eval": np.array([loss])}, {}, paths, steps, np.array([np.nan]), ["a"], 1
    )
    assert figure.axes[0].get_yscale() == "linear"


def test_histogram_counts_all_that_converge_and_names_the_rest():
    _, _, convergence, _ = make_runs()
    ax = figures.plot_convergence(convergence, 0.9, "epoch").axes[0]
    assert sum(bar.get_height() for bar in ax.patches) == 38
    assert ax.get_xlabel() == "epoch (of 40 runs 2 never converge)"
    assert ax.get_title("left") == "First epoch with evaluation accuracy above 0.9"
    empty = figures.plot_convergence(np.full(3, np.nan), 0.9).axes[0]
    assert [text.get_text() for text in empty.texts] == ["none of 3 runs converges"]


def test_histogram_tells_diverged_runs_from_those_that_never_converge():
    times = np.array([5.0, np.nan, np.nan, np.nan])
    labels = [
        figures.plot_convergence(times, 0.9, "epoch", num_diverged=n).axes[0].get_xlabel()
        for n in (1, 2, 3)
    ]
    assert labels == [
        "epoch (of 4 runs 2 never converge, 1 diverged)",
        "epoch (of 4 runs 1 never converges, 2 diverged)",
        "epoch (of 4 runs 3 diverged)",
    ]
    empty = figures.plot_convergence(np.full(3, np.nan), 0.9, num_diverged=2).axes[0]
    assert [text.get_text() for text in empty.texts] == ["none of 3 runs converges, 2 diverged"]
    with pytest.raises(ValueError, match="num_diverged is 4, but only 3 runs never converge"):
        figures.plot_convergence(times, 0.9, num_diverged=4)


@pytest.mark.parametrize(
    ("times", "resolution", "edges"),
    [
        ([75, 575, 100, 240, 240], 5, np.arange(0, 701, 100)),
        ([10, 20, 30], 10, [10, 20, 30, 40]),
        ([15], 5, [15, 20]),
        ([12, 31, 44], 4, [8, 16, 24, 32, 40, 48]),
    ],
)
def test_bins_of_the_histogram_follow_the_record_grid(times, resolution, edges):
    times = np.array([*times, np.nan], dtype=float)
    ax = figures.plot_convergence(times, 0.9, resolution=resolution).axes[0]
    expected = np.histogram(times[:-1], edges)[0]
    filled = [(bar.get_x(), bar.get_height()) for bar in ax.patches if bar.get_height()]
    assert filled == [(e, n) for e, n in zip(edges[:-1], expected, strict=True) if n]
    assert all(bar.get_x() % resolution == 0 for bar in ax.patches)


# Selection


def test_selection_joins_the_best_restarts_and_counts_degenerate_ones():
    sweep = make_sweep()
    figure = figures.plot_model_selection(sweep, 3)
    sound = [fit for fit in sweep.fits if not fit.degenerate]
    best = [
        max((f for f in sound if f.num_states == k), key=lambda f: f.penalised_log_likelihood)
        for k in range(1, 8)
    ]
    bic, aic, robust, train, held_out = by_gid(figure, "best")
    np.testing.assert_allclose(bic.get_xdata(), range(1, 8))
    np.testing.assert_allclose(bic.get_ydata(), [fit.bic for fit in best])
    np.testing.assert_allclose(aic.get_ydata(), [fit.aic for fit in best])
    robust_bic = [
        -2 * f.robust_log_likelihood + f.num_parameters * np.log(10)  # ten observations
        for f in best
    ]
    np.testing.assert_allclose(robust.get_ydata(), robust_bic)
    np.testing.assert_allclose(train.get_ydata(), [f.train_log_likelihood / 100 for f in best])
    np.testing.assert_allclose(
        held_out.get_ydata(), [f.validation_log_likelihood / 10 for f in best]
    )
    (band, *_) = by_gid(figure, "chosen")
    assert band.get_x() == pytest.approx(2.6)
    assert band.get_width() == pytest.approx(0.8)
    note = figure.get_supxlabel()
    assert note.endswith("degenerate restarts left out: 1 of 7 states, 3 of 8 states")


@pytest.mark.parametrize(
    ("prior", "criterion", "labels"),
    [
        ("held-out", None, ["BIC", "AIC", "robust BIC (chose)"]),
        ("held-out", "validation_aic", ["BIC", "AIC (chose)"]),
        ("held-out", "kfold", ["BIC", "AIC"]),
        ("weak", None, ["BIC (chose)", "AIC"]),
        ("weak", "robust_bic", ["BIC", "AIC", "robust BIC (chose)"]),
    ],
)
def test_selection_names_the_criterion_that_chose(prior, criterion, labels):
    sweep = replace(make_sweep(), config=SweepConfig(prior=prior))
    figure = figures.plot_model_selection(sweep, 3, criterion)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == labels
    assert_legible(figure)


def test_values_over_many_decades_and_both_signs_get_a_wide_axis(drawn):
    scales = {kind: [ax.get_yscale() for ax in drawn[kind].axes] for kind in drawn}
    assert scales["selection"] == ["linear", "linear", "linear"]
    assert scales["wild selection"] == ["symlog", "linear", "symlog"]
    assert drawn["held out"].axes[0].get_xscale() == "symlog"
    assert drawn["held out"].axes[0].get_xlim()[1] < 2  # the values reach from -360 to 1
    assert drawn["coefficients"].axes[0].get_xscale() == "symlog"


def test_held_out_runs_are_per_checkpoint_and_sorted():
    figure = figures.plot_held_out(np.array([30.0, -10.0, 40.0]), np.array([10, 10, 20]), "abc")
    (points,) = by_gid(figure, "held out")
    assert points.get_xdata().tolist() == [-1.0, 2.0, 3.0]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["b", "c", "a"]


# Meaning of the states


def test_coefficients_show_intervals_detours_and_what_is_not_estimable():
    ax = figures.plot_coefficients(WIDE, (1, 3), "epochs later than the mean run").axes[0]
    spans = [collection.get_segments()[0][:, 0].tolist() for collection in ax.collections]
    np.testing.assert_allclose(spans, [[0, 2], [1.1, 5.9], [-1.4e4, 2.2e4]])  # a tenth
    values = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(values, [1, 3.5, 4e3, -0.3])
    label = "epochs later than the mean run\nfor 10 % more of the time in the state (95 % interval)"
    assert ax.get_xlabel() == label
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["state 0", "state 1 (detour)", "state 2", "state 3 (detour)", "state 4"]
    assert [(text.get_text(), text.xy[1]) for text in ax.texts] == [("not estimable", 2)]
    title = ax.get_title("left").replace("\N{MINUS SIGN}", "-")
    assert title == "R² 0.961, left out -12.300, p = 0.032 (38 runs)"


def test_a_tenth_of_a_coefficient_is_the_effect_of_a_tenth_more_time():
    rng = np.random.default_rng(0)
    bag, slopes = rng.dirichlet(np.ones(3), 30), np.array([100.0, 300.0, 50.0])
    outcome = bag @ slopes
    ax = figures.plot_coefficients(regress(bag, outcome)).axes[0]
    drawn = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    longer = 0.9 * bag.mean(axis=0) + 0.1 * np.eye(3)  # the mean run, more of each state in turn
    np.testing.assert_allclose(drawn, longer @ slopes - outcome.mean())


def test_without_a_run_there_are_no_coefficients():
    nothing = regress(np.array([[0.5, 0.5]]), np.array([np.nan]))
    ax = figures.plot_coefficients(nothing).axes[0]
    assert [text.get_text() for text in ax.texts] == ["no run converged: nothing to regress on"]
    assert ax.get_title("left") == ax.get_xlabel() == ""


def test_clusters_stand_together():
    group = np.array([0, 1, 0, 2, 1, 0, 2])
    order = cluster_order((group[:, None] != group).astype(float))
    assert sorted(order) == list(range(7))
    assert len(list(itertools.groupby(group[order]))) == 3
    assert cluster_order(np.zeros((1, 1))).tolist() == [0]


def test_heat_map_is_the_matrix_in_clustered_order():
    group = np.array([0, 1, 0, 1])
    matrix = (group[:, None] != group).astype(float)
    figure = figures.plot_dissimilarity(matrix, list("abcd"))
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    order = ["abcd".index(name) for name in names]
    assert order == cluster_order(matrix).tolist()
    assert order != [0, 1, 2, 3]
    np.testing.assert_array_equal(
        figure.axes[0].images[0].get_array(), matrix[np.ix_(order, order)]
    )


# Names and numbers


def test_short_names_keep_what_tells_runs_apart():
    names = [f"multiberts-seed_{i}-final" for i in (1, 2, 13)]
    assert short_names(names) == ["…1…", "…2…", "…13…"]
    assert short_names(["a" * 40]) == [shorten("a" * 40, 18)]
    assert short_names(["7", "12"]) == ["7", "12"]
    assert short_names([f"a-long-folder/run-{i}" for i in (1, 11)]) == ["…1", "…11"]
    assert short_names([f"checkpoints-of-seed{i}" for i in (1, 11)]) == ["…seed1", "…seed11"]


def test_shorten_and_signed():
    assert shorten("computational_sparsity") == "computational_sparsity"
    assert len(shorten("gradient_symmetry_of_embeddings", 22)) == 22
    assert [signed(value) for value in (1.234, 12345.0)] == ["+1.23", "+1.23e+04"]
    assert signed(-0.04) == "\N{MINUS SIGN}0.04"
