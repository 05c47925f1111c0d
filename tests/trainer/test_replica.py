"""The functions of one replica and their batching, each by hand in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from seedmap.experiments.networks.convolution import conv
from seedmap.trainer import Data, Perturbations, Task, make_streams, make_trainer
from seedmap.trainer.batched import (
    Batching,
    at_precision,
    build_trainer,
    over_replicas,
    side_by_side,
)
from seedmap.trainer.metrics import lapack
from seedmap.trainer.metrics.arguments import ARGUMENTS
from seedmap.trainer.order import batch_rows
from seedmap.trainer.recipe import make_recipe
from seedmap.trainer.replica import (
    Comparable,
    advance,
    exact_data,
    init_replica,
    initial_model,
    metric_arguments,
    take_steps,
)

RATE, BATCH, EVERY = 0.1, 4, 3
X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=10).astype(np.float32)


def score(w, batch):
    x, y = batch
    return (x @ w - y) ** 2, (x @ w * y > 0).astype(jnp.float32)


TASK = Task(
    lambda key: jax.random.normal(key, (3,)), lambda key: Data((X, Y), (X[:4], Y[:4])), score, 10
)


def recipe(**options):
    return make_recipe(
        TASK, optax.sgd(RATE), BATCH, EVERY, lambda params: {"top": jnp.max(params)}, **options
    )


def replica(made, hyper=None):
    keys = jax.tree.map(lambda key: key[0], make_streams([5]))
    return init_replica(made, keys, hyper or {}, Perturbations())


def by_hand(w, order, step, steps):
    """Weights, losses and shares right of plain gradient descent in NumPy."""
    losses, right, count = [], 0, 0
    for rows in np.asarray(batch_rows(order, jnp.int32(step), steps, 10, BATCH)):
        x, y = X[rows[rows >= 0]], Y[rows[rows >= 0]]
        residual = x @ w - y
        losses.append(np.mean(residual**2))
        right, count = right + np.sum(x @ w * y > 0), count + len(x)
        w = w - RATE * 2 * x.T @ residual / len(x)
    return w, losses, right / count


def test_steps_are_those_of_plain_gradient_descent():
    made = recipe(compare=True)
    state = replica(made)
    steps = take_steps(made, jnp.int32(3), exact_data(TASK, state.keys.data, ()), state)
    w, losses, accuracy = by_hand(np.asarray(state.model.params), state.keys.order, 3, EVERY)
    np.testing.assert_allclose(steps.state.model.params, w, rtol=1e-5)
    np.testing.assert_allclose(steps.losses, losses, rtol=1e-5)
    np.testing.assert_allclose(steps.accuracy, accuracy, rtol=1e-6)
    assert steps.digests.shape == (EVERY,)
    assert (
        take_steps(recipe(), jnp.int32(3), exact_data(TASK, state.keys.data, ()), state).digests
        is None
    )


def test_a_record_is_of_the_state_after_the_steps():
    state = replica(recipe())
    after, record, comparable = advance(recipe(threshold=0.0), jnp.int32(0), (), state)
    w, losses, accuracy = by_hand(np.asarray(state.model.params), state.keys.order, 0, EVERY)
    loss, right = score(w, (X[:4], Y[:4]))
    expected = {"top": w.max(), "train_loss": np.mean(losses), "train_accuracy": accuracy}
    expected |= {"eval_loss": loss.mean(), "eval_accuracy": right.mean()}
    assert list(record)[:1] == ["top"]
    assert record.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(record[name], value, rtol=1e-5, err_msg=name)
    assert after.converged == (EVERY if right.mean() > 0 else -1)
    assert comparable == Comparable(None, None)


def test_what_metrics_may_ask_for():
    made = recipe()
    state = replica(made, {"init_scale": jnp.float32(2.0)})
    moved = state._replace(model=state.model._replace(params=state.model.params + 1))
    data = exact_data(TASK, state.keys.data, ())
    arguments = metric_arguments(made, moved, jnp.int32(2), data)
    assert tuple(arguments) == ARGUMENTS
    w, initial = np.asarray(moved.model.params), np.asarray(TASK.init(state.keys.init))
    rows = np.asarray(batch_rows(state.keys.order, jnp.int32(2), 1, 10, BATCH))[0]
    x, y = X[rows[rows >= 0]], Y[rows[rows >= 0]]
    grads = 2 * x.T @ (x @ w - y) / len(x)
    np.testing.assert_array_equal(arguments["params"](), w)
    np.testing.assert_array_equal(arguments["initial"](), 2 * initial)
    np.testing.assert_array_equal(arguments["batch"]()[0][: len(x)], x)
    np.testing.assert_allclose(arguments["grads"](), grads, rtol=1e-5)
    np.testing.assert_allclose(arguments["updates"](), -RATE * grads, rtol=1e-5)
    np.testing.assert_allclose(arguments["loss"]()(w), np.mean((x @ w - y) ** 2), rtol=1e-5)
    np.testing.assert_array_equal(initial_model(TASK, state.keys, {}).params, initial)


def test_the_key_of_a_metric_is_the_same_for_all_replicas_and_records():
    def drawn(key):
        return {"drawn": jax.random.uniform(key)}

    trainer = make_trainer(TASK, optax.sgd(RATE), BATCH, EVERY, drawn)
    state = trainer.init(make_streams([3, 8]))
    for _ in range(2):
        state, record = trainer.advance(state)
        expected = jax.random.uniform(jax.random.key(0))
        np.testing.assert_array_equal(record["drawn"], np.full(2, expected))


@pytest.mark.parametrize("count", [1, 6])
def test_replicas_side_by_side_are_a_loop_over_them(count):
    def double(tree):
        return {"sum": tree["a"].sum() + tree["b"]}

    tree = {"a": jnp.arange(2.0 * count).reshape(count, 2), "b": jnp.arange(1.0 * count)}
    expected = [tree["a"][i].sum() + tree["b"][i] for i in range(count)]
    np.testing.assert_array_equal(side_by_side(double)(tree)["sum"], expected)


def test_replicas_share_what_is_shared_on_any_mesh():
    mesh = Mesh(np.asarray(jax.devices()[:1]), ("seed",))
    own = jnp.arange(4.0)
    for batching in (Batching(None, "cpu"), Batching(mesh, "cpu")):
        batched = over_replicas(lambda shared, own: shared * own, "float32", batching)
        np.testing.assert_array_equal(batched((jnp.float32(3.0),), own), 3 * own)


def test_products_are_rounded_in_programs_for_cpus_alone_or_where_a_replica_asks():
    a = jnp.full((2, 2), 1 / 3)

    def lowered(*options):
        traced = jax.jit(at_precision(jnp.matmul, *options)).trace(a, a)
        return traced.lower(lowering_platforms=(options[1],)).as_text()

    assert "reduce_precision" in lowered("bfloat16", "cpu")
    assert "reduce_precision" not in lowered("bfloat16", "tpu")
    assert "reduce_precision" not in lowered("float32", "cpu")
    np.testing.assert_allclose(
        at_precision(jnp.matmul, "float32", "tpu", jnp.int32(7))(a, a),
        2 * np.float32(0.333984375) ** 2,
        rtol=1e-6,
    )


def image_task():
    def convolved(kernel, batch):
        out = conv(batch[0], kernel).mean(axis=(1, 2, 3))
        return (out - batch[1]) ** 2, jnp.zeros(len(batch[1]))

    x = np.random.default_rng(2).normal(size=(10, 6, 6, 3)).astype(np.float32)
    return Task(
        lambda key: jax.random.normal(key, (3, 3, 3, 4)),
        lambda key: Data((x, Y), (x[:4], Y[:4])),
        convolved,
        10,
    )


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_a_training_step_is_compiled_as_its_platform_has_it(platform):
    """Lowered for a platform that this process need not have."""

    def largest(params):
        return {"largest": jnp.linalg.svd(params.reshape(27, 4), compute_uv=False)[0]}

    made = make_recipe(image_task(), optax.sgd(RATE), BATCH, EVERY, largest, precision="bfloat16")
    trainer = build_trainer(made, platform=platform)
    state = jax.eval_shape(trainer.init, make_streams([0, 1]))
    text = trainer.advance.trace(state).lower(lowering_platforms=(platform,)).as_text()
    for_cpu = platform == "cpu"
    assert ("stablehlo.convolution" in text) != for_cpu
    assert ("reduce_precision" in text) == for_cpu
    assert ("@lapack_" in text) == for_cpu


def test_matrices_are_decomposed_one_by_one_in_programs_for_cpus():
    """At the values of all at once, to the bit."""
    at_once = jax.jit(lambda matrices: jnp.linalg.svd(matrices, compute_uv=False))
    values = jax.jit(lapack.batched(at_once))
    matrices = jax.random.normal(jax.random.key(0), (4, 3, 3))
    np.testing.assert_array_equal(values(matrices), at_once(matrices))
    for platform, is_loop in (("cpu", True), ("cuda", False), ("tpu", False)):
        text = values.trace(matrices).lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.while" in text) == is_loop or platform == "tpu"
