"""`seedmap noise` goes through with every experiment there is, at its quick preset."""

import json

import pytest

from helpers.command import seedmap
from seedmap.experiments import EXPERIMENTS


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_study_of_every_experiment_goes_through(name, tmp_path):
    """A minute each; two where the network is a ResNet18."""
    study = ("--roots", 1, "--replicas", 2, "--sources", "init,accumulation,ulp", "--map", "none")
    assert seedmap("noise", name, "--preset", "quick", *study, "--out", tmp_path / "a") == 0
    found = json.loads((tmp_path / "a" / "noise.json").read_text())
    names = ["CONTROL", "init", "accumulation", "ulp", "IMPL", "ALGO+IMPL"]
    assert [variant["name"] for variant in found["variants"]] == names
    assert found["control"]["exact"]
    parted = {v["name"]: min(v["parting"]["first_apart"]) for v in found["variants"][1:]}
    # The first step of the language model has a rate of 0: gradients part there, weights after it.
    late = {"accumulation": 2} if name == "mlm" else {}
    assert parted == dict.fromkeys(names[1:], 1) | late
    assert (tmp_path / "a" / "report.html").is_file()
