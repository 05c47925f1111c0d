"""Modular arithmetic: the network against plain NumPy, the data against arithmetic."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.experiments import load_experiment
from seedmap.experiments.networks.layers import look_up, sum_of_rows
from seedmap.experiments.tasks.modular import (
    PAPER,
    STABILISED,
    all_examples,
    init_params,
    last_logits,
    make_data,
    num_train,
    score,
    setup,
)
from seedmap.trainer import PAPER_METRICS, flax_rule, train, weight_metrics
from seedmap.trainer.metrics.weights import sort_weights

SMALL = replace(PAPER, prime=7, width=12, heads=3, mlp_hidden=20)
OPERATIONS = ("add", "subtract", "multiply", "divide")


def random_params(config, seed=0):
    """Weights with no zeros, ones or equal scales, so that none can be left out unseen."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))
    return jax.tree.map(lambda leaf: rng.normal(0, 0.7, leaf.shape).astype(np.float32), shapes)


def numpy_layer_norm(x, norm):
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    return (x - x.mean(axis=-1, keepdims=True)) / deviation * norm["scale"] + norm["bias"]


def numpy_logits(params, operands, layer_norm):
    """A causal transformer block on all three positions, one example and head at a time."""
    net = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)["params"]
    attention, mlp = net["attention"], net["mlp"]
    equals = len(net["embed"]["embedding"]) - 1
    outputs = []
    for x, y in operands:
        stream = net["embed"]["embedding"][[x, y, equals]] + net["positions"]["embedding"]
        attended = np.zeros_like(stream)
        heads, head_width, _ = attention["out"]["kernel"].shape
        for head in range(heads):
            query, key, value = (
                stream @ attention[name]["kernel"][:, head] for name in ("query", "key", "value")
            )
            scores = query @ key.T / np.sqrt(head_width)
            scores[np.triu_indices(3, 1)] = -np.inf
            share = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
            attended += share @ value @ attention["out"]["kernel"][head]
        stream = stream + attended
        if layer_norm:
            stream = numpy_layer_norm(stream, net["LayerNorm_0"])
        hidden = np.maximum(stream @ mlp["hidden"]["kernel"] + mlp["hidden"]["bias"], 0)
        stream = stream + hidden @ mlp["out"]["kernel"].T + mlp["out"]["bias"]
        if layer_norm:
            stream = numpy_layer_norm(stream, net["LayerNorm_1"])
        outputs.append((stream @ net["unembed"]["embedding"].T)[-1])
    return np.array(outputs)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_logits_and_scores_agree_with_a_whole_transformer_in_numpy(layer_norm):
    config = replace(SMALL, layer_norm=layer_norm)
    params = random_params(config)
    operands, result = all_examples(config)
    expected = numpy_logits(params, operands, layer_norm)
    np.testing.assert_allclose(last_logits(params, operands), expected, rtol=1e-4, atol=1e-4)
    loss, correct = score(params, (operands, result))
    shares = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(loss, -np.log(shares[range(49), result]), rtol=1e-4, atol=1e-4)
    right = expected.argmax(axis=1) == result
    assert 0 < right.sum() < 49
    np.testing.assert_array_equal(correct, right)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_gradient_agrees_with_differences_of_the_loss(layer_norm):
    """Along a random direction in all parameters at once, in float64."""
    config = replace(SMALL, layer_norm=layer_norm)
    with jax.enable_x64(True):
        params, direction = (
            jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), random_params(config, seed))
            for seed in (0, 1)
        )
        batch = jax.tree.map(jnp.asarray, all_examples(config))

        def mean_loss(params):
            return jnp.mean(score(params, batch)[0])

        def along(distance):
            return mean_loss(jax.tree.map(lambda p, d: p + distance * d, params, direction))

        grads, *sides = jax.jit(lambda: (jax.grad(mean_loss)(params), along(1e-6), along(-1e-6)))()
        slope = sum(
            np.vdot(g, d)
            for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(direction), strict=True)
        )
        np.testing.assert_allclose(slope, (sides[0] - sides[1]) / 2e-6, rtol=1e-5)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))


def test_gradient_of_a_look_up_adds_the_rows_up():
    rows = jnp.array([[0, 2], [2, 2]])
    grad = jnp.arange(8.0).reshape(2, 2, 2)
    expected = [[0.0, 1.0], [0.0, 0.0], [2 + 4 + 6, 3 + 5 + 7]]
    _, pull = jax.vjp(look_up, jnp.ones((3, 2)), rows)
    np.testing.assert_array_equal(pull(grad)[0], expected)
    # The way it goes on other devices, and vmapped over seeds.
    exported = jax.export.export(
        jax.jit(jax.vmap(lambda table: jax.vjp(look_up, table, rows)[1](grad)[0])),
        platforms=["cuda", "tpu"],
    )(jax.ShapeDtypeStruct((4, 3, 2), jnp.float32))
    assert "scatter" not in exported.mlir_module()
    assert "dot_general" in exported.mlir_module()


@pytest.mark.parametrize("at_once", [3, 4, 100])
def test_rows_summed_by_products_in_pieces(at_once, monkeypatch):
    monkeypatch.setattr("seedmap.experiments.networks.layers.ROWS_AT_ONCE", at_once)
    rows = jnp.array([[0, 2, 4, 4, 1], [2, 2, 0, 4, 3]])
    grad = jax.random.normal(jax.random.key(0), (2, 5, 6))
    zeros = jnp.zeros((7, 6))
    expected = zeros.at[rows].add(grad)
    np.testing.assert_allclose(sum_of_rows(rows, grad, zeros), expected, atol=1e-6)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_results_are_right(operation):
    operands, result = all_examples(replace(PAPER, operation=operation, prime=13))
    x, y = operands.T.astype(int)
    assert len(set(zip(x, y, strict=True))) == len(x) == (156 if operation == "divide" else 169)
    undone = {"add": result - y, "subtract": result + y, "divide": result * y}
    if operation == "multiply":
        np.testing.assert_array_equal(result, [a * b - 13 * (a * b // 13) for a, b in operands])
    else:
        np.testing.assert_array_equal(undone[operation] % 13, x)
    assert ((result >= 0) & (result < 13)).all()
    assert (operation != "divide") or (y > 0).all()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_split_is_disjoint_covers_all_pairs_and_differs_between_seeds(operation):
    config = replace(PAPER, operation=operation, prime=13)
    splits = [make_data(config, jax.random.key(seed)) for seed in range(2)]
    for train_part, test_part in splits:
        assert len(train_part[1]) == num_train(config)
        together = [np.concatenate(parts) for parts in zip(train_part, test_part, strict=True)]
        rows = np.column_stack(together).tolist()
        assert sorted(rows) == np.column_stack(all_examples(config)).tolist()
    assert not np.array_equal(splits[0].train[0], splits[1].train[0])


def test_paper_sizes():
    """113 * 113 * 30 %, and the parameters of the paper's network counted by hand."""
    assert num_train(PAPER) == 3830
    block = 4 * 128 * 128 + 2 * 128 * 512 + 512 + 128
    for config, norms in ((PAPER, 0), (STABILISED, 4 * 128)):
        params = jax.eval_shape(lambda key, c=config: init_params(c, key), jax.random.key(0))
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        assert count == 2 * 114 * 128 + 3 * 128 + block + norms


def test_initial_weights_have_the_spread_of_the_released_code():
    net = init_params(PAPER, jax.random.key(0))["params"]
    for leaf in (net["attention"]["out"]["kernel"], net["mlp"]["out"]["kernel"]):
        np.testing.assert_allclose(leaf.std(), 128**-0.5, rtol=0.02)
    np.testing.assert_allclose(net["unembed"]["embedding"].std(), 114**-0.5, rtol=0.02)


def test_metrics_see_every_head_and_neither_embeddings_nor_norms():
    params = init_params(replace(SMALL, layer_norm=True), jax.random.key(0))
    weights = sort_weights(params, flax_rule)
    shapes = sorted(matrix.shape for matrices in weights.matrices.values() for matrix in matrices)
    assert shapes == sorted(9 * [(12, 4)] + [(12, 12)] + 2 * [(12, 20)])
    assert sorted(bias.shape for bias in weights.biases.values()) == [(12,), (20,)]
    assert set(jax.eval_shape(weight_metrics, params)) == set(PAPER_METRICS)


@pytest.mark.parametrize(
    "name", ["modular", pytest.param("modular-stabilised", marks=pytest.mark.slow)]
)
def test_quick_preset_trains_end_to_end(name):
    experiment = load_experiment(name)
    config = experiment.presets["quick"].training
    task, optimizer, *_ = experiment.setup(config)
    batches = -(-task.num_train // config.batch_size)
    run = train(
        task,
        optimizer,
        range(config.seeds),
        batch_size=config.batch_size,
        steps=config.epochs * batches,
        record_every=config.record_every * batches,
        seeds_at_once=config.seeds_at_once,
    )
    assert (run.diverged == -1).all()
    assert np.isfinite(run.dataset.to_array()).all()
    assert (run.dataset.train_accuracy[:, -1] > 0.5).all()  # chance is 1 / 13
    assert (run.dataset.train_loss[:, -1] < 0.5 * run.dataset.train_loss[:, 0]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prime": 12}, "prime is 12"),
        ({"prime": 1}, "prime is 1"),
        ({"heads": 5}, r"multiple of heads \(5\)"),
        ({"width": 0}, "width is 0"),
        ({"train_share": 1.0}, "train_share is 1.0"),
        ({"train_share": 1e-6}, "train_share is 1e-06"),
    ],
)
def test_wrong_hyperparameters_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        setup(replace(PAPER, **change))
