import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.em_fits import as_data, as_model, prior_of, start_of
from helpers.planted import planted
from seedmap.hmm.em import start as short_runs
from seedmap.hmm.em import threads as parts
from seedmap.hmm.em.candidates import restart_keys, start
from seedmap.hmm.em.loop import iterate, run
from seedmap.hmm.em.model import Layout

LAYOUT = Layout((1, 2, 2, 3, 4), "full")


@pytest.fixture
def two_parts(monkeypatch):
    monkeypatch.setattr(parts, "_WORTH", 0)
    monkeypatch.setattr(parts, "_num_cores", lambda: 2)


def model_of(layout):
    return as_model(layout, [start_of(k, "full", seed=i) for i, k in enumerate(layout.num_states)])


def existing(model):
    """The parameters with 0 in the rows of states that a fit does not have."""
    pairs = LAYOUT.active[:, :, None] & LAYOUT.active[:, None]
    return model._replace(transition=np.where(pairs, model.transition, 0))


def test_parts_take_about_the_same_time(two_parts):
    data = as_data(planted()[0].select(range(6)))
    assert parts.split(LAYOUT, data) == [slice(0, 3), slice(3, 5)]
    assert parts.split(Layout((3,), "full"), data) == [slice(0, 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_largest_part_is_as_small_as_can_be(monkeypatch, count):
    """Against every way to cut 12 fits into so many parts."""
    monkeypatch.setattr(parts, "_WORTH", 0)
    monkeypatch.setattr(parts, "_num_cores", lambda: count)
    sizes = (1, 1, 2, 2, 3, 3, 5, 5, 4, 4, 8, 8)
    found = parts.split(Layout(sizes, "full"), as_data(planted()[0]))
    assert [i for part in found for i in range(part.start, part.stop)] == list(range(12))

    def largest(edges):
        return max((b - a) * max(sizes[a:b]) for a, b in itertools.pairwise(edges))

    cuts = itertools.combinations(range(1, 12), count - 1)
    best = min(largest((0, *inner, 12)) for inner in cuts)
    assert len(found) <= count
    assert largest([0, *(part.stop for part in found)]) == best


def test_little_work_stays_in_one_part(monkeypatch):
    monkeypatch.setattr(parts, "_num_cores", lambda: 2)
    assert len(parts.split(LAYOUT, as_data(planted()[0]))) == 1


def test_a_model_taken_apart_and_joined_is_the_same():
    model = jax.device_get(model_of(LAYOUT))
    pieces = [parts.take_model(LAYOUT, model, fits) for fits in (slice(0, 3), slice(3, 5))]
    assert pieces[0].transition.shape == (3, 2, 2)
    joined = parts.join_models(LAYOUT, pieces)
    for old, new in zip(existing(model), existing(joined), strict=True):
        np.testing.assert_array_equal(old, new)


def test_fits_in_parts_are_those_of_one_program(two_parts):
    data, weights = as_data(planted()[0].select(range(6))), jnp.ones((5, 6))
    weights = weights.at[1, 2].set(0.0)
    prior, done = prior_of(5), []
    model = model_of(LAYOUT)
    found = run(LAYOUT, data, weights, prior, 1e-6, model, 6, done.append)
    alone = iterate(LAYOUT, data, weights, prior, 1e-6, short_runs.unstarted(model), 6)
    assert done == [4, 6, 6]
    found, alone = (one._replace(model=existing(one.model)) for one in (found, alone))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)


def test_threads_keep_the_settings_of_the_caller(two_parts):
    with jax.enable_x64(True):
        kinds = parts.side_by_side(lambda _: jnp.zeros(1).dtype, [0, 1, 2])
    assert kinds == [jnp.float64] * 3


def test_one_compilation_from_the_first_call_on():
    layout = Layout((2, 2), "full")
    data, model = as_data(planted()[0].select(range(6))), model_of(layout)
    before = iterate._cache_size()
    run(layout, data, jnp.ones((2, 6)), prior_of(2), -jnp.inf, model, 9, lambda done: None)
    assert iterate._cache_size() == before + 1


# --- short runs ---


def short_starts(layout, fits, seed=0):
    data = as_data(planted()[0].select(range(6)))
    keys, restarts = restart_keys(jax.random.key(seed), fits), np.array([r for _, r in fits])
    weights, factor = jnp.ones((len(fits), 6)), 3 * np.eye(3)
    prior = prior_of(len(fits))
    best = short_runs.best_start(layout, data, weights, prior, keys, restarts, factor)
    first = start(layout, data, weights, keys, restarts, factor)
    return data, weights, prior, best, first


def test_the_first_restart_is_k_means_and_the_others_the_best_short_run():
    layout, fits = Layout((3, 3, 3), "full"), [(3, 0), (3, 1), (3, 2)]
    data, weights, prior, best, first = short_starts(layout, fits)
    np.testing.assert_array_equal(best.means[:3], first.means[:3])
    np.testing.assert_array_equal(best.factors[:3], first.factors[:3])
    short = short_runs.unstarted(first)
    short = iterate(layout, data, weights, prior, -np.inf, short, short_runs._ITERATIONS)
    ahead, behind = (
        iterate(layout, data, weights, prior, -np.inf, short_runs.unstarted(model), 1).objective
        for model in (jax.tree.map(jnp.asarray, best), short.model)
    )
    assert (ahead[1:] >= behind[1:] - 0.1).all()


def test_a_start_depends_on_its_key_and_restart_only():
    _, _, _, together, _ = short_starts(Layout((3, 2, 3), "full"), [(3, 1), (2, 1), (3, 2)])
    _, _, _, alone, _ = short_starts(Layout((3,), "full"), [(3, 2)])
    np.testing.assert_allclose(together.means[5:], alone.means, atol=1e-3)
    _, _, _, again, _ = short_starts(Layout((3,), "full"), [(3, 2)])
    np.testing.assert_array_equal(again.means, alone.means)


def test_thinned_runs_keep_every_nth_checkpoint(monkeypatch):
    sequences = planted()[0]
    monkeypatch.setattr(short_runs, "_CHECKPOINTS", sequences.num_observations // 3)
    thinned = short_runs.thin(sequences)
    for i, length in enumerate(sequences.lengths):
        expected = sequences.values[i, :length:3]
        np.testing.assert_array_equal(thinned.values[i, : thinned.lengths[i]], expected)
        assert thinned.lengths[i] == len(expected)
