"""The host's loop around the compiled program: advance, collect records, tell how far it is."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import xarray as xr

from trainer.metrics import weight_metrics
from trainer.streams import Streams, make_streams
from trainer.task import Task
from trainer.training import batches_per_epoch, make_trainer

MAX_SEED = 2**32 - 1


class TrainingRun(NamedTuple):
    """What training gives.

    Attributes:
        dataset: dimensions `seed`, `step`; one float variable for each weight metric and outcome,
            NaN from the record at which a seed diverged on; coordinates `seed`, `step`
            (optimisation steps done) and `epoch` (passes over the training data, along `step`).
        params: final parameters, every leaf with a leading seed axis; a diverged seed's are its
            last finite ones.
        diverged: int32 [seed], the optimisation step at which a non-finite value was first seen
            at a record, else -1.
        compile_seconds: wall time of tracing and compiling.
        train_seconds: wall time of training after that.
    """

    dataset: xr.Dataset
    params: Any
    diverged: np.ndarray
    compile_seconds: float
    train_seconds: float


def check_seeds(seeds: Sequence[int]) -> None:
    """Raises ValueError unless these are different seed numbers, at least one."""
    if isinstance(seeds, int) or not hasattr(seeds, "__len__"):
        raise ValueError(f"seeds is {seeds}; give the numbers, for instance range(40)")
    if len(seeds) == 0:
        raise ValueError("seeds: none given; give at least one seed number")
    odd = [seed for seed in seeds if not isinstance(seed, int | np.integer)]
    if odd:
        raise ValueError(f"seeds: {odd[0]!r} is not a whole number")
    if len(set(seeds)) != len(seeds):
        raise ValueError("seeds: a number stands twice; each seed may be trained once")
    if min(seeds) < 0 or max(seeds) > MAX_SEED:
        raise ValueError(
            f"seeds {min(seeds)} to {max(seeds)}: numbers must lie between 0 and {MAX_SEED}"
        )


def check_steps(steps: int, record_every: int) -> None:
    """Raises ValueError unless training is a whole number of records long."""
    if steps < 1 or steps % record_every:
        raise ValueError(
            f"steps is {steps}; it must be a positive multiple of record_every ({record_every})"
        )


def _to_dataset(
    records: list[dict[str, np.ndarray]], seeds: Sequence[int], record_every: int, per_epoch: int
) -> xr.Dataset:
    step = record_every * np.arange(1, len(records) + 1)
    variables = {
        name: (("seed", "step"), np.stack([record[name] for record in records], axis=1))
        for name in records[0]
    }
    coordinates = {
        "seed": np.asarray(seeds, dtype=np.int64),
        "step": ("step", step, {"units": "optimisation steps"}),
        "epoch": ("step", step / per_epoch, {"units": "passes over the training data"}),
    }
    return xr.Dataset(variables, coordinates)


def train(
    task: Task,
    optimizer: optax.GradientTransformation,
    seeds: Sequence[int],
    *,
    batch_size: int,
    steps: int,
    record_every: int,
    vary: Sequence[str] = Streams._fields,
    metrics: Callable[[Any], dict[str, jax.Array]] = weight_metrics,
    on_record: Callable[[int, dict[str, np.ndarray] | None], None] | None = None,
) -> TrainingRun:
    """Trains all seeds as one compiled program.

    Args:
        task: what to learn.
        optimizer: any optax transformation.
        seeds: seed numbers, each once; a seed's result does not depend on the others but for
            rounding (see the README on batched and single products).
        batch_size: examples per step.
        steps: optimisation steps, a multiple of `record_every`.
        record_every: optimisation steps between records.
        vary: the random streams that differ between seeds (`Streams`).
        metrics: params -> name to scalar, computed in-graph at each record.
        on_record: called with (0, None) before compilation, then after each record with the steps
            done and the record (name to [seed]).

    Returns:
        TrainingRun.

    Raises:
        ValueError: an argument is out of its range; the message names it.
    """
    trainer = make_trainer(task, optimizer, batch_size, record_every, metrics)
    check_seeds(seeds)
    check_steps(steps, record_every)
    if on_record is not None:
        on_record(0, None)
    started = time.perf_counter()
    state = trainer.init(make_streams(seeds, vary))
    advance = trainer.advance.lower(state).compile()
    compiled = time.perf_counter()
    records = []
    for count in range(1, steps // record_every + 1):
        state, record = advance(state)
        records.append(jax.device_get(record))
        if on_record is not None:
            on_record(count * record_every, records[-1])
    return TrainingRun(
        dataset=_to_dataset(
            records, seeds, record_every, batches_per_epoch(task.num_train, batch_size)
        ),
        params=jax.device_get(state.seeds.params),
        diverged=np.asarray(state.seeds.diverged),
        compile_seconds=compiled - started,
        train_seconds=time.perf_counter() - compiled,
    )
