"""Figures of a study of noise: points, curves and bars stand where `noise.json` has them."""

import copy

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.text import Text

from helpers.noise_summary import ALL_FORKS, LONG, draw, make_study, panels_of, read
from seedmap.experiments.noise.report.figure_curves import median_curve, plot_paths
from seedmap.experiments.noise.report.figure_parts import looks, spread
from seedmap.experiments.noise.report.figures import make_figures
from seedmap.hmm.figures.style import shorten

DASH = "\N{EN DASH}"


@pytest.fixture(scope="module")
def study():
    return make_study(groups=LONG)


@pytest.fixture(scope="module")
def figures(study):
    return draw(study)


@pytest.fixture(scope="module")
def hard():
    return make_study(forks=ALL_FORKS, num_classes=1000, diverged=("order",), records=40)


@pytest.fixture(scope="module")
def hard_figures(hard):
    return draw(hard)


def points(ax):
    """Lines with an id, by it: x and y."""
    return {line.get_gid(): line.get_xydata() for line in ax.lines if line.get_gid()}


def segments(ax):
    collections = [c for c in ax.collections if isinstance(c, LineCollection)]
    return [segment for collection in collections for segment in collection.get_segments()]


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def boxes(figure, texts):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # Of the words alone: an annotation's own extent has its line in it.
    return [Text.get_window_extent(text, canvas.get_renderer()) for text in texts]


def assert_apart(figure, texts):
    """No text lies over another, or beyond the figure."""
    found, whole = boxes(figure, texts), figure.bbox
    for i, box in enumerate(found):
        assert box.x0 >= 0
        assert box.x1 <= whole.x1
        for other in found[:i]:
            assert not box.shrunk(0.98, 0.9).overlaps(other.shrunk(0.98, 0.9))


def test_budget_shows_every_share_with_its_interval(study, figures):
    panels = panels_of(figures["noise_budget"])
    keys = {
        "Variance of accuracy": "share_of_variance",
        "Churn": "share_of_churn",
        "Distance of weights": "share_of_l2",
    }
    assert list(panels) == list(keys)
    names = [v["name"] for v in study.found["variants"]]
    assert labels(panels["Variance of accuracy"]) == names
    for title, key in keys.items():
        shown, ends = points(panels[title]), segments(panels[title])
        low, high = panels[title].get_xlim()
        assert low < 0 < 1 < high
        for row, variant in enumerate(study.found["variants"]):
            share = variant[key] or {"value": float(variant["name"] == "ALGO+IMPL")}
            np.testing.assert_allclose(shown[variant["name"]], [[share["value"], row]])
        given = [v[key] for v in study.found["variants"] if v[key]]
        drawn = [tuple(segment[:, 0]) for segment in ends]
        np.testing.assert_allclose(drawn, [(g["low"], g["high"]) for g in given])


def test_control_that_is_not_zero_stands_where_its_replicas_put_it(study):
    found = copy.deepcopy(study.found)
    control, whole = found["variants"][0], found["variants"][-1]
    control["churn"]["value"] = 0.5 * whole["churn"]["value"]
    control["accuracy"]["sd"]["value"] = 0.5 * whole["accuracy"]["sd"]["value"]
    panels = panels_of(make_figures(read(found), study.dataset)["noise_budget"])
    np.testing.assert_allclose(points(panels["Churn"])["CONTROL"], [[0.5, 0]])
    np.testing.assert_allclose(points(panels["Variance of accuracy"])["CONTROL"], [[0.25, 0]])


def test_budget_goes_on_in_logarithms_where_intervals_are_huge(study):
    found = copy.deepcopy(study.found)
    found["variants"][1]["share_of_variance"] = {"value": 5.0, "low": 4.0, "high": 399.0}
    panels = panels_of(make_figures(read(found), study.dataset)["noise_budget"])
    ax = panels["Variance of accuracy"]
    assert ax.get_xscale() == "symlog"
    assert ax.get_xlim()[0] < 0
    assert 399 <= ax.get_xlim()[1] < 500
    np.testing.assert_allclose(points(ax)["CONTROL"], [[0, 0]])
    assert panels["Churn"].get_xscale() == "linear"


def test_an_interval_that_says_nothing_is_named_and_scales_no_axis(study):
    found = copy.deepcopy(study.found)
    found["variants"][1]["share_of_variance"] = {"value": 0.034, "low": 4e-15, "high": 3e11}
    ax = panels_of(make_figures(read(found), study.dataset)["noise_budget"])["Variance of accuracy"]
    assert ax.get_xscale() == "linear"
    assert found["variants"][1]["name"] not in points(ax)
    assert "not determined" in [text.get_text() for text in ax.texts]


def test_components_are_drawn_where_they_are_determined():
    study = make_study(("init", "ulp"), roots=5, paths=False)
    for line in study.found["components"]:
        if (line["source"], line["measure"]) == ("init", "accuracy"):
            line |= {"share": 0.5, "low": 0.02, "high": 0.99}
    panels = panels_of(make_figures(study.summary, study.dataset)["components"])
    lines = {(c["source"], c["measure"]): c for c in study.found["components"]}
    ulp = lines["ulp", "log_convergence_time"]
    np.testing.assert_allclose(points(panels["Convergence time"])["ulp"], [[100 * ulp["share"], 1]])
    assert "init" not in points(panels["Accuracy"])
    assert "not determined" in [text.get_text() for text in panels["Accuracy"].texts]
    assert "components" not in make_figures(make_study(("init",)).summary, study.dataset)


def test_churn_is_shown_against_the_spread_of_accuracy(study, figures):
    ax = figures["churn_accuracy"].axes[0]
    shown, ends = points(ax), segments(ax)
    assert len(shown) == 11
    for variant in study.found["variants"]:
        sd, churn = variant["accuracy"]["sd"], variant["churn"]
        np.testing.assert_allclose(
            shown[variant["name"]], [[100 * sd["value"], 100 * churn["value"]]]
        )
        across = [[100 * sd[end], 100 * churn["value"]] for end in ("low", "high")]
        up = [[100 * sd["value"], 100 * churn[end]] for end in ("low", "high")]
        assert any(np.allclose(segment, across) for segment in ends)
        assert any(np.allclose(segment, up) for segment in ends)
    assert {text.get_text() for text in ax.texts} == set(shown)


def test_what_diverged_or_has_no_interval_is_absent():
    study = make_study(replicas=2, diverged=("ulp",))
    drawn = draw(study)
    ax = drawn["churn_accuracy"].axes[0]
    assert "ulp" not in points(ax)
    assert segments(ax) == []
    panel = panels_of(drawn["noise_budget"])["Churn"]
    assert "ulp" not in points(panel)
    assert [text.get_text() for text in panel.texts] == [DASH]
    assert panel.texts[0].xy[1] == [v["name"] for v in study.found["variants"]].index("ulp")
    assert "ulp\n1 of 2 diverged" in labels(drawn["noise_budget"].axes[0])


def test_an_interval_far_beyond_the_values_does_not_press_them_together(study):
    found = copy.deepcopy(study.found)
    found["variants"][1]["accuracy"]["sd"]["high"] = 50.0
    ax = make_figures(read(found), study.dataset)["churn_accuracy"].axes[0]
    largest = max(x for ((x, _),) in points(ax).values())
    assert ax.get_xlim()[1] < 3.2 * largest


@pytest.mark.slow
def test_labels_of_sixteen_variants_are_apart(hard_figures):
    for name in ("churn_accuracy", "divergence"):
        for ax in hard_figures[name].axes:
            assert len(ax.texts) >= 13  # CONTROL and fork@16000 do not grow
            assert_apart(hard_figures[name], ax.texts)
    for name in ("noise_budget", "paths_by_source", "dissimilarity_by_source"):
        assert_apart(hard_figures[name], hard_figures[name].axes[0].get_yticklabels())


def test_variants_are_told_apart_by_more_than_colour(hard):
    found = looks(hard.summary.variants)
    assert len({(look.colour, look.marker) for look in found.values()}) == len(found) == 16
    known = [look.marker for name, look in found.items() if not name.startswith("fork")]
    assert len(set(known)) == len(known)
    assert found["ulp"].dash != found["init"].dash


def test_spread_labels_keep_their_order_and_their_gap():
    np.testing.assert_allclose(spread(np.array([0.5, 0.1, 0.9]), 0.1), [0.5, 0.1, 0.9])
    np.testing.assert_allclose(spread(np.array([0.5, 0.5, 0.5]), 0.1), [0.4, 0.5, 0.6])
    np.testing.assert_allclose(spread(np.array([1.0, 0.98]), 0.1), [1.0, 0.9])
    np.testing.assert_allclose(spread(np.array([0.0, 0.0, 0.0]), 0.6), [-0.1, 0.5, 1.1])
    # Least squares: three pooled around the mean of what they want, less the gaps.
    np.testing.assert_allclose(spread(np.array([0.5, 0.54, 0.52]), 0.1), [0.42, 0.62, 0.52])


def test_bars_are_the_ratios_of_the_sets(study, figures):
    bars = figures["class_spread"].axes[0].containers
    assert [bar[0].get_gid() for bar in bars] == ["ALGO", "IMPL", "ALGO+IMPL"]
    for bar in bars:
        given = [c["ratio"] for c in study.variant(bar[0].get_gid())["classes"]]
        np.testing.assert_allclose([patch.get_height() for patch in bar], given)
    assert len({patch.get_hatch() for patch in (bar[0] for bar in bars)}) == 3
    classes = [c for bar in bars for c in study.variant(bar[0].get_gid())["classes"]]
    drawn = [
        tuple(segment[:, 1])
        for lines in figures["class_spread"].axes[0].collections
        for segment in lines.get_segments()
    ]
    known = [(c["interval"]["low"], c["interval"]["high"]) for c in classes]
    assert sorted(drawn) == sorted(2 * [ends for ends in known if None not in ends])  # with a rim


def test_sets_whose_top_line_does_not_vary_have_no_bars_and_every_class_its_name(study):
    found = copy.deepcopy(study.found)
    for variant in found["variants"]:
        if variant["name"] != "ALGO":
            for of_class in variant["classes"] or []:
                of_class["ratio"] = None
    figure = make_figures(read(found), study.dataset)["class_spread"]
    ax = figure.axes[0]
    assert [bar[0].get_gid() for bar in ax.containers] == ["ALGO"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["ALGO"]
    named = [text.get_text() for text in ax.get_xticklabels()]
    assert named == [str(c["class"]) for c in study.variant("ALGO")["classes"]]
    low, high = ax.get_xlim()
    assert low < 0 < len(named) - 1 < high


def test_a_thousand_classes_are_a_curve(hard, hard_figures):
    ax = hard_figures["class_spread"].axes[0]
    assert not ax.patches
    shown = points(ax)
    assert list(shown) == ["ALGO", "IMPL", "ALGO+IMPL"]
    for name, curve in shown.items():
        given = sorted((c["ratio"] for c in hard.variant(name)["classes"]), reverse=True)
        np.testing.assert_allclose(curve[:, 1], given)
        assert 0 < curve[0, 0] < curve[-1, 0] < 100


def test_groups_are_placed_by_their_ratios_and_named(study, figures):
    panels = panels_of(figures["group_spread"])
    titles = {"accuracy": "Accuracy", "fpr": "False positive rate", "fnr": "False negative rate"}
    for rate, title in titles.items():
        shown = points(panels[title])
        for name in ("ALGO", "IMPL", "ALGO+IMPL"):
            groups = study.variant(name)["groups"]
            given = [(g[rate]["ratio"], k) for k, g in enumerate(groups)]
            given = np.array([pair for pair in given if pair[0] is not None])
            assert len(given) == (2 if rate == "fpr" else 3)  # one group has no negatives
            np.testing.assert_allclose(shown[name][:, 0], given[:, 0])
            assert (np.abs(shown[name][:, 1] - given[:, 1]) < 0.5).all()
    sizes = [group["size"] for group in study.variant("ALGO")["groups"]]
    named = [f"{shorten(group, 26)} ({size})" for group, size in zip(LONG, sizes, strict=True)]
    assert labels(panels["Accuracy"]) == named


def test_medians_over_training_leave_out_each_variants_first(study, figures):
    distance, growth, churn = (points(ax) for ax in figures["divergence"].axes)
    relative = study.dataset.relative_distance.values
    for name in ("init", "ulp", "ALGO+IMPL"):
        first, end = study.variant(name)["rows"]
        np.testing.assert_allclose(distance[name][:, 1], np.median(relative[first + 1 : end], 0))
        slopes = np.diff(np.log(relative[first + 1 : end])) / np.diff(study.dataset.step.values)
        np.testing.assert_allclose(growth[f"growth of {name}"][:, 1], np.median(slopes, 0))
        np.testing.assert_allclose(
            churn[name][:, 1], 100 * np.median(study.dataset.churn.values[first + 1 : end], 0)
        )
    steps = study.dataset.step.values
    np.testing.assert_array_equal(distance["init"][:, 0], steps)
    np.testing.assert_array_equal(growth["growth of init"][:, 0], (steps[1:] + steps[:-1]) / 2)
    assert "growth of CONTROL" not in growth


def test_a_distance_of_zero_stands_on_a_line_of_its_own(figures):
    ax = figures["divergence"].axes[0]
    shown = points(ax)
    assert ax.get_yscale() == "log"
    assert "CONTROL" not in shown
    (floor,) = set(shown["CONTROL 0"][:, 1])
    positive = min(curve[:, 1].min() for name, curve in shown.items() if not name.endswith(" 0"))
    assert ax.get_ylim()[0] < floor < positive
    ticks = dict(zip(labels(ax), ax.get_yticks(), strict=True))
    assert ticks["0"] == floor


def test_replicas_that_part_late_leave_the_floor(hard, hard_figures):
    shown = points(hard_figures["divergence"].axes[0])
    steps = hard.dataset.step.values
    together = np.isfinite(shown["fork@4000 0"][:, 1])
    np.testing.assert_array_equal(together, steps <= 4000)
    np.testing.assert_array_equal(np.isfinite(shown["fork@4000"][:, 1]), steps > 4000)
    # Where its replicas diverged, a variant's curve ends.
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(shown["order"][:, 1])), range(13, 40))
    growth = points(hard_figures["divergence"].axes[1])
    middles = (steps[1:] + steps[:-1]) / 2
    known = np.isfinite(growth["growth of fork@4000"][:, 1])
    np.testing.assert_array_equal(known, middles > 4160)  # the first with a distance at both ends
    assert np.flatnonzero(np.isnan(growth["growth of order"][:, 1])).tolist() == [*range(12, 39)]


def test_median_is_of_the_replicas_that_are_left():
    values = np.array([[1.0, 2, np.nan, np.nan], [3.0, np.nan, np.nan, 5]])
    np.testing.assert_array_equal(median_curve(values), [2, 2, np.nan, 5])


def test_barriers_are_drawn_pair_by_pair(hard, hard_figures):
    shown = [ax for ax in hard_figures["barriers"].axes if ax.get_visible()]
    names = [v["name"] for v in hard.found["variants"] if v["name"] not in ("CONTROL", "order")]
    assert [ax.get_title(loc="left") for ax in shown] == [f"{n}\n+33.0 points" for n in names]
    for ax, name in zip(shown, names, strict=True):
        index = [v["name"] for v in hard.found["variants"]].index(name)
        errors = hard.barriers[index]
        errors = 100 * errors[np.isfinite(errors).all(axis=1)]
        assert len(ax.lines) == len(errors) + 2
        np.testing.assert_allclose(points(ax)[name][:, 1], errors.mean(axis=0))
        np.testing.assert_allclose(points(ax)[name][:, 0], np.linspace(0, 1, 11))


def test_paths_stand_in_the_order_of_their_rows(study, figures):
    ax = figures["paths_by_source"].axes[0]
    mesh = next(c for c in ax.collections if isinstance(c, QuadMesh))
    np.testing.assert_array_equal(mesh.get_array().reshape(study.paths.shape), study.paths)
    groups = [line.get_ydata()[0] for line in ax.lines if line.get_gid() == "group"]
    assert groups == [v["rows"][0] - 0.5 for v in study.found["variants"][1:]]
    assert labels(ax) == [v["name"] for v in study.found["variants"]]
    assert ax.get_yticks()[1] == np.mean([*study.variant("init")["rows"]]) - 0.5


def test_records_a_replica_does_not_have_are_masked(study):
    paths = study.paths.copy()
    paths[3, 50:] = -1
    figure = plot_paths(study.summary.variants, paths, study.dataset.step.values, 6)
    mesh = next(c for c in figure.axes[0].collections if isinstance(c, QuadMesh))
    np.testing.assert_array_equal(np.ma.getmaskarray(mesh.get_array()), paths < 0)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [f"state {k}" for k in range(6)] + ["no record"]


def test_paths_of_further_roots_are_left_out(study):
    """Rows of variants are of the first root; below them there are no labels."""
    twice = np.concatenate([study.paths, study.paths[::-1]])
    figure = plot_paths(study.summary.variants, twice, study.dataset.step.values, 6)
    mesh = next(c for c in figure.axes[0].collections if isinstance(c, QuadMesh))
    np.testing.assert_array_equal(mesh.get_array().reshape(study.paths.shape), study.paths)


def test_paths_of_another_length_are_refused(study):
    with pytest.raises(ValueError, match="paths have 7 records, but the study has 200"):
        make_figures(study.summary, study.dataset, study.paths[:, :7])


def test_ways_through_the_map_by_source(study, figures):
    panels = panels_of(figures["dissimilarity_by_source"])
    for row, variant in enumerate(study.found["variants"]):
        paths, name = variant["paths"], variant["name"]
        given = {
            "Dissimilarity": paths["dissimilarity"]["discrete"]["value"],
            "Detours": 100 * paths["detour_rate"],
            "Time in detours": paths["detour_time"]["sd"]["value"],
            "Convergence": paths["convergence"]["sd"]["value"],
        }
        for title, value in given.items():
            np.testing.assert_allclose(points(panels[title])[name], [[value, row]])
    assert panels["Convergence"].get_xlabel() == "its SD (epochs)"


def test_columns_that_no_variant_has_a_number_for_are_left_out(study):
    found = copy.deepcopy(study.found)
    for variant in found["variants"]:
        paths = variant["paths"]
        paths["detour_rate"] = paths["detour_time"] = paths["convergence"]["sd"] = None
        paths["dissimilarity"]["discrete"]["high"] = 1.7
    figure = make_figures(read(found), study.dataset)["dissimilarity_by_source"]
    assert list(panels_of(figure)) == ["Dissimilarity"]
    assert figure.axes[0].get_xlim()[1] <= 1.05  # no dissimilarity is above 1
