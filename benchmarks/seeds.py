"""The cost of more seeds, and the quality of the group size found by trial.

    python benchmarks/seeds.py

Sparse parities at the size of Hu et al. (2023), training steps alone (no metrics). For each number
S of seeds: seed-steps per second with all at once, what S seeds cost over one, and the speed at the
group size found by trial over that at the best of all sizes tried by hand, measured in turns.
"""

import argparse
import time

import jax
import numpy as np
import optax

from seedmap.experiments.tasks.sparse_parities import PAPER, parities_task
from seedmap.trainer import make_streams, make_trainer
from seedmap.trainer.group_size import candidates, choose_seeds_at_once
from seedmap.trainer.placement import place, spread

TASK = parities_task(PAPER)
OPTIMIZER = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1))


def build(size, mesh, every=32):
    return make_trainer(TASK, OPTIMIZER, 32, every, seeds_at_once=size, mesh=mesh)


class Walker:
    """Compiled training of some seeds in groups of a size."""

    def __init__(self, num_seeds: int, size: int):
        placement = place(num_seeds, size, jax.devices()[:1])
        trainer = build(placement.seeds_at_once, placement.mesh)
        self.state = trainer.init(spread(placement, make_streams(range(num_seeds))))
        self.walk = trainer.walk.lower(self.state, ()).compile()
        self.rows = num_seeds
        self.best = np.inf

    def run(self) -> None:
        """Walks 32 steps and keeps the best time."""
        started = time.perf_counter()
        self.state = jax.block_until_ready(self.walk(self.state, ()))
        self.best = min(self.best, time.perf_counter() - started)

    @property
    def speed(self) -> float:
        """Seed-steps per second."""
        return 32 * self.rows / self.best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4, 16, 40, 256])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    single = Walker(1, 1)
    for num_seeds in args.seeds:
        started = time.perf_counter()
        streams = make_streams(range(num_seeds))
        chosen = choose_seeds_at_once(
            lambda size, mesh: build(size, mesh, 8), streams, {}, (), jax.devices()[:1]
        )
        search = time.perf_counter() - started
        sizes = sorted({*candidates(num_seeds), chosen})
        walkers = {size: Walker(num_seeds, size) for size in sizes}
        for _ in range(args.rounds):
            for walker in (single, *walkers.values()):
                walker.run()
        best = max(walkers, key=lambda size: walkers[size].speed)
        speeds = ", ".join(f"{size}: {walker.speed:,.0f}" for size, walker in walkers.items())
        cost = num_seeds * single.speed / walkers[best].speed
        print(
            f"S = {num_seeds}: seed-steps/s by size {{{speeds}}}; cost over one seed {cost:.1f}; "
            f"chose {chosen} in {search:.1f} s, {walkers[chosen].speed / walkers[best].speed:.2f} "
            f"of the best by hand ({best})",
            flush=True,
        )


if __name__ == "__main__":
    main()
