"""The number of replicas side by side: the fastest, and where asked one that treats all alike."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.trainer import group_size as sizing
from seedmap.trainer.batched import Trainer
from seedmap.trainer.streams import make_streams


class Model(NamedTuple):
    params: Any


class Seeds(NamedTuple):
    model: Model


class State(NamedTuple):
    seeds: Seeds


def build(size, mesh):
    """One parameter, of the replica's key; 16 side by side give the last another last bit."""

    def init(streams, hyper, perturb):
        drawn = jax.vmap(jax.random.normal)(streams.init.reshape(-1))
        return State(Seeds(Model({"w": drawn[:, None]})))

    def walk(state, pool):
        w = state.seeds.model.params["w"]
        if size == 16:
            w = w.at[-1].set(jnp.nextafter(w[-1], jnp.inf))
        return State(Seeds(Model({"w": w})))

    return Trainer(jax.jit(init), None, jax.jit(walk))


SECONDS = {1: 1.0, 4: 0.7, 16: 0.5, 20: 0.6}  # per replica


@pytest.fixture
def timed(monkeypatch):
    tried = []

    def seconds(walk, state, pool):
        size = len(state.seeds.model.params["w"])
        tried.append(size)
        return SECONDS[size] * size, walk(state, pool)

    monkeypatch.setattr(sizing, "_seconds", seconds)
    return tried


def choose(**options):
    replicas = make_streams(range(20)), {}, ()
    return sizing.choose_seeds_at_once(build, replicas, (), jax.local_devices(), **options)


def test_the_fastest_is_chosen(timed):
    assert choose() == (16, 0.5)
    assert timed == [1, 4, 16, 20]


def test_a_number_that_treats_copies_unlike_is_left_out(timed):
    assert choose(alike=True) == (20, 0.6)
    assert choose(sizes=[16]) == (16, 0.5)  # asked for by name


def test_copies_are_compared_to_the_bit():
    def state(*rows):
        return State(Seeds(Model({"a": jnp.zeros((3, 2)), "w": jnp.array(rows)})))

    nan = np.float32(np.nan)
    assert sizing._all_alike(state(1.0, 1.0, 1.0))
    assert sizing._all_alike(state(nan, nan, nan))
    assert not sizing._all_alike(state(1.0, 1.0, np.nextafter(np.float32(1), np.float32(2))))
    assert not sizing._all_alike(state(0.0, 0.0, -0.0))
