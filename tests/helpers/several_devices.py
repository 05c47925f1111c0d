"""Run by test_devices in processes of their own: simulated CPU devices, or several hosts.

    python several_devices.py devices OPTIMIZER FOLDER COUNT ...
    python several_devices.py stress NUM_DEVICES SECONDS
    python several_devices.py host PORT PROCESS NUM_PROCESSES FOLDER

The first trains the same seeds on each COUNT of 8 simulated devices, and a training cut short on
one number and resumed on others, and saves all that each gives; the second records every metric by
every method for so many seconds and prints how often; the third trains its share and prints its
seeds.
"""

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

kind, *arguments = sys.argv[1:] if __name__ == "__main__" else ["imported"]
if kind in ("devices", "stress"):
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from seedmap.experiments.tasks.sparse_parities import ParitiesConfig, parities_task  # noqa: E402
from seedmap.trainer import MEASURES, Saving, choose, placement, train  # noqa: E402

TASK = parities_task(ParitiesConfig(hidden=16, bits=8, train_size=64, test_size=20))
OPTIMIZERS = {"sgd": optax.sgd(0.05), "adamw": optax.adamw(0.01)}
SIZES = {"batch_size": 16, "steps": 40, "record_every": 8}


class CutError(Exception):
    """Ends a training in the middle."""


def values(run):
    """Everything a run gives, by name."""
    leaves = jax.tree_util.tree_leaves_with_path(run.params)
    found = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    return found | {variable: run.dataset[variable].values for variable in run.dataset}


def resumed(optimizer, folder):
    """A training of which every record is taken on another number of devices."""

    def cut_at_the_second():
        shown = []

        def cut(progress):
            shown.extend([progress.step] * (progress.record is not None))
            if len(shown) == 2:  # the first is saved by now
                raise CutError

        return cut

    for count in (2, 1, 8, 4, 1):
        options = {"seeds_at_once": 2, "devices": jax.devices()[:count]}
        options |= {"on_progress": cut_at_the_second()}
        saving = Saving(folder, resume=True, save_seconds=0.0)
        try:
            return train(TASK, optimizer, range(15), saving=saving, **options, **SIZES)
        except CutError:
            continue
    raise AssertionError("it was cut more often than it has records")


def keep_compiled(folder):
    """Has programs compiled once: what is asked is what they do."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def stress(count, seconds):
    """Trainings whose every step is recorded, on so many devices for so long; how many."""
    every = (*MEASURES, "weights/layers", "stable_rank/layers")
    options = {"devices": jax.devices()[:count], "seeds_at_once": 3, "batch_size": 16}
    until, trained = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        for method in ("exact", "gram", "lanczos"):
            metrics = choose(every, spectrum=method)
            options |= {"metrics": metrics, "steps": 400, "record_every": 1}
            train(TASK, OPTIMIZERS["sgd"], range(24), **options)
            trained += 1
    return trained


def main():
    """All trainings, or one share of one."""
    if kind == "stress":
        placement.usable_cores = lambda: 8
        with TemporaryDirectory() as folder:
            keep_compiled(Path(folder))
            print(stress(int(arguments[0]), float(arguments[1])))
        return
    if kind == "devices":
        placement.usable_cores = lambda: 8  # lanes in earnest, whatever the machine has
        optimizer, folder, *counts = arguments
        optimizer, folder = OPTIMIZERS[optimizer], Path(folder)
        keep_compiled(folder / "xla")
        for count in map(int, counts):
            options = {"seeds_at_once": 2, "devices": jax.devices()[:count]}
            run = train(TASK, optimizer, range(15), **options, **SIZES)
            np.savez(folder / f"{count}.npz", **values(run))
        np.savez(folder / "resumed.npz", **values(resumed(optimizer, folder / "run")))
        return
    port, process, num_processes, folder = arguments
    jax.distributed.initialize(f"localhost:{port}", int(num_processes), int(process))
    options = SIZES | {"seeds_at_once": 2, "saving": Saving(Path(folder))}
    print(train(TASK, OPTIMIZERS["adamw"], range(7), **options).dataset.seed.values.tolist())


if __name__ == "__main__":
    main()
