"""The interactive page in a headless browser; skipped where there is none."""

import csv
import io
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from seedmap.experiments.report import html, page
from seedmap.hmm import figures
from seedmap.hmm.explorer.content import Explored, to_content
from seedmap.hmm.explorer.embed import explorer, style

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: not installed")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
RUNS, RECORDS, CURVES = 40, 200, 18
WIDTHS = (420, 1200)
MODES = ("light", "dark")


def make_explored():
    rng = np.random.default_rng(0)
    cuts = np.sort(rng.integers(1, RECORDS, (RUNS, 2)), axis=1)
    paths = (np.arange(RECORDS)[None, :, None] >= cuts[:, None]).sum(-1)
    paths[:5][paths[:5] == 1] = 2  # five runs pass state 1 by
    steps = np.broadcast_to(5.0 * np.arange(RECORDS), paths.shape)
    convergence = steps[0][cuts[:, 1]].copy()
    convergence[-1] = np.nan
    return Explored(
        runs=[f"run-{row}" for row in range(RUNS)],
        steps=steps,
        unit="epoch",
        convergence=convergence,
        paths={1: 0 * paths, 2: np.minimum(paths, 1), 3: paths},
        num_states=3,
        curves={f"metric_{i}": rng.normal(size=paths.shape) for i in range(CURVES)},
        scales={},
        on_the_map=np.arange(RUNS),
        reasons={2: "Two are as stable."},
        names={1: "memorising"},
    )


EXPLORED = make_explored()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    parts = explorer(to_content(EXPLORED))
    static = html.figure("convergence", figures.plot_convergence(EXPLORED.convergence, "x > 1"), "")
    first = [page.titled("Training map", parts.map, html.same_as_figure("convergence", static))]
    rest = [parts.runs, page.titled("More", html.table(("a state",), [[1]]))]
    file = tmp_path_factory.mktemp("page") / "report.html"
    return html.write_page(file, "A map", rest, first, style(), "seedmap run parities")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        own = next(filter(None, map(shutil.which, BROWSERS)), None)
        try:
            launched = started.chromium.launch(executable_path=own, args=["--no-sandbox"])
        except playwright.Error:
            pytest.skip("no chromium: apt-get install chromium, or playwright install chromium")
        yield launched
        launched.close()


@contextmanager
def opened(browser, path, width=1200, mode="light", **settings):
    """The page, which must neither fail nor ask for anything but itself."""
    view = {"viewport": {"width": width, "height": 900}, "color_scheme": mode}
    context = browser.new_context(**view, **settings)
    shown, said, asked = context.new_page(), [], []
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on(
        "console",
        lambda line: said.append(line.text) if line.type in ("error", "warning") else None,
    )
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(path.as_uri())
    if settings.get("java_script_enabled", True):
        shown.wait_for_function("window.explorer !== undefined")
    yield shown
    assert said == []
    assert {url for url in asked if not url.startswith(("blob:", "data:"))} == {path.as_uri()}
    context.close()


def test_the_page_stays_under_4_mb(path):
    assert path.stat().st_size < 4e6


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("mode", MODES)
def test_the_page_fits_its_window_and_follows_light_and_dark(browser, path, width, mode):
    with opened(browser, path, width, mode) as shown:
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        paper = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 29)"}[mode]
        for part in ("ex-map", "ex-raster", "ex-curves"):
            box = shown.locator(f"#{part}").bounding_box()
            assert width * 0.7 < box["width"] <= width
            assert box["height"] > 150
        assert not shown.locator("details.static svg").is_visible()


@pytest.fixture(scope="module")
def opened_once(browser, path):
    with opened(browser, path) as shown:
        yield shown


@pytest.fixture
def shown(opened_once):
    """The page as it was opened."""
    opened_once.locator("#ex-size").fill("2")
    opened_once.get_by_role("button", name="Light all runs").click()
    return opened_once


PLACE = """(state) => {
    const view = [...Bokeh.index.roots][0], frame = view.frame_view;
    const data = explorer.data.states.data;
    const box = view.el.getBoundingClientRect(), index = data.state.indexOf(state);
    return [box.x + frame.x_scale.compute(data.x[index]),
            box.y + frame.y_scale.compute(data.y[index])];
}"""


def click_on_state(shown, state):
    shown.locator("#ex-map").scroll_into_view_if_needed()
    shown.mouse.click(*shown.evaluate(PLACE, state))


def lit_runs(shown):
    return shown.evaluate("explorer.chosen.lit === null ? null : [...explorer.chosen.lit]")


def test_a_click_on_a_state_lights_its_runs_everywhere(shown):
    raster = shown.locator("#ex-raster")
    before = raster.screenshot()
    click_on_state(shown, 1)
    shown.wait_for_function("explorer.chosen.lit !== null")
    assert raster.screenshot() != before
    names = shown.evaluate("explorer.content.runs.map((run) => run.name)")
    visited = {f"run-{row}" for row in np.flatnonzero((EXPLORED.paths[3] == 1).any(1))}
    assert {names[run] for run in lit_runs(shown)} == visited
    assert shown.locator("#ex-table tr.lit").count() == len(visited)
    assert f"{len(visited)} of {RUNS} runs visit 1 memorising." in shown.inner_text("body")
    alphas = shown.evaluate("[explorer.data.lines.data.alpha, explorer.data.lines.data.run]")
    lit = lit_runs(shown)
    assert all((run in lit) == (alpha == 1) for alpha, run in zip(*alphas, strict=True))
    shown.get_by_role("button", name="1 memorising").click()  # the same once more
    assert lit_runs(shown) is None


ARROW = """([from, to]) => {
    const view = [...Bokeh.index.roots][0], frame = view.frame_view;
    const edge = explorer.content.sizes[2].edges.find((e) => e.from === from && e.to === to);
    const box = view.el.getBoundingClientRect(), at = Math.floor(edge.xs.length / 2);
    return [box.x + frame.x_scale.compute(edge.xs[at]),
            box.y + frame.y_scale.compute(edge.ys[at])];
}"""


@pytest.mark.parametrize(
    ("place", "what", "holds"),
    [
        (PLACE, 1, lambda path: (path == 1).any()),
        (ARROW, [0, 2], lambda path: ((path[:-1] == 0) & (path[1:] == 2)).any()),
    ],
)
def test_the_mouse_on_a_state_or_an_arrow_lights_its_runs_until_it_leaves(
    shown, place, what, holds
):
    shown.locator("#ex-map").scroll_into_view_if_needed()
    raster = shown.locator("#ex-raster").screenshot()
    shown.locator("#ex-map").scroll_into_view_if_needed()
    x, y = shown.evaluate(place, what)
    shown.mouse.move(x - 1, y)
    shown.mouse.move(x, y)
    shown.wait_for_function("explorer.glance.lit !== null")
    names = shown.evaluate("explorer.content.runs.map((run) => run.name)")
    runs = {f"run-{row}" for row in range(RUNS) if holds(EXPLORED.paths[3][row])}
    assert {names[run] for run in shown.evaluate("[...explorer.glance.lit]")} == runs
    assert set(shown.locator("#ex-table tr.lit td:first-child").all_inner_texts()) == runs
    stays = shown.evaluate("explorer.data.stays.data")
    assert {n for n, a in zip(stays["name"], stays["alpha"], strict=True) if a == 1} == runs
    lines = shown.evaluate("explorer.data.lines.data")
    assert {n for n, a in zip(lines["name"], lines["alpha"], strict=True) if a == 1} == runs
    assert lit_runs(shown) is None, "nothing is chosen"
    shown.locator("h1").hover()
    shown.wait_for_function("explorer.glance.lit === null")
    assert shown.locator("#ex-table tr.lit").count() == 0
    assert shown.locator("#ex-raster").screenshot() == raster


def test_an_arrow_a_row_and_the_list_choose_runs(shown):
    shown.get_by_role("button", name="0 → 2", exact=False).click()
    names = shown.evaluate("explorer.content.runs.map((run) => run.name)")
    leap = EXPLORED.paths[3]
    made = [f"run-{r}" for r in range(RUNS) if ((leap[r, :-1] == 0) & (leap[r, 1:] == 2)).any()]
    assert sorted(names[run] for run in lit_runs(shown)) == sorted(made)
    shown.locator("#ex-table tbody tr").nth(3).click()
    assert lit_runs(shown) == [3]
    assert f"Run {names[3]}:" in shown.inner_text("#ex-one")
    assert shown.locator("#ex-one svg").count() == CURVES
    shown.locator("#ex-run").select_option("7")
    assert lit_runs(shown) == [7]
    shown.get_by_role("button", name="Light all runs").click()
    assert lit_runs(shown) is None


def test_the_slider_shows_the_map_of_each_number_of_states(shown):
    assert shown.inner_text("#ex-count") == "3 (chosen)"
    shown.locator("#ex-size").fill("1")
    assert shown.inner_text("#ex-count") == "2"
    assert shown.inner_text("#ex-said") == "Two are as stable."
    assert shown.evaluate("explorer.data.states.data.state") == [0, 1]
    assert "memorising" not in shown.inner_text("#ex-states"), "names are of the chosen map"


def test_curves_are_shown_as_recorded_or_scaled(shown):
    shown.locator("#ex-curve").select_option("4")

    def values():
        lines = shown.evaluate("explorer.data.lines.data")
        row = next(i for i, run in enumerate(lines["name"]) if run == "run-0")
        return np.array(lines["ys"][row])

    recorded = EXPLORED.curves["metric_4"]
    raw = values()
    np.testing.assert_allclose(raw, recorded[0][: len(raw)], rtol=1e-6)
    shown.locator("#ex-scaled").check()
    np.testing.assert_allclose(
        values(), ((recorded - recorded.mean()) / recorded.std())[0][: len(raw)], rtol=1e-5
    )


def test_the_table_sorts_and_filters_and_tables_are_the_maps(shown):
    cells = shown.locator("#ex-table tbody tr td:first-child")
    times = EXPLORED.convergence
    soonest = [f"run-{row}" for row in np.argsort(times, kind="stable")]
    assert cells.all_inner_texts() == soonest
    shown.locator("#ex-table th button").first.click()
    assert cells.all_inner_texts() == [f"run-{row}" for row in range(RUNS)]
    shown.locator("#ex-filter").fill("run-7")
    assert cells.all_inner_texts() == ["run-7"]
    with shown.expect_download() as got:
        shown.get_by_role("button", name="states.csv").click()
    text = got.value.path().read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    path_of = [int(row["state"]) for row in rows if row["run"] == "run-7"]
    assert path_of == EXPLORED.paths[3][7].tolist()
    assert [float(row["epoch"]) for row in rows[:RECORDS]] == EXPLORED.steps[0].tolist()


def test_without_times_of_convergence_the_page_says_nothing_of_them(browser, tmp_path):
    times = np.full(RUNS, np.nan)
    parts = explorer(to_content(replace(EXPLORED, convergence=times)))
    file = html.write_page(tmp_path / "a.html", "A map", [parts.runs], [parts.map], style(), None)
    with opened(browser, file) as shown:
        shown.select_option("#ex-run", "3")
        assert "records" in shown.inner_text("#ex-one")
        assert shown.locator("#ex-table th").first.inner_text().startswith("run")
        assert "converge" not in shown.inner_text("body").partition("Glossary")[0]


def test_a_figure_is_saved_as_svg(shown):
    shown.locator("details.static summary").click()
    with shown.expect_download() as got:
        shown.locator("[data-svg]").click()
    assert got.value.suggested_filename == "convergence.svg"
    assert "var(--ink, #222222)" in got.value.path().read_text()


def test_without_scripts_the_figures_are_there(browser, path):
    with opened(browser, path, java_script_enabled=False) as shown:
        assert shown.locator("details.static svg").is_visible()
        assert not shown.locator("#ex-map").is_visible()
        assert not shown.get_by_role("button", name="Copy").is_visible()
