import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import adjusted_rand_score

from seedmap.hmm.training_map.stability import (
    adjusted_rand_index,
    decoding_agreement,
    edge_inclusion,
    edge_recurrence,
    match_states,
)

MODULE = importlib.import_module("seedmap.hmm.training_map.stability")

PATHS = np.array([[0, 0, 1, 2, 2], [0, 1, 1, 0, -1], [0, 2, 2, 2, 2], [0, 0, 0, 0, 0]])


@given(
    one=arrays(int, (2, 6), elements=st.integers(0, 3)),
    other=arrays(int, (2, 6), elements=st.integers(0, 2)),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_adjusted_rand_index_is_scikit_learns(one, other):
    expected = adjusted_rand_score(one.ravel(), other.ravel())
    assert adjusted_rand_index(one, other) == pytest.approx(expected, abs=1e-12)


def test_padding_does_not_count_and_labels_do_not_matter():
    relabelled = np.where(PATHS < 0, -1, np.array([2, 0, 1])[PATHS])
    assert adjusted_rand_index(PATHS, relabelled) == 1
    short = [np.array([[0, 1, 1, 2]]), np.array([[0, 0, 1, 1]])]
    padded = [np.pad(path, ((0, 0), (0, 50)), constant_values=-1) for path in short]
    assert adjusted_rand_index(*padded) == adjusted_rand_index(*short) < 1


def test_agreement_of_independent_decodings_is_about_zero():
    rng = np.random.default_rng(0)
    agreement = decoding_agreement([rng.integers(4, size=(40, 100)) for _ in range(3)])
    assert np.abs(agreement - np.eye(3)).max() < 0.01
    assert (agreement == agreement.T).all()


def test_match_states_undoes_a_relabelling_up_to_noise():
    rng = np.random.default_rng(1)
    reference = rng.integers(4, size=(10, 50))
    noisy = np.where(rng.random(reference.shape) < 0.1, rng.integers(4, size=(10, 50)), reference)
    np.testing.assert_array_equal(match_states(reference, rng.permutation(4)[noisy]), noisy)


def test_match_states_with_more_and_fewer_states():
    merged = np.array([[0, 0, 0, 1, 1, -1]])
    split = np.array([[2, 1, 1, 0, 0, -1]])
    # State 2 of `split` has no partner among the two of `merged`: any label from 2 on.
    matched = match_states(merged, split)[0]
    assert matched[1:].tolist() == [0, 0, 1, 1, -1]
    assert matched[0] >= 2
    assert match_states(split, merged).tolist() == [[1, 1, 1, 0, 0, -1]]


def test_edge_inclusion_is_the_limit_of_resampling():
    inclusion = edge_inclusion(PATHS, 3)
    # Runs that use an edge, of 4: 0->1 two; 1->2, 1->0 and 0->2 one; the others none.
    expected = np.array([[0, 15 / 16, 175 / 256], [175 / 256, 0, 175 / 256], [0, 0, 0]])
    np.testing.assert_allclose(inclusion, expected, rtol=1e-12)
    rng, hits = np.random.default_rng(2), np.zeros((3, 3))
    for _ in range(2000):
        hits += edge_inclusion(PATHS[rng.integers(4, size=4)], 3) > 0
    np.testing.assert_allclose(hits / 2000, inclusion, atol=0.04)


def test_edge_recurrence_counts_decodings_in_the_references_labels():
    relabelled = np.where(PATHS < 0, -1, np.array([2, 0, 1])[PATHS])
    without_detour = np.where(PATHS == 1, 0, PATHS)  # only 0->2 is left
    recurrence = edge_recurrence(PATHS, [relabelled, without_detour], 3)
    np.testing.assert_array_equal(recurrence, [[0, 0.5, 1], [0.5, 0, 0.5], [0, 0, 0]])


def test_states_without_a_partner_add_no_edge():
    two = np.array([[0, 0, 0, 1, 1, 1]])
    three = np.array([[0, 0, 2, 1, 1, 1]])
    np.testing.assert_array_equal(edge_recurrence(two, [three], 2), np.zeros((2, 2)))


def test_bad_input():
    with pytest.raises(ValueError, match="same padding"):
        adjusted_rand_index(PATHS, np.abs(PATHS))
    with pytest.raises(ValueError, match="same runs"):
        adjusted_rand_index(PATHS, PATHS[:2])
    with pytest.raises(ValueError, match="at least one other"):
        edge_recurrence(PATHS, [], 3)


def test_docstring_examples():
    assert doctest.testmod(MODULE).failed == 0
