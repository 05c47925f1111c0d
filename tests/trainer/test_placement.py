"""Groups of replicas: laid out, put on devices and back, and trained in lanes."""

import threading
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seedmap.experiments.tasks.sparse_parities import ParitiesConfig, parities_task
from seedmap.trainer import loop, make_streams, placement, train
from seedmap.trainer.placement import gather, in_lanes, place, spread

CPU = jax.local_devices()


@pytest.mark.parametrize("size", [1, 3, 7, None])
def test_replicas_go_to_their_groups_and_back(size):
    laid = place(7, size, CPU)
    tree = {"x": np.arange(14.0).reshape(7, 2), "key": make_streams(range(7)).init}
    groups = spread(laid, tree)
    assert [len(group["x"]) for group in groups] == [laid.seeds_at_once] * len(laid.rows)
    last = groups[-1]["x"][-1]
    np.testing.assert_array_equal(last, tree["x"][6])  # padding, where there is any
    back = gather(laid, groups)
    np.testing.assert_array_equal(back["x"], tree["x"])
    np.testing.assert_array_equal(back["key"], jax.random.key_data(tree["key"]))


def test_lanes_are_threads_that_run_at_the_same_time(monkeypatch):
    """Two programs of one device, each of which waits for the other inside."""
    monkeypatch.setattr(placement, "usable_cores", lambda: 2)
    laid = place(4, 1, CPU * 2)
    assert laid.lanes == 2
    together = threading.Barrier(2, timeout=60)

    def meet(x):
        together.wait()
        return x

    shape = jax.ShapeDtypeStruct((), "float32")
    program = jax.jit(lambda x: jax.pure_callback(meet, shape, x) + 1)
    program = program.lower(jnp.float32(0)).compile()
    found = in_lanes(laid, lambda x: float(program(x)), [jnp.float32(i) for i in range(4)])
    assert found == [1, 2, 3, 4]


def test_there_are_no_more_lanes_than_cores_groups_or_devices(monkeypatch):
    monkeypatch.setattr(placement, "usable_cores", lambda: 4)
    for num_devices, num_groups, lanes in ((8, 8, 4), (2, 8, 2), (8, 3, 3), (1, 8, 1)):
        assert place(num_groups, 1, CPU * num_devices).lanes == lanes


def test_a_group_that_is_done_is_not_trained_any_more(monkeypatch):
    """Of 6 replicas one by one, each stops by itself: records are counted by the seed."""
    calls, compiled = Counter(), loop.compile_program

    def counted(plan, at_once):
        program = compiled(plan, at_once)

        def advance(state):
            calls[int(state.seeds.hyper["index"][0])] += 1
            return program.advance(state)

        return program._replace(advance=advance)

    monkeypatch.setattr(loop, "compile_program", counted)
    config = ParitiesConfig(hidden=32, bits=5, parity_bits=1, train_size=64, test_size=50)
    run = train(
        parities_task(config),
        lambda own: optax.sgd(0.05 + 0 * own["index"]),
        range(6),
        batch_size=16,
        steps=48,
        record_every=4,
        replicas=loop.Replicas(hyperparameters={"index": range(6)}),
        metrics=lambda params: {},
        threshold=0.8,
        early_stop="each",
        seeds_at_once=1,
    )
    assert (run.converged > 0).all()
    assert len(set(run.converged)) > 1
    assert calls == dict(enumerate(run.converged // 4))
    records = np.isfinite(run.dataset.eval_loss.values).sum(axis=1)
    np.testing.assert_array_equal(records, run.converged // 4)
