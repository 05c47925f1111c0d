"""The documentation: its numbers are the code's, its generated pages complete, its build clean."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seedmap.experiments import EXPERIMENTS
from seedmap.experiments.commands import COMMANDS
from seedmap.experiments.report.result_schemas import KINDS
from seedmap.hmm import features
from seedmap.hmm.autoregressive import choice, model, odd
from seedmap.hmm.training_map import branch_candidates, branches, offsets, place

DOCS = Path(__file__).parents[1] / "docs"
METHOD = " ".join((DOCS / "explanation" / "method.md").read_text().split())


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("generated_pages", DOCS / "generated_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_has_all_commands_and_experiments(pages):
    text = "\n".join(pages.commands_page())
    assert all(f"\n## seedmap {name}\n" in text for name in COMMANDS)
    assert all(f"\n### {name}\n" in text for name in EXPERIMENTS)
    assert "`--states TEXT`" in text


def test_the_page_of_result_files_has_all_fields(pages):
    text = "\n".join(pages.schemas_page())
    assert all(f"\n## {name}\n" in text for name in KINDS)
    assert "- `num_states`: integer" in text
    assert "- `delay`: Delay or null" in text


@pytest.mark.parametrize(
    "said",
    [
        f"hold {100 * features.VARIANCE_KEPT:.0f} % of the variance",
        rf"a_k(t) + {model.LOCATION_WEIGHT}\, b_k(t)",
        f"must be at least {choice.AGREEMENT}",
        f"maps of {branches.STATES[0]} to {branches.STATES[-1]} states",
        f"$z > {branches.CRITICAL_Z}$",
        f"at least {100 * offsets.COMMON:.0f} % of visitors and of skippers",
        f"between {branches.TIMING[0]} and {branches.TIMING[1]}",
        f"at least {100 * branches.LEAST_SUPPORT:.0f} % of the refits",
        f"over branches at {branches.DELAY_LEVEL}",
        f"splits of {place.NULL_SAMPLES} samples",
        f"at least {100 * branch_candidates.SMALLEST_SHARE:.0f} % of the runs "
        f"({branch_candidates.SMALLEST_GROUP} or more)",
    ],
)
def test_the_numbers_of_the_method_are_those_of_the_code(said):
    assert said in METHOD


def test_the_count_of_parameters_is_that_of_the_code():
    (formula,) = re.findall(r"\$\$p = (.*?)\$\$", METHOD)
    assert formula == r"K^2 - 1 + K \left( D (D + 1) + \frac{D (D + 1)}{2} \right)"
    for k, d in ((1, 1), (3, 4), (8, 5)):
        expected = k**2 - 1 + k * (d * (d + 1) + d * (d + 1) // 2)
        assert model.num_parameters(k, d) == expected


def test_tempering_is_that_of_the_code():
    assert r"\min\left(\tfrac{1}{2},\ \frac{33}{T},\ \frac{1}{d}\right)" in METHOD
    assert [model.default_tempering(np.array([t + 1])) for t in (10, 66, 330)] == [0.5, 0.5, 0.1]


def test_odd_runs_are_judged_as_said():
    assert "above 10 per component" in METHOD
    assert "above 5 for its motion" in METHOD
    assert "above 10 per component" in odd.find_odd_runs.__doc__


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning_and_asks_no_host(tmp_path):
    pytest.importorskip("sphinx")
    words = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(DOCS), str(tmp_path)]
    subprocess.run(words, check=True)
    for page in tmp_path.rglob("*.html"):
        asked = re.findall(
            r"<(?:script|link|img)[^>]+(?:src|href)=\"(https?:[^\"]*)", page.read_text()
        )
        assert not asked, page
