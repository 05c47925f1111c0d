"""From a dataset of metrics and a fitted HMM to what they say about training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from seedmap import hmm
from seedmap.errors import UserError
from seedmap.experiments.tasks.base import MapConfig
from seedmap.hmm.readers.read import from_xarray
from seedmap.hmm.training_map.build import TrainingMap, build_map
from seedmap.hmm.training_map.dissimilarity import dissimilarity
from seedmap.hmm.training_map.regression import (
    READABLE_PVALUE,
    Regression,
    bag_of_states,
    convergence_time,
    detours,
    permutation_pvalue,
    regress,
)

FIRST_CHECKPOINTS = 1000  # Hu et al. 2023: z-scores, and the HMM, see these


def raw_sequences(dataset: xr.Dataset, metrics: Sequence[str] = ()) -> hmm.Sequences:
    """The metrics of all usable seeds as the HMM sees them; runs are named by their seed.

    A seed that diverged is cut at its first checkpoint that is not finite; one with fewer than 2
    checkpoints left is left out, with a warning.

    Args:
        dataset: dimensions seed, step.
        metrics: names of the variables to take; none for those of the paper that are there.

    Returns:
        Sequences [run, time, metric] of the first 1000 checkpoints; later ones are not used.

    Raises:
        UserError: a metric is not recorded, or no seed is usable.
    """
    raw = from_xarray(dataset, list(metrics) or None).sequences
    return hmm.from_arrays(
        raw.values[:, :FIRST_CHECKPOINTS],
        np.minimum(raw.lengths, FIRST_CHECKPOINTS),
        raw.metrics,
        raw.runs,
    )


def metric_sequences(dataset: xr.Dataset, metrics: Sequence[str] = ()) -> hmm.Sequences:
    """`raw_sequences`, z-scored within each run (Hu et al. 2023)."""
    return hmm.z_score(raw_sequences(dataset, metrics), first=FIRST_CHECKPOINTS)


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
    """Where runs, named by their seed, stand along the dataset's seed dimension."""
    row = {str(seed): i for i, seed in enumerate(dataset.seed.values)}
    return [row[name] for name in runs]


def time_unit(dataset: xr.Dataset) -> str:
    """What times are counted in: "epoch" where the dataset knows epochs, else "step"."""
    return "epoch" if "epoch" in dataset.coords else "step"


def convergence_times(dataset: xr.Dataset, threshold: float) -> np.ndarray:
    """Time of convergence of every seed, float [seed] in `time_unit`, NaN where it never came.

    Datasets without `eval_accuracy` (runs trained elsewhere) have no convergence: all NaN.
    """
    if "eval_accuracy" not in dataset:
        return np.full(dataset.sizes["seed"], np.nan)
    times = dataset[time_unit(dataset)].values.astype(float)
    return convergence_time(dataset.eval_accuracy.values, times, threshold)


def last_values(dataset: xr.Dataset, name: str) -> np.ndarray:
    """Last finite value of a recorded variable, float [seed], NaN where there is none.

    Raises:
        UserError: the variable is not recorded; the message lists those that are.
    """
    recorded = [v for v in dataset.data_vars if dataset[v].dims == ("seed", "step")]
    if name not in recorded or name == "state":
        known = ", ".join(["convergence", *sorted(set(recorded) - {"state"})])
        raise UserError(f"--outcome {name!r} is not recorded; choose one of: {known}")
    rows = [row[np.isfinite(row)] for row in dataset[name].values.astype(float)]
    return np.array([row[-1] if len(row) else np.nan for row in rows])


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a fitted HMM says about a set of runs; [run] counts the runs the HMM can use.

    Attributes:
        sequences: the z-scored metrics.
        paths: int [run, time], decoded states, -1 past a run's end.
        training_map: the pruned map.
        bag: float [run, state], share of checkpoints in each state.
        convergence: float [seed], time of convergence of every seed, NaN where it never came.
        run_convergence: float [run], the same for the usable runs.
        outcome: float [run], what the regression explains; NaN for a run that has no part in it.
        regression: the outcome on the bag of states.
        permutation_pvalue: of the regression's R^2, over 9999 shuffles of the outcome.
        detours: detour states, where the coefficients may be read: the outcome is convergence
            and the regression's p-value is below 0.001 (Hu et al. 2023); else none.
        firm_detours: those whose coefficient's interval excludes 0.
        dissimilarity: mean over pairs of runs, by ground metric.
    """

    sequences: hmm.Sequences
    paths: np.ndarray
    training_map: TrainingMap
    bag: np.ndarray
    convergence: np.ndarray
    run_convergence: np.ndarray
    outcome: np.ndarray
    regression: Regression
    permutation_pvalue: float | None
    detours: list[int]
    firm_detours: list[int]
    dissimilarity: dict[str, float]


def analyse(
    dataset: xr.Dataset,
    sequences: hmm.Sequences,
    parameters: hmm.Parameters,
    paths: np.ndarray,
    config: MapConfig,
) -> Analysis:
    """Builds the map, the regression and the dissimilarities (Hu et al. 2023).

    Args:
        dataset: metrics and outcomes of all seeds.
        sequences: the z-scored metrics of the usable ones.
        parameters: the HMM, states in canonical order.
        paths: int [run, time], its decoding of the usable runs.
        config: what the regression explains, the threshold of convergence included.

    Raises:
        UserError: the outcome is not recorded.
    """
    rows = seed_rows(dataset, sequences.runs)
    bag = bag_of_states(paths, parameters.means.shape[0])
    convergence = convergence_times(dataset, config.threshold)
    run_convergence = convergence[rows]
    by_time = config.outcome == "convergence"
    outcome = run_convergence if by_time else last_values(dataset, config.outcome)[rows]
    whole = dataset.diverged.values[rows] < 0  # shares of a cut run are of another length
    outcome = np.where(whole, outcome, np.nan)
    capped = by_time and config.censored == "cap"
    cap = float(dataset[time_unit(dataset)].values[-1]) if capped else None
    regression, never = regress(bag[whole], outcome[whole], cap=cap), np.isnan(run_convergence)
    pvalue = regression.f_pvalue
    readable = by_time and pvalue is not None and pvalue < READABLE_PVALUE
    found = [
        detours(paths[whole], ~never[whole], regression, exclude_zero) if readable else []
        for exclude_zero in (False, True)
    ]
    return Analysis(
        sequences=sequences,
        paths=paths,
        training_map=build_map(parameters, sequences, paths),
        bag=bag,
        convergence=convergence,
        run_convergence=run_convergence,
        outcome=np.where(whole & never, cap, outcome) if capped else outcome,
        regression=regression,
        permutation_pvalue=permutation_pvalue(bag[whole], outcome[whole], seed=0, cap=cap),
        detours=found[0],
        firm_detours=found[1],
        dissimilarity={
            "index": dissimilarity(bag, "index"),
            "discrete": dissimilarity(bag, "discrete"),
            "means": dissimilarity(bag, "means", parameters.means),
        },
    )
