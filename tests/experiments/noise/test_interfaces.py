"""What studies of noise ask of every experiment: `classify`, and draws that follow the examples."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.experiments import EXPERIMENTS, load_experiment
from seedmap.experiments.networks.logits import score_logits
from seedmap.experiments.tasks.sparse_parities import ParitiesConfig, parities_task
from seedmap.trainer import Noise
from seedmap.trainer.task import as_model, draw_data, init_model

NO_CLASSES = {"mlm"}  # a row has many tokens to tell
NOT_NEW = {"modular-stabilised", "cifar10-destabilised", "cifar100", "cifar100-destabilised"}
NOT_NEW |= {"celeba", "cifar10"}  # `image_task` as smallcnn, with a network that compiles slowly
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name in NOT_NEW else ())
    for name in EXPERIMENTS
    if name not in NO_CLASSES
]


def quick(name, **changes):
    """Setup, model and data of an experiment's quick preset, made cheap where it is not."""
    config = load_experiment(name).presets["quick"].training
    made = load_experiment(name).setup(replace(config, **changes))
    init, data = jax.random.split(jax.random.key(3))
    variables = jax.jit(lambda key: init_model(made.task, key))(init)
    return made, variables, draw_data(made.task, data, made.task.pool)


def agrees(task, model, batch, hinge=False):
    """Predicted right is what `score` calls so; so are the losses, but for the hinge."""
    logits, label = task.classify(model, batch)
    assert logits.shape == (len(label), logits.shape[1])
    assert jnp.issubdtype(label.dtype, jnp.integer)
    loss, right = score_logits(logits, label)
    expected, expected_right = task.score(model, batch)
    np.testing.assert_array_equal(right, expected_right)
    if not hinge:
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
    return right


@pytest.mark.parametrize("name", NAMES)
def test_the_class_with_the_largest_logit_is_what_score_calls_right(name):
    made, variables, data = quick(name)
    right = agrees(made.task, as_model(variables), data.test, hinge=name == "parities")
    assert right.mean() < 1
    for group in made.groups.values():
        assert group.shape == right.shape
        assert group.dtype == bool


def test_lenet_classifies_as_it_scores():
    made, variables, data = quick("mnist", model="lenet5")
    agrees(made.task, as_model(variables), jax.tree.map(lambda leaf: leaf[:50], data.test))


def test_an_output_of_0_is_wrong_by_either_label():
    task = parities_task(ParitiesConfig(hidden=2, bits=3, train_size=1, test_size=1))
    params = jax.tree.map(jnp.zeros_like, task.init(jax.random.key(0)))
    right = agrees(task, params, (jnp.ones((2, 3)), jnp.array([1.0, -1.0])), hinge=True)
    np.testing.assert_array_equal(right, [0, 0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smallcnn", "mlm"])
def test_another_order_in_a_batch_changes_no_examples_loss(name):
    """Crops, flips, hidden tokens and dropout are drawn for the example, wherever it stands."""
    changes = {"dropout": 0.3} if name == "mlm" else {}
    made, variables, data = quick(name, **changes)
    batch = jax.tree.map(lambda leaf: leaf[:12], data.train)
    place = jnp.asarray(np.random.default_rng(0).permutation(12), jnp.int32)
    noise = Noise(*jax.random.split(jax.random.key(1)), there=jnp.ones(12, bool))

    @jax.jit
    def losses(batch, noise):
        return made.task.train_score(as_model(variables), batch, noise)[0]

    moved = jax.tree.map(lambda leaf: leaf[place], batch)
    drawn = losses(batch, noise)
    followed = losses(moved, noise._replace(place=place))
    np.testing.assert_allclose(followed, drawn[place], rtol=1e-4, atol=1e-5)
    by_place = losses(moved, noise)  # what the noise does where it does not follow
    assert np.abs(by_place - drawn[place]).max() > 1e-3
