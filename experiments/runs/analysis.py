"""From a dataset of metrics and a fitted HMM to what they say about training."""

from seedmap.errors import UserError
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from seedmap import hmm
from seedmap.experiments.tasks.base import (MapConfig)
from seedmap.hmm.readers.read import (from_xarray)
from seedmap.hmm.training_map.outcome import (convergence_time)

FIRST_CHECKPOINTS = 1000  # paper A, section 3: z-scores, and the HMM, see these


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
    """`raw_sequences`, z-scored within each run (paper A, section 3)."""
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
class Analysis(hmm.Analysis):
    """`hmm.Analysis` of the runs that the HMM can use, with the convergence of all seeds.

    Attributes:
        convergence: float [seed], time of convergence of every seed, NaN where it never came.
        run_convergence: float [run], the same for the usable runs.
    """

    convergence: np.ndarray
    run_convergence: np.ndarray


def analyse(
    dataset: xr.Dataset,
    sequences: hmm.Sequences,
    parameters: hmm.Parameters,
    paths: np.ndarray,
    config: MapConfig,
) -> Analysis:
    """Builds the map, the regression and the dissimilarities (Hu et al. 2023, section 3).

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
    convergence = convergence_times(dataset, config.threshold)
    by_time = config.outcome == "convergence"
    outcome = convergence if by_time else last_values(dataset, config.outcome)
    capped = by_time and config.censored == "cap"
    analysis = hmm.analyse(
        parameters,
        sequences,
        paths,
        outcome[rows],
        converged=np.isfinite(convergence[rows]) if by_time else None,
        complete=dataset.diverged.values[rows] < 0,
        cap=float(dataset[time_unit(dataset)].values[-1]) if capped else None,
    )
    return Analysis(**vars(analysis), convergence=convergence, run_convergence=convergence[rows])


def _convergence(analysis: Analysis, threshold: float, unit: str) -> dict[str, Any]:
    times = analysis.convergence[np.isfinite(analysis.convergence)]
    return {
        "threshold": threshold,
        "unit": unit,
        "values": analysis.convergence,
        "mean": times.mean() if len(times) else None,
        "std": times.std(ddof=1) if len(times) > 1 else None,
    }


def _regression(analysis: Analysis, outcome: str) -> dict[str, Any]:
    regression = analysis.regression
    return {
        "outcome": outcome,
        "r2": regression.r2,
        "f_pvalue": regression.f_pvalue,
        "permutation_pvalue": analysis.permutation_pvalue,
        "leave_one_out_r2": regression.leave_one_out_r2,
        "num_runs": regression.num_runs,
        "num_censored": regression.num_censored,
        "censoring": regression.censoring,
        "coefficients": [
            {
                "state": c.state,
                "value": c.value,
                "standard_error": c.standard_error,
                "low": c.low,
                "high": c.high,
            }
            for c in regression.coefficients
        ],
    }


def _notes(dataset: xr.Dataset, analysis: Analysis, fit_notes: list[str]) -> list[str]:
    notes = []
    diverged = dataset.diverged.values >= 0
    if diverged.any():
        steps = dataset.diverged.values[diverged]
        names = [str(seed) for seed in dataset.seed.values[diverged]]
        named = ", ".join(f"{s} (step {t:g})" for s, t in zip(names, steps, strict=True))
        notes.append(f"diverged seeds, cut where they did and left out of the regression: {named}")
        unusable = [name for name in names if name not in analysis.sequences.runs]
        if unusable:
            notes.append(f"diverged too soon for the HMM to see them: {', '.join(unusable)}")
    never = int((np.isnan(analysis.convergence) & ~diverged).sum())
    if never and "eval_accuracy" in dataset:
        runs = "1 run" if never == 1 else f"{never} runs"
        part = "had no part in the regression"
        if analysis.regression.censoring == "cap":
            part = "stand in the regression with the end of training as their time"
        notes.append(f"{runs} never converged and {part}")
    return notes + list(analysis.regression.warnings) + fit_notes


def summarise(
    dataset: xr.Dataset,
    analysis: Analysis,
    selection: list[dict[str, Any]],
    config: MapConfig,
    fit_notes: list[str],
    held_out: dict[str, float],
) -> dict[str, Any]:
    """The content of `summary.json`, but for the times (the README describes every field).

    Args:
        dataset: metrics of all seeds.
        analysis: of the chosen HMM.
        selection: a row per number of states, as `hmm.selection_table` gives.
        config: what the map was asked.
        fit_notes: what the fit has to tell.
        held_out: log-likelihood per checkpoint of each held-out run under the chosen fit, nats.
    """
    tmap = analysis.training_map
    return {
        "num_seeds": dataset.sizes["seed"],
        "seeds": dataset.seed.values,
        "num_runs": tmap.num_runs,
        "num_diverged": int((dataset.diverged.values >= 0).sum()),
        "diverged_seeds": dataset.seed.values[dataset.diverged.values >= 0],
        "num_converged": int(np.isfinite(analysis.convergence).sum()),
        "convergence": _convergence(analysis, config.threshold, time_unit(dataset)),
        "num_states": tmap.num_states,
        "selection": selection,
        "held_out_log_likelihood": held_out,
        "regression": _regression(analysis, config.outcome),
        "dissimilarity": analysis.dissimilarity,
        "forking": tmap.forking,
        "detours": analysis.detours,
        "firm_detours": analysis.firm_detours,
        "states": [
            {"state": k, "occupancy": tmap.occupancy[k], "num_runs": tmap.visits[k]}
            for k in range(tmap.num_states)
        ],
        "transitions": [
            {
                "from": edge.source,
                "to": edge.target,
                "probability": edge.probability,
                "num_runs": edge.num_runs,
                "top_features": [list(feature) for feature in edge.top_features],
            }
            for edge in tmap.edges
        ],
        "notes": _notes(dataset, analysis, fit_notes),
    }
