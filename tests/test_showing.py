"""Objects in a notebook: short reprs, HTML of their own, names of states, one tree, a page."""

import csv
import io
import json
import re
from html import unescape

import numpy as np
import pytest
from matplotlib.figure import Figure

import seedmap as sm
from seedmap.hmm import figures

QUICK = {"states": (1, 2), "restarts": 2, "iterations": 20, "resamples": 2}


@pytest.fixture(scope="module")
def runs():
    rng = np.random.default_rng(0)
    turns = rng.integers(8, 22, 9)
    level = (np.arange(30) >= turns[:, None])[..., None] * np.array([4.0, -3.0])
    values = [*(level + rng.normal(0, 0.2, level.shape))]
    values[-1] = values[-1][:25]
    names = [f"<run {i}>" for i in range(9)]
    return sm.from_arrays(values, steps=np.arange(30) * 5, convergence=turns * 5, names=names)


@pytest.fixture(scope="module")
def mapped(runs):
    return sm.fit_map(runs, **QUICK)


@pytest.fixture(scope="module")
def gaussian(runs):
    return sm.fit_map(runs, emission="gaussian", states=(1, 2), restarts=2)


def test_reprs_are_a_line_and_html_has_picture_table_and_notes(runs, mapped, gaussian):
    for shown in (runs, mapped.fit, mapped, gaussian.fit):
        assert len(repr(shown).splitlines()) == 1
        assert len(repr(shown)) < 200
        html = shown._repr_html_()
        assert repr(shown) in unescape(html)
        assert html.count("<svg") == html.count("<table") == 1
        assert all(note in unescape(html) for note in getattr(shown, "notes", ())[:6])
        assert "<run" not in html
        assert "&lt;run 0&gt;" in runs._repr_html_()


def test_a_map_says_what_was_found_of_forks(mapped):
    assert mapped.headline in mapped.notes
    claim = mapped.headline.partition(" (")[0]
    assert repr(mapped) == f"Map({mapped.num_states} states, 1 edges, {claim}, 9 runs)"
    assert claim in [text.get_text().split(" · ")[-1] for text in mapped.plot().axes[0].texts]


def test_figures_are_drawn_on_axes_and_saved(runs, mapped, tmp_path):
    figure = Figure()
    axes = figure.subplots(2, 2).ravel()
    assert mapped.plot(ax=axes[0]) is axes[0]
    assert mapped.plot_runs(ax=axes[1]) is axes[1]
    assert runs.plot("metric_1", ax=axes[2]) is axes[2]
    lines = [line.get_ydata() for line in axes[2].lines]
    np.testing.assert_array_equal(lines, runs.sequences.values[:, :, 1])
    assert len(runs.plot().axes) == 2
    for suffix in ("svg", "pdf", "png"):
        assert figures.save(mapped.plot(), tmp_path / f"map.{suffix}").stat().st_size > 1000
    assert "<svg" in mapped.plot_runs()._repr_svg_()  # as a notebook shows it
    with pytest.raises(sm.UserError, match="no 'l2'; recorded are metric_0, metric_1"):
        runs.plot("l2")
    with pytest.raises(sm.UserError, match="name one to draw on ax"):
        runs.plot(ax=axes[3])


@pytest.mark.parametrize(("kind", "panel"), [("mapped", 1), ("gaussian", 0)])
def test_a_fit_draws_on_axes_the_panel_of_its_figure_that_decides(kind, panel, request):
    fitted = request.getfixturevalue(kind).fit
    ax = Figure().subplots()
    assert fitted.plot(ax=ax) is ax
    whole = fitted.plot().axes[panel]
    assert (ax.get_title(), ax.get_ylabel()) == (whole.get_title(), whole.get_ylabel())
    for own, same in zip(ax.lines, whole.lines, strict=True):
        np.testing.assert_array_equal(own.get_xydata(), same.get_xydata())
    assert ax.get_xlabel() == "number of states"
    assert ax.get_legend().get_texts()
    for wrong in (ax.get_figure(), np.array([ax]), "ax"):
        with pytest.raises(sm.UserError, match="ax must be one axes of matplotlib"):
            fitted.plot(ax=wrong)
        with pytest.raises(sm.UserError, match="ax must be one axes of matplotlib"):
            request.getfixturevalue(kind).plot(ax=wrong)


def test_names_of_states_are_kept_everywhere(mapped, tmp_path):
    named = mapped.rename({0: "memorising"}).rename({1: "generalising"})
    assert dict(mapped.names) == {}
    assert dict(named.names) == {0: "memorising", 1: "generalising"}
    assert dict(named.rename({0: ""}).names) == {1: "generalising"}
    written = " ".join(text.get_text() for text in named.plot().axes[0].texts)
    assert "memorising" in written
    (legend,) = named.plot_runs().legends
    assert [text.get_text() for text in legend.texts][:2] == ["0 memorising", "1 generalising"]
    assert "generalising" in named._repr_html_()
    assert named.to_xarray()["states"].state_name.values.tolist() == ["memorising", "generalising"]
    named.to_csv(tmp_path)
    rows, arrows = (
        list(csv.DictReader(io.StringIO((tmp_path / f"{name}.csv").read_text())))
        for name in ("states", "edges")
    )
    assert {(row["state"], row["name"]) for row in rows} == {
        ("0", "memorising"),
        ("1", "generalising"),
    }
    assert arrows[0]["to_name"] == "generalising"
    assert content_of(named.explore().page)["names"] == {"0": "memorising", "1": "generalising"}
    with pytest.raises(sm.UserError, match=r"no state 2; states are 0 to 1"):
        mapped.rename({2: "late"})
    with pytest.raises(sm.UserError, match="names must differ"):
        mapped.rename({0: "same", 1: "same"})


def test_a_map_is_one_labelled_tree(mapped, runs):
    tree = mapped.to_xarray()
    assert set(tree.children) == {"runs", "states", "edges", "sizes"}
    np.testing.assert_array_equal(tree["runs"].state.values, mapped.paths)
    np.testing.assert_array_equal(
        tree["runs"].metrics.sel(metric="metric_1").values, runs.sequences.values[:, :, 1]
    )
    assert tree["runs"].step.sel(run="<run 1>").values.tolist() == [5 * i for i in range(30)]
    sizes = tree["sizes"]
    for size, paths in mapped.fit.decodings.items():
        np.testing.assert_array_equal(sizes.state.sel(num_states=size).values, paths)
    assert sizes.bic.sel(num_states=2).item() == mapped.fit.candidates[1]["bic"]
    assert tree.attrs["headline"] == mapped.headline


def content_of(page):
    (text,) = re.findall(r'id="content">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


@pytest.mark.parametrize("kind", ["mapped", "gaussian"])
def test_the_page_to_explore_has_the_maps_paths(kind, request, tmp_path):
    m = request.getfixturevalue(kind)
    exploration = m.explore()
    content = content_of(exploration.page)
    chosen = next(s for s in content["sizes"] if s["size"] == m.num_states)
    names = [run["name"] for run in content["runs"]]
    for name, path in zip(m.fit.runs.names, m.paths, strict=True):
        own = chosen["stays"][names.index(name)]
        assert [state for state, many in own for _ in range(many)] == path[path >= 0].tolist()
    edges = {(edge["from"], edge["to"]): edge["runs"] for edge in chosen["edges"]}
    assert edges == {(edge.source, edge.target): edge.num_runs for edge in m.edges}
    assert exploration.save(tmp_path / "map.html").read_text() == exploration.page
    assert exploration._repr_html_().startswith('<iframe srcdoc="')
    assert len(repr(exploration)) < 100
