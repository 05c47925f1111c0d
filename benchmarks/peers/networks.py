"""The networks of the experiments in PyTorch, and our parameters in PyTorch's names and layouts."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from torch import nn

from seedmap.experiments.tasks import mnist, modular, small_cnn, sparse_parities
from seedmap.experiments.tasks.cifar import CHANNELS

Arrays = dict[str, np.ndarray]


class Peer(NamedTuple):
    """PyTorch's counterpart of an experiment.

    Attributes:
        network: makes the module, for (inputs [example, ...], labels [example]).
        loss: (outputs, labels) -> scalar.
        inputs: our training examples' x, uint8 or float [example, ...] -> what the module is given.
        weights: our model as the module's state_dict, without what starts out equal.
        adam: whether the optimiser is AdamW; else SGD whose decay is added to the gradient.
        epsilon: of AdamW.
    """

    network: Callable[[], nn.Module]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    inputs: Callable[[np.ndarray], np.ndarray]
    weights: Callable[[Any], Arrays]
    adam: bool = True
    epsilon: float = 1e-8


class TorchTransformer(nn.Module):
    """The network of modular arithmetic on all three positions."""

    def __init__(self, config: modular.ModularConfig):
        super().__init__()
        width, heads = config.width, config.heads
        self.heads, self.head_width, self.equals = heads, width // heads, config.prime
        self.embed = nn.Embedding(config.prime + 1, width)
        self.positions = nn.Parameter(torch.randn(3, width) / math.sqrt(width))
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.mlp = nn.Sequential(
            nn.Linear(width, config.mlp_hidden), nn.ReLU(), nn.Linear(config.mlp_hidden, width)
        )
        norms = (
            nn.LayerNorm(width, modular.LAYER_NORM_EPSILON) if config.layer_norm else nn.Identity()
            for _ in range(2)
        )
        self.norm_0, self.norm_1 = norms
        self.unembed = nn.Linear(width, config.prime + 1, bias=False)
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))

    def forward(self, operands):
        tokens = nn.functional.pad(operands, (0, 1), value=self.equals)
        x = self.embed(tokens) + self.positions
        q, k, v = (
            projection(x).unflatten(2, (self.heads, self.head_width)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(self.head_width) + self.mask
        mixed = (torch.softmax(scores, dim=3) @ v).transpose(1, 2).flatten(2)
        x = self.norm_0(x + self.out(mixed))
        x = self.norm_1(x + self.mlp(x))
        return self.unembed(x)[:, -1]


class TorchCNN(nn.Module):
    """The small network of CIFAR, images [example, channel, row, column]."""

    def __init__(self, config: small_cnn.SmallCNNConfig):
        super().__init__()
        layers, channels = [], 3
        for filters in small_cnn.FILTERS:
            layers.append(nn.Conv2d(channels, filters, 3, padding=1))
            if config.batch_norm:
                layers.append(nn.BatchNorm2d(filters, eps=1e-3))
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            channels = filters
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(channels, small_cnn.HIDDEN),
            nn.ReLU(),
            nn.Linear(small_cnn.HIDDEN, config.num_classes),
        )

    def forward(self, images):
        return self.head(self.features(images).mean(dim=(2, 3)))


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """The network of MNIST, and with one output that of sparse parities."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def hinge(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return torch.relu(1 - label * output[:, 0]).mean()


def parities_peer(config: sparse_parities.ParitiesConfig) -> Peer:
    network = lambda: perceptron(config.bits, config.hidden, 1)  # noqa: E731
    return Peer(network, hinge, np.asarray, _perceptron_weights, adam=False)


def mnist_peer(config: mnist.MnistConfig) -> Peer:
    def inputs(x_NxHxWxC: np.ndarray) -> np.ndarray:
        return x_NxHxWxC.reshape(len(x_NxHxWxC), -1) / np.float32(255)

    network = lambda: perceptron(784, config.hidden, mnist.NUM_CLASSES)  # noqa: E731
    return Peer(network, nn.functional.cross_entropy, inputs, _perceptron_weights)


def modular_peer(config: modular.ModularConfig) -> Peer:
    network = lambda: TorchTransformer(config)  # noqa: E731
    return Peer(network, nn.functional.cross_entropy, np.asarray, _transformer_weights)


def cnn_peer(config: small_cnn.SmallCNNConfig) -> Peer:
    def inputs(x_NxHxWxC: np.ndarray) -> np.ndarray:
        mean, deviation = map(np.float32, CHANNELS[config.num_classes])
        scaled = (x_NxHxWxC / np.float32(255) - mean) / deviation
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def weights(model: Any) -> Arrays:
        return _cnn_weights(jax.device_get(model.params))

    network = lambda: TorchCNN(config)  # noqa: E731
    loss, epsilon = nn.functional.cross_entropy, small_cnn.ADAM_EPSILON
    return Peer(network, loss, inputs, weights, epsilon=epsilon)


def _dense(name: str, layer: dict[str, np.ndarray]) -> Arrays:
    return {f"{name}.weight": layer["kernel"].T, f"{name}.bias": layer["bias"]}


def _perceptron_weights(model: Any) -> Arrays:
    net = jax.device_get(model["params"])
    return _dense("0", net["Dense_0"]) | _dense("2", net["Dense_1"])


def _transformer_weights(model: Any) -> Arrays:
    net = jax.device_get(model["params"])
    attention, mlp = net["attention"], net["mlp"]
    width = attention["query"]["kernel"].shape[0]
    square = {name: leaf["kernel"].reshape(width, width).T for name, leaf in attention.items()}
    weights = {
        "embed.weight": net["embed"]["embedding"],
        "positions": net["positions"]["embedding"],
        "mlp.2.weight": mlp["out"]["kernel"],  # stored as PyTorch does
        "mlp.2.bias": mlp["out"]["bias"],
        "unembed.weight": net["unembed"]["embedding"],
    }
    return weights | _dense("mlp.0", mlp["hidden"]) | {f"{n}.weight": w for n, w in square.items()}


def _cnn_weights(net: dict[str, Any]) -> Arrays:
    weights = _dense("head.0", net["Dense_0"]) | _dense("head.2", net["Dense_1"])
    layers_per_filter = 4 if "BatchNorm_0" in net else 3
    for i in range(len(small_cnn.FILTERS)):
        kernel_hxwxCxO = net[f"Convolution_{i}"]["kernel"]
        name = f"features.{i * layers_per_filter}"
        weights[f"{name}.weight"] = kernel_hxwxCxO.transpose(3, 2, 0, 1)
        weights[f"{name}.bias"] = net[f"Convolution_{i}"]["bias"]
    return weights
