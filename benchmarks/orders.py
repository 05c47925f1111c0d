"""Orders of training examples: the shuffle against the sort it replaced, in time and in results.

    python benchmarks/orders.py                 # cost of a permutation, compiling and running
    python benchmarks/orders.py --training      # also 200 seeds of parities under both

`former_permutation` is the sort, kept here alone. The convergence times of 200 seeds under both
orders are compared by the two-sample Kolmogorov-Smirnov test: the data and the initial weights of a
seed are the same, only the orders differ.
"""

import argparse
import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import ks_2samp

from seedmap.experiments.tasks.sparse_parities import PAPER, setup
from seedmap.trainer import Replicas, replica, train
from seedmap.trainer.order import batch_rows, batches_per_epoch, permutation

CASES = ((200, 1000), (40, 60_000))  # permutations at once, elements
ROUNDS = 15


def former_permutation(key: jax.Array, size: int) -> jax.Array:
    """A stable radix sort on random digits, the element in the low bits."""
    bits = max(1, math.ceil(math.log2(size)))
    order = indices = jnp.arange(size, dtype=jnp.uint32)
    for round_key in jax.random.split(key, max(1, math.ceil(3 * math.log2(size) / (32 - bits)))):
        digits = jax.random.bits(round_key, (size,)) >> bits
        packed = jax.lax.sort((digits << bits) | indices, is_stable=False)
        order = order[packed & jnp.uint32((1 << bits) - 1)]
    return order.astype(jnp.int32)


def former_rows(key, step, num_steps: int, num_train: int, batch_size: int) -> jax.Array:
    """Rows of steps that are whole epochs, or lie within one."""
    num_batches = batches_per_epoch(num_train, batch_size)
    epochs = step // num_batches + jnp.arange(-(-num_steps // num_batches))
    orders = jax.vmap(lambda i: former_permutation(jax.random.fold_in(key, i), num_train))(epochs)
    padding = ((0, 0), (0, num_batches * batch_size - num_train))
    rows = jnp.pad(orders, padding, constant_values=-1).reshape(-1, batch_size)
    return jax.lax.dynamic_slice_in_dim(rows, step % num_batches, num_steps)


def compiled(draw: Callable, count: int, size: int) -> tuple[Callable, float]:
    """The program of many permutations, and the seconds that compiling it took."""
    keys = jax.random.split(jax.random.key(0), count)
    started = time.perf_counter()
    program = jax.jit(jax.vmap(lambda key: draw(key, size))).lower(keys).compile()
    return lambda: jax.block_until_ready(program(keys)), time.perf_counter() - started


def cost(count: int, size: int) -> str:
    """One line: both in turns, the best time of each."""
    programs = [compiled(draw, count, size) for draw in (permutation, former_permutation)]
    best = [np.inf, np.inf]
    for _ in range(ROUNDS):
        for index, (run, _) in enumerate(programs):
            started = time.perf_counter()
            run()
            best[index] = min(best[index], time.perf_counter() - started)
    ours, former = (1000 * seconds for seconds in best)
    compiling = ", ".join(f"{seconds:.1f}" for _, seconds in programs)
    return (
        f"{count} permutations of {size}: {ours:.2f} ms, by sorting {former:.2f} ms "
        f"({former / ours:.1f}x); compiled in {compiling} s"
    )


def convergence(rows: Callable, epochs: int) -> np.ndarray:
    """Epochs until 200 seeds of parities converge, infinite for those that do not."""
    replica.batch_rows = rows
    made, per_epoch = setup(PAPER), batches_per_epoch(PAPER.train_size, PAPER.batch_size)
    run = train(
        made.task,
        made.optimizer,
        range(200),
        batch_size=PAPER.batch_size,
        steps=epochs * per_epoch,
        record_every=PAPER.record_every * per_epoch,
        replicas=Replicas(),
        metrics=(),
        threshold=0.9,
        seeds_at_once=PAPER.seeds_at_once,
    )
    return np.where(run.converged < 0, np.inf, run.converged / per_epoch)


def main() -> None:
    """Prints a line per case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", action="store_true", help="also train 200 seeds under both")
    parser.add_argument("--epochs", type=int, default=1000)
    args = parser.parse_args()
    for case in CASES:
        print(cost(*case), flush=True)
    if not args.training:
        return
    jax.config.update("jax_enable_compilation_cache", False)
    former, ours = (convergence(rows, args.epochs) for rows in (former_rows, batch_rows))
    test = ks_2samp(former, ours)
    quartiles = [np.percentile(times, (25, 50, 75)).round() for times in (former, ours)]
    print(
        f"quartiles by sorting {quartiles[0]}, now {quartiles[1]}; KS {test.statistic:.3f}, "
        f"p = {test.pvalue:.3f}"
    )


if __name__ == "__main__":
    main()
