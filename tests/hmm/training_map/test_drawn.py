"""The map that is drawn shows the branch that is named."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.branches import BRANCH
from seedmap.hmm.parameters import Parameters
from seedmap.hmm.sequences import from_arrays
from seedmap.hmm.training_map.build import build_map
from seedmap.hmm.training_map.drawn import (
    branch_marks,
    map_to_draw,
    moments_of_paths,
)

WAYS = np.repeat([[0, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 3]], 8, axis=1)
MEANS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    sequences = from_arrays(MEANS[WAYS] + 0.1 * rng.normal(size=(4, 24, 2)))
    coarse = (WAYS == 3).astype(int)
    chosen = build_map(moments_of_paths(sequences, coarse, 2), sequences, coarse)
    return chosen, sequences, {2: coarse, 4: WAYS}


def test_a_branch_of_more_states_is_drawn_with_them(made):
    chosen, sequences, decodings = made
    drawn = map_to_draw(chosen, [BRANCH], sequences, decodings)
    assert drawn.heading == "Map of 4 states (chosen: 2)"
    assert (drawn.branches, drawn.detours) == ((2,), ())
    assert drawn.training_map.visits[drawn.branches[0]] == len(BRANCH.visitors)
    pairs = [(edge.source, edge.target) for edge in drawn.training_map.edges]
    assert pairs == [(0, 1), (0, 2), (1, 3), (2, 3)]
    change = dict(drawn.training_map.edges[1].top_features)
    assert change == pytest.approx({"metric_0": 0.0, "metric_1": 1.0}, abs=0.1)
    detour = replace(BRANCH, detour=True)
    assert map_to_draw(chosen, [detour], sequences, decodings).detours == (2,)
    assert branch_marks([detour], 4) == {2: "detour"}


def test_without_a_named_branch_the_chosen_map_is_drawn(made):
    chosen, sequences, decodings = made
    for branches in ([], [replace(BRANCH, named=False)]):
        drawn = map_to_draw(chosen, branches, sequences, decodings)
        assert drawn.training_map is chosen
        assert (drawn.branches, drawn.heading) == ((), "Training map")
    here = map_to_draw(chosen, [replace(BRANCH, maps=((2, 1), (4, 2)))], sequences, decodings)
    assert here.training_map is chosen
    assert here.branches == (1,)


def test_moments_are_those_of_the_records_of_a_state():
    rng = np.random.default_rng(1)
    sequences = from_arrays(rng.normal(size=(5, 30, 3)) * [1.0, 2.0, 3.0])
    paths = rng.integers(2, size=(5, 30))
    found: Parameters = moments_of_paths(sequences, paths, 3)
    for state in range(2):
        own = sequences.values[paths == state]
        np.testing.assert_allclose(found.means[state], own.mean(0))
        np.testing.assert_allclose(found.covariances[state], np.cov(own.T, ddof=0), rtol=1e-9)
    counts = [[np.sum((paths[:, :-1] == j) & (paths[:, 1:] == k)) for k in (0, 1)] for j in (0, 1)]
    expected = np.array(counts) / np.sum(counts, axis=1, keepdims=True)
    np.testing.assert_allclose(found.transition[:2, :2], expected, atol=1e-3)
    np.testing.assert_array_equal(found.covariances[2], np.eye(3))
    sequences.values[:, ::2, 1] = np.nan
    missing = moments_of_paths(sequences, paths, 2)
    np.testing.assert_allclose(missing.means[0, 1], np.nanmean(sequences.values[paths == 0][:, 1]))
    assert (np.linalg.eigvalsh(missing.covariances) > 0).all()
