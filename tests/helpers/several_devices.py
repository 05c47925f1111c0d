"""Run by test_devices in processes of their own: simulated CPU devices, or several hosts.

    python several_devices.py one NUM_DEVICES SEEDS_AT_ONCE FILE
    python several_devices.py host PORT PROCESS NUM_PROCESSES FOLDER

The first saves all records and parameters to an npz file and prints how many collective operations
the program has; the second trains its share and prints its seeds.
"""

import os
import sys
from pathlib import Path

kind, *arguments = sys.argv[1:] if __name__ == "__main__" else ["imported"]
if kind == "one":
    os.environ["XLA_FLAGS"] = (
        f"--xla_force_host_platform_device_count={arguments[0]} --xla_backend_optimization_level=0"
    )

import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from seedmap.experiments.tasks.sparse_parities import ParitiesConfig, parities_task  # noqa: E402
from seedmap.trainer import Saving, make_streams, make_trainer, train  # noqa: E402
from seedmap.trainer.placement import place, spread  # noqa: E402

TASK = parities_task(ParitiesConfig(hidden=16, bits=8, train_size=64, test_size=20))
OPTIMIZERS = {"sgd": optax.sgd(0.05), "adamw": optax.adamw(0.01)}
SIZES = {"batch_size": 16, "steps": 40, "record_every": 8}


def collectives(num_seeds, seeds_at_once):
    """Collective operations in the compiled program of a record."""
    placement = place(num_seeds, seeds_at_once, jax.devices())
    trainer = make_trainer(
        TASK, OPTIMIZERS["adamw"], 16, 8, seeds_at_once=placement.seeds_at_once, mesh=placement.mesh
    )
    state = trainer.init(spread(placement, make_streams(range(num_seeds))))
    text = trainer.advance.lower(state, ()).compile().as_text()
    names = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    return sum(text.count(name) for name in names)


def values(run, name):
    """Everything a run gives, by name."""
    leaves = jax.tree_util.tree_leaves_with_path(run.params)
    found = {f"{name}/{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}
    return found | {f"{name}/{variable}": run.dataset[variable].values for variable in run.dataset}


def main():
    """One training, or one share of it."""
    if kind == "one":
        at_once, file = int(arguments[1]), arguments[2]
        found = {}
        for name, optimizer in OPTIMIZERS.items():
            run = train(TASK, optimizer, range(7), seeds_at_once=at_once, **SIZES)
            found |= values(run, name)
        np.savez(file, **found)
        print(collectives(7, at_once))
        return
    port, process, num_processes, folder = arguments
    jax.distributed.initialize(f"localhost:{port}", int(num_processes), int(process))
    options = SIZES | {"seeds_at_once": 2, "saving": Saving(Path(folder))}
    print(train(TASK, OPTIMIZERS["adamw"], range(7), **options).dataset.seed.values.tolist())


if __name__ == "__main__":
    main()
