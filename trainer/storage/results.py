"""The results of a training, from its memory or from the parts in its folder."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float, Int32

from seedmap import limits
from seedmap.errors import UserError
from seedmap.trainer.storage import folder as store, records
from seedmap.trainer.storage.checkpoints import Saved, checkpoints, leaf_name, load_latest


class TrainingRun(NamedTuple):
    """The results of a training.

    Attributes:
        dataset: dimensions `seed`, `step`; one float variable for each metric and outcome, NaN from
            the record at which a seed diverged on, and after the record at which one stopped early;
            coordinates `seed`, `step` (optimisation steps done), `epoch` (passes over the training
            data, along `step`), and along `seed` the hyperparameters that differ between replicas.
        params: final parameters, every leaf with a leading seed axis; a diverged seed's are its
            last finite ones.
        state: final state of the model, the same way; () for a model without one.
        diverged: int32 [seed], the optimisation step at which a non-finite value was first seen
            at a record, else -1.
        converged: int32 [seed], the step of the first record with an evaluation accuracy above the
            threshold, else -1; -1 for all without a threshold.
        compile_seconds: wall time of tracing and compiling.
        train_seconds: wall time of training after that.
    """

    dataset: xr.Dataset
    params: Any
    state: Any
    diverged: Int32[np.ndarray, " seed"]
    converged: Int32[np.ndarray, " seed"]
    compile_seconds: float
    train_seconds: float


def make_dataset(
    values: Mapping[str, Float[np.ndarray, "seed record"]],
    seeds: Sequence[int],
    hyperparameters: Mapping[str, Sequence[float]],
    record_every: int,
    per_epoch: int,
) -> xr.Dataset:
    """Makes a dataset with its coordinates of records [seed, record] by name."""
    count = next(iter(values.values())).shape[1]
    step = record_every * np.arange(1, count + 1)
    coordinates = {
        "seed": np.asarray(seeds, dtype=np.int64),
        "step": ("step", step, {"units": "optimisation steps"}),
        "epoch": ("step", step / per_epoch, {"units": "passes over the training data"}),
        **{name: ("seed", np.asarray(column)) for name, column in hyperparameters.items()},
    }
    return xr.Dataset(
        {name: (("seed", "step"), array) for name, array in values.items()}, coordinates
    )


def nest(paths: Iterable[Sequence[str]], leaves: Iterable[np.ndarray]) -> Any:
    """Makes a tree of dictionaries of the leaves and their paths; () without leaves."""
    tree: Any = {}
    for path, leaf in zip(paths, leaves, strict=True):
        if not path:
            return leaf
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = leaf
    return tree or ()


def unnest(target: Any, nested: Any) -> Any:
    """Inverts `nest`: gives a tree like `target`, its leaves those of the nested dictionaries.

    Raises:
        UserError: a leaf is missing.
    """

    def find(path, _):
        branch = nested
        for key in path:
            if not isinstance(branch, Mapping) or leaf_name(key) not in branch:
                raise UserError(f"{jax.tree_util.keystr(path)} is not among what training saved")
            branch = branch[leaf_name(key)]
        return branch

    return jax.tree_util.tree_map_with_path(find, target)


def _branch(saved: Saved, name: str) -> Any:
    """Returns what a checkpoint holds under a name."""
    under = [
        (path[1:], leaf)
        for path, leaf in zip(saved.paths, saved.leaves, strict=True)
        if path[0] == name
    ]
    return nest(*zip(*under, strict=True)) if under else ()


def _seconds(folder: Path) -> tuple[float, float]:
    """Adds up the seconds of compiling and of training in all sessions, from the log.

    Raises:
        UserError: the log is too large to be read.
    """
    path = folder / store.LOG
    if not path.exists():
        return 0.0, 0.0
    limits.check_whole(path)
    compiled = trained = 0.0
    for line in path.read_bytes().splitlines():
        try:
            entry = limits.parse_json(line.decode())
            compiled += entry.get("compile_seconds", 0.0)
            trained += entry.get("seconds", 0.0)
        except (ValueError, AttributeError, TypeError):  # a line cut short: times alone suffer
            continue
    return compiled, trained


def collect_part(folder: Path, job: store.Job) -> TrainingRun:
    """Reads the results of one part of a training that has come to its end, by its `job.json`.

    Raises:
        UserError: the part is missing, or its last checkpoint does not go with its last record.
    """
    values = records.read_records(store.records_of(folder, job))
    count = next(iter(values.values())).shape[1]
    with checkpoints(folder / store.CHECKPOINTS) as manager:
        saved = load_latest(manager, job.id, at_most=job.steps)
    if saved is None or saved.step != count * job.record_every or not saved.finished:
        raise UserError(f"{folder} is not trained to its end; resume it")
    dataset = make_dataset(values, job.seeds, job.hyperparameters, job.record_every, job.per_epoch)
    return TrainingRun(
        dataset,
        _branch(saved, "params"),
        _branch(saved, "state"),
        _branch(saved, "diverged"),
        _branch(saved, "converged"),
        *_seconds(folder),
    )


def collect(folder: Path) -> TrainingRun:
    """Reads the results of a training in a folder, those of all hosts in the seeds' order.

    Times are the longest of all parts; parameters come as nested dictionaries of numpy arrays.

    Raises:
        UserError: a part is missing or not trained to its end.
    """
    runs = [collect_part(entry, job) for entry, job in store.read_jobs(folder).items()]
    if len(runs) == 1:
        return runs[0]
    params, state, diverged, converged = jax.tree.map(
        lambda *leaves: np.concatenate(leaves), *[run[1:5] for run in runs]
    )
    dataset = xr.concat([run.dataset for run in runs], "seed")  # parts may stop at other steps
    return TrainingRun(
        dataset,
        params,
        state,
        diverged,
        converged,
        max(run.compile_seconds for run in runs),
        max(run.train_seconds for run in runs),
    )
