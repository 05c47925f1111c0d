"""Run by test_devices in processes of their own: simulated CPU devices, or several hosts.

    python several_devices.py one NUM_DEVICES NUM_SEEDS SEEDS_AT_ONCE
    python several_devices.py host PORT PROCESS NUM_PROCESSES FOLDER

Prints a digest of all records and parameters.
"""

import hashlib
import os
import sys
from pathlib import Path

kind, *arguments = sys.argv[1:]
if kind == "one":
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={arguments[0]}"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from experiments.sparse_parities import ParitiesConfig, parities_task  # noqa: E402
from trainer import make_streams, make_trainer, train  # noqa: E402
from trainer.placement import place, spread  # noqa: E402

TASK = parities_task(ParitiesConfig(hidden=16, bits=8, train_size=64, test_size=20))
OPTIMIZER = optax.adamw(0.01)
SIZES = {"batch_size": 16, "steps": 40, "record_every": 8}


def digest(run):
    """A digest to the bit of everything a run gives."""
    values = [run.dataset[name].values for name in sorted(run.dataset)]
    leaves = [*values, *jax.tree.leaves(run.params), run.diverged, run.converged]
    return hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in leaves)).hexdigest()


def collectives(num_seeds, seeds_at_once):
    """Collective operations in the compiled program of a record."""
    placement = place(num_seeds, seeds_at_once, jax.devices())
    trainer = make_trainer(
        TASK, OPTIMIZER, 16, 8, seeds_at_once=placement.seeds_at_once, mesh=placement.mesh
    )
    state = trainer.init(spread(placement, make_streams(range(num_seeds))))
    text = trainer.advance.lower(state, ()).compile().as_text()
    names = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    return sum(text.count(name) for name in names)


def main():
    """One training; prints its digest."""
    if kind == "one":
        num_seeds, at_once = map(int, arguments[1:])
        run = train(TASK, OPTIMIZER, range(num_seeds), seeds_at_once=at_once, **SIZES)
        print(digest(run), collectives(num_seeds, at_once))
        return
    port, process, num_processes, folder = arguments
    jax.distributed.initialize(f"localhost:{port}", int(num_processes), int(process))
    run = train(TASK, OPTIMIZER, range(7), seeds_at_once=2, folder=Path(folder), **SIZES)
    print(digest(run), run.dataset.seed.values.tolist())


if __name__ == "__main__":
    main()
