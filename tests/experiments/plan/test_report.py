"""The page of a plan: its tables and its figure hold what the plan holds."""

import re
from dataclasses import replace
from html import unescape

import pytest

from helpers.plans import small_plan
from seedmap.experiments.plan.figures import KINDS, plot_memory
from seedmap.experiments.plan.report import write_plan
from seedmap.experiments.plan.results import Plan, Tried
from seedmap.experiments.plan.summary import determinism
from seedmap.results import from_json, to_json


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_plan(tmp_path_factory.mktemp("plan"), small_plan()).read_text("utf-8")


def rows_of(page, heading):
    """Cells of the first table under a heading."""
    part = page[page.index(f">{heading}</h2>") :]
    body = part[part.index("<tbody>") : part.index("</tbody>")]
    rows = re.findall("<tr>(.*?)</tr>", body)
    return [[unescape(cell) for cell in re.findall("<td[^>]*>(.*?)</td>", row)] for row in rows]


def test_the_tables_are_the_plans(page):
    assert rows_of(page, "Programs") == [["training", "2.0", "12 M", "1.1 M", "0.684 KiB", "0"]]
    memory = {row[0]: row[1:] for row in rows_of(page, "Memory of a device")}
    assert memory["temporaries"] == ["0.684 KiB", "8.75 %"]
    assert memory["in all"] == ["2.87 KiB", "36.8 %"]  # 2940 of 8000 bytes
    assert memory["may be taken"] == ["4.88 KiB", "62.5 %"]
    tried = [["4", "1.89 KiB", "fit"], ["5", "\N{EN DASH}", "do not fit"]]
    assert rows_of(page, "Seeds that fit") == tried
    bound = [["products", "0.000240", "1 TFLOP/s"], ["memory", "2.20e\N{MINUS SIGN}05", "1 TB/s"]]
    assert rows_of(page, "Least time") == bound
    assert "0.00024 s, by the peak of products, in float32" in page
    costs = rows_of(page, "Cost of training")
    assert [row[3] for row in costs] == ["240 MFLOP", "22 MB"]
    assert costs[1][4] == "counted; some loops counted once"
    assert rows_of(page, "In the programs&#x27; text") == [
        ["custom call", "cusolver_gesvdj_ffi", "training", "2"]
    ]
    assert "None of: collective, call of the host." in page
    changed = "training: scatter 1 -&gt; 0, sort 0 -&gt; 1, 9 B -&gt; 12 B a call, 12 MFLOP without"
    assert f"{changed} and with; operations are counted from the traced program" in page


def test_a_search_that_ended_early_is_said(tmp_path):
    """3 seeds fit and 9 do not: what is between nobody has compiled for."""
    plan = small_plan()
    tried = [Tried(3, 1940, True), Tried(9, None, False)]
    most = replace(plan.most_seeds, per_device=3, on_target=3, tried=tried)
    early = write_plan(tmp_path, replace(plan, most_seeds=most)).read_text("utf-8")
    assert "at least 3, fewer than 9 a device, at least 3 in all (compiled for 3, 9 a" in early
    assert "<dd>at least 3<" in early


def test_a_plan_of_before_operations_of_determinism_is_read():
    content = to_json(small_plan())
    (found,) = content["nondeterministic"]
    assert found["operations"] == 1.2e7
    del found["operations"]
    older = from_json(Plan, content)
    assert to_json(older) == content
    assert "sort 0 -> 1, 9 B -> 12 B a call; operations are counted" in determinism(older)
    assert determinism(replace(older, nondeterministic=[])).startswith("the same programs")


def test_the_figure_has_every_kind_of_memory_beside_what_the_device_has():
    plan = small_plan()
    (ax,) = plot_memory(plan).axes
    marks = {line.get_gid(): line.get_xdata()[0] for line in ax.lines if line.get_gid() in KINDS}
    assert marks == {name: getattr(plan.memory, name) for name in KINDS}
    ends = [line.get_xdata()[0] for line in ax.lines if str(line.get_label()).endswith("taken")]
    assert ends == [plan.hardware.usable]
    without = plot_memory(replace(plan, memory=replace(plan.memory, code=0)))
    assert "code" not in {line.get_gid() for line in without.axes[0].lines}
