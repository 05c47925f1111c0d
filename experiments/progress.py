"""Progress bars for training and fitting, on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from tqdm import tqdm

from experiments.experiment import Experiment, TrainingConfig
from trainer.training import batches_per_epoch


def _bar(**options) -> tqdm:
    interval = 0.5 if sys.stderr.isatty() else 5.0  # a log file wants fewer lines
    return tqdm(mininterval=interval, file=sys.stderr, dynamic_ncols=True, **options)


@contextmanager
def training_bar(
    seeds: int, experiment: Experiment, config: TrainingConfig
) -> Iterator[Callable[[int, dict[str, np.ndarray]], None]]:
    """A bar in seed-steps; yields the `on_record` to hand to the trainer."""
    steps = config.epochs * batches_per_epoch(
        experiment.setup(config).task.num_train, config.batch_size
    )
    bar = _bar(total=seeds * steps, desc="compile", unit=" seed-steps", unit_scale=True)

    def on_record(step: int, record: dict[str, np.ndarray]) -> None:
        if bar.n == 0:  # the rate is that of training: it leaves out what came before this record
            bar.set_description("train", refresh=False)
            bar.reset()
            bar.initial = bar.n = seeds * step
        accuracy = record["eval_accuracy"]
        converged = int(np.sum(accuracy > config.threshold))
        bar.set_postfix_str(f"step {step}/{steps}, {converged} above threshold", refresh=False)
        bar.update(seeds * step - bar.n)

    with bar:
        yield on_record


@contextmanager
def fit_bar() -> Iterator[Callable[[int, int], None]]:
    """A bar in EM iterations of the whole sweep; yields the `callback` to hand to `fit_sweep`."""
    bar = _bar(desc="fit", unit=" EM iterations")

    def callback(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    with bar:
        yield callback
