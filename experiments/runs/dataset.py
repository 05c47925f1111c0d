"""A run folder's dataset: its runs, what they are called, and what became of them."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from seedmap import hmm
from seedmap.errors import UserError
from seedmap.hmm.readers.criterion import Criterion, parse_criterion
from seedmap.hmm.readers.memory import long_of_arrays
from seedmap.hmm.readers.run_table import run_table
from seedmap.hmm.training_map.outcome import convergence_time
from seedmap.runs import Runs

CONVERGENCE = "convergence"  # in metrics.nc of an import: the exact time of every seed
CONVERGED = "converged"  # an attribute there: what convergence is, such as "train_loss < 1.6"


def dataset_runs(
    dataset: xr.Dataset, metrics: Sequence[str] = (), threshold: float | None = None
) -> Runs:
    """Returns the runs of a dataset; a run is named by its seed.

    A seed that diverged is cut at its first record that is not finite; one with fewer than 2
    records left is left out, with a warning.

    Args:
        dataset: dimensions seed, step.
        metrics: names of the variables the HMM sees; none for those of Hu et al. (2023) that are
            recorded.
        threshold: of convergence, see `criterion_of`; None: not asked for.

    Raises:
        UserError: a metric is not recorded, or no seed is usable.
    """
    unit = time_unit(dataset)
    times = dataset[unit].values.astype(float)
    columns = {name: dataset[name].values.astype(float) for name in recorded_variables(dataset)}
    seeds, diverged = list(map(str, dataset.seed.values)), dataset.diverged.values
    ended = (diverged >= 0)[:, None] & (dataset.step.values >= diverged[:, None])
    long = long_of_arrays(seeds, unit, times, columns, ended)
    table = run_table(long, list(metrics) or None, steps=times)
    rows = seed_rows(dataset, table.sequences.runs)
    convergence, criterion = np.full(len(rows), np.nan), None
    if threshold is not None:
        convergence = convergence_times(dataset, threshold)[rows]
        criterion = criterion_of(dataset, threshold)
    return Runs(
        table.sequences,
        table.steps,
        unit,
        convergence,
        diverged[rows] >= 0,
        table.outcomes,
        None if criterion is None else str(criterion),
    )


def recorded_variables(dataset: xr.Dataset) -> list[str]:
    """Returns the names of what was recorded of every seed at every step."""
    return [
        str(name)
        for name in dataset.data_vars
        if dataset[name].dims == ("seed", "step") and name != "state"
    ]


def raw_sequences(dataset: xr.Dataset, metrics: Sequence[str] = ()) -> hmm.Sequences:
    """Returns the first 1000 records [run, time, metric] of `dataset_runs`."""
    return hmm.first_records(dataset_runs(dataset, metrics).sequences)


def check_usable(dataset: xr.Dataset) -> None:
    """Raises UserError where so many seeds diverged at once that no HMM can be fitted."""
    diverged = dataset.diverged.values
    records = np.isfinite(dataset[next(iter(dataset.data_vars))].values).sum(axis=-1)
    usable = int((records >= 2).sum())
    if usable < 5 and (diverged >= 0).any():
        first = int(diverged[diverged >= 0].min())
        raise UserError(
            f"{int((diverged >= 0).sum())} of {len(diverged)} seeds diverged, the first by step "
            f"{first}, and {usable} are left; the HMM needs 5: lower the learning rate"
        )


def seed_rows(dataset: xr.Dataset, runs: Sequence[str]) -> list[int]:
    """Returns the rows of runs, named by their seed, along the dataset's seed dimension."""
    row = {str(seed): i for i, seed in enumerate(dataset.seed.values)}
    return [row[name] for name in runs]


def time_unit(dataset: xr.Dataset) -> str:
    """Returns the unit of times: "epoch" where the dataset knows epochs, else "step"."""
    return "epoch" if "epoch" in dataset.coords else "step"


def criterion_of(dataset: xr.Dataset, threshold: float) -> Criterion | None:
    """Returns what convergence is in a dataset, None where it is not recorded.

    That is what an import was told, else the evaluation accuracy above a threshold.

    Args:
        dataset: of a run folder.
        threshold: takes the place of the number.
    """
    recorded = dataset.attrs.get(CONVERGED)
    if recorded is not None:
        criterion = parse_criterion(str(recorded))
        return Criterion(criterion.column, criterion.compare, float(threshold))
    return Criterion("eval_accuracy", ">", threshold) if "eval_accuracy" in dataset else None


def convergence_times(dataset: xr.Dataset, threshold: float) -> Float[np.ndarray, " seed"]:
    """Returns convergence times, float [seed] in `time_unit`, NaN where a seed never converged.

    All NaN where convergence is not recorded (`criterion_of`). An import has kept the exact times
    of its own threshold; others are those of records of the metrics.
    """
    criterion = criterion_of(dataset, threshold)
    if criterion is None:
        return np.full(dataset.sizes["seed"], np.nan)
    if CONVERGENCE in dataset and dataset.attrs.get(CONVERGED) == str(criterion):
        return dataset[CONVERGENCE].values.astype(float)
    met = criterion.met(dataset[criterion.column].transpose("seed", "step").values)
    times = dataset[time_unit(dataset)].values.astype(float)
    return convergence_time(met.astype(float), times, threshold=0.5)


def last_values(dataset: xr.Dataset, name: str) -> Float[np.ndarray, " seed"]:
    """Returns the last finite value of a variable, float [seed], NaN where there is none.

    Raises:
        UserError: the variable is not recorded; the message lists those that are.
    """
    recorded = recorded_variables(dataset)
    if name not in recorded:
        known = ", ".join(["convergence", *sorted(recorded)])
        raise UserError(f"--outcome {name!r} is not recorded; choose one of: {known}")
    rows = [row[np.isfinite(row)] for row in dataset[name].values.astype(float)]
    return np.array([row[-1] if len(row) else np.nan for row in rows])
