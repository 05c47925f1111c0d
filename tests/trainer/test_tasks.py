"""What a task may bring: a model state, masks, shared data, hyperparameters of its own, metrics."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seedmap.experiments.tasks.sparse_parities import ParitiesConfig, parities_task
from seedmap.trainer import Data, Replicas, Task, Variables, grid, make_streams, make_trainer, train
from seedmap.trainer.order import batch_rows
from seedmap.trainer.step import evaluate
from seedmap.trainer.streams import Streams
from seedmap.trainer.task import Noise

POOL = jax.random.normal(jax.random.key(9), (60, 5))


def no_metrics(params):
    """Losses and accuracies alone: the programs compile in a third of the time."""
    return {}


rows_of_batches = jax.jit(batch_rows, static_argnums=(2, 3, 4))

SIZES = {"batch_size": 12, "steps": 12, "record_every": 4, "seeds_at_once": 8}
SIZES |= {"metrics": no_metrics}


class Net(nn.Module):
    """Batch norm and dropout, so that training and evaluation differ."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(8)(x))
        return nn.Dense(1)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x)))[:, 0]


NET = Net()


def init(key):
    variables = NET.init(key, POOL[:1], train=False)
    return Variables(variables["params"], variables["batch_stats"])


def make_data(key, pool):
    """A random half of the pool to train on: the `data` stream is a split."""
    rows = jax.random.permutation(key, 60)
    label = jnp.sign(pool[:, 0] + pool[:, 1])
    return Data(*((pool[part], label[part]) for part in (rows[:36], rows[36:])))


def loss(out, y):
    return (out - y) ** 2, (out * y > 0).astype(jnp.float32)


def score(model, batch):
    variables = {"params": model.params, "batch_stats": model.state}
    return loss(NET.apply(variables, batch[0], train=False), batch[1])


def train_score(model, batch, noise):
    x = batch[0] + 0.1 * jax.random.normal(noise.augment, batch[0].shape)
    variables = {"params": model.params, "batch_stats": model.state}
    out, changed = NET.apply(
        variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": noise.dropout}
    )
    return *loss(out, batch[1]), changed["batch_stats"]


TASK = Task(init, make_data, score, 36, train_score, pool=POOL)


@jax.jit
def begin_by_hand(keys, scale):
    """Data, and the model before its first step."""
    model = init(keys.init)
    scaled = jax.tree.map(lambda leaf: scale * leaf, model.params)
    return make_data(keys.data, POOL), model._replace(params=scaled)


@jax.jit
def step_by_hand(model, data, keys, step, rate):
    rows = batch_rows(keys.order, step, 1, 36, 12)[0]
    batch = jax.tree.map(lambda leaf: leaf[rows], data.train)
    noise = Noise(*(jax.random.fold_in(key, step) for key in (keys.augment, keys.dropout)))

    def mean_loss(params):
        losses, _, stats = train_score(Variables(params, model.state), batch, noise)
        return losses.mean(), stats

    grads, stats = jax.grad(mean_loss, has_aux=True)(model.params)
    return Variables(jax.tree.map(lambda p, g: p - rate * g, model.params, grads), stats)


def by_hand(seed, steps, rate, scale=1.0):
    """The same training written as a plain loop over one seed, by gradient descent."""
    keys = jax.tree.map(lambda keys: keys[0], make_streams([seed]))
    data, model = begin_by_hand(keys, scale)
    for step in range(steps):
        model = step_by_hand(model, data, keys, jnp.int32(step), rate)
    return *model, jax.jit(score)(model, data.test)[0].mean()


def assert_by_hand(run, i, expected):
    """Parameters, statistics and evaluation of one of the seeds."""
    *model, eval_loss = expected
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[i], b, rtol=2e-4, atol=2e-6),
        [run.params, run.state],
        model,
    )
    np.testing.assert_allclose(run.dataset.eval_loss[i, -1], eval_loss, rtol=1e-4)


def test_batch_norm_dropout_and_augmentation_as_in_a_plain_loop():
    run = train(TASK, optax.sgd(0.05), [3, 5], **SIZES)
    assert_by_hand(run, 1, by_hand(5, 12, 0.05))
    assert not np.allclose(run.state["BatchNorm_0"]["mean"], 0)


def test_rows_that_fill_up_an_epochs_last_batch_are_no_part_of_its_statistics():
    norm = nn.BatchNorm(use_running_average=False, momentum=0.9)
    x = np.asarray(POOL[:10, :2]) + 3

    def init(key):
        return Variables(jnp.zeros(2), norm.init(key, x)["batch_stats"])

    def score(model, batch):
        return jnp.sum(batch * model.params, axis=1), jnp.zeros(len(batch))

    def train_score(model, batch, noise):
        tree = {"params": {"scale": jnp.ones(2), "bias": jnp.zeros(2)}, "batch_stats": model.state}
        out, changed = norm.apply(tree, batch, mask=noise.there[:, None], mutable=["batch_stats"])
        weighted = jnp.sum(out**2 * model.params, axis=1)
        return weighted, jnp.zeros(len(batch)), changed["batch_stats"]

    task = Task(init, lambda key: Data(x, x[:1]), score, 10, train_score)
    sizes = SIZES | {"batch_size": 4, "steps": 3, "record_every": 3}
    run = train(task, optax.sgd(0.1), [0], replicas=Replicas(vary=()), **sizes)
    order = make_streams([0], vary=()).order[0]
    mean = np.zeros(2)
    for rows in rows_of_batches(order, 0, 3, 10, 4):  # of 4, 4 and 2 examples
        mean = 0.9 * mean + 0.1 * x[[row for row in np.asarray(rows) if row >= 0]].mean(0)
    np.testing.assert_allclose(run.state["mean"][0], mean, rtol=1e-6)


def test_each_stream_alone_makes_seeds_differ():
    """Three seeds for each, all in one program; of one stream also by its name."""
    optimizer = optax.sgd(0.1)
    of_each = [make_streams(range(3), vary=(name,)) for name in Streams._fields]
    streams = jax.tree.map(lambda *keys: jnp.concatenate(keys), *of_each)
    run = train(TASK, optimizer, range(15), replicas=Replicas(streams=streams), **SIZES)
    named = train(TASK, optimizer, range(3), replicas=Replicas(vary=("init",)), **SIZES)
    kernels = run.params["Dense_0"]["kernel"].reshape(5, 3, 5, 8)
    for kernel in (*kernels, named.params["Dense_0"]["kernel"]):
        assert not np.array_equal(kernel[0], kernel[1])
        assert not np.array_equal(kernel[1], kernel[2])


def test_without_a_stream_to_vary_seeds_are_equal_to_the_bit():
    run = train(TASK, optax.sgd(0.1), range(3), replicas=Replicas(vary=()), **SIZES)
    for leaf in jax.tree.leaves((run.params, run.state)):
        np.testing.assert_array_equal(leaf[0], leaf[1])
        np.testing.assert_array_equal(leaf[0], leaf[2])


def test_a_grid_of_hyperparameters_is_one_program_with_a_run_for_each():
    seeds, hyper = grid([4, 7], learning_rate=[0.01, 0.1], init_scale=[0.5, 2.0])
    assert len(seeds) == 8
    run = train(
        TASK,
        lambda h: optax.sgd(h["learning_rate"]),
        seeds,
        replicas=Replicas(hyperparameters=hyper),
        **SIZES,
    )
    assert run.dataset.learning_rate.values.tolist() == hyper["learning_rate"]
    for i, seed in enumerate(seeds):
        rate, scale = hyper["learning_rate"][i], hyper["init_scale"][i]
        assert_by_hand(run, i, by_hand(seed, 12, rate, scale))


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"learning_rate": [0.1]}, r"learning_rate has shape \(1,\)"),
        ({"learning_rate": [0.1, np.nan]}, "not finite"),
        ({"learning_rate": [0.1, 0.1]}, "stands twice"),
    ],
)
def test_hyperparameters_that_do_not_fit_are_refused(hyper, message):
    with pytest.raises(ValueError, match=message):
        train(
            TASK,
            lambda h: optax.sgd(h["learning_rate"]),
            [1, 1],
            replicas=Replicas(hyperparameters=hyper),
            **SIZES,
        )


def test_groups_change_nothing_but_rounding():
    together = train(TASK, optax.sgd(0.1), range(7), **SIZES)
    for size in (1, 3):
        groups = train(TASK, optax.sgd(0.1), range(7), **SIZES | {"seeds_at_once": size})
        for name in together.dataset:
            np.testing.assert_allclose(
                groups.dataset[name], together.dataset[name], rtol=1e-3, atol=1e-5, err_msg=name
            )


def test_evaluation_in_pieces_is_that_of_the_whole():
    model = jax.jit(init)(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2500, 5))
    examples = (x, jnp.sign(x[:, 0]))
    losses, correct = jax.jit(score)(model, examples)
    whole = np.asarray(losses, float).mean(), np.asarray(correct, float).mean()
    np.testing.assert_allclose(jax.jit(partial(evaluate, TASK))(model, examples), whole, rtol=1e-6)


CONFIG = ParitiesConfig(hidden=32, bits=5, parity_bits=1, train_size=64, test_size=50)
EASY = {"batch_size": 16, "steps": 48, "record_every": 4, "threshold": 0.8, "seeds_at_once": 6}
EASY |= {"metrics": no_metrics}


def easy(**options):
    optimizer = optax.sgd(0.05)
    return train(parities_task(CONFIG), optimizer, range(6), **EASY | options)


def test_early_stops_leave_what_was_recorded_before():
    never, each, all_ = (easy(early_stop=stop) for stop in ("never", "each", "all"))
    assert (never.converged > 0).all()
    assert len(set(never.converged)) > 1
    np.testing.assert_array_equal(never.converged, each.converged)
    last = never.converged.max()
    assert all_.dataset.step[-1] == last == each.dataset.step[-1]
    for name in never.dataset:
        before = never.dataset[name].sel(step=slice(None, last)).values
        np.testing.assert_array_equal(all_.dataset[name], before)
        for i, stop in enumerate(never.converged):
            kept = stop // 4
            np.testing.assert_array_equal(each.dataset[name][i, :kept], before[i, :kept])
            assert np.isnan(each.dataset[name][i, kept:]).all()
    assert (each.diverged == -1).all()


def test_a_seed_that_stopped_keeps_the_parameters_it_stopped_with():
    each = easy(early_stop="each")
    first = int(each.converged.min())
    seed = int(np.argmin(each.converged))
    short = easy(steps=first)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a[seed], b[seed]), each.params, short.params
    )


def test_groups_that_rest_change_nothing():
    whole, groups = (easy(early_stop="each", seeds_at_once=size) for size in (6, 2))
    np.testing.assert_array_equal(whole.converged, groups.converged)
    np.testing.assert_allclose(whole.dataset.eval_loss, groups.dataset.eval_loss, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"early_stop": "soon"}, "'soon' is unknown"),
        ({"early_stop": "each", "threshold": None}, "needs a threshold"),
        ({"precision": "half"}, "'half' is unknown"),
        ({"seeds_at_once": 0}, "seeds_at_once is 0"),
        ({"metrics": lambda weights: {}}, "needs 'weights'; .* params, initial, batch"),
        ({"metrics": [lambda params: {"a": 1.0}] * 2}, "'a' is given by two"),
        ({"metrics": lambda params: 1.0}, "gives float; give a dict"),
        ({"metrics": lambda params: {"a": jnp.zeros(3)}}, r"'a' of .* has shape \(3,\)"),
        ({"metrics": lambda params: {"step": 1.0}}, "'step' of .* cannot be"),
        ({"replicas": Replicas(hyperparameters={"rate": [0.1] * 6})}, "nothing reads rate"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        easy(**options)


def test_a_state_that_changes_its_shape_is_refused():
    bad = TASK._replace(train_score=lambda model, batch, noise: (*score(model, batch), {}))
    with pytest.raises(ValueError, match="gives a state of"):
        make_trainer(bad, optax.sgd(0.1), 12, 4)


def test_metrics_see_the_coming_step():
    """batch, grads and updates at a record are those of the step that follows it."""

    def mine(params, grads, updates, batch, loss, initial):
        def norm(tree):
            return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))

        difference = jax.tree.map(jnp.subtract, params, initial)
        return {
            "gradient": norm(grads),
            "update": norm(updates),
            "moved": norm(difference),
            "here": loss(params),
            "first_label": batch[1][0],
        }

    task, optimizer = parities_task(CONFIG), optax.sgd(0.05)
    sizes = {"batch_size": 16, "record_every": 1, "metrics": mine, "seeds_at_once": 1}
    runs = [train(task, optimizer, [2], steps=steps, **sizes) for steps in (5, 6)]
    before, after = (run.params["params"] for run in runs)
    at = {name: float(runs[0].dataset[name][0, -1]) for name in runs[0].dataset}
    keys = jax.tree.map(lambda keys: keys[0], make_streams([2]))
    data = jax.jit(task.make_data)(keys.data)
    rows = rows_of_batches(keys.order, 5, 1, 64, 16)[0]
    batch = jax.tree.map(lambda leaf: leaf[rows], data.train)
    params = jax.tree.map(lambda leaf: leaf[0], {"params": before})

    @jax.jit
    def mean_loss(params):
        return task.score(params, batch)[0].mean()

    def norm(tree):
        return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))

    step = jax.tree.map(np.subtract, after, before)
    start = jax.jit(task.init)(keys.init)
    np.testing.assert_allclose(at["gradient"], norm(jax.grad(mean_loss)(params)), rtol=1e-5)
    np.testing.assert_allclose(at["update"], norm(step), rtol=1e-4)
    np.testing.assert_allclose(
        at["moved"], norm(jax.tree.map(np.subtract, params, start)), rtol=1e-5
    )
    np.testing.assert_allclose(at["here"], mean_loss(params), rtol=1e-5)
    assert at["first_label"] == batch[1][0]
    np.testing.assert_allclose(runs[1].dataset.train_loss[0, -1], at["here"], rtol=1e-5)
