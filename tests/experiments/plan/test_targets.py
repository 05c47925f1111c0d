"""What is compiled for, and what is said of a target that is none."""

import pytest

from seedmap.errors import UserError
from seedmap.experiments.plan import targets
from seedmap.experiments.plan.chips import CHIPS, card_text
from seedmap.experiments.plan.targets import check_extra, devices_of, environment, parse_target


def test_targets_are_parsed():
    target = parse_target("tpu:v5e:2x2")
    assert (target.chip.title, target.topology, target.lowering) == ("TPU v5e", "2x2", "tpu")
    assert target.memory == 16 * 2**30
    card = parse_target("gpu:h100")
    assert (card.chip.title, card.lowering) == ("NVIDIA H100 80GB HBM3", "cuda")
    assert parse_target("cpu").memory > 2**30
    assert len(devices_of(parse_target("cpu"))) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gpu:h1000", "did you mean gpu:h100.*known are cpu, tpu:v5e.*gpu:h200"),
        ("abacus", "no chip 'abacus'"),
        ("tpu:v5e", "needs a topology, such as tpu:v5e:2x2"),
        ("gpu:h100:2x2", "only TPUs have a topology; write gpu:h100"),
    ],
)
def test_what_is_no_target_is_refused_in_one_line(text, words):
    with pytest.raises(UserError, match=words):
        parse_target(text)


@pytest.mark.parametrize(("text", "extra"), [("tpu:v5e:2x2", "plan"), ("gpu:h100", "plan-gpu")])
def test_a_compiler_that_is_lacking_is_named_with_the_line_that_installs_it(
    text, extra, monkeypatch
):
    monkeypatch.setattr(targets, "is_installed", lambda module: False)
    with pytest.raises(UserError, match=rf"pip install 'seedmap\[{extra}\]'"):
        check_extra(parse_target(text))
    check_extra(parse_target("cpu"))


def test_the_compilers_process_computes_on_the_cpu_and_claims_no_chip():
    assert environment(parse_target("cpu"))["JAX_PLATFORMS"] == "cpu"
    of_tpu = environment(parse_target("tpu:v5e:2x2"))
    assert of_tpu["JAX_PLATFORMS"] == "cpu"
    assert of_tpu["ALLOW_MULTIPLE_LIBTPU_LOAD"] == "1"


def test_every_chip_has_peaks_with_a_source_and_every_gpu_a_card():
    for chip in CHIPS.values():
        if chip.platform == "cpu":
            continue
        assert set(chip.peaks) == {"float32", "tf32", "bfloat16"}
        assert chip.peaks["float32"] < chip.peaks["tf32"] <= chip.peaks["bfloat16"]
        assert chip.bandwidth < chip.peaks["float32"]
        assert chip.source
    text = card_text(CHIPS["gpu:h100"])
    assert "core_count: 132" in text
    assert "cuda_compute_capability { major: 9 minor: 0 }" in text


def test_a_topology_that_the_compiler_refuses_shows_its_words(monkeypatch):
    from jax.experimental import topologies

    def refuse(**asked):
        raise ValueError(f"layout {asked['topology_name']} is not\ndivisible")

    monkeypatch.setattr(topologies, "get_topology_desc", refuse)
    with pytest.raises(
        UserError, match="tpu:v5e:3x3: the compiler refuses it: layout v5e:3x3 is not divisible"
    ):
        devices_of(parse_target("tpu:v5e:3x3"))
