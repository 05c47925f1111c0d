"""Our trainer beside what people would write: `python benchmarks/torch_loops.py [--tasks ...]`.

Seed-steps per second of the same work on the same machine: 40 seeds in groups on every core,
against PyTorch (`pip install -c constraints.txt -e '.[benchmark]'`) one seed at a time, PyTorch
with `torch.func` (parameters stacked, vmapped) with and without `torch.compile`, and JAX one seed
at a time under jit; same model, shapes, batches, float32 and optimiser, nothing recorded on any
side. The PyTorch loops are what one writes: whole-batch tensor code, all three positions of the
transformer, data in memory, batches by a permutation of row numbers (no data loader, which would be
slower), images turned into normalised floats once, ahead of training (ours: at every step).

SmallCNN is that of `seedmap run smallcnn` at batch 128 without augmentation (as in the released
code of Zhuang et al. 2022) on generated images of CIFAR's shape, MNIST the perceptron 784-800-10 at
batch 256 on images of random pixels: what a step costs does not depend on them.

At start-up two steps on one batch from the same parameters must have our losses on PyTorch's sides.

For modular arithmetic also the bound: the matrix products of our step, forward and backward, alone,
as batched float32 products of the same shapes and number of seeds in one compiled program. Its
seconds over the step's are the share of the step that is bare matrix product.

All sides take turns in one run, each timed `--repeats` times; the least seconds count and the
ratios are of those. `--at-once k` has groups of k seeds in place of the preset's or the rule's;
`--epochs` other stretches between two readings of the clock. On a machine that other work shares,
`taskset -c 0 python benchmarks/torch_loops.py --clock cpu` compares processor seconds of a single
core.
"""

import argparse
import time
from dataclasses import replace

import jax
import numpy as np
import torch
from peers.loops import (
    Case,
    check_equal,
    jax_loop,
    least_seconds,
    our_loop,
    torch_func_loop,
    torch_func_step,
    torch_loop,
    torch_step,
)
from peers.networks import cnn_peer, mnist_peer, modular_peer, parities_peer
from peers.products import bound_loop, flops, modular_products

from seedmap.experiments.datasets.images import Images
from seedmap.experiments.processes.cores import use_cores
from seedmap.experiments.tasks import mnist, modular, small_cnn, sparse_parities
from seedmap.experiments.tasks.base import Setup

MNIST_IMAGES = 2560  # of random pixels: 10 batches
CNN = replace(small_cnn.PAPER, data="patterns", train_size=512, test_size=10, augment=False)


def mnist_setup(config: mnist.MnistConfig) -> Setup:
    """MNIST's task on random pixels."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (MNIST_IMAGES, 28, 28, 1), dtype=np.uint8)
    labels = rng.integers(0, mnist.NUM_CLASSES, MNIST_IMAGES, dtype=np.int32)
    return mnist.setup(config, Images((pixels, labels), (pixels[:1], labels[:1])))


CASES = {
    "parities-128": Case(sparse_parities.PAPER, sparse_parities.setup, parities_peer, 20),
    "parities-1000": Case(
        replace(sparse_parities.PAPER, hidden=1000), sparse_parities.setup, parities_peer, 5
    ),
    "modular": Case(modular.PAPER, modular.setup, modular_peer, 2),
    "modular-stabilised": Case(modular.STABILISED, modular.setup, modular_peer, 1),
    "smallcnn": Case(CNN, small_cnn.setup, cnn_peer, 1),
    "mnist": Case(mnist.PAPER, mnist_setup, mnist_peer, 1),
}


def report(name: str, arguments: argparse.Namespace) -> None:
    """Times a case and prints its lines."""
    case, seeds = CASES[name], arguments.seeds
    case = case._replace(epochs=arguments.epochs or case.epochs)
    plain = torch_step(case)
    check_equal(case, plain, "PyTorch, one by one")
    sides = {
        "ours": our_loop(case, seeds, arguments.at_once),
        "PyTorch, one by one": torch_loop(case, plain),
        "JAX, one by one": jax_loop(case),
    }
    for side, compiled in (("PyTorch, vmap", False), ("PyTorch, vmap compiled", True)):
        step = torch_func_step(case, seeds, compiled)
        check_equal(case, step, side, seeds)
        sides[side] = torch_func_loop(case, step, seeds)
    alone = {name for name in sides if "one by one" in name}
    if isinstance(case.config, modular.ModularConfig):
        at_once = arguments.at_once or seeds
        sides["bound"] = bound_loop(case.config, case.steps, seeds, at_once)
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    seconds = least_seconds(sides, arguments.repeats, clock)
    speeds = {side: (1 if side in alone else seeds) * case.steps / seconds[side] for side in sides}
    print(f"{name}: ours {speeds['ours']:,.0f} seed-steps/s", flush=True)
    for side, speed in speeds.items():
        if side not in ("ours", "bound"):
            ratio = speeds["ours"] / speed
            print(f"  {side:<24} {speed:>10,.0f} seed-steps/s, ours {ratio:5.1f} times", flush=True)
    if "bound" in seconds:
        rate = seeds * case.steps * flops(modular_products(case.config)) / seconds["bound"]
        share = seconds["bound"] / seconds["ours"]
        print(f"  bare products at {rate / 1e9:.0f} GFLOP/s: {100 * share:.0f} % of our seconds")


def main() -> None:
    """Times every task asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--at-once", type=int, help="seeds of a group; by default the rule's")
    parser.add_argument("--epochs", type=int, help="between two readings; by default the task's")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    arguments = parser.parse_args()
    use_cores()
    device = jax.devices()[0]
    print(
        f"{device.device_kind}, jax {jax.__version__}, torch {torch.__version__} on "
        f"{torch.get_num_threads()} threads, {arguments.seeds} seeds"
    )
    for name in arguments.tasks:
        report(name, arguments)


if __name__ == "__main__":
    main()
