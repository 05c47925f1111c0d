"""Networks of `seedmap overhead`: published sizes, and a step that is Adam on cross-entropy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.experiments.overhead.networks import (
    KERNEL_SIZES,
    NETWORKS,
    SIX_LAYERS,
    Network,
    build,
    count,
    draw,
    num_parameters,
    usual_image_size,
    usual_networks,
)
from seedmap.experiments.overhead.step import make_step, random_batch, side_by_side, start

OF_KERAS = [network for network in NETWORKS.values() if network.keras_name]


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Keras on JAX, with nobody's settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        yield pytest.importorskip("keras")


# Networks


@pytest.mark.parametrize("network", OF_KERAS, ids=lambda network: network.name)
def test_keras_networks_have_the_published_numbers_of_parameters(keras, network):
    model = build(network, network.image_size)
    assert num_parameters(model) == network.num_parameters


def test_nothing_is_left_of_the_build_without_values(keras):
    model = build(NETWORKS["efficientnetb0"], 32)  # which standardises its images
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    kept = jax.make_jaxpr(model.apply)(model.params, model.state, images).consts
    assert kept
    assert not any(isinstance(value, jax.core.Tracer) for value in kept)


def test_own_networks_have_the_numbers_of_parameters_that_their_layers_have():
    def trained(name):
        return count(build(NETWORKS[name], 32).params)

    assert trained("resnet18") == 11_173_962  # github.com/kuangliu/pytorch-cifar
    assert trained("smallcnn") == 448 + 4_640 + 9_248 + 33 * 32 + 33 * 10
    assert trained("smallcnn-bn") == trained("smallcnn") + 2 * (16 + 32 + 32)
    for size in KERNEL_SIZES:
        inputs = (3, *SIX_LAYERS[:-1])
        kernels = sum(size**2 * a * b for a, b in zip(inputs, SIX_LAYERS, strict=True))
        assert trained(f"six-layer-{size}") == kernels + 2 * sum(SIX_LAYERS) + 513 * 10


def test_the_papers_networks_are_there():
    assert len(usual_networks("gpu")) == 17
    assert {n.name for n in OF_KERAS} < set(usual_networks("gpu"))
    assert not {n.name for n in OF_KERAS} & set(usual_networks("cpu"))
    assert usual_image_size(NETWORKS["six-layer-3"], "gpu") == 224
    assert usual_image_size(NETWORKS["six-layer-3"], "cpu") == 32
    assert usual_image_size(NETWORKS["vgg16"], "cpu") == 224
    assert usual_image_size(NETWORKS["smallcnn"], "gpu") == 32


@pytest.mark.parametrize(
    ("size", "rows"),
    [(16, [16, 8, 4, 2, 1, 1]), (32, [32, 16, 8, 4, 2, 1]), (224, [224, 112, 56, 28, 14, 7])],
)
def test_the_six_layer_network_pools_while_there_is_something_to_pool(size, rows):
    module = NETWORKS["six-layer-3"].module
    of_norms = {"capture_intermediates": lambda layer, _: isinstance(layer, nn.BatchNorm)}

    def run(x):
        return module.init_with_output(jax.random.key(0), x, True, **of_norms)

    logits, variables = jax.eval_shape(run, jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32))
    shapes = [leaf.shape for leaf in jax.tree.leaves(variables["intermediates"])]
    assert shapes == [(2, r, r, c) for r, c in zip(rows, SIX_LAYERS, strict=True)]
    assert logits.shape == (2, 10)


def test_keras_on_another_backend_is_refused(keras, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="Keras runs on torch; set KERAS_BACKEND=jax"):
        build(NETWORKS["mobilenet"], 224)


# The step


class Linear(nn.Module):
    """Softmax regression."""

    @nn.compact
    def __call__(self, x_BxHxWxC, train, there_B=None):
        return nn.Dense(3, use_bias=False)(x_BxHxWxC.reshape(len(x_BxHxWxC), -1))


LINEAR = Network("linear", num_classes=3, image_size=2, module=Linear())


class Normed(nn.Module):
    """Batch norm, then softmax regression."""

    @nn.compact
    def __call__(self, x_BxHxWxC, train, there_B=None):
        normed = nn.BatchNorm(use_running_average=not train)(x_BxHxWxC)
        return nn.Dense(3)(normed.reshape(len(normed), -1))


def test_step_is_adam_on_the_cross_entropy():
    model = build(LINEAR, 2)
    x, labels = random_batch(5, 2, 3)
    state = start(model, None)
    kernel = np.asarray(state.params["Dense_0"]["kernel"], np.float64)
    after, loss = make_step(model)(state, x, labels)

    flat = np.asarray(x, np.float64).reshape(5, -1)
    exponentials = np.exp(flat @ kernel)
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    right = np.eye(3)[np.asarray(labels)]
    gradient = flat.T @ (probabilities - right) / 5
    first_adam = -4e-4 * gradient / (np.abs(gradient) + 1e-8)
    assert float(loss) == pytest.approx(-np.log((probabilities * right).sum(1)).mean(), rel=1e-5)
    moved = np.asarray(after.params["Dense_0"]["kernel"], np.float64) - kernel
    np.testing.assert_allclose(moved, first_adam, rtol=1e-3)


def test_seeds_side_by_side_do_what_each_does_alone():
    model = build(Network("normed", num_classes=3, module=Normed()), 4)
    batch = random_batch(4, 4, 3)
    state = start(model, 2)
    together, losses = jax.jit(side_by_side(make_step(model)))(state, *batch)
    alone = jax.jit(make_step(model))
    for seed in range(2):
        own, loss = alone(jax.tree.map(lambda leaf, seed=seed: leaf[seed], state), *batch)
        assert float(losses[seed]) == pytest.approx(float(loss), rel=1e-5)
        statistics = jax.tree.leaves(own.state)
        of_seed = jax.tree.leaves(jax.tree.map(lambda leaf, seed=seed: leaf[seed], together.state))
        for ours, theirs in zip(of_seed, statistics, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert losses[0] != losses[1]


def test_weights_are_drawn_by_what_they_are():
    shapes = {
        "conv/kernel": jax.ShapeDtypeStruct((3, 3, 16, 200), jnp.float32),
        "norm/gamma": jax.ShapeDtypeStruct((4,), jnp.float32),
        "norm/beta": jax.ShapeDtypeStruct((4,), jnp.float32),
        "seed_generator_state": jax.ShapeDtypeStruct((2,), jnp.uint32),
    }
    drawn = draw(shapes, 2, np.random.default_rng(0))
    assert {name: leaf.dtype for name, leaf in drawn.items()} == {
        name: shape.dtype for name, shape in shapes.items()
    }
    assert drawn["conv/kernel"].shape == (2, 3, 3, 16, 200)
    assert float(drawn["conv/kernel"].std()) == pytest.approx((2 / 144) ** 0.5, rel=0.02)
    assert jnp.all(drawn["norm/gamma"] == 1)
    assert jnp.all(drawn["norm/beta"] == 0)


@pytest.fixture
def small_keras(keras, monkeypatch):
    """A network of Keras's with batch norm and dropout, small."""

    def small(weights, input_shape, classes, classifier_activation):
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input(input_shape),
                layers.Conv2D(4, 3),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dropout(0.5),
                layers.Dense(classes, activation=classifier_activation),
            ]
        )

    monkeypatch.setattr(keras.applications, "Small", small, raising=False)
    return Network("small", num_classes=3, image_size=6, keras_name="Small")


def test_keras_networks_hand_on_statistics_and_the_state_of_dropout(small_keras):
    model = build(small_keras, 6)
    batch = random_batch(16, 6, 3)
    state = start(model, None)
    step = jax.jit(make_step(model))
    after, first = step(state, *batch)
    changed = {path: not np.array_equal(after.state[path], state.state[path]) for path in after[1]}
    assert len(changed) == 3
    assert all(changed.values()), changed
    for _ in range(200):
        after, loss = step(after, *batch)
    assert float(loss) < 0.8 * float(first)


def test_bfloat16_is_that_of_forward_and_backward_pass_alone(small_keras):
    for network in (small_keras, NETWORKS["smallcnn-bn"]):
        images = jnp.zeros((2, 8, 8, 3))
        for bfloat16, dtype in ((False, jnp.float32), (True, jnp.bfloat16)):
            model = build(network, 8, bfloat16)
            logits, state = jax.eval_shape(model.apply, model.params, model.state, images)
            assert logits.dtype == dtype
            floats = [leaf.dtype for leaf in jax.tree.leaves((model.params, state))]
            assert set(floats) <= {jnp.dtype("float32"), jnp.dtype("uint32")}
