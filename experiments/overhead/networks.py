"""The networks whose training steps are timed, each under one interface.

The small ones are flax modules of this project; the rest are those of Keras 3 on JAX
(`keras.applications`), which has the list of Zhuang et al. (2022), as pure functions through
`stateless_call`.
"""

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.networks.convolution import max_pool
from seedmap.experiments.networks.resnet import Convolution, ResNet18
from seedmap.experiments.tasks.small_cnn import SmallCNN

CIFAR_SIZE, IMAGENET_SIZE = 32, 224
CIFAR_CLASSES, IMAGENET_CLASSES = 10, 1000
SIX_LAYERS = (16, 32, 64, 128, 256, 512)
KERNEL_SIZES = (1, 3, 5, 7)

Shapes = Any  # pytree of jax.ShapeDtypeStruct
Arrays = Any  # pytree of arrays


class SixLayerCNN(nn.Module):
    """Six times convolution, batch norm, ReLU, 2x2 max pool; mean over the image; dense layer.

    With k x k kernels and 16, 32, 64, 128, 256 and 512 channels: the network of Zhuang et al.
    (2022) for what the kernel size does to the cost of determinism. A pool that would leave nothing
    of the image (the last one, of images below 64x64) is left out.

    Attributes:
        num_classes: length of the logits.
        kernel_size: k.
    """

    num_classes: int
    kernel_size: int = 3

    @nn.compact
    def __call__(
        self, x_BxHxWxC: jax.Array, train: bool, there_B: jax.Array | None = None
    ) -> jax.Array:
        """Computes logits [B, num_classes]; if `train`, by statistics of examples `there_B`."""
        mask = None if there_B is None else there_B[:, None, None, None]
        for channels in SIX_LAYERS:
            x_BxHxWxC = Convolution(channels, self.kernel_size)(x_BxHxWxC)
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)
            x_BxHxWxC = nn.relu(norm(x_BxHxWxC, mask=mask))
            if min(x_BxHxWxC.shape[1:3]) > 1:
                x_BxHxWxC = max_pool(x_BxHxWxC)
        return nn.Dense(self.num_classes)(jnp.mean(x_BxHxWxC, axis=(1, 2)))


class Model(NamedTuple):
    """A network as pure functions.

    Attributes:
        params: shapes of what is trained.
        state: shapes of what else changes from step to step: running statistics of batch norm,
            states of dropout's random numbers.
        apply: (params, state, images [B, H, W, C]) -> (logits [B, classes], state) in training.
    """

    params: Shapes
    state: Shapes
    apply: Callable[[Arrays, Arrays, jax.Array], tuple[jax.Array, Arrays]]


@dataclass(frozen=True)
class Network:
    """A network by name.

    Attributes:
        name: as on the command line.
        num_parameters: as published, those of batch norm's running statistics included where Keras
            counts them; None for this project's own.
        num_classes: length of the logits.
        image_size: rows and columns of the images, unless others are asked for.
        module: the flax module, for those that are one.
        keras_name: the function of `keras.applications`, for the others.
        kernel_size: of the six-layer networks.
    """

    name: str
    num_parameters: int | None = None
    num_classes: int = IMAGENET_CLASSES
    image_size: int = IMAGENET_SIZE
    module: nn.Module | None = None
    keras_name: str | None = None
    kernel_size: int | None = None


def _own(name: str, module: nn.Module, **fields: Any) -> Network:
    return Network(name, num_classes=CIFAR_CLASSES, module=module, **fields)


_CIFAR = (
    _own("smallcnn", SmallCNN(CIFAR_CLASSES, batch_norm=False), image_size=CIFAR_SIZE),
    _own("smallcnn-bn", SmallCNN(CIFAR_CLASSES, batch_norm=True), image_size=CIFAR_SIZE),
    _own("resnet18", ResNet18(CIFAR_CLASSES), image_size=CIFAR_SIZE),
)
_SIX_LAYER = tuple(
    _own(f"six-layer-{size}", SixLayerCNN(CIFAR_CLASSES, size), kernel_size=size)
    for size in KERNEL_SIZES
)
# Parameters: the table of https://keras.io/api/applications as its models count them.
_KERAS = tuple(
    Network(keras_name.lower(), num_parameters, keras_name=keras_name)
    for keras_name, num_parameters in (
        ("ResNet50", 25_636_712),
        ("ResNet152", 60_419_944),
        ("VGG16", 138_357_544),
        ("VGG19", 143_667_240),
        ("DenseNet121", 8_062_504),
        ("DenseNet201", 20_242_984),
        ("InceptionV3", 23_851_784),
        ("Xception", 22_910_480),
        ("MobileNet", 4_253_864),
        ("EfficientNetB0", 5_330_571),
    )
)
NETWORKS = {network.name: network for network in (*_CIFAR, *_SIX_LAYER, *_KERAS)}
_SMALL = tuple(network.name for network in (*_CIFAR[:2], *_SIX_LAYER))


def usual_networks(platform: str) -> tuple[str, ...]:
    """Returns names of the networks that are timed unless others are asked for.

    The list of Zhuang et al. (2022); on CPU, where that takes hours, SmallCNN and the six-layer
    networks.
    """
    return _SMALL if platform == "cpu" else tuple(NETWORKS)


def usual_image_size(network: Network, platform: str) -> int:
    """Returns rows and columns of the images unless others are asked for.

    224, as in Zhuang et al. (2022); 32 for the networks for CIFAR, and for the six-layer ones on
    CPU.
    """
    is_own = network.module is not None
    return CIFAR_SIZE if platform == "cpu" and is_own else network.image_size


def find_networks(names: Sequence[str]) -> tuple[Network, ...]:
    """Returns the networks of the given names, each once.

    Raises:
        UserError: a name is unknown, or a network is one of Keras's, which is not installed.
    """
    for name in names:
        if name not in NETWORKS:
            raise UserError(
                f"--networks: unknown network {name!r}; there are: {', '.join(NETWORKS)}"
            )
    networks = tuple(NETWORKS[name] for name in dict.fromkeys(names))
    of_keras = [network.name for network in networks if network.keras_name]
    if of_keras and importlib.util.find_spec("keras") is None:
        raise UserError(
            f"--networks: {of_keras[0]} is Keras's, which is not installed; install "
            "'seedmap[networks]', or name networks of this project"
        )
    return networks


def build(network: Network, image_size: int, bfloat16: bool = False) -> Model:
    """Builds the network for images of a size; only shapes are computed.

    Args:
        network: which.
        image_size: rows and columns.
        bfloat16: whether forward and backward pass are in bfloat16; params and state are float32.

    Raises:
        UserError: the network cannot take images of this size, or Keras is there but not on JAX.
    """
    make = _of_flax if network.module is not None else _of_keras
    return make(network, image_size, bfloat16)


def _of_flax(network: Network, image_size: int, bfloat16: bool) -> Model:
    module = network.module
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    shapes = dict(jax.eval_shape(lambda x: module.init(jax.random.key(0), x, True), images))
    params = shapes.pop("params")

    def apply(params, state, x_BxHxWxC):
        if bfloat16:
            params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
            x_BxHxWxC = x_BxHxWxC.astype(jnp.bfloat16)
        return module.apply({"params": params, **state}, x_BxHxWxC, True, mutable=list(state))

    return Model(params, shapes, apply)


def _of_keras(network: Network, image_size: int, bfloat16: bool) -> Model:
    import keras

    if keras.backend.backend() != "jax":
        raise UserError(
            f"Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=jax before it is imported"
        )
    models = []

    def make():
        model = getattr(keras.applications, network.keras_name)(
            weights=None,
            input_shape=(image_size, image_size, 3),
            classes=network.num_classes,
            classifier_activation=None,
        )
        models.append(model)
        return (
            {variable.path: variable.value for variable in model.trainable_variables},
            {variable.path: variable.value for variable in model.non_trainable_variables},
        )

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if bfloat16 else "float32")
    try:
        # Without the values: Keras would compile a program for every shape of a weight.
        params, state = jax.eval_shape(make)
    finally:
        keras.config.set_dtype_policy(before)
    (model,) = models
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            _standardise(layer)
    trained = [variable.path for variable in model.trainable_variables]
    others = [variable.path for variable in model.non_trainable_variables]

    def apply(params, state, x_BxHxWxC):
        logits, changed = model.stateless_call(
            [params[path] for path in trained],
            [state[path] for path in others],
            x_BxHxWxC,
            training=True,
        )
        return logits, dict(zip(others, changed, strict=True))

    return Model(params, state, apply)


def _standardise(layer: Any) -> None:
    """Sets the statistics that a layer stores to mean 0 and variance 1.

    Those it has are of the build without values, and mean nothing outside of it.
    """
    for variable in layer.variables:
        variable.assign(np.full(variable.shape, float(variable.name in _ONES)))
    layer.finalize_state()


_ONES = {"scale", "var", "gamma", "moving_variance", "variance"}


def draw(shapes: Shapes, num_seeds: int | None, rng: np.random.Generator) -> Arrays:
    """Draws weights and states to start from, on the device.

    Kernels are normal with variance 2 / fan in (He et al. 2015); scales and variances of batch norm
    are 1, all else is 0. Only time is measured, so the networks' own initialisers, whose programs
    take longer to compile than the step itself, are not called on.

    Args:
        shapes: as a `Model` has them, under the names that flax and Keras give.
        num_seeds: length of a leading axis of seeds; None for no such axis.
        rng: what kernels are drawn by.
    """
    lead = () if num_seeds is None else (num_seeds,)

    def leaf(path, shape):
        name = str(path[-1].key).rpartition("/")[2]
        if len(shape.shape) >= 2:
            scale = math.sqrt(2 / math.prod(shape.shape[:-1]))
            values = scale * rng.standard_normal(lead + shape.shape, np.float32)
        else:
            values = np.full(lead + shape.shape, float(name in _ONES))
        return jax.device_put(values.astype(shape.dtype))

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def count(shapes: Shapes) -> int:
    """Counts the numbers in a pytree of shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def num_parameters(model: Model) -> int:
    """Counts parameters as Keras does: running statistics included, random states not."""
    counted = [leaf for leaf in jax.tree.leaves(model.state) if leaf.dtype != jnp.uint32]
    return count(model.params) + count(counted)
