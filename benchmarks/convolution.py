"""What a convolution costs by the way it is computed, seeds side by side or one after the other.

    python benchmarks/convolution.py

Milliseconds of one training step of one seed (forward, backward, update; SGD) of a small CNN (3x3
convolutions of 16, 32 and 32 filters, each with ReLU and max pooling, global mean, dense 32, dense
10; images of 32x32) and of a residual block (two 3x3 convolutions; 16x16), for every strategy of
`experiments.networks.convolution`: `vmap` over all seeds, or `lax.map` over them one by one, the
steps in a scan as in training. All are measured in turns in one process; the best of the rounds
counts.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.experiments.networks.convolution import conv, max_pool

STRATEGIES = ("lax", "patches", "shifts")


def random_tree(key: jax.Array, shapes: dict[str, tuple[int, ...]]) -> dict[str, jax.Array]:
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.normal(own, shape) / np.sqrt(np.prod(shape[:-1]))
        for own, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


class SmallCNN:
    """Three convolutions with pooling and two dense layers."""

    image = (32, 32, 3)
    shapes = {  # noqa: RUF012
        "conv0": (3, 3, 3, 16),
        "conv1": (3, 3, 16, 32),
        "conv2": (3, 3, 32, 32),
        "dense0": (32, 32),
        "dense1": (32, 10),
    }

    @staticmethod
    def loss(params: dict[str, jax.Array], x: jax.Array, strategy: str) -> jax.Array:
        for name in ("conv0", "conv1", "conv2"):
            x = max_pool(jax.nn.relu(conv(x, params[name], strategy=strategy)))
        hidden = jax.nn.relu(jnp.mean(x, axis=(1, 2)) @ params["dense0"])
        return -jnp.mean(jax.nn.log_softmax(hidden @ params["dense1"])[:, 0])


class ResNetBlock:
    """Two convolutions and the sum with their input."""

    def __init__(self, width: int):
        self.image = (16, 16, width)
        self.shapes = {name: (3, 3, width, width) for name in ("conv0", "conv1")}

    @staticmethod
    def loss(params: dict[str, jax.Array], x: jax.Array, strategy: str) -> jax.Array:
        hidden = jax.nn.relu(conv(x, params["conv0"], strategy=strategy))
        return jnp.mean(
            jnp.square(jax.nn.relu(x + conv(hidden, params["conv1"], strategy=strategy)))
        )


def trainer(network: Any, strategy: str, steps: int, together: bool) -> Callable:
    """(parameters [seed], images) -> parameters after some steps."""

    def walk(params, x):
        def step(params, _):
            grads = jax.grad(network.loss)(params, x, strategy)
            return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), None

        return jax.lax.scan(step, params, length=steps)[0]

    if together:
        return jax.vmap(walk, in_axes=(0, None))
    return lambda params, x: jax.lax.map(lambda own: walk(own, x), params)


def measure(network: Any, args: argparse.Namespace) -> dict[tuple[str, bool], float]:
    """Milliseconds per step of a seed, by strategy and whether the seeds go together."""
    keys = jax.random.split(jax.random.key(0), args.seeds)
    params = jax.vmap(lambda key: random_tree(key, network.shapes))(keys)
    x = jax.random.normal(jax.random.key(1), (args.batch_size, *network.image))
    compiled = {
        (strategy, together): jax.jit(trainer(network, strategy, args.steps, together))
        .lower(params, x)
        .compile()
        for strategy in STRATEGIES
        for together in (True, False)
    }
    best = dict.fromkeys(compiled, np.inf)
    for _ in range(args.rounds + 1):  # the first warms up
        for name, walk in compiled.items():
            started = time.perf_counter()
            jax.block_until_ready(walk(params, x))
            best[name] = min(best[name], time.perf_counter() - started)
    return {name: 1e3 * seconds / args.seeds / args.steps for name, seconds in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16])
    args = parser.parse_args()
    networks = {"SmallCNN": SmallCNN()}
    networks |= {f"block of width {width}": ResNetBlock(width) for width in args.widths}
    print(f"ms per seed-step (times the fastest); {args.seeds} seeds, batch {args.batch_size}")
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}\n")
    print("| network | strategy | vmap | lax.map |\n|---|---|---|---|")
    for name, network in networks.items():
        times = measure(network, args)
        least = min(times.values())
        for strategy in STRATEGIES:
            cells = (times[strategy, together] for together in (True, False))
            row = " | ".join(f"{ms:.1f} ({ms / least:.1f})" for ms in cells)
            print(f"| {name} | {strategy} | {row} |", flush=True)


if __name__ == "__main__":
    main()
