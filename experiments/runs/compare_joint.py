"""One HMM over several mapped runs: fitted to all, or fitted to one and applied to the others."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from seedmap import hmm
from seedmap.experiments.runs.analysis import Analysis, analyse
from seedmap.experiments.runs.compare import (
    JointLikelihood,
    JointRow,
    MappedRun,
    PerCheckpoint,
)
from seedmap.experiments.runs.dataset import metric_sequences, time_unit
from seedmap.experiments.runs.folder import SWEEP
from seedmap.experiments.runs.settings import sweep_config
from seedmap.experiments.runs.summary import DissimilaritySummary
from seedmap.hmm.inference import log_likelihood
from seedmap.hmm.io import SavedHMM, save_hmm
from seedmap.hmm.sweep_io import save_sweep
from seedmap.hmm.training_map.prediction import predict_outcome, prediction_r2
from seedmap.hmm.training_map.stability import adjusted_rand_index
from seedmap.hmm.training_map.transfer import apply_model, check_same_metrics, fit_together
from seedmap.identity import identify
from seedmap.results import to_json

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
    rows: list[JointRow]
    notes: list[str]

    def save(self, folder: Path) -> None:
        """Writes `hmm.npz`, `hmm.json` and `sweep.json`."""
        save_hmm(folder, self.saved)
        save_sweep(folder / SWEEP, self.sweep, self.chosen, self.saved.fit_id)


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
    parameters = hmm.decode(chosen.parameters, hmm.pool(groups)).parameters
    saved = SavedHMM.from_sweep(sweep, parameters, first.saved.z_score)
    of_runs = {run.name: run.saved.fit_id for run in runs}
    saved = replace(saved, fit_id=identify(of_runs, parameters._asdict()))
    rows = [_row(run, groups[run.name], saved)[0] for run in runs]
    return Joint(saved, sweep, chosen, rows, _setting_notes(runs))


def read_with(model: MappedRun, runs: Sequence[MappedRun]) -> list[JointRow]:
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
        rows.append(replace(row, prediction_r2=to_json(_prediction(model, run, analysis))))
    return rows


def _sequences(run: MappedRun, metrics: Sequence[str]) -> hmm.Sequences:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the run's own fit has warned of them
        return metric_sequences(run.dataset, metrics)


def _prediction(model: MappedRun, run: MappedRun, analysis: Analysis) -> float | None:
    alike = model.question.outcome == run.question.outcome
    if model.question.outcome == "convergence":
        alike = alike and time_unit(model.dataset) == time_unit(run.dataset)
    if not alike:
        return None
    known = model.analysis
    return prediction_r2(predict_outcome(known.bag, known.outcome, analysis.bag), analysis.outcome)


def _row(run: MappedRun, sequences: hmm.Sequences, saved: SavedHMM) -> tuple[JointRow, Analysis]:
    """Returns the results of a run under a model, against the run's own model."""
    read = apply_model(saved.parameters, saved.metrics, sequences)
    analysis = analyse(run.dataset, sequences, saved.parameters, read.paths, run.question)
    regression, tmap = analysis.regression, analysis.training_map
    own = _sequences(run, run.saved.metrics)
    away = np.isin(sequences.runs, run.saved.validation_runs)
    every = np.full(len(away), True)
    row = JointRow(
        run=run.name,
        experiment=run.config["experiment"],
        states_visited=np.flatnonzero(tmap.visits).tolist(),
        shares=to_json(analysis.bag.mean(axis=0)),
        num_runs=to_json(tmap.visits),
        own_states=run.summary.num_states,
        adjusted_rand=to_json(adjusted_rand_index(run.analysis.paths, read.paths)),
        log_likelihood=JointLikelihood(
            held_out=_per_checkpoint(read.log_likelihood, sequences.lengths, away),
            own_held_out=_per_checkpoint(
                log_likelihood(run.saved.parameters, own), sequences.lengths, away
            ),
            all_runs=_per_checkpoint(read.log_likelihood, sequences.lengths, every),
        ),
        outcome=run.question.outcome,
        r2=to_json(regression.r2),
        f_pvalue=to_json(regression.f_pvalue),
        leave_one_out_r2=to_json(regression.leave_one_out_r2),
        own_r2=to_json(run.analysis.regression.r2),
        dissimilarity=DissimilaritySummary(**to_json(analysis.dissimilarity)),
        forks=bool(tmap.forking),
        detours=to_json(analysis.detours),
    )
    return row, analysis


def _per_checkpoint(totals: np.ndarray, lengths: np.ndarray, used: np.ndarray) -> PerCheckpoint:
    """Returns log-likelihood [run] in nats per checkpoint, of the runs used."""
    totals, lengths = totals[used], lengths[used]
    mean, median = totals.sum() / lengths.sum(), float(np.median(totals / lengths))
    return PerCheckpoint(to_json(mean), to_json(median))


def _setting_notes(runs: Sequence[MappedRun]) -> list[str]:
    """Notes runs whose own fits had other settings than the first's, which the joint fit takes."""
    first, notes = runs[0], []
    for name in FIT_SETTINGS:
        values: Mapping[str, Any] = {run.name: getattr(run.fit, name) for run in runs}
        if len(set(values.values())) > 1:
            each = ", ".join(f"{run} {value}" for run, value in values.items())
            notes.append(
                f"runs were fitted with different {name} ({each}); the joint fit takes that of "
                f"{first.name}"
            )
    return notes
