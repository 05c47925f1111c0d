"""Figures and report of a study of noise: what they show is what `noise.json` holds."""

import copy
import json
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.text import Text
from noise_found import ALL_FORKS, interval, make_study

from experiments.noise import captions
from experiments.noise.figure_curves import median_curve, plot_paths
from experiments.noise.figure_parts import looks, spread
from experiments.noise.figures import make_figures
from experiments.noise.report import SECTIONS, terminal, write_noise_report
from hmm.figures.style import shorten
from hmm.io import json_ready

LONG = ("sex=Female", "race=Amer-Indian-Eskimo and others of the kind", "age=over 50")
DASH = "\N{EN DASH}"


def draw(study):
    paths = study.paths if study.found["map"] else None
    return make_figures(study.found, study.dataset, paths, study.barriers)


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


def axes_of(figure):
    return {ax.get_title(loc="left"): ax for ax in figure.axes}


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
    panels = axes_of(figures["noise_budget"])
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
    panels = axes_of(make_figures(found, study.dataset)["noise_budget"])
    np.testing.assert_allclose(points(panels["Churn"])["CONTROL"], [[0.5, 0]])
    np.testing.assert_allclose(points(panels["Variance of accuracy"])["CONTROL"], [[0.25, 0]])


def test_budget_goes_on_in_logarithms_where_intervals_are_huge(study):
    found = copy.deepcopy(study.found)
    found["variants"][1]["share_of_variance"] = {"value": 5.0, "low": 0.1, "high": 1e9}
    panels = axes_of(make_figures(found, study.dataset)["noise_budget"])
    ax = panels["Variance of accuracy"]
    assert ax.get_xscale() == "symlog"
    assert ax.get_xlim()[0] < 0
    assert 500 <= ax.get_xlim()[1] < 1e3
    np.testing.assert_allclose(points(ax)["CONTROL"], [[0, 0]])
    assert panels["Churn"].get_xscale() == "linear"


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
    panel = axes_of(drawn["noise_budget"])["Churn"]
    assert "ulp" not in points(panel)
    assert [text.get_text() for text in panel.texts] == [DASH]
    assert panel.texts[0].xy[1] == [v["name"] for v in study.found["variants"]].index("ulp")
    assert "ulp\n1 of 2 diverged" in labels(drawn["noise_budget"].axes[0])


def test_an_interval_far_beyond_the_values_does_not_press_them_together(study):
    found = copy.deepcopy(study.found)
    found["variants"][1]["accuracy"]["sd"]["high"] = 50.0
    ax = make_figures(found, study.dataset)["churn_accuracy"].axes[0]
    largest = max(x for ((x, _),) in points(ax).values())
    assert ax.get_xlim()[1] < 3.2 * largest


def test_labels_of_sixteen_variants_are_apart(hard_figures):
    for name in ("churn_accuracy", "divergence"):
        for ax in hard_figures[name].axes:
            assert len(ax.texts) >= 15
            assert_apart(hard_figures[name], ax.texts)
    for name in ("noise_budget", "paths_by_source", "dissimilarity_by_source"):
        assert_apart(hard_figures[name], hard_figures[name].axes[0].get_yticklabels())


def test_variants_are_told_apart_by_more_than_colour(hard):
    found = looks(hard.found["variants"])
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
    panels = axes_of(figures["group_spread"])
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
    distance, churn = (points(ax) for ax in figures["divergence"].axes)
    relative = study.dataset.relative_distance.values
    for name in ("init", "ulp", "ALGO+IMPL"):
        first, end = study.variant(name)["rows"]
        np.testing.assert_allclose(distance[name][:, 1], np.median(relative[first + 1 : end], 0))
        np.testing.assert_allclose(
            churn[name][:, 1], 100 * np.median(study.dataset.churn.values[first + 1 : end], 0)
        )
    np.testing.assert_array_equal(distance["init"][:, 0], study.dataset.step.values)


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


def test_median_is_of_the_replicas_that_are_left():
    values = np.array([[1.0, 2, np.nan, np.nan], [3.0, np.nan, np.nan, 5]])
    np.testing.assert_array_equal(median_curve(values), [2, 2, np.nan, 5])


def test_barriers_are_drawn_pair_by_pair(hard, hard_figures):
    shown = [ax for ax in hard_figures["barriers"].axes if ax.get_visible()]
    names = [v["name"] for v in hard.found["variants"] if v["name"] not in ("CONTROL", "order")]
    assert [ax.get_title(loc="left") for ax in shown] == [f"{n}: +33.0 points" for n in names]
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
    figure = plot_paths(study.found["variants"], paths, study.dataset.step.values, 6)
    mesh = next(c for c in figure.axes[0].collections if isinstance(c, QuadMesh))
    np.testing.assert_array_equal(np.ma.getmaskarray(mesh.get_array()), paths < 0)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [f"state {k}" for k in range(6)] + ["no record"]


def test_paths_of_another_length_are_refused(study):
    with pytest.raises(ValueError, match="paths have 7 records, but the study has 200"):
        make_figures(study.found, study.dataset, study.paths[:, :7])


def test_ways_through_the_map_by_source(study, figures):
    panels = axes_of(figures["dissimilarity_by_source"])
    for row, variant in enumerate(study.found["variants"]):
        paths, name = variant["paths"], variant["name"]
        given = {
            "Dissimilarity of paths": paths["dissimilarity"]["discrete"]["value"],
            "Detours": 100 * paths["detour_rate"],
            "Convergence": paths["convergence"]["sd"]["value"],
        }
        for title, value in given.items():
            np.testing.assert_allclose(points(panels[title])[name], [[value, row]])
    assert panels["Convergence"].get_xlabel() == "SD over replicas (epochs)"


CASES = {
    "CONTROL alone": (
        {"sources": ()},
        {"divergence", "churn_accuracy", "paths_by_source", "dissimilarity_by_source"},
    ),
    "no classes": (
        {"sources": ("init", "ulp"), "num_classes": 0, "paths": False},
        {"divergence", "noise_budget", "barriers"},
    ),
    "all diverged": (
        {"sources": ("init", "ulp"), "diverged": ("init", "ulp", "ALGO+IMPL"), "replicas": 3},
        {"divergence", "churn_accuracy", "paths_by_source", "dissimilarity_by_source"},
    ),
}


@pytest.mark.parametrize(("settings", "names"), CASES.values(), ids=CASES)
def test_only_what_there_are_numbers_for_is_drawn_and_reported(settings, names, tmp_path):
    study = make_study(records=20, **settings)
    drawn = draw(study)
    assert set(drawn) == names
    page = write(tmp_path, study, drawn)
    assert all(f'<figure id="{name}">' in page for name in names)
    assert page.count("<img") == len(names)
    assert "nan" not in terminal(study.found)
    if settings.get("num_classes") == 0:
        panels = axes_of(drawn["noise_budget"])
        assert list(panels) == ["Variance of accuracy", "Distance of weights"]


def write(folder, study, drawn=None, config=None, maps=None, notes=()):
    path = write_noise_report(folder, study.found, drawn or {}, config or {}, maps or {}, notes)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def test_report_holds_sentences_tables_figures_and_settings(study, figures, tmp_path):
    some = {name: figures[name] for name in ("noise_budget", "class_spread")}
    page = write(tmp_path, study, some, {"hidden": 128}, {"training_map": figures["barriers"]})
    for sentence in captions.headlines(study.found):
        assert sentence in unescape(page)
    for section in SECTIONS:
        for name, caption in section.figures.items():
            assert (unescape(page).count(caption(study.found)) == 1) == (name in some)
    assert page.index('id="noise_budget"') < page.index('id="class_spread"')
    assert page.index('id="class_spread"') < page.index('id="map_training_map"')
    assert page.count('<img src="data:image/png;base64,') == page.count("<img") == 3
    assert '<td>hidden</td><td class="number">128</td>' in page
    churn = study.variant("ulp")["share_of_churn"]
    cells = [captions.number(churn[key]) for key in ("value", "low", "high")]
    assert "{} [{},\N{NO-BREAK SPACE}{}]".format(*cells) in page
    for leaf in (churn["value"], study.variant("IMPL")["paths"]["dissimilarity"]["means"]["low"]):
        assert f"<td>{leaf!r}</td>" in page


def test_notes_come_first_and_once_and_all_text_is_escaped(study, tmp_path):
    evil = '<script>alert("&")</script>'
    found = copy.deepcopy(study.found) | {"notes": [evil, "second"], "experiment": evil}
    found["variants"][-1]["groups"][0]["group"] = evil
    found["map"]["run"] = evil
    page = write(tmp_path, study._replace(found=found), notes=["first", "second"])
    assert "<script" not in page
    order = [page.index(f"<li>{text}") for text in ("first", "second", "&lt;script", "CONTROL is")]
    assert order == sorted(order)
    assert page.count("<li>second</li>") == 1


def test_a_thousand_classes_are_not_written_out(hard, tmp_path):
    page = write(tmp_path, hard)
    assert "single classes are in <code>noise.json</code>" in page
    assert len(page) < 400_000


def test_numbers_that_are_not_finite_are_dashes(study, tmp_path):
    found = copy.deepcopy(study.found)
    found["variants"][1]["share_of_churn"] = interval(float("nan"))
    found["variants"][1]["share_of_variance"] = interval(float("nan"))
    study = study._replace(found=found)
    assert "init (" not in " ".join(captions.headlines(json_ready(found)))
    make_figures(found, study.dataset)
    assert "nan" not in write(tmp_path, study)
    assert "nan" not in terminal(found)


def test_figure_that_is_missing_is_said(study, tmp_path):
    with pytest.raises(ValueError, match="figure training_map: there is no file"):
        write(tmp_path, study, maps={"training_map": Path("gone.png")})


def small():
    study = make_study(sources=("init", "ulp"), replicas=3, diverged=("init",), records=10)
    ulp, whole = study.variant("ulp"), study.variant("ALGO+IMPL")
    for variant, churn in ((ulp, 0.031), (whole, 0.0344)):
        variant["churn"] = {"value": churn, "low": churn - 0.003, "high": churn + 0.003}
        variant["accuracy"]["mean"]["value"] = 0.9124
        variant["accuracy"]["sd"] = {"value": 0.0021, "low": 0.001, "high": 0.0044}
        variant["l2_distance"]["value"] = 0.5
    ulp["share_of_churn"] = {"value": 0.901, "low": 0.74, "high": 1.1}
    ulp["share_of_variance"] = {"value": 1.0, "low": 0.25, "high": 4.0}
    ulp["parting"]["first_apart"] = [None, 7, 3]
    return study


def test_the_terminal_has_a_line_for_each_variant_and_notes_last():
    study = small()
    study.found["notes"] = ["read this"]
    lines = terminal(study.found).splitlines()
    starts = [lines[0].index(name) for name in ("accuracy", "churn", "L2", "share of v")]
    cells = [[part.strip() for part in line.split("  ") if part.strip()] for line in lines]
    assert cells[0][:5] == ["variant", "replicas", "accuracy %", "churn %", "L2"]
    assert cells[1][:2] == ["CONTROL", "3"]
    assert cells[1][3:] == ["0", "0", "0", "0", "never"]
    assert cells[2] == ["init", "1 of 3", *[DASH] * 5, "1"]
    spread = ["3.10 [2.80, 3.40]", "0.500", "1.0 [0.25, 4.0]", "0.90 [0.74, 1.1]", "3"]
    assert cells[3] == ["ulp", "3", "91.24 ± 0.21", *spread]
    assert cells[4][-3:] == ["1", "1", "1"]
    assert lines[-1] == "note: read this"
    assert all(line[start - 1] == " " for line in lines[:-1] for start in starts)


def test_sentences_say_what_the_numbers_do():
    said = captions.headlines(small().found)
    assert said[0].startswith("CONTROL is exactly zero: 3 replicas in which nothing varies")
    assert "accuracy is 91.24 % on average" in said[1]
    assert "disagree on 3.44 % [3.14, 3.74] of the test examples" in said[1]
    assert said[2] == (
        "ulp (one weight moved by one unit in the last place): churn 3.10 % [2.80, 3.40], 0.901 "
        "[0.740, 1.10] times that of ALGO+IMPL; variance of accuracy 1.00 [0.250, 4.00] times "
        "that of ALGO+IMPL."
    )
    text = " ".join(said)
    assert "ulp: replicas part after step 3; their distance then grows about exponent" in text
    assert f"doubles every {np.log(2) / 0.00067:.0f} steps, which fits better than a pow" in text
    assert "left out of the measures: 2 of 3 of init." in text
    assert "init (" not in text


def test_control_that_parts_is_the_first_finding():
    found = small().found
    found["control"] = {"exact": False, "first_apart": 37, "replicas": 3}
    said = captions.headlines(found)[0]
    assert said.startswith("CONTROL is not zero: 3 replicas in which nothing varies part, first af")
    assert "after step 37" in said


def test_paths_of_tools_are_held_beside_those_of_chance(study):
    said = " ".join(captions.headlines(study.found))
    own, other = study.variant("IMPL")["paths"], study.variant("ALGO")["paths"]
    texts = [captions.interval(p["dissimilarity"]["discrete"]) for p in (own, other)]
    assert (
        "Replicas that differ in IMPL noise alone take 4 different paths through the training map; "
        f"dissimilarity {texts[0]}, beside {texts[1]} with ALGO; 40.0 % of them pass a detour state"
    ) in said
    found = copy.deepcopy(study.found)
    next(v for v in found["variants"] if v["name"] == "IMPL")["paths"]["distinct"] = 1
    assert "take one path through the training map" in " ".join(captions.headlines(found))


def test_growth_is_not_claimed_where_there_is_none():
    found = small().found
    ulp = next(v for v in found["variants"] if v["name"] == "ulp")
    for growth, said in (
        ({"rate": None, "power": None, "better": None}, "too soon for its growth to be seen"),
        ({"rate": -0.1, "power": -1.0, "better": "power"}, "their distance does not grow."),
        ({"rate": 0.1, "power": 2.25, "better": "power"}, "step to the power of 2.25, which"),
        ({"rate": 0.1, "power": 2.25, "better": None}, "doubles every 6.93 steps."),
    ):
        ulp["parting"]["growth"] = growth
        assert said in " ".join(captions.headlines(found))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1e-9, "1.00e\N{MINUS SIGN}09"), (91.2, "91.2"), (1034.5, "1034"), (None, DASH)],
)
def test_numbers_are_written_to_their_digits(value, text):
    assert captions.number(value) == text


def test_findings_are_not_changed(study):
    before = json.dumps(study.found)
    draw(study)
    captions.headlines(study.found)
    terminal(study.found)
    assert json.dumps(study.found) == before
