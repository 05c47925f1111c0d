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
    experiment: Experiment, config: TrainingConfig, threshold: float
) -> Iterator[Callable[[int, dict[str, np.ndarray] | None], None]]:
    """Yields the `on_record` to hand to the trainer: a bar in seed-steps, from its first call."""
    bars, seeds = [], config.seeds

    def on_record(step: int, record: dict[str, np.ndarray] | None) -> None:
        if record is None:
            num_train = experiment.setup(config).task.num_train
            steps = config.epochs * batches_per_epoch(num_train, config.batch_size)
            unit = {"unit": " seed-steps", "unit_scale": True}
            bars.append(_bar(total=seeds * steps, desc="compile", **unit))
            return
        (bar,) = bars
        if bar.n == 0:  # the rate is that of training: it leaves out what came before this record
            bar.set_description("train", refresh=False)
            bar.reset()
            bar.initial = bar.n = seeds * step
        above = int(np.sum(record["eval_accuracy"] > threshold))
        steps = bar.total // seeds
        bar.set_postfix_str(f"step {step}/{steps}, {above} above threshold", refresh=False)
        bar.update(seeds * step - bar.n)

    with _closing(bars):
        yield on_record


@contextmanager
def fit_bar() -> Iterator[Callable[[int, int], None]]:
    """Yields the `callback` to hand to `fit_run`: a bar in EM iterations of the whole sweep."""
    with _counting("fit", " EM iterations") as callback:
        yield callback


@contextmanager
def group_bar() -> Iterator[Callable[[int, int], None]]:
    """Yields the `callback` to hand to `forecast_run`: a bar in groups of seeds left out."""
    with _counting("forecast", " groups") as callback:
        yield callback


@contextmanager
def _counting(label: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a callback (done, total) that draws a bar from its first call on."""
    bars = []

    def callback(done: int, total: int) -> None:
        if not bars:
            bars.append(_bar(total=total, desc=label, unit=unit))
        bars[0].update(done - bars[0].n)

    with _closing(bars):
        yield callback


@contextmanager
def _closing(bars: list[tqdm]) -> Iterator[None]:
    try:
        yield
    finally:
        for bar in bars:
            bar.close()
