"""Paths of replicas through a training map, by what varies between them."""

import numpy as np
import xarray as xr

from experiments.noise.paths import Paths, paths_by_variant
from experiments.noise.variants import make_variants


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
        {"seed": np.arange(6), "step": 10 * np.arange(1, 5), "epoch": ("step", np.arange(1.0, 5))},
    )
    means = np.array([[0.0], [1.0], [5.0]])
    variants = make_variants(("init",), 3)  # CONTROL, init
    found = paths_by_variant(Paths(states, means, {"detours": [2]}), dataset, variants, 0.9)
    control, init = found["CONTROL"], found["init"]
    assert control["distinct"] == 1
    assert control["detour_rate"] == control["dissimilarity"]["means"]["value"] == 0
    assert control["convergence"]["mean"] == 3
    # Of init the third replica diverged; (1/2, 1/2, 0) against (1/4, 1/4, 1/2).
    assert init["distinct"] == 2
    assert init["detour_rate"] == 0.5
    assert init["dissimilarity"]["discrete"]["value"] == 0.5
    assert init["dissimilarity"]["means"]["value"] == 0.25 * 5 + 0.25 * 4
    assert (init["convergence"]["num"], init["convergence"]["mean"]) == (2, 3.5)
    without = paths_by_variant(Paths(states, means, {"detours": []}), dataset, variants, 0.9)
    assert without["init"]["detour_rate"] is None
