"""Progress bars for training and fitting, on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

from seedmap.experiments.checkpoints.measuring import Progress as Measured
from seedmap.trainer import Progress


def _bar(**options) -> tqdm:
    interval = 0.5 if sys.stderr.isatty() else 5.0  # a log file wants fewer lines
    return tqdm(mininterval=interval, file=sys.stderr, dynamic_ncols=True, **options)


@contextmanager
def training_bar() -> Iterator[Callable[[Progress], None]]:
    """Yields the `on_progress` to hand to the trainer: a bar in seed-steps, from its first call.

    Example:
        with sm.training_bar() as on_progress:
            run = sm.train(task, optimizer, seeds, ..., on_progress=on_progress)
    """
    bars = []

    def on_progress(progress: Progress) -> None:
        done, total = progress.num_seeds * progress.step, progress.num_seeds * progress.steps
        if not bars:
            bars.append(_bar(total=total, desc="compile", unit=" seed-steps", unit_scale=True))
            return
        (bar,) = bars
        if progress.record is None:  # compiled: the rate is to be that of training alone
            bar.set_description("train", refresh=False)
            bar.reset()
            bar.initial = bar.n = bar.last_print_n = done  # of an earlier session
            return
        states = [f"step {progress.step}/{progress.steps}", f"{progress.num_converged} converged"]
        if progress.diverged:
            seeds = ", ".join(f"{seed} at {step}" for seed, step in progress.diverged.items())
            states.append(f"{len(progress.diverged)} diverged ({seeds})")
        bar.set_postfix_str(", ".join(states), refresh=False)
        bar.update(done - bar.n)

    with _closing(bars):
        yield on_progress


@contextmanager
def fit_bar() -> Iterator[Callable[[int, int], None]]:
    """Yields the `callback` to hand to a fit: a bar in fits, of Gaussian HMMs in iterations.

    Example:
        with sm.fit_bar() as callback:
            m = sm.fit_map(runs, callback=callback)
    """
    with _counting("fit", "") as callback:
        yield callback


@contextmanager
def group_bar() -> Iterator[Callable[[int, int], None]]:
    """Yields the `callback` to hand to `forecast_run`: a bar in groups of seeds left out."""
    with _counting("forecast", " groups") as callback:
        yield callback


@contextmanager
def checkpoint_bar() -> Iterator[Callable[[Measured], None]]:
    """Yields the `callback` to hand to `import_checkpoints`: a bar in bytes of weights.

    It is drawn once a checkpoint is measured, and its rate is of what this session measures.
    """
    bars: list[tqdm] = []
    begun: list[tuple[float, int]] = []  # when, and the bytes of an earlier session

    def callback(progress: Measured) -> None:
        if not begun:
            begun.append((time.time(), progress.bytes_done))
            return
        started, before = begun[0]
        if not bars:
            options = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
            bars.append(_bar(total=progress.bytes_total, initial=before, desc="import", **options))
            bars[0].start_t = started
        (bar,) = bars
        bar.set_postfix_str(f"{progress.done}/{progress.total} checkpoints", refresh=False)
        bar.update(progress.bytes_done - bar.n)

    with _closing(bars):
        yield callback


@contextmanager
def overhead_bar(label: str, unit: str, total: int) -> Iterator[Callable[[str, int], None]]:
    """Yields the `on_turn` to hand to `measure`: a bar in turns that says what is under way."""
    bar = _bar(total=total, desc=label, unit=unit)

    def on_turn(what: str, done: int) -> None:
        bar.set_postfix_str(what, refresh=sys.stderr.isatty())
        bar.update(done)

    with _closing([bar]):
        yield on_turn


@contextmanager
def compile_bar() -> Iterator[Callable[[str], None]]:
    """Yields a callback (what) that says what is being compiled, and how many are done."""
    bar = _bar(desc="compile", unit=" programs")
    begun: list[str] = []

    def on_program(what: str) -> None:
        bar.set_postfix_str(what, refresh=True)
        bar.update(len(begun) > 0)
        begun.append(what)

    with _closing([bar]):
        yield on_program


@contextmanager
def process_bar() -> Iterator[Callable[[int, int], None]]:
    """Yields the callback of a study of processes: a bar in steps of all of them."""
    with _counting("processes", " steps") as callback:
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
