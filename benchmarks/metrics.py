"""Share of training time that the 14 metrics take in the presets, as `seedmap train` runs them.

    OPENBLAS_NUM_THREADS=1 python benchmarks/metrics.py [--repeats 5] [--presets mnist/cpu ...]
    OPENBLAS_NUM_THREADS=1 python benchmarks/metrics.py --mnist FOLDER    # and the estimate's error

For every preset the steps between two records, and the metrics of a record by each way to singular
values, as programs of their own: groups of the preset's or the rule's size, one on every core. All
take turns and the lowest wall seconds of each count; the preset's own way is marked. MNIST's pixels
are drawn at random: the time does not depend on them. With `--mnist` (MNIST's four idx files) the
estimates are also compared with the exact values along real training.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from seedmap.experiments import load_experiment
from seedmap.experiments.datasets.images import Images
from seedmap.experiments.processes.cores import num_lanes, use_cores
from seedmap.experiments.runs.settings import schedule
from seedmap.experiments.tasks.base import Setup, TrainingConfig
from seedmap.trainer import make_streams, make_trainer
from seedmap.trainer.batched import side_by_side
from seedmap.trainer.group_size import cpu_group
from seedmap.trainer.metrics.weights import weight_metrics
from seedmap.trainer.placement import Placement, in_lanes, place, share, spread

METHODS = ("exact", "gram", "lanczos")
PRESETS = (
    *("parities/paper", "modular/cpu", "modular-stabilised/cpu"),
    *("mnist/cpu", "mnist/paper", "smallcnn/cpu"),
)
COMPARED = ("spectral", "mean_lambda", "var_lambda")


class Training(NamedTuple):
    """A preset's training, compiled: a group of replicas on every core.

    Attributes:
        placement: of the groups.
        walk: state -> the state a record later, nothing measured.
        measure: by method, state -> the metrics.
        groups: states, one a lane.
        steps: between two records.
    """

    placement: Placement
    walk: Callable[[Any], Any]
    measure: dict[str, Callable[[Any], Any]]
    groups: list[Any]
    steps: int


def random_images(shape: tuple[int, ...]) -> Images:
    """2560 training images and a test image of random pixels, ten classes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2560, *shape), dtype=np.uint8)
    labels = rng.integers(0, 10, 2560, dtype=np.int32)
    return Images((pixels, labels), (pixels[:1], labels[:1]))


def setup_of(name: str, data_dir: str | None) -> tuple[TrainingConfig, Setup]:
    """A preset's hyperparameters and task; images drawn at random where no folder is named."""
    experiment = load_experiment(name.split("/")[0])
    config = experiment.presets[name.split("/")[1]].training
    if experiment.name not in ("mnist", "smallcnn"):
        return config, experiment.setup(config)
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
        return config, experiment.setup(config)
    return config, experiment.setup(
        config, random_images((28, 28, 1) if experiment.name == "mnist" else (32, 32, 3))
    )


def training_of(config: TrainingConfig, setup: Setup) -> Training:
    """Compiles what a preset trains, and its metrics by every method."""
    task, (_, steps) = setup.task, schedule(config, setup.task.num_train)
    size = config.seeds_at_once or cpu_group(task)
    replicas = size * num_lanes()
    placement = place(replicas, size, jax.devices())
    trainer = make_trainer(task, setup.optimizer, config.batch_size, steps, (), mesh=placement.mesh)
    groups = [trainer.init(keys) for keys in spread(placement, make_streams(range(replicas)))]
    pool = share(placement, task.pool)
    walk = trainer.walk.lower(groups[0], pool).compile()

    def measure(method: str) -> Callable[[Any], Any]:
        metrics = side_by_side(partial(weight_metrics, rule=setup.rule, spectrum=method))
        program = jax.jit(lambda state: metrics(state.seeds.model.params))
        compiled = program.lower(groups[0]).compile()
        return lambda state: jax.block_until_ready(compiled(state))

    return Training(
        placement,
        lambda state: jax.block_until_ready(walk(state, pool)),
        {method: measure(method) for method in METHODS},
        groups,
        steps,
    )


def shares(name: str, repeats: int) -> None:
    """Prints a row of the table."""
    config, setup = setup_of(name, None)
    training = training_of(config, setup)
    groups, best = training.groups, dict.fromkeys(("walk", *METHODS), np.inf)
    for _ in range(repeats + 1):  # the first of each warms up and is seldom the best
        began = time.perf_counter()
        groups = in_lanes(training.placement, training.walk, groups)
        best["walk"] = min(best["walk"], time.perf_counter() - began)
        for method, measure in training.measure.items():
            began = time.perf_counter()
            in_lanes(training.placement, measure, groups)
            best[method] = min(best[method], time.perf_counter() - began)
    replicas = training.placement.num_replicas
    cells = [f"{1e3 * best['walk'] / replicas:.1f} ms"]
    for method in METHODS:
        cell = f"{1e3 * best[method] / replicas:.2f} ms, {100 * best[method] / best['walk']:.1f} %"
        cells.append(f"{cell} (preset)" if method == config.spectrum else cell)
    what = f"{name}, batch {config.batch_size}, {training.steps} steps"
    print(f"| {what} | {' | '.join(cells)} |", flush=True)


def accuracy(data_dir: str) -> None:
    """Prints how far gram and lanczos lie from exact along the training of MNIST's cpu preset."""
    config, setup = setup_of("mnist/cpu", data_dir)
    training = training_of(config, setup)
    groups = training.groups
    print("\n| steps | way | " + " | ".join(f"{name}, largest error" for name in COMPARED) + " |")
    print("|---|---|---|---|---|")
    for record in range(51):
        if record in (0, 1, 5, 10, 50):
            values = {m: measure(groups[0]) for m, measure in training.measure.items()}
            for method in METHODS[1:]:
                errors = [np.abs(values[method][n] / values["exact"][n] - 1) for n in COMPARED]
                cells = " | ".join(f"{error.max():.1e}" for error in errors)
                print(f"| {record * training.steps} | {method} | {cells} |", flush=True)
        groups = in_lanes(training.placement, training.walk, groups)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--presets", nargs="+", default=PRESETS, metavar="EXPERIMENT/PRESET")
    parser.add_argument("--mnist", metavar="FOLDER")
    arguments = parser.parse_args()
    use_cores()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {num_lanes()} groups at a time,")
    print(f"OPENBLAS_NUM_THREADS={os.environ.get('OPENBLAS_NUM_THREADS', 'not set')}\n")
    print("| preset | training between records, a seed | " + " | ".join(METHODS) + " |")
    print("|---|---|" + "---|" * len(METHODS))
    for name in arguments.presets:
        shares(name, arguments.repeats)
    if arguments.mnist:
        accuracy(arguments.mnist)


if __name__ == "__main__":
    main()
