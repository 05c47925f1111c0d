"""Paths of replicas through a training map, by what varies between them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import xarray as xr

from helpers.branches import BRANCH
from seedmap.experiments.noise.map_paths import (
    Paths,
    branch_notes,
    branches_on_map,
    paths_by_variant,
)
from seedmap.experiments.noise.variants import make_variants
from seedmap.results import to_json


def test_dissimilarity_detours_and_convergence_are_those_of_each_variants_replicas():
    states = np.array(
        [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 2, 2, 1], [0, 0, 1, -1]], np.int32
    )[[0, 1, 0, 2, 3, 4]]
    accuracy = np.array([0.1, 0.1, 0.95, 0.95]) * np.ones((6, 1))
    accuracy[4] = [0.1, 0.1, 0.1, 0.95]
    dataset = xr.Dataset(
        {
            "eval_accuracy": (("seed", "step"), accuracy),
            "diverged": ("seed", np.array([-1, -1, -1, -1, -1, 30])),
        },
        {
            "seed": np.arange(6),
            "step": 10 * np.arange(1, 5),
            "epoch": ("step", np.array([1, 2.5, 4.5, 5])),
        },
    )
    means = np.array([[0.0], [1.0], [5.0]])
    variants = make_variants(("init",), 3)  # CONTROL, init

    def measures(detours):
        paths = Paths(states, means, SimpleNamespace(detours_on_map=detours))
        return to_json(paths_by_variant(paths, dataset, variants, 0.9))

    found = measures([2])
    control, init = found["CONTROL"], found["init"]
    assert control["distinct"] == 1
    assert control["detour_rate"] == control["dissimilarity"]["means"]["value"] == 0
    assert control["convergence"]["mean"] == 4.5
    # Of init the third replica diverged; (1/2, 1/2, 0) against (1/4, 1/4, 1/2).
    assert init["distinct"] == 2
    assert init["detour_rate"] == 0.5
    # Records 2 and 3 of one replica, since those before them 1.5 and 2 epochs, and none of another.
    assert init["detour_time"]["mean"] == 3.5 / 2
    np.testing.assert_allclose(init["detour_time"]["sd"]["value"], 3.5 / np.sqrt(2))
    assert control["detour_time"] == {"mean": 0.0, "sd": {"value": 0.0, "low": 0.0, "high": 0.0}}
    assert init["dissimilarity"]["discrete"]["value"] == 0.5
    assert init["dissimilarity"]["means"]["value"] == 0.25 * 5 + 0.25 * 4
    assert (init["convergence"]["num"], init["convergence"]["mean"]) == (2, 4.75)
    without = measures([])
    assert without["init"]["detour_rate"] is without["init"]["detour_time"] is None


def test_a_branch_of_another_number_of_states_is_named_with_what_to_do():
    branch = replace(BRANCH, maps=((5, 2), (6, 4)))
    summary = SimpleNamespace(branches=[branch], num_states=5, num_states_drawn=5)
    assert branches_on_map(summary) == [2]
    assert branch_notes(summary) == []
    fewer = SimpleNamespace(branches=[branch], num_states=3, num_states_drawn=5)
    assert branches_on_map(fewer) == []
    (note,) = branch_notes(fewer)
    assert "a named branch among 5 states, and none among 3" in note
    assert "`seedmap fit RUN --states 5 --out OTHER`" in note
