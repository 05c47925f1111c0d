import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog
from scipy.stats import wasserstein_distance

from helpers.shapes import unchecked
from seedmap.hmm.training_map.dissimilarity import dissimilarity, pairwise_dissimilarity

# The function of the same name hides the module in the package.
MODULE = importlib.import_module("seedmap.hmm.training_map.dissimilarity")

GROUNDS = ("discrete", "means", "index")


def random_bag(rng, num_runs, num_states, num_checkpoints=50):
    """Shares as they occur: ratios of counts, many of them zero."""
    weights = rng.dirichlet(np.full(num_states, 0.5), size=num_runs)
    return np.stack([rng.multinomial(num_checkpoints, w) for w in weights]) / num_checkpoints


def distances(bag, ground, means):
    return pairwise_dissimilarity(bag, ground, means if ground == "means" else None)


def full_transport(p, q, costs):
    """Textbook transport program over all K x K flows, one pair at a time."""
    num_states = len(p)
    rows = np.kron(np.eye(num_states), np.ones(num_states))
    columns = np.kron(np.ones(num_states), np.eye(num_states))
    result = linprog(
        costs.ravel(),
        A_eq=np.vstack([rows, columns]),
        b_eq=np.concatenate([p, q]),
        bounds=(0, None),
    )
    return result.fun


def test_hand_made_distances():
    bag = np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])
    means = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])  # distances: 01 5, 02 1, 12 sqrt(18)
    root18 = np.sqrt(18)
    expected = {
        "discrete": (0.5, 1.0, 0.5),
        "index": (0.5, 1.5, 1.0),
        "means": (0.5 * root18, 0.5 * 1 + 0.5 * root18, 0.5 * 1),
    }
    for ground, (d01, d02, d12) in expected.items():
        matrix = distances(bag, ground, means)
        np.testing.assert_allclose(
            matrix, [[0, d01, d02], [d01, 0, d12], [d02, d12, 0]], rtol=1e-12
        )
        given_means = means if ground == "means" else None
        assert dissimilarity(bag, ground, given_means) == pytest.approx((d01 + d02 + d12) / 3)


def test_index_is_scipys_wasserstein_distance():
    bag = random_bag(np.random.default_rng(0), 8, 6)
    matrix = pairwise_dissimilarity(bag, "index")
    states = np.arange(6)
    for i in range(8):
        for j in range(8):
            expected = wasserstein_distance(states, states, bag[i], bag[j])
            assert matrix[i, j] == pytest.approx(expected, abs=1e-12)


def test_means_equals_the_full_transport_program():
    rng = np.random.default_rng(1)
    bag, means = random_bag(rng, 9, 6), rng.normal(size=(6, 14)) * 1e3
    costs = np.linalg.norm(means[:, None] - means[None], axis=-1)
    matrix = pairwise_dissimilarity(bag, "means", means)
    for i in range(9):
        for j in range(i):
            expected = full_transport(bag[i], bag[j], costs)
            assert matrix[i, j] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_means_on_a_line_have_a_closed_form_and_unit_simplex_is_discrete():
    bag = random_bag(np.random.default_rng(2), 10, 5)
    on_a_line = pairwise_dissimilarity(bag, "means", 2.0 * np.arange(5)[:, None])
    np.testing.assert_allclose(on_a_line, 2 * pairwise_dissimilarity(bag, "index"), atol=1e-12)
    equidistant = pairwise_dissimilarity(bag, "means", np.eye(5) / np.sqrt(2))
    np.testing.assert_allclose(equidistant, pairwise_dissimilarity(bag), atol=1e-12)


def test_more_pairs_than_one_program_holds(monkeypatch):
    rng = np.random.default_rng(3)
    bag, means = random_bag(rng, 12, 4), rng.normal(size=(4, 2))
    whole = pairwise_dissimilarity(bag, "means", means)
    monkeypatch.setattr(MODULE, "_PAIRS_PER_PROGRAM", 7)
    np.testing.assert_allclose(pairwise_dissimilarity(bag, "means", means), whole, atol=1e-12)


def test_relabelling_the_states_changes_only_index():
    rng = np.random.default_rng(4)
    bag, means = random_bag(rng, 10, 5), rng.normal(size=(5, 3))
    order = np.array([3, 0, 4, 1, 2])
    for ground in ("discrete", "means"):
        np.testing.assert_allclose(
            distances(bag, ground, means), distances(bag[:, order], ground, means[order]), atol=1e-9
        )
    relabelled = pairwise_dissimilarity(bag[:, order], "index")
    assert np.abs(pairwise_dissimilarity(bag, "index") - relabelled).max() > 0.1


@given(
    counts=arrays(int, (3, 4), elements=st.integers(0, 20)).filter(lambda c: c.sum(axis=1).all()),
    means=arrays(float, (4, 2), elements=st.floats(-5, 5)),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_metric_axioms(counts, means):
    bag = counts / counts.sum(axis=1, keepdims=True)
    for ground in GROUNDS:
        matrix = distances(bag, ground, means)
        assert (matrix >= 0).all()
        assert (matrix == matrix.T).all()
        assert (np.diag(matrix) == 0).all()
        assert matrix[0, 2] <= matrix[0, 1] + matrix[1, 2] + 1e-9
        if ground != "means":  # two states may share their means
            alike = np.isclose(bag[0], bag[1], atol=1e-12).all()
            assert (matrix[0, 1] < 1e-9) == alike


def test_alike_runs_are_at_distance_zero():
    bag = np.tile([0.2, 0.3, 0.5], (4, 1))
    for ground in GROUNDS:
        assert (distances(bag, ground, np.eye(3)) == 0).all()
    different = random_bag(np.random.default_rng(5), 4, 3)
    assert (pairwise_dissimilarity(different, "means", np.ones((3, 2))) == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((1, 1)),), "at least 2 runs"),
        ((np.ones((2, 2)),), "sum to 1"),
        ((np.eye(2), "cosine"), "cosine"),
        ((np.eye(2), "means"), "emission means"),
        ((np.eye(2), "index", np.eye(2)), "emission means"),
        ((np.eye(2), "means", np.eye(3)), "2 states"),
    ],
)
def test_bad_input(arguments, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        dissimilarity(*arguments)


def test_docstring_examples():
    assert doctest.testmod(MODULE).failed == 0


@pytest.mark.parametrize("ground", ["discrete", "index"])
def test_the_mean_over_pairs_without_the_pairs(ground):
    bag = random_bag(np.random.default_rng(3), 30, 5)
    matrix = pairwise_dissimilarity(bag, ground)
    expected = matrix[np.triu_indices(30, 1)].mean()
    assert dissimilarity(bag, ground) == pytest.approx(expected, rel=1e-12)


def test_of_many_runs_the_mean_transport_is_that_of_some(monkeypatch):
    rng = np.random.default_rng(4)
    bag, means = random_bag(rng, 80, 4), rng.normal(size=(4, 3))
    exact = dissimilarity(bag, "means", means)
    monkeypatch.setattr(MODULE, "_MOST_RUNS", 40)
    some = dissimilarity(bag, "means", means)
    assert some != exact
    assert some == pytest.approx(exact, rel=0.1)
    assert some == dissimilarity(bag, "means", means)
