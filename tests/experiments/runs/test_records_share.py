"""The share of records in a training, of programs that take known times."""

from types import SimpleNamespace
from typing import NamedTuple

import jax
import pytest

from seedmap.experiments import load_experiment
from seedmap.experiments.runs import records_share
from seedmap.experiments.runs.records_share import share_of_records


class Way:
    """A program that takes so many seconds of a clock."""

    def __init__(self, clock, seconds, gives):
        self.clock, self.seconds, self.gives = clock, seconds, gives

    def lower(self, state, pool):
        return self

    def compile(self):
        return self

    def __call__(self, state, pool):
        self.clock[0] += self.seconds
        return self.gives


class Fake(NamedTuple):
    """A trainer of such programs."""

    init: object
    walk: Way
    advance: Way


@pytest.mark.parametrize(
    ("a_step", "steps"),
    [(0.001, 16), (0.1, 5), (3.0, 1)],
)
def test_records_are_timed_beside_few_steps_and_compared_with_the_training(
    a_step, steps, monkeypatch
):
    """40 seeds in 8 groups of 5 on a core, 4 records: each of 32 takes as long as 40 steps."""
    experiment = load_experiment("parities")
    config = experiment.presets["paper"].training
    setup = experiment.setup(config)
    between, clock = 160, [0.0]
    trained = 32 * a_step * (between + 40)

    def make_trainer(task, optimizer, batch_size, every, metrics, **options):
        assert every == pytest.approx(steps, abs=1)
        steps_alone = Way(clock, every * a_step, 0)
        return Fake(lambda keys: 0, steps_alone, Way(clock, (every + 40) * a_step, (0, {})))

    def one_lane(placement, work, groups):
        return [work(groups[0])]

    monkeypatch.setattr(records_share, "make_trainer", make_trainer)
    monkeypatch.setattr(records_share, "in_lanes", one_lane)
    monkeypatch.setattr(records_share.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(records_share.jax, "local_devices", lambda: jax.devices()[:1])
    run = SimpleNamespace(dataset=SimpleNamespace(sizes={"step": 4}), train_seconds=trained)
    assert share_of_records(setup, config, run, 5) == pytest.approx(40 / 200)
