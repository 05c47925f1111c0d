"""What records take of a training, whose program computes them: by steps without them, in turns."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from seedmap.experiments.runs.settings import schedule
from seedmap.experiments.tasks.base import Setup, TrainingConfig
from seedmap.trainer import TrainingRun, choose, make_streams, make_trainer
from seedmap.trainer.placement import Placement, in_lanes, place, share, spread

_STEPS = 16  # at most between the records that are timed
_CALL = 0.5  # seconds of such steps, at most, or one step
_ROUNDS = 5
_SECONDS = 0.1  # of a turn, at least: what is measured may take less than the clock's noise


def share_of_records(
    setup: Setup, config: TrainingConfig, run: TrainingRun, seeds_at_once: int
) -> float:
    """Measures the share of a training's time that its records take: metrics and evaluation.

    A group of replicas on every device, at the start of training, goes through some steps with a
    record and without, in turns; the difference of the least seconds is taken for each record.

    Args:
        setup: task and optimizer.
        config: of the training.
        run: trained.
        seeds_at_once: replicas side by side on a device, as trained.

    Returns:
        0 to 1.
    """
    devices = jax.local_devices()
    trained = place(config.seeds, seeds_at_once, devices)
    turns = run.dataset.sizes["step"] * -(-len(trained.rows) // trained.lanes)
    between = schedule(config, setup.task.num_train)[1]
    a_step = run.train_seconds / (turns * between)
    steps = int(np.clip(_CALL / a_step, 1, min(between, _STEPS)))
    placement = place(min(config.seeds, seeds_at_once * len(devices)), seeds_at_once, devices)
    record = _seconds_of_a_record(setup, config, placement, steps)
    return min(1.0, record * turns / run.train_seconds)


def _seconds_of_a_record(
    setup: Setup, config: TrainingConfig, placement: Placement, steps: int
) -> float:
    """Seconds of a group's record, all lanes at work: of some steps with it less those without."""
    trainer = make_trainer(
        setup.task,
        setup.optimizer,
        config.batch_size,
        steps,
        choose(config.record, setup.rule, config.spectrum),
        precision=config.precision,
        mesh=placement.mesh,
    )
    streams = make_streams(range(placement.num_replicas))
    groups = [trainer.init(keys) for keys in spread(placement, streams)]
    pool = share(placement, setup.task.pool)
    walk, advance = (
        way.lower(groups[0], pool).compile() for way in (trainer.walk, trainer.advance)
    )

    def with_record(state):
        return jax.block_until_ready(advance(state, pool))[0]

    def without(state):
        return jax.block_until_ready(walk(state, pool))

    def turn(way, calls):
        """Seconds of a call, of so many in a row in every lane."""
        nonlocal groups
        began = time.perf_counter()
        groups = in_lanes(placement, lambda state: _repeat(way, calls, state), groups)
        return (time.perf_counter() - began) / calls

    turn(with_record, 1), turn(without, 1)  # the first calls are slower
    calls = math.ceil(_SECONDS / max(turn(without, 1), 1e-6))
    rounds = [(turn(with_record, calls), turn(without, calls)) for _ in range(_ROUNDS)]
    recording, walking = np.min(rounds, axis=0)
    return max(0.0, recording - walking)


def _repeat(way: Callable[[Any], Any], calls: int, state: Any) -> Any:
    for _ in range(calls):
        state = way(state)
    return state
