"""Share of training time that the 14 metrics take at the released code's recording cadences.

    OPENBLAS_NUM_THREADS=1 python benchmarks/metrics.py [--repeats 5] [--seeds 4] [--mnist FOLDER]

For every task the steps between two records, and one record by each way to singular values, as
programs of their own, vmapped over seeds. Repeats are interleaved and the lowest of each counts;
seconds are of the processor (all threads) and, in brackets, of the wall. With `--mnist` (the four
idx files, gzipped) the estimate is also compared with the exact values along real training.
"""

import argparse
import gzip
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seedmap.experiments.tasks.sparse_parities import PAPER, parities_task, setup
from seedmap.trainer.metrics.weights import weight_metrics

METHODS = ("exact", "gram", "lanczos")


class Case(NamedTuple):
    """A task at the released cadence.

    Attributes:
        name: what is printed.
        steps: optimisation steps between two records.
        init: key -> params.
        make_batch: key -> batch.
        loss: (params, batch) -> scalar.
        optimizer: of the setting of Hu et al. (2023).
    """

    name: str
    steps: int
    init: Callable[[jax.Array], Any]
    make_batch: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any], jax.Array]
    optimizer: optax.GradientTransformation


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def parities() -> Case:
    """Hidden 128, 1000 examples in batches of 32: 320 steps in 10 epochs."""
    task = parities_task(PAPER)

    def make_batch(key):
        x = jax.random.rademacher(key, (32, PAPER.bits), jnp.float32)
        return x, jnp.prod(x[:, :3], axis=1)

    return Case(
        "parities, batch 32, every 10 epochs (320 steps)",
        320,
        task.init,
        make_batch,
        lambda params, batch: jnp.mean(task.score(params, batch)[0]),
        setup(PAPER).optimizer,
    )


def dense_layers(key: jax.Array, shapes: dict[str, tuple[int, ...]], biases: dict[str, Any]) -> Any:
    """Kernels of given shapes, Glorot-sized, and zero biases, by flax's names."""
    layers = {}
    for index, (name, shape) in enumerate(shapes.items()):
        scale = np.sqrt(2 / (shape[0] + np.prod(shape[1:])))
        layers[name] = {"kernel": scale * jax.random.normal(jax.random.fold_in(key, index), shape)}
        if name in biases:
            layers[name]["bias"] = jnp.zeros(biases[name])
    return layers


def modular() -> Case:
    """One-layer transformer on (x + y) mod 113: 3830 pairs in batches of 256, 150 steps."""
    heads = {name: (128, 4, 32) for name in ("query", "key", "value")}
    shapes = heads | {
        "out": (128, 128),
        "up": (128, 512),
        "down": (512, 128),
        "unembed": (128, 114),
    }

    def init(key):
        embeddings = {"embedding": 0.1 * jax.random.normal(key, (114, 128))}
        return dense_layers(key, shapes, {"up": 512, "down": 128}) | {"Embed_0": embeddings}

    def make_batch(key):
        x, y = jax.random.randint(key, (2, 256), 0, 113)
        return jnp.stack([x, y, jnp.full_like(x, 113)], axis=1), (x + y) % 113

    def loss(params, batch):
        """The last position alone is read, so that it alone asks, and goes through the MLP."""
        tokens, labels = batch
        x = params["Embed_0"]["embedding"][tokens]
        query = jnp.einsum("bd,dhk->bhk", x[:, -1], params["query"]["kernel"])
        keys, values = (
            jnp.einsum("btd,dhk->bthk", x, params[name]["kernel"]) for name in ("key", "value")
        )
        attention = jax.nn.softmax(jnp.einsum("bhk,bthk->bht", query, keys) / np.sqrt(32))
        mixed = jnp.einsum("bht,bthk->bhk", attention, values).reshape(-1, 128)
        residual = x[:, -1] + mixed @ params["out"]["kernel"]
        hidden = jax.nn.relu(residual @ params["up"]["kernel"] + params["up"]["bias"])
        residual += hidden @ params["down"]["kernel"] + params["down"]["bias"]
        return cross_entropy(residual @ params["unembed"]["kernel"], labels)

    return Case(
        "modular addition, batch 256, every 10 epochs (150 steps)",
        150,
        init,
        make_batch,
        loss,
        optax.adamw(1e-3, weight_decay=1.0),
    )


def mlp_loss(params: Any, batch: Any) -> jax.Array:
    x, labels = batch
    for name in ("Dense_0", "Dense_1"):
        if name == "Dense_1":
            x = jax.nn.relu(x)
        x = x @ params[name]["kernel"] + params[name]["bias"]
    return cross_entropy(x, labels)


def mnist(batch_size: int) -> Case:
    """MLP 784-800-10 on pixels drawn at random: the time does not depend on them."""

    def make_batch(key):
        pixels = jax.random.uniform(key, (batch_size, 784))
        return pixels, jax.random.randint(key, (batch_size,), 0, 10)

    shapes = {"Dense_0": (784, 800), "Dense_1": (800, 10)}
    return Case(
        f"MNIST, batch {batch_size}, every 20 steps",
        20,
        partial(dense_layers, shapes=shapes, biases={"Dense_0": 800, "Dense_1": 10}),
        make_batch,
        mlp_loss,
        optax.adamw(1e-3),
    )


def train_steps(case: Case, state: Any, batches: Any) -> Any:
    """One step of one replica on each of the batches (a leading axis counts them)."""

    def step(state, batch):
        params, opt_state = state
        grads = jax.grad(case.loss)(params, batch)
        updates, opt_state = case.optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    return jax.lax.scan(step, state, batches)[0]


def start(case: Case, seeds: int) -> Any:
    params = jax.vmap(case.init)(jax.random.split(jax.random.key(0), seeds))
    return params, jax.vmap(case.optimizer.init)(params)


def lowest_seconds(programs: dict[str, Callable], repeats: int) -> dict[str, tuple[float, float]]:
    """Processor and wall seconds of each program, the lowest over interleaved repeats."""
    for program in programs.values():
        jax.block_until_ready(program())
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            jax.block_until_ready(program())
            seconds[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: tuple(np.min(pairs, axis=0)) for name, pairs in seconds.items()}


def shares(case: Case, seeds: int, repeats: int) -> None:
    """Prints a row of the table."""
    state = start(case, seeds)
    keys = jax.random.split(jax.random.key(1), seeds * case.steps).reshape(seeds, case.steps)
    batches = jax.jit(jax.vmap(jax.vmap(case.make_batch)))(keys)
    train = jax.jit(jax.vmap(partial(train_steps, case)))
    programs = {"train": partial(train, state, batches)}
    for method in METHODS:
        measure = jax.jit(jax.vmap(partial(weight_metrics, spectrum=method)))
        programs[method] = partial(measure, state[0])
    seconds = lowest_seconds(programs, repeats)
    train_cpu, train_wall = seconds["train"]
    cells = [f"{1e3 * train_cpu / seeds:.1f} ({1e3 * train_wall / seeds:.1f}) ms"]
    for method in METHODS:
        cpu, wall = seconds[method]
        cells.append(
            f"{1e3 * cpu / seeds:.2f} ms, {100 * cpu / train_cpu:.1f} % "
            f"({100 * wall / train_wall:.1f} %)"
        )
    print(f"| {case.name} | {' | '.join(cells)} |", flush=True)


def read_idx(path: Path) -> np.ndarray:
    """Array of unsigned bytes from a gzipped idx file."""
    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def accuracy(folder: Path, seeds: int, batch_size: int = 256) -> None:
    """Prints how far gram and lanczos lie from exact along real training on MNIST."""
    images = read_idx(folder / "train-images-idx3-ubyte.gz").reshape(-1, 784) / np.float32(255)
    labels = read_idx(folder / "train-labels-idx1-ubyte.gz").astype(np.int32)
    case = mnist(batch_size)
    train = jax.jit(jax.vmap(partial(train_steps, case)))
    measures = {m: jax.jit(jax.vmap(partial(weight_metrics, spectrum=m))) for m in METHODS}
    names = ("spectral", "mean_lambda", "var_lambda")
    print("\n| steps | way | " + " | ".join(f"{name}, largest error" for name in names) + " |")
    print("|---|---|---|---|---|")
    rng, state, done = np.random.default_rng(0), start(case, seeds), 0
    for target in (0, 20, 200, 1000):
        while done < target:
            rows = rng.integers(0, len(labels), (seeds, 20, batch_size))
            state, done = train(state, (images[rows], labels[rows])), done + 20
        values = {m: measure(state[0]) for m, measure in measures.items()}
        for method in METHODS[1:]:
            errors = [np.abs(values[method][n] / values["exact"][n] - 1).max() for n in names]
            print(
                f"| {target} | {method} | " + " | ".join(f"{e:.1e}" for e in errors) + " |",
                flush=True,
            )


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--mnist", type=Path)
    arguments = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {arguments.seeds} seeds,")
    print(f"OPENBLAS_NUM_THREADS={os.environ.get('OPENBLAS_NUM_THREADS', 'not set')}\n")
    print("| task | training between records, a seed | " + " | ".join(METHODS) + " |")
    print("|---|---|" + "---|" * len(METHODS))
    for case in (parities(), modular(), mnist(128), mnist(256)):
        shares(case, arguments.seeds, arguments.repeats)
    if arguments.mnist:
        accuracy(arguments.mnist, arguments.seeds)


if __name__ == "__main__":
    main()
