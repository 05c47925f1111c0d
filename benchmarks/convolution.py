"""What a convolution costs by the way it is computed, seeds side by side or one after the other.

    python benchmarks/convolution.py
    python benchmarks/convolution.py --mib 3 1 0.5 0.25      # of shifted images at once, instead

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
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.experiments.networks import convolution
from seedmap.experiments.networks.convolution import conv, max_pool

STRATEGIES = ("lax", "patches", "shifts")


class Variant(NamedTuple):
    """A network, the strategy of its convolutions, seeds side by side or not, and MiB at once."""

    network: Any
    strategy: str
    together: bool
    mib: float


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


def measure(variants: dict[Any, Variant], args: argparse.Namespace) -> dict[Any, float]:
    """Milliseconds per step of a seed, by variant; all take turns."""
    keys = jax.random.split(jax.random.key(0), args.seeds)
    compiled = {}
    for name, (network, strategy, together, mib) in variants.items():
        convolution.CACHE_BYTES = int(mib * 2**20)
        params = jax.vmap(partial(random_tree, shapes=network.shapes))(keys)
        x = jax.random.normal(jax.random.key(1), (args.batch_size, *network.image))
        walk = jax.jit(trainer(network, strategy, args.steps, together))
        compiled[name] = partial(walk.lower(params, x).compile(), params, x)
    best = dict.fromkeys(compiled, np.inf)
    for _ in range(args.rounds + 1):  # the first warms up
        for name, walk in compiled.items():
            started = time.perf_counter()
            jax.block_until_ready(walk())
            best[name] = min(best[name], time.perf_counter() - started)
    return {name: 1e3 * seconds / args.seeds / args.steps for name, seconds in best.items()}


def by_strategy(name: str, network: Any, args: argparse.Namespace) -> None:
    """Prints a network's rows by strategy, seeds side by side or one after the other."""
    usual = convolution.CACHE_BYTES / 2**20
    variants = {
        (strategy, together): Variant(network, strategy, together, usual)
        for strategy in STRATEGIES
        for together in (True, False)
    }
    times = measure(variants, args)
    for strategy in STRATEGIES:
        cells = (times[strategy, together] for together in (True, False))
        row = " | ".join(f"{ms:.1f} ({ms / min(times.values()):.1f})" for ms in cells)
        print(f"| {name} | {strategy} | {row} |", flush=True)


def by_memory(name: str, network: Any, args: argparse.Namespace) -> None:
    """Prints a network's row by MiB of shifted images at once, seeds one after the other."""
    times = measure({mib: Variant(network, "shifts", False, mib) for mib in args.mib}, args)
    cells = (f"{ms:.1f} ({ms / min(times.values()):.2f})" for ms in times.values())
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--mib", type=float, nargs="+", default=[])
    args = parser.parse_args()
    networks = {"SmallCNN": SmallCNN()}
    networks |= {f"block of width {width}": ResNetBlock(width) for width in args.widths}
    print(f"ms per seed-step (times the fastest); {args.seeds} seeds, batch {args.batch_size}")
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}\n")
    columns = [f"{mib:g} MiB" for mib in args.mib] or ["strategy", "vmap", "lax.map"]
    print(f"| network | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for name, network in networks.items():
        (by_memory if args.mib else by_strategy)(name, network, args)


if __name__ == "__main__":
    main()
