"""The look of every figure: nothing is cut or covered, colours, selection, what states mean."""

import itertools
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.text import Text
from PIL import Image

from helpers.figure_data import (
    MAPS,
    WIDE,
    assert_legible,
    by_gid,
    every_figure,
    make_runs,
    make_sweep,
    overlapping,
)
from seedmap.hmm import figures
from seedmap.hmm.figures.semantics import cluster_order
from seedmap.hmm.figures.style import GREY, luminance, short_names, shorten, signed, text_colour
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.training_map.regression import regress


@pytest.fixture(scope="module")
def drawn():
    return every_figure()


@pytest.fixture(scope="module")
def drawn_with_long_names():
    return every_figure([f"multiberts-$seed$_{i}-with-a-long-name" for i in range(40)])


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
    figures.png(figures.plot_convergence(np.array([1.0, 2.0]), "eval_accuracy above 0.9"))
    assert dict(matplotlib.rcParams) == before


def test_save_writes_png_at_150_dpi(tmp_path):
    figure = figures.plot_convergence(np.array([5.0, 10.0, np.nan]), "eval_accuracy above 0.9")
    path = figures.save(figure, tmp_path / "figures" / "convergence.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        np.testing.assert_allclose(image.size, 150 * figure.get_size_inches(), atol=1)
    for suffix, start in ((".svg", b"<svg"), (".pdf", b"%PDF")):
        assert figures.save(figure, path.with_suffix(suffix)).read_bytes().startswith(start)
    with pytest.raises(ValueError, match=r"PNG, SVG or PDF"):
        figures.save(figure, tmp_path / "convergence.gif")


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


def test_marks_stand_out_on_white_and_on_the_dark_page():
    def luminance(colour):
        rgb = np.array(to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    dark = luminance("#16181d")  # of `report.html`
    for state in range(12):
        own = luminance(figures.state_colour(state))
        assert 1.05 / (own + 0.05) >= 3 <= (own + 0.05) / (dark + 0.05), state
    assert 1.05 / (luminance(GREY) + 0.05) >= 3


def test_figures_draw_on_axes_that_are_given():
    figure = Figure(figsize=(9, 4))
    paths, steps, convergence, names = make_runs(12)
    few = np.abs(np.subtract.outer(convergence, convergence))
    draw = [
        lambda ax: figures.plot_training_map(*MAPS["fork"], names={1: "grokking"}, ax=ax),
        lambda ax: figures.plot_state_raster(paths, steps, convergence, names, 8, ax=ax),
        lambda ax: figures.plot_convergence(convergence, "loss below 1", ax=ax),
        lambda ax: figures.plot_coefficients(WIDE, ax=ax),
        lambda ax: figures.plot_dissimilarity(np.nan_to_num(few), names, ax=ax),
        lambda ax: figures.plot_held_out(np.arange(12.0), names, ax=ax),
    ]
    for plot, ax in zip(draw, figure.subplots(2, 3).flat, strict=True):
        assert plot(ax) is ax
        assert ax.get_title("left") or ax.get_title()
    assert "grokking" in " ".join(text.get_text() for text in figure.axes[0].texts)


def test_colours_beyond_twelve_are_all_different():
    assert len({figures.state_colour(k) for k in range(40)}) == 40


def test_every_states_colour_stands_out_on_white_and_on_the_dark_page():
    for k in range(100):
        own = luminance(figures.state_colour(k)) + 0.05
        assert 1.05 / own >= 3, k
        assert own / (luminance("#16181d") + 0.05) >= 3, k
    assert luminance("#ffffff") == pytest.approx(1)
    assert luminance("#777777") == pytest.approx(0.1845, abs=1e-4)  # contrast 4.48 with white


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
    figure = figures.plot_held_out(np.array([3.0, -1.0, 2.0]), "abc")
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


def test_heat_map_says_what_runs_were_drawn_from():
    figure = figures.plot_dissimilarity(np.eye(2)[::-1], ["a", "b"], drawn_from=900)
    assert figure.axes[0].get_title("left") == "Dissimilarity of 2 of 900 runs, clustered"


def test_many_runs_are_clustered_in_time_without_the_best_order():
    group = np.arange(1200) % 3
    order = cluster_order((group[:, None] != group).astype(float))
    assert sorted(order) == list(range(1200))
    assert len(list(itertools.groupby(group[order]))) == 3


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
