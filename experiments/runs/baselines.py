"""Baselines and ablations of Hu et al. 2023 for a run's HMM, and a test on early records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder, ids
from seedmap.experiments.runs.dataset import convergence_times, raw_sequences, seed_rows, time_unit
from seedmap.experiments.runs.fitted import read_config, read_run, threshold_of
from seedmap.experiments.runs.regression_summary import EarlyRegression
from seedmap.experiments.runs.settings import (
    AUTOREGRESSIVE,
    emission_of,
    split,
    sweep_config,
)
from seedmap.experiments.runs.summary import RunSummary, read_summary
from seedmap.experiments.tasks.base import FitConfig
from seedmap.hmm.forecasting.causal import MINIMUM
from seedmap.hmm.training_map.baselines import compare_baselines, explained_by
from seedmap.results import from_json, to_json
from seedmap.transaction import transaction


@dataclass(frozen=True)
class Baseline:
    """What a model's states explain of the time of convergence.

    Attributes:
        name: of the model.
        num_states: chosen for it.
        num_runs: that the regression uses.
        r2: of it; None where it is not defined.
        leave_one_out_r2: on left-out runs, likewise.
        f_pvalue: of the F test, likewise.
    """

    name: str
    num_states: int
    num_runs: int
    r2: float | None
    leave_one_out_r2: float | None
    f_pvalue: float | None


@dataclass(frozen=True)
class Baselines:
    """The content of `baselines.json`.

    Attributes:
        fit_id: of the run's fit.
        map_id: of its map at that time; None without one.
        threshold: the number of the criterion of convergence, the map's where there is one.
        rows: the run's own HMM first.
    """

    fit_id: str
    map_id: str | None
    threshold: float
    rows: list[Baseline]


EARLY = (0.1, 0.25, 0.5)  # shares of the converging runs that have converged by the early times


def baselines_run(folder: Path) -> Baselines:
    """Compares what explains convergence time; writes `baselines.json` and adds to the summary.

    The rows: the HMM on all metrics, k-means, an HMM on `l2` alone, HMMs on the most important
    metrics (Hu et al. 2023), and the HMM's bag of states over the checkpoints up to a time by
    which 10, 25 and 50 % of the converging runs have converged, for the runs that converge later:
    these cannot read the outcome back from when a state was entered.

    The first row is the run's own map. Of a Gaussian HMM the others are fitted and chosen by the
    settings that the run was fitted with, to the metrics and runs that they name; else they are
    Gaussian with the default settings, as in Hu et al. (2023). As there, a seed that diverged has
    no time of convergence.

    Returns:
        What is written: the rows of `hmm.training_map.baselines.compare_baselines`.

    Raises:
        UserError: the folder is no fitted run, none of its seeds converges, or its summary is of
            another map.
    """
    config = read_config(folder, "fit", ids.FIT)
    settings = FitConfig(**config["fit"])
    dataset, _ = read_run(folder)
    summary = _summary(folder, config)
    sequences = raw_sequences(dataset, settings.metrics)
    converged = convergence_times(dataset, threshold_of(config))
    used = seed_rows(dataset, sequences.runs)
    convergence = np.where(dataset.diverged.values < 0, converged, np.nan)[used]
    steps = dataset[time_unit(dataset)].values.astype(float)[: sequences.values.shape[1]]
    times = convergence[np.isfinite(convergence)]
    if not len(times):
        raise UserError(f"{folder}: no seed converges, so there is no time to explain")
    upto = early_times(steps, times)
    gaussian = emission_of(settings) != AUTOREGRESSIVE
    rows = [] if gaussian else [_own_row(dataset, used, convergence)]
    rows += compare_baselines(
        sequences,
        convergence,
        steps,
        sweep_config(settings),
        seed=settings.fit_seed,
        upto=upto,
        held_out=split(sequences.runs, settings)[1] if gaussian else None,
        criterion=settings.criterion,
        one_standard_error=settings.one_standard_error,
    )
    named = [from_json(Baseline, to_json(row)) for row in rows]
    made = Baselines(config[ids.FIT], ids.map_id(config), threshold_of(config), named)
    with transaction(folder, (), "baselines") as draft:
        files.write_json(draft / run_folder.BASELINES, made)
        if summary is not None:
            files.write_json(draft / run_folder.SUMMARY, _with_early(summary, upto, named))
    return made


def _own_row(dataset: xr.Dataset, used: list[int], convergence: np.ndarray) -> dict[str, Any]:
    """Returns what the states of the run's own map explain."""
    paths = dataset.state.values[used]
    return explained_by("map", paths, int(paths.max()) + 1, convergence)


def early_times(steps: np.ndarray, times: np.ndarray) -> list[float]:
    """Times by which shares of the converging runs have converged, where an early row is possible.

    Causal z-scores begin at their fewest records, and some run has to converge later.
    """
    early = {float(steps[steps <= time][-1]) for time in np.quantile(times, EARLY)}
    first = steps[MINIMUM - 1] if len(steps) >= MINIMUM else np.inf
    return sorted(time for time in early if time >= first and (times > time).any())


def _summary(folder: Path, config: Mapping[str, Any]) -> RunSummary | None:
    """Returns the summary of the run's map, if it has one, for the early rows to be put into."""
    if not (folder / run_folder.SUMMARY).is_file():
        return None
    summary = read_summary(folder)
    ids.check_map(folder, config, summary.map_id)
    return summary


def _with_early(summary: RunSummary, upto: Sequence[float], rows: Sequence[Baseline]) -> RunSummary:
    """Returns the summary with the early rows, for the report to show."""
    early = [row for row in rows if row.name.startswith("up to")]
    added = [EarlyRegression(time, **vars(row)) for time, row in zip(upto, early, strict=True)]
    return replace(summary, regression=replace(summary.regression, early=added))
