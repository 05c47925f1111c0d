"""The trainer: the same seed gives the same run, compiled once, with one seed's failure its own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seedmap.experiments.tasks.sparse_parities import ParitiesConfig, make_data, parities_task
from seedmap.trainer import (
    OUTCOMES,
    Data,
    Replicas,
    Saving,
    Task,
    make_streams,
    make_trainer,
    train,
)
from seedmap.trainer.order import batch_rows, permutation

CONFIG = ParitiesConfig(hidden=16, bits=8, train_size=50, test_size=20, batch_size=16)
OPTIMIZER = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1))


def run(seeds, steps=24, record_every=4, **options):
    return train(
        parities_task(CONFIG),
        OPTIMIZER,
        seeds,
        batch_size=16,
        steps=steps,
        record_every=record_every,
        seeds_at_once=len(seeds),
        **options,
    )


def numpy_run(seed, steps):
    """Sparse parities by hand in float64: the same weights, data and order, no jax arithmetic."""
    streams = jax.tree.map(lambda keys: keys[0], make_streams([seed]))
    layers = jax.jit(parities_task(CONFIG).init)(streams.init)["params"]
    w1, b1, w2, b2 = (
        np.asarray(layers[layer][name], np.float64)
        for layer in ("Dense_0", "Dense_1")
        for name in ("kernel", "bias")
    )
    data = jax.jit(make_data, static_argnums=0)(CONFIG, streams.data)
    (x, y), (x_test, y_test) = jax.tree.map(np.asarray, data)
    order_of = jax.jit(lambda key, epoch: permutation(jax.random.fold_in(key, epoch), 50))
    losses = []
    for step in range(steps):
        epoch, batch = divmod(step, 4)  # 50 examples: three batches of 16 and one of 2
        order = np.asarray(order_of(streams.order, epoch))
        rows = order[16 * batch : 16 * (batch + 1)]
        hidden = np.maximum(x[rows] @ w1 + b1, 0)
        out = hidden @ w2[:, 0] + b2[0]
        losses.append(np.maximum(1 - y[rows] * out, 0).mean())
        d_out = np.where(y[rows] * out < 1, -y[rows], 0.0) / len(rows)
        d_hidden = np.outer(d_out, w2[:, 0]) * (hidden > 0)
        grads = (x[rows].T @ d_hidden, d_hidden.sum(0), (hidden.T @ d_out)[:, None], [d_out.sum()])
        w1, b1, w2, b2 = (
            p - 0.1 * (g + 0.01 * p) for p, g in zip((w1, b1, w2, b2), grads, strict=True)
        )
    out = np.maximum(x_test @ w1 + b1, 0) @ w2[:, 0] + b2[0]
    return losses, (w1, b1, w2, b2), np.maximum(1 - y_test * out, 0).mean(), (out * y_test > 0)


def test_training_agrees_with_numpy_step_by_step():
    result = run([3])
    losses, weights, eval_loss, right = numpy_run(3, 24)
    recorded = result.dataset.sel(seed=3)
    np.testing.assert_allclose(
        recorded.train_loss, np.reshape(losses, (6, 4)).mean(axis=1), rtol=1e-5
    )
    np.testing.assert_allclose(recorded.eval_loss[-1], eval_loss, rtol=1e-5)
    np.testing.assert_allclose(recorded.eval_accuracy[-1], right.mean(), rtol=1e-6)
    layers = result.params["params"]
    for ours, theirs in zip(
        (layers[n][k][0] for n in ("Dense_0", "Dense_1") for k in ("kernel", "bias")),
        weights,
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_seed_alone_starts_and_walks_as_in_a_batch():
    """Weights, data and order of seed 7 to the bit; its losses within rounding."""
    trainer = make_trainer(parities_task(CONFIG), OPTIMIZER, 16, 4)
    keys = make_streams(range(9)), make_streams([7])
    together, alone = (trainer.init(key).seeds for key in keys)
    jax.tree.map(
        lambda many, one: np.testing.assert_array_equal(many[7], one[0]),
        together.model.params,
        alone.model.params,
    )

    @jax.jit
    @jax.vmap
    def draw(key):
        return make_data(CONFIG, key.data), batch_rows(key.order, 0, 4, 50, 16)

    drawn = [draw(key) for key in keys]
    jax.tree.map(lambda many, one: np.testing.assert_array_equal(many[7], one[0]), *drawn)
    first, second = run(range(9)).dataset.sel(seed=7), run([7]).dataset.sel(seed=7)
    np.testing.assert_allclose(first.train_loss, second.train_loss, rtol=1e-5)
    np.testing.assert_allclose(first.eval_loss, second.eval_loss, rtol=1e-5)


def test_the_training_step_is_traced_and_compiled_once(tmp_path, caplog):
    """For a whole training, its last and shorter chunk and its save points included."""
    traces = []
    task = parities_task(CONFIG)

    def score(params, batch):
        traces.append(batch[1].shape)
        return task.score(params, batch)

    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        train(
            task._replace(score=score),
            OPTIMIZER,
            range(5),
            batch_size=16,
            steps=44,
            record_every=4,
            seeds_at_once=5,
            saving=Saving(tmp_path, save_seconds=0.05),
        )
    # By shape alone when the task is checked, then once in the training step (16 rows) and once in
    # the evaluation (20 test rows).
    assert traces == [(16,), (16,), (20,)]
    compiled = [r.getMessage() for r in caplog.records if "Finished XLA comp" in r.getMessage()]
    assert sum("advance" in message for message in compiled) == 1


def test_streams_hold_what_is_not_varied():
    varied = make_streams([0, 1, 2], vary=("init",))
    bits = [jax.random.key_data(key) for key in varied]
    assert len(np.unique(bits[0], axis=0)) == 3
    assert len(np.unique(bits[1], axis=0)) == len(np.unique(bits[2], axis=0)) == 1
    alone = make_streams([2], vary=("init",))
    np.testing.assert_array_equal(jax.random.key_data(alone.init)[0], bits[0][2])
    with pytest.raises(ValueError, match="'kernels'"):
        make_streams([0], vary=("kernels",))


def explosive_task():
    """Two weights that grow without bound for odd seeds, and stay put for even ones."""

    def init(key):
        odd = jax.random.bits(key) % 2
        return {"Dense_0": {"kernel": jnp.full((1, 1), 1.0 + odd), "bias": jnp.zeros(1)}}

    def score(params, batch):
        weight = params["Dense_0"]["kernel"][0, 0]
        loss = jnp.where(weight > 1.5, -(weight**3), 0.0) * jnp.ones(batch.shape[0])
        return loss, jnp.zeros(batch.shape[0])

    data = Data(jnp.zeros(4), jnp.zeros(4))
    return Task(init=init, make_data=lambda key: data, score=score, num_train=4)


def test_a_diverged_seed_is_frozen_and_costs_the_others_nothing():
    options = {"batch_size": 4, "steps": 12, "record_every": 2, "seeds_at_once": 8}
    keys = make_streams(range(8)).init
    odd = np.asarray(jax.vmap(jax.random.bits)(keys)) % 2 == 1
    assert 0 < odd.sum() < 8
    result = train(explosive_task(), optax.sgd(1.0), range(8), **options)
    np.testing.assert_array_equal(result.diverged >= 0, odd)
    assert np.isfinite(result.params["Dense_0"]["kernel"]).all()
    losses = result.dataset.train_loss.values
    assert np.isfinite(losses[~odd]).all()
    for row, step in zip(losses[odd], result.diverged[odd], strict=True):
        finite = np.isfinite(row)
        # Finite up to the record before the one at which it was seen to diverge, then not.
        assert finite.sum() == step // 2 - 1
        assert not finite[step // 2 - 1 :].any()


def test_dataset_has_a_row_per_seed_and_a_column_per_record():
    dataset = run([4, 9], steps=8).dataset
    assert dict(dataset.sizes) == {"seed": 2, "step": 2}
    assert dataset.seed.values.tolist() == [4, 9]
    assert dataset.step.values.tolist() == [4, 8]
    assert dataset.epoch.values.tolist() == [1.0, 2.0]
    assert set(OUTCOMES) < set(dataset.data_vars)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": []}, "seeds: none"),
        ({"seeds": [1, 1]}, "stands twice"),
        ({"seeds": [-1]}, "between 0"),
        ({"steps": 5}, "multiple of record_every"),
        ({"record_every": 0}, "record_every is 0"),
        ({"batch_size": 51}, "batch_size is 51"),
        ({"seeds": 3}, r"seeds is 3; .*range\(40\)"),
        ({"seeds": [0.5]}, "0.5 is not a whole number"),
        ({"seeds": [2**32]}, "between 0 and"),
        ({"replicas": Replicas(vary="init")}, r"\('init',\)"),
        ({"metrics": lambda params: {"train_loss": 0.0}}, "'train_loss' is the name"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    arguments = {"seeds": [0], "steps": 4, "record_every": 4, "batch_size": 16} | options
    with pytest.raises(ValueError, match=message):
        train(parities_task(CONFIG), OPTIMIZER, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_train": 49}, r"num_train is 49, .* \[50\]"),
        (
            {"score": lambda params, batch: (batch[1][:, None], batch[1])},
            r"loss of shape \(16, 1\)",
        ),
        ({"score": lambda params, batch: (batch[1], batch[1].mean())}, r"correct of shape \(\)"),
    ],
)
def test_a_task_whose_parts_do_not_fit_is_refused(change, message):
    """A loss [batch, 1] would broadcast against the weights and be wrong without a word."""
    with pytest.raises(ValueError, match=message):
        make_trainer(parities_task(CONFIG)._replace(**change), OPTIMIZER, 16, 4)
