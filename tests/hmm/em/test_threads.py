import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.em_fits import as_data, as_model, prior_of, start_of
from helpers.planted import planted
from seedmap import cores
from seedmap.hmm.autoregressive import fits
from seedmap.hmm.em import loop, start as starts, threads
from seedmap.hmm.em.candidates import restart_keys, start
from seedmap.hmm.em.loop import iterate, run
from seedmap.hmm.em.model import Data, Layout

LAYOUT = Layout((1, 2, 2, 3, 4), "full")


@pytest.fixture
def two_batches(monkeypatch):
    monkeypatch.setattr(threads, "_WORTH", 0)
    monkeypatch.setattr(loop, "num_batches", lambda data: 2)
    monkeypatch.setattr(loop, "num_threads", lambda data: 2)


def model_of(layout):
    return as_model(layout, [start_of(k, "full", seed=i) for i, k in enumerate(layout.num_states)])


def existing(model):
    """The parameters with 0 in the rows of states that a fit does not have."""
    pairs = LAYOUT.active[:, :, None] & LAYOUT.active[:, None]
    return model._replace(transition=np.where(pairs, model.transition, 0))


def test_batches_take_about_the_same_time(two_batches):
    data = as_data(planted()[0].select(range(6)))
    assert threads.split(LAYOUT, data, 2) == [slice(0, 3), slice(3, 5)]
    assert threads.split(Layout((3,), "full"), data, 2) == [slice(0, 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_largest_batch_is_as_small_as_can_be(monkeypatch, count):
    """Against every way to cut 12 fits into so many batches."""
    monkeypatch.setattr(threads, "_WORTH", 0)
    sizes = (1, 1, 2, 2, 3, 3, 5, 5, 4, 4, 8, 8)
    found = threads.split(Layout(sizes, "full"), as_data(planted()[0]), count)
    assert [i for batch in found for i in range(batch.start, batch.stop)] == list(range(12))

    def largest(edges):
        return max((b - a) * max(sizes[a:b]) for a, b in itertools.pairwise(edges))

    cuts = itertools.combinations(range(1, 12), count - 1)
    best = min(largest((0, *inner, 12)) for inner in cuts)
    assert len(found) <= count
    assert largest([0, *(batch.stop for batch in found)]) == best


def test_little_work_stays_in_one_batch():
    assert len(threads.split(LAYOUT, as_data(planted()[0]), 2)) == 1


@pytest.mark.parametrize(
    ("platform", "usable", "batches"), [("cpu", 3, 4), ("gpu", 1, 1), ("tpu", 1, 1)]
)
def test_threads_are_the_usable_cores_where_a_cpu_holds_the_data(
    monkeypatch, platform, usable, batches
):
    """The devices of the data count; the bits of fits are those of every machine."""
    monkeypatch.setattr(cores, "usable_cores", lambda: 3)
    monkeypatch.setattr(jax, "local_devices", lambda backend: [backend] * 8)
    values = SimpleNamespace(devices=lambda: [SimpleNamespace(platform=platform)])
    data = Data(values, None)
    assert (threads.num_threads(data), threads.num_batches(data)) == (usable, batches)
    assert fits.num_threads(SimpleNamespace(products=values)) == usable


def test_a_model_taken_apart_and_joined_is_the_same():
    model = jax.device_get(model_of(LAYOUT))
    pieces = [threads.take_model(LAYOUT, model, fits) for fits in (slice(0, 3), slice(3, 5))]
    assert pieces[0].transition.shape == (3, 2, 2)
    joined = threads.join_models(LAYOUT, pieces)
    for old, new in zip(existing(model), existing(joined), strict=True):
        np.testing.assert_array_equal(old, new)


def test_fits_in_batches_are_those_of_one_program(two_batches):
    data, weights = as_data(planted()[0].select(range(6))), jnp.ones((5, 6))
    weights = weights.at[1, 2].set(0.0)
    prior, done = prior_of(5), []
    model = model_of(LAYOUT)
    found = run(LAYOUT, data, weights, prior, 1e-6, model, 6, done.append)
    alone = iterate(LAYOUT, data, weights, prior, 1e-6, starts.unstarted(model), 6)
    assert done == [4, 6, 6]
    found, alone = (one._replace(model=existing(one.model)) for one in (found, alone))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)


def test_batches_are_the_same_on_fewer_threads(two_batches, monkeypatch):
    seen = []

    def on_threads(work, batches, number):
        seen.append((len(batches), number))
        return threads.side_by_side(work, batches, number)

    monkeypatch.setattr(loop, "num_threads", lambda data: 1)
    monkeypatch.setattr(loop, "side_by_side", on_threads)
    data, weights = as_data(planted()[0].select(range(6))), jnp.ones((5, 6))
    run(LAYOUT, data, weights, prior_of(5), 1e-6, model_of(LAYOUT), 2, lambda done: None)
    assert seen == [(2, 1)]


def test_threads_keep_the_settings_of_the_caller():
    with jax.enable_x64(True):
        kinds = threads.side_by_side(lambda _: jnp.zeros(1).dtype, [0, 1, 2], 2)
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
    best = starts.best_start(layout, data, weights, prior, keys, restarts, factor)
    first = start(layout, data, weights, keys, restarts, factor)
    return data, weights, prior, best, first


def test_the_first_restart_is_k_means_and_the_others_the_best_short_run():
    layout, fits = Layout((3, 3, 3), "full"), [(3, 0), (3, 1), (3, 2)]
    data, weights, prior, best, first = short_starts(layout, fits)
    np.testing.assert_array_equal(best.means[:3], first.means[:3])
    np.testing.assert_array_equal(best.factors[:3], first.factors[:3])
    short = starts.unstarted(first)
    short = iterate(layout, data, weights, prior, -np.inf, short, starts.SHORT_ITERATIONS)
    ahead, behind = (
        iterate(layout, data, weights, prior, -np.inf, starts.unstarted(model), 1).objective
        for model in (jax.tree.map(jnp.asarray, best), short.model)
    )
    assert (ahead[1:] >= behind[1:] - 0.1).all()


@pytest.mark.slow
def test_a_start_depends_on_its_key_and_restart_only():
    _, _, _, together, _ = short_starts(Layout((3, 2, 3), "full"), [(3, 1), (2, 1), (3, 2)])
    _, _, _, alone, _ = short_starts(Layout((3,), "full"), [(3, 2)])
    np.testing.assert_allclose(together.means[5:], alone.means, atol=1e-3)
    _, _, _, again, _ = short_starts(Layout((3,), "full"), [(3, 2)])
    np.testing.assert_array_equal(again.means, alone.means)


def test_thinned_runs_keep_every_nth_checkpoint(monkeypatch):
    sequences = planted()[0]
    monkeypatch.setattr(starts, "_CHECKPOINTS", sequences.num_observations // 3)
    thinned = starts.thin(sequences)
    for i, length in enumerate(sequences.lengths):
        expected = sequences.values[i, :length:3]
        np.testing.assert_array_equal(thinned.values[i, : thinned.lengths[i]], expected)
        assert thinned.lengths[i] == len(expected)
