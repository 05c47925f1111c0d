"""Programs compiled by the compilers of TPUs and GPUs: `pytest -m tpu`, `pytest -m gpu`.

Each needs its extra (`plan`, `plan-gpu`) and minutes; without it the tests say so and are skipped.
"""

import json

import pytest

from helpers.command import seedmap
from helpers.schemas import assert_of_schema
from seedmap.errors import UserError
from seedmap.experiments.plan.targets import check_extra, parse_target

TARGETS = [
    pytest.param("tpu:v5e:2x2", 60, marks=pytest.mark.tpu),
    pytest.param("gpu:h100", 40, marks=pytest.mark.gpu),
]


@pytest.fixture
def compiled(tmp_path):
    """Makes a plan by the command; skips where the extra is not installed."""

    def plan(target, *words):
        try:
            check_extra(parse_target(target))
        except UserError as lacking:
            pytest.skip(str(lacking))
        folder = tmp_path / "plan"
        assert seedmap("plan", *words, "--on", target, "--out", folder) == 0
        assert_of_schema(folder / "plan.json")
        return json.loads((folder / "plan.json").read_text())

    return plan


@pytest.mark.parametrize(("target", "most_seconds"), TARGETS)
def test_parities_em_and_decoding_compile_in_time(target, most_seconds, compiled):
    """40 seeds x 200 records x 14 metrics, K = 1 .. 8, nine programs of the map."""
    plan = compiled(target, "parities", "--preset", "paper")
    seconds = {name: each["processor"] for name, each in plan["compile_seconds"].items()}
    print(target, {name: round(value, 1) for name, value in seconds.items()})
    assert seconds["training"] < most_seconds
    of_map = [value for name, value in seconds.items() if name not in ("training", "start")]
    assert len(of_map) == 9
    assert sum(of_map) < 60
    assert not plan["collectives"] + plan["callbacks"]
    assert not any(program["wide"] for program in plan["programs"])
    assert not any("lapack" in found["name"] for found in plan["custom_calls"])
    assert plan["most_seeds"]["at_once"]
    assert plan["bound_seconds"]["run"] > 0


@pytest.mark.parametrize(("target", "most_seconds"), TARGETS)
def test_a_convolutional_network_compiles_without_collectives(target, most_seconds, compiled):
    plan = compiled(target, "smallcnn", "--preset", "quick", "--states", "1")
    assert not plan["collectives"] + plan["callbacks"]
    assert plan["memory"]["data"] > 100 * 32 * 32 * 3
    assert plan["hardware"]["devices"] == (4 if "tpu" in target else 1)


@pytest.mark.tpu
def test_a_topology_that_the_compiler_refuses_shows_its_words(compiled, capsys):
    with pytest.raises(AssertionError):
        compiled("tpu:v5e:3x3", "parities", "--preset", "quick")
    said = capsys.readouterr().err
    assert "the compiler refuses it" in said
    assert "not divisible" in said
