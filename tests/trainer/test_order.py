"""Orders: bijections at every size, every order as likely as any other, in whatever portions."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from seedmap.trainer.order import batch_rows, elements, permutation, round_words
from seedmap.trainer.streams import make_streams

LEAST = 1e-4  # a p-value below it says that orders are not uniform; the keys are fixed


def by_hand(words, size):
    """The order in Python's integers."""
    order = []
    for x in range(size):
        for reflection, choice in words.tolist():
            partner = (reflection - x) % size
            h = max(x, partner) ^ choice
            h = (h ^ h >> 16) * 0x7FEB352D % 2**32
            h = (h ^ h >> 15) * 0x846CA68B % 2**32
            x = partner if h >= 2**31 else x
        order.append(x)
    return order


@pytest.mark.parametrize("size", [1, 2, 5, 50, 257])
def test_orders_are_those_of_integers_by_hand(size):
    key = jax.random.key(size)
    found = permutation(key, size)
    assert found.dtype == jnp.int32
    assert found.tolist() == by_hand(np.asarray(round_words(key)), size)


def test_every_size_up_to_a_thousand_has_every_element_once():
    words, positions = round_words(jax.random.key(1)), jnp.arange(1000, dtype=jnp.uint32)
    sizes = jnp.arange(1, 1001, dtype=jnp.uint32)
    orders = jax.jit(jax.vmap(lambda size: elements(words, positions % size, size)))(sizes)
    for size, order in enumerate(np.asarray(orders), 1):
        assert np.array_equal(np.sort(order[:size]), np.arange(size))


@pytest.mark.parametrize("size", [60_000, 2**16, 2**20 + 7])
def test_large_orders_have_every_element_once(size):
    assert np.array_equal(np.sort(permutation(jax.random.key(2), size)), np.arange(size))


@pytest.mark.parametrize("size", [2**23 + 1, 2**24 - 1, 2**24])
def test_the_largest_orders_can_be_undone(size):
    """Each round is its own inverse, so the rounds backwards give every position back."""
    words = round_words(jax.random.key(3))
    positions = jnp.asarray(np.random.default_rng(0).integers(0, size, 10_000), jnp.uint32)
    found = elements(words, positions, size)
    assert int(found.max()) < size
    assert not np.array_equal(found, positions)
    np.testing.assert_array_equal(elements(words[::-1], found, size), positions)


def p_value(counts, freedom):
    """Of the chi-square statistic of equal expected counts."""
    expected = np.mean(counts)
    return chi2.sf(np.sum((counts - expected) ** 2 / expected), freedom)


@pytest.fixture(scope="module")
def drawn():
    """Orders of 20 in two epochs of 20 000 seeds, as training draws them: [seed, epoch, place]."""
    keys = make_streams(range(20_000)).order
    rows = jax.jit(jax.vmap(lambda key: batch_rows(key, jnp.int32(0), 2, 20, 20)))(keys)
    return np.asarray(rows)


def test_every_element_is_as_likely_at_every_position(drawn):
    counts = [np.bincount(drawn[:, 0, place], minlength=20) for place in range(20)]
    assert p_value(np.array(counts), 19 * 19) > LEAST


def test_pairs_of_positions_have_every_pair_of_elements(drawn):
    """380 pairs of elements at each of the 190 pairs of positions."""
    order, distinct = drawn[:, 0], ~np.eye(20, dtype=bool)
    found = [
        p_value(
            np.bincount(20 * order[:, a] + order[:, b], minlength=400).reshape(20, 20)[distinct],
            379,
        )
        for a, b in combinations(range(20), 2)
    ]
    assert min(found) * len(found) > LEAST


def test_epochs_are_independent(drawn):
    """Elements at a position in two epochs, and of the same epoch in neighbouring seeds."""
    for first, second in ((drawn[:, 0], drawn[:, 1]), (drawn[:-1:2, 0], drawn[1::2, 0])):
        for place in (0, 7, 19):
            pairs = 20 * first[:, place] + second[:, place]
            assert p_value(np.bincount(pairs, minlength=400), 399) > LEAST


@pytest.mark.parametrize(("size", "count"), [(2, 2), (3, 6), (4, 24), (5, 120)])
def test_all_orders_of_a_few_are_equally_likely(size, count):
    keys = jax.random.split(jax.random.key(4), 300 * count)
    orders = np.asarray(jax.jit(jax.vmap(lambda key: permutation(key, size)))(keys))
    counts = np.unique(orders @ size ** np.arange(size), return_counts=True)[1]
    assert len(counts) == count
    assert p_value(counts, count - 1) > LEAST


def test_neighbours_of_a_thousand_do_not_stay_neighbours():
    """Differences between neighbours, modulo 1000, are as often any number as any other."""
    keys = jax.random.split(jax.random.key(5), 500)
    orders = np.asarray(jax.jit(jax.vmap(lambda key: permutation(key, 1000)))(keys))
    differences = np.diff(orders, axis=1).ravel() % 1000
    assert p_value(np.bincount(differences, minlength=1000)[1:], 998) > LEAST


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 6, 8, 11])
def test_batches_walk_through_whole_epochs_whatever_the_recording_interval(num_steps):
    """50 examples in batches of 16, 16, 16 and 2: every epoch has each example once."""
    key = jax.random.key(5)
    of_steps = jax.jit(lambda step: batch_rows(key, step, num_steps, 50, 16))
    rows = np.concatenate([of_steps(jnp.int32(step)) for step in range(0, 24, num_steps)])[:24]
    for epoch, found in enumerate(rows[: len(rows) // 4 * 4].reshape(-1, 64)):
        words = round_words(jax.random.fold_in(key, epoch))
        assert found[:50].tolist() == by_hand(np.asarray(words), 50)
        assert (found[50:] == -1).all()
    assert not np.array_equal(rows[:4], rows[4:8])


def test_sizes_out_of_range_are_refused():
    for size in (0, 2**24 + 1):
        with pytest.raises(ValueError, match=f"permutation of {size} elements"):
            permutation(jax.random.key(0), size)
    with pytest.raises(ValueError, match="permutation of 16777217 elements"):
        batch_rows(jax.random.key(0), jnp.int32(0), 1, 2**24 + 1, 16)
