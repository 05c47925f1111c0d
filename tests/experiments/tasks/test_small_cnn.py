"""The small network against PyTorch, its parameter counts, its learning rate and its flags."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.experiments import load_experiment
from seedmap.experiments.tasks.cifar import augment
from seedmap.experiments.tasks.small_cnn import PAPER, QUICK, SmallCNN, falling_rate, setup
from seedmap.trainer import Noise
from seedmap.trainer.task import init_model

torch = pytest.importorskip("torch")


def make(batch_norm, classes=7):
    """A network with weights and statistics of no special value, and a few images."""
    model = SmallCNN(classes, batch_norm)
    x = np.random.default_rng(0).normal(size=(5, 32, 32, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return rng.normal(0, 0.3, leaf.shape).astype(np.float32)

    return model, jax.tree_util.tree_map_with_path(draw, shapes), x


def by_torch(variables, x, train, there=None):
    """Logits by torch's functions; in training by the statistics of the images that are there."""
    params = jax.tree.map(torch.tensor, variables["params"])
    stats = jax.tree.map(torch.tensor, variables.get("batch_stats", {}))
    h = torch.tensor(x)[slice(None) if there is None else there].permute(0, 3, 1, 2)
    for i in range(3):
        layer = params[f"Convolution_{i}"]
        h = torch.nn.functional.conv2d(h, layer["kernel"].permute(3, 2, 0, 1), layer["bias"], 1, 1)
        if stats:
            norm, running = params[f"BatchNorm_{i}"], stats[f"BatchNorm_{i}"]
            own = (None, None) if train else (running["mean"], running["var"])
            h = torch.nn.functional.batch_norm(
                h, *own, norm["scale"], norm["bias"], training=train, eps=1e-3
            )
        h = torch.nn.functional.max_pool2d(h.relu(), 2)
    h = h.mean((2, 3)) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    return (h.relu() @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]).numpy()


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_network_agrees_with_torch(batch_norm):
    model, variables, x = make(batch_norm)
    there = np.array([True, True, False, True, False])
    evaluated = model.apply(variables, x, train=False)
    np.testing.assert_allclose(evaluated, by_torch(variables, x, False), rtol=2e-4, atol=1e-4)
    trained, changed = model.apply(variables, x, True, jnp.asarray(there), mutable=["batch_stats"])
    expected = by_torch(variables, x, batch_norm, there)
    np.testing.assert_allclose(trained[there], expected, rtol=2e-4, atol=1e-4)
    assert set(changed.get("batch_stats", {})) == set(variables.get("batch_stats", {}))


@pytest.mark.parametrize(
    ("classes", "batch_norm", "count"),
    [(10, False, 15_722), (10, True, 15_882), (100, False, 18_692), (100, True, 18_852)],
)
def test_parameters_are_as_many_as_the_layers_have(classes, batch_norm, count):
    sizes = [(27, 16), (144, 32), (288, 32), (32, 32), (32, classes)]
    assert sum((inputs + 1) * outputs for inputs, outputs in sizes) + 160 * batch_norm == count
    _, variables, _ = make(batch_norm, classes)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count


def test_the_rate_falls_at_epochs_50_and_100_of_200():
    per_epoch = 391
    rate = falling_rate(4e-4, 200 * per_epoch)
    for epoch, expected in ((0, 4e-4), (49, 4e-4), (50, 4e-5), (99, 4e-5), (100, 4e-6)):
        for step in (epoch * per_epoch, (epoch + 1) * per_epoch - 1):
            np.testing.assert_allclose(rate(jnp.int32(step)), expected, rtol=1e-6)


def test_the_paper_preset_states_the_papers_settings():
    config = load_experiment("smallcnn").presets["paper"].training
    assert config == PAPER
    assert (config.learning_rate, config.batch_size, config.epochs) == (4e-4, 128, 200)
    assert (config.weight_decay, config.batch_norm, config.augment) == (0.0, True, True)


def test_the_first_step_is_adams():
    """Each parameter moves by the rate against the sign of its gradient, without decay."""
    made = setup(replace(QUICK, learning_rate=0.5))
    params = {"a": jnp.array([3.0, -2.0])}
    gradient = {"a": jnp.array([0.1, -7.0])}
    updates, _ = made.optimizer.update(gradient, made.optimizer.init(params), params)
    np.testing.assert_allclose(updates["a"], [-0.5, 0.5], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("augmented", [True, False])
def test_images_are_augmented_where_asked(augmented):
    made = setup(replace(QUICK, augment=augmented, batch_norm=False, train_size=10))
    model = init_model(made.task, jax.random.key(0))
    batch = made.task.pool.train
    noise = Noise(*jax.random.split(jax.random.key(1)))
    found = made.task.train_score(model, batch, noise)[0]
    images = augment(noise.augment, batch[0]) if augmented else batch[0]
    np.testing.assert_allclose(found, made.task.score(model, (images, batch[1]))[0], rtol=1e-4)


def test_a_network_for_cifar_100_has_its_classes():
    made = setup(replace(QUICK, num_classes=100, train_size=200))
    model = jax.eval_shape(lambda: init_model(made.task, jax.random.key(0)))
    assert model.params["Dense_1"]["bias"].shape == (100,)
    assert made.task.pool.train[1].max() == 99
