"""Replicas side by side on a core: the speed at each number, and that of the rule over the best.

    python benchmarks/seeds.py                   # on all cores
    python benchmarks/seeds.py --lanes 1 2       # on one, then on two

Training steps alone (no metrics) of parities at two widths, modular addition and SmallCNN. All
numbers take turns; of each the best round counts.
"""

import argparse
import time
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from seedmap.cores import usable_cores
from seedmap.experiments import load_experiment
from seedmap.experiments.processes.cores import use_cores
from seedmap.trainer import make_streams, make_trainer
from seedmap.trainer.group_size import by_network
from seedmap.trainer.placement import Placement, in_lanes, place, share, spread


class Case(NamedTuple):
    """An experiment's preset, changes to it, replicas, steps of a turn, and numbers to try."""

    experiment: str
    preset: str
    changes: dict
    replicas: int
    steps: int
    sizes: tuple[int, ...]


CASES = {
    "parities-128": Case("parities", "paper", {}, 40, 160, (1, 2, 4, 5, 8, 10, 20, 40)),
    "parities-1000": Case("parities", "paper", {"hidden": 1000}, 16, 64, (1, 2, 4, 8, 16)),
    "modular-stabilised": Case("modular-stabilised", "cpu", {}, 8, 9, (1, 2, 4, 8)),
    "smallcnn": Case("smallcnn", "quick", {"batch_size": 32, "train_size": 320}, 4, 10, (1, 2, 4)),
}


class Walker:
    """Compiled training of a case's replicas in groups of a size."""

    def __init__(self, case: Case, size: int):
        config = load_experiment(case.experiment).presets[case.preset].training
        config = replace(config, **case.changes)
        task, optimizer, *_ = load_experiment(case.experiment).setup(config)
        self.rule = by_network(task)
        self.placement = place(case.replicas, size, jax.devices())
        trainer = make_trainer(
            task, optimizer, config.batch_size, case.steps, (), mesh=self.placement.mesh
        )
        streams = make_streams(range(case.replicas))
        self.groups = [trainer.init(keys) for keys in spread(self.placement, streams)]
        pool = share(self.placement, task.pool)
        walk = trainer.walk.lower(self.groups[0], pool).compile()
        self.walk = lambda state: jax.block_until_ready(walk(state, pool))

    def run(self, lanes: int) -> tuple[float, float]:
        """Seconds of a turn, and the cores that were busy."""
        placement: Placement = self.placement._replace(lanes=lanes)
        started, busy = time.perf_counter(), time.process_time()
        self.groups = in_lanes(placement, self.walk, self.groups)
        seconds = time.perf_counter() - started
        return seconds, (time.process_time() - busy) / seconds


def main() -> None:
    """Prints a line per case, number of lanes and number of replicas side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), help=", ".join(CASES))
    parser.add_argument("--lanes", type=int, nargs="+", default=[usable_cores()])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    use_cores()
    for name in args.cases:
        case = CASES[name]
        walkers = {size: Walker(case, size) for size in case.sizes}
        turns = [(size, lanes) for lanes in args.lanes for size in walkers]
        timed = {turn: [] for turn in turns}
        for _ in range(args.rounds):
            for size, lanes in turns:
                timed[size, lanes].append(walkers[size].run(lanes))
        for lanes in args.lanes:
            speeds = {
                size: case.replicas * case.steps / min(s for s, _ in timed[size, lanes])
                for size in walkers
            }
            rule, best = walkers[case.sizes[0]].rule, max(speeds.values())
            table = ", ".join(f"{size}: {speed:,.0f}" for size, speed in speeds.items())
            busy = np.median([cores for size in walkers for _, cores in timed[size, lanes]])
            print(
                f"{name}, {lanes} lanes, seed-steps/s by replicas side by side: {table}; "
                f"the rule's {rule}: {speeds[rule] / best:.2f} of the best; {busy:.2f} cores busy",
                flush=True,
            )


if __name__ == "__main__":
    main()
