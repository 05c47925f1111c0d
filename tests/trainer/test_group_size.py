"""Replicas side by side: as many as the network says, and where asked, at which all are alike."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.trainer import Data, Task, group_size as sizing
from seedmap.trainer.batched import Trainer
from seedmap.trainer.placement import place
from seedmap.trainer.program import compile_if_it_fits
from seedmap.trainer.streams import make_streams


class Model(NamedTuple):
    params: Any


class Seeds(NamedTuple):
    model: Model


class State(NamedTuple):
    seeds: Seeds


def build(mesh):
    """One parameter, of the replica's key; above 4 side by side the last has another last bit."""

    def init(streams, hyper, perturb):
        drawn = jax.vmap(jax.random.normal)(streams.init.reshape(-1))
        return State(Seeds(Model({"w": drawn[:, None]})))

    def walk(state, pool):
        w = state.seeds.model.params["w"]
        if len(w) > 4:
            w = w.at[-1].set(jnp.nextafter(w[-1], jnp.inf))
        return State(Seeds(Model({"w": w})))

    return Trainer(jax.jit(init), None, jax.jit(walk))


def choose(most, **options):
    replicas = make_streams(range(20)), {}, ()
    return sizing.choose_alike(build, replicas, (), jax.local_devices(), most, **options)


def test_numbers_that_treat_copies_unlike_are_left_out():
    assert choose(16).seeds_at_once == 2  # groups of 10, 5 and 2 of the 20
    assert choose(None).seeds_at_once == 2  # of 20, 10, 5 and 2
    assert choose(4).seeds_at_once == 4
    assert choose(16, alike=False).seeds_at_once == 10  # asked for by name
    assert 0 < choose(1).seconds < 10


def test_copies_are_compared_to_the_bit():
    def state(*rows):
        return State(Seeds(Model({"a": jnp.zeros((3, 2)), "w": jnp.array(rows)})))

    nan = np.float32(np.nan)
    assert sizing._all_alike(state(1.0, 1.0, 1.0))
    assert sizing._all_alike(state(nan, nan, nan))
    assert not sizing._all_alike(state(1.0, 1.0, np.nextafter(np.float32(1), np.float32(2))))
    assert not sizing._all_alike(state(0.0, 0.0, -0.0))


def task_of(*shapes):
    return Task(
        init=lambda key: [jnp.zeros(shape) for shape in shapes],
        make_data=lambda key: Data(jnp.zeros(4), jnp.zeros(4)),
        score=lambda params, batch: (batch, batch),
        num_train=4,
    )


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([(1,)], 8),
        ([(8192,)], 8),
        ([(8192,), (1,)], 4),
        ([(128, 256)], 2),
        ([(128, 257)], 1),
        ([(10**6,)], 1),
        ([(3, 3, 1, 2), (2,)], 1),  # a convolution
    ],
)
def test_the_rule_counts_parameters(shapes, size):
    assert sizing.by_network(task_of(*shapes)) == size


class Memory(NamedTuple):
    temp_size_in_bytes: int
    output_size_in_bytes: int
    alias_size_in_bytes: int


class Compiled(NamedTuple):
    memory: Memory

    def memory_analysis(self):
        return self.memory


class Accelerator(NamedTuple):
    platform: str
    free: int

    def memory_stats(self):
        return {"bytes_limit": 100 + self.free, "bytes_in_use": 100}


@pytest.mark.parametrize(("free", "fit"), [(1000, True), (999, False)])
def test_a_program_fits_beside_the_states_of_the_other_groups(monkeypatch, free, fit):
    """State of 100 bytes a group, 4 groups, 500 temporary and 100 of new results: 900 of 90 %."""
    monkeypatch.setattr(sizing, "device_set", lambda state: {0})
    state = State(Seeds(jnp.zeros(25)))
    compiled = Compiled(Memory(500, 200, 100))
    assert sizing.fits(compiled, state, 4, Accelerator("gpu", free)) is fit
    assert sizing.fits(compiled, state, 4, Accelerator("cpu", 0))


@pytest.mark.parametrize(
    ("replicas", "most", "size", "num_groups"),
    [(40, 5, 5, 8), (40, 40, 40, 1), (40, None, 40, 1), (7, 5, 4, 2), (6, 8, 6, 1), (9, 4, 3, 3)],
)
def test_groups_are_equal_and_do_not_depend_on_the_cores(replicas, most, size, num_groups):
    for count in (1, 2, 4, 8):
        placement = place(replicas, most, jax.local_devices() * count)
        assert placement.seeds_at_once == size
        assert placement.rows.shape == (num_groups, size)
        assert placement.lanes <= min(count, num_groups)
        assert np.array_equal(placement.rows.ravel()[:replicas], np.arange(replicas))
        assert (placement.rows.ravel()[replicas:] == replicas - 1).all()


def test_a_task_may_say_its_own_number_for_cpus():
    task = task_of((10, 10))
    assert sizing.cpu_group(task) == sizing.by_network(task) == 8
    assert sizing.cpu_group(task._replace(cpu_group=5)) == 5


class Lowered(NamedTuple):
    """A program whose compiler says something."""

    words: str

    def compile(self):
        raise jax.errors.JaxRuntimeError(self.words)


def test_a_compiler_that_finds_too_little_memory_makes_groups_smaller():
    """As that of TPUs does; any other refusal is one."""
    too_large = "RESOURCE_EXHAUSTED: Ran out of memory. Used 20G of 15.75G hbm."
    assert compile_if_it_fits(Lowered(too_large)) is None
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        compile_if_it_fits(Lowered("INTERNAL: no"))
