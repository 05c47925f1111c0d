"""One HMM over several mapped runs: fitted to all together, or to one and read on the others."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from seedmap import hmm
from seedmap.experiments.runs.analysis import Analysis, analyse, metric_sequences, time_unit
from seedmap.experiments.runs.compare import MappedRun
from seedmap.experiments.runs.folder import SWEEP
from seedmap.experiments.runs.settings import sweep_config
from seedmap.hmm.inference import log_likelihood
from seedmap.hmm.io import SavedHMM, save_hmm
from seedmap.hmm.sweep_io import save_sweep
from seedmap.hmm.training_map.prediction import predict_outcome, prediction_r2
from seedmap.hmm.training_map.stability import adjusted_rand_index
from seedmap.hmm.training_map.transfer import apply_model, check_same_metrics, fit_together

FIT_SETTINGS = (
    *("states", "restarts", "iterations", "covariance", "prior", "criterion"),
    "one_standard_error",
)


class Joint(NamedTuple):
    """One HMM of several runs.

    Attributes:
        saved: the HMM, its runs named "run/seed".
        sweep: all fits, in units of z-scores.
        chosen: the fit that was chosen, before its states were put in order.
        rows: what it says of each run.
        notes: sentences for the reader.
    """

    saved: SavedHMM
    sweep: hmm.Sweep
    chosen: hmm.Fit
    rows: list[dict[str, Any]]
    notes: list[str]

    def save(self, folder: Path) -> None:
        """Writes `hmm.npz`, `hmm.json` and `sweep.json`."""
        save_hmm(folder, self.saved)
        save_sweep(folder / SWEEP, self.sweep, self.chosen)


def fit_runs_together(
    runs: Sequence[MappedRun], callback: Callable[[int, int], None] | None = None
) -> Joint:
    """Fits one HMM to the seeds of all runs, and reads each run with it.

    Held out are the seeds that each run's own fit held out, so that the two can be compared on
    them; the other settings are those of the first run. States are put in order over all seeds.

    Args:
        runs: at least two, whose HMMs see the same metrics.
        callback: called with (EM iterations done, in all).

    Raises:
        UserError: the metrics differ, or the data allow no fit.
    """
    first = runs[0]
    check_same_metrics({run.name: run.saved.metrics for run in runs})
    metrics = first.saved.metrics
    groups = {run.name: _sequences(run, metrics) for run in runs}
    held_out = {run.name: run.saved.validation_runs for run in runs}
    settings, key = sweep_config(first.fit), jax.random.key(first.fit.fit_seed)
    sweep = fit_together(groups, held_out, settings, key, callback)
    chosen = hmm.select(sweep, first.fit.criterion, first.fit.one_standard_error)
    pooled = hmm.pool(groups)
    order = hmm.canonical_order(hmm.viterbi(chosen.parameters, pooled), chosen.num_states)
    parameters = hmm.permute(chosen.parameters, order)
    saved = SavedHMM.from_sweep(sweep, parameters, first.saved.z_score)
    rows = [_row(run, groups[run.name], saved)[0] for run in runs]
    return Joint(saved, sweep, chosen, rows, _setting_notes(runs))


def read_with(model: MappedRun, runs: Sequence[MappedRun]) -> list[dict[str, Any]]:
    """Reads runs with the HMM of one of them, its parameters unchanged.

    Args:
        model: the run whose HMM it is.
        runs: those to read, which may include it.

    Returns:
        A row a run, as of `fit_runs_together`, and: `prediction_r2`, of the run's outcomes by the
        coefficients of the model's run unchanged; None where the two count time in different units
        or explain different outcomes.

    Raises:
        UserError: the metrics differ.
    """
    check_same_metrics({run.name: run.saved.metrics for run in [model, *runs]})
    rows = []
    for run in runs:
        row, analysis = _row(run, _sequences(run, model.saved.metrics), model.saved)
        rows.append(row | {"prediction_r2": _prediction(model, run, analysis)})
    return rows


def _sequences(run: MappedRun, metrics: Sequence[str]) -> hmm.Sequences:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the run's own fit has told of them
        return metric_sequences(run.dataset, metrics)


def _prediction(model: MappedRun, run: MappedRun, analysis: Analysis) -> float | None:
    alike = model.question.outcome == run.question.outcome
    if model.question.outcome == "convergence":
        alike = alike and time_unit(model.dataset) == time_unit(run.dataset)
    if not alike:
        return None
    known = model.analysis
    return prediction_r2(predict_outcome(known.bag, known.outcome, analysis.bag), analysis.outcome)


def _row(
    run: MappedRun, sequences: hmm.Sequences, saved: SavedHMM
) -> tuple[dict[str, Any], Analysis]:
    """What a model says of a run, beside the run's own model."""
    read = apply_model(saved.parameters, saved.metrics, sequences)
    analysis = analyse(run.dataset, sequences, saved.parameters, read.paths, run.question)
    regression, tmap = analysis.regression, analysis.training_map
    own = _sequences(run, run.saved.metrics)
    away = np.isin(sequences.runs, run.saved.validation_runs)
    scores = {
        "held_out": (read.log_likelihood, away),
        "own_held_out": (log_likelihood(run.saved.parameters, own), away),
        "all_runs": (read.log_likelihood, np.full(len(away), True)),
    }
    row = {
        "run": run.name,
        "experiment": run.config["experiment"],
        "states_visited": np.flatnonzero(tmap.visits).tolist(),
        "shares": analysis.bag.mean(axis=0),
        "num_runs": tmap.visits,
        "own_states": run.summary["num_states"],
        "adjusted_rand": adjusted_rand_index(run.analysis.paths, read.paths),
        "log_likelihood": {
            name: _per_checkpoint(values[mask], sequences.lengths[mask])
            for name, (values, mask) in scores.items()
        },
        "outcome": run.question.outcome,
        "r2": regression.r2,
        "f_pvalue": regression.f_pvalue,
        "leave_one_out_r2": regression.leave_one_out_r2,
        "own_r2": run.analysis.regression.r2,
        "dissimilarity": analysis.dissimilarity,
        "forks": tmap.forking,
        "detours": analysis.detours,
    }
    return row, analysis


def _per_checkpoint(totals: np.ndarray, lengths: np.ndarray) -> dict[str, float]:
    """Log-likelihood in nats per checkpoint: over all checkpoints, and of the median run."""
    return {"mean": totals.sum() / lengths.sum(), "median": float(np.median(totals / lengths))}


def _setting_notes(runs: Sequence[MappedRun]) -> list[str]:
    """Where the runs' own fits had other settings than the first's, which the joint fit takes."""
    first, found = runs[0], []
    for name in FIT_SETTINGS:
        values: Mapping[str, Any] = {run.name: getattr(run.fit, name) for run in runs}
        if len(set(values.values())) > 1:
            said = ", ".join(f"{run} {value}" for run, value in values.items())
            found.append(
                f"runs were fitted with different {name} ({said}); the joint fit takes that of "
                f"{first.name}"
            )
    return found
