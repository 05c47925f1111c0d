"""One HMM over several mapped runs: fitted to all, or fitted to one and applied to the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedmap import hmm
from seedmap.experiments.runs.analysis import Analysis, analyse
from seedmap.experiments.runs.compare import (
    JointLikelihood,
    JointRow,
    MappedRun,
    PerCheckpoint,
)
from seedmap.experiments.runs.dataset import dataset_runs, raw_sequences, time_unit
from seedmap.experiments.runs.engines import AnySweep, make_fit, save_any_sweep
from seedmap.experiments.runs.fitted import quietly
from seedmap.experiments.runs.folder import SWEEP
from seedmap.experiments.runs.summary import DissimilaritySummary
from seedmap.hmm.io import SavedHMM, save_hmm
from seedmap.hmm.reading import Reading, read_runs
from seedmap.hmm.training_map.prediction import predict_outcome, prediction_r2
from seedmap.hmm.training_map.stability import adjusted_rand_index
from seedmap.hmm.training_map.transfer import check_same_metrics
from seedmap.identity import identify
from seedmap.results import to_json
from seedmap.runs import Runs

FIT_SETTINGS = (
    *("states", "restarts", "iterations", "emission", "scale", "covariance", "prior"),
    *("criterion", "one_standard_error"),
)


class Joint(NamedTuple):
    """One HMM of several runs.

    Attributes:
        saved: the HMM, its runs named "run/seed".
        sweep: what it was chosen among.
        rows: what it says of each run.
        notes: sentences for the reader.
    """

    saved: SavedHMM
    sweep: AnySweep
    rows: list[JointRow]
    notes: list[str]

    def save(self, folder: Path) -> None:
        """Writes `hmm.npz`, `hmm.json` and `sweep.json`."""
        save_hmm(folder, self.saved)
        save_any_sweep(folder / SWEEP, self.sweep, self.saved.fit_id)


def fit_runs_together(
    runs: Sequence[MappedRun], callback: Callable[[int, int], None] | None = None
) -> Joint:
    """Fits one HMM to the seeds of all runs, and reads each run with it.

    Held out are the seeds that each run's own fit held out, so that the two can be compared on
    them; the other settings are those of the first run. States are put in order over all seeds.

    Args:
        runs: at least two, whose HMMs see the same metrics.
        callback: called with (fits or EM iterations done, in all).

    Raises:
        UserError: the metrics differ, or the data allow no fit.
    """
    first = runs[0]
    check_same_metrics({run.name: run.saved.metrics for run in runs})
    away = tuple(f"{run.name}/{seed}" for run in runs for seed in run.saved.validation_runs)
    settings = replace(first.fit, validation_runs=away, compare_priors=False, resamples=0)
    made = make_fit(_pooled(runs, first.saved.metrics), settings, callback)
    of_runs = {run.name: run.saved.fit_id for run in runs}
    made = made.with_id(identify(of_runs, made.saved.parameters._asdict()))
    rows = [_row(run, made.saved)[0] for run in runs]
    notes = _setting_notes(runs)
    if made.saved.scale is not None:
        notes.append(
            "the metrics of all runs are on one scale: runs whose metrics differ in size share no "
            "state (--scale run of the fits takes that out)"
        )
    return Joint(made.saved, made.sweep, rows, notes)


def _pooled(runs: Sequence[MappedRun], metrics: Sequence[str]) -> Runs:
    """The seeds of all runs, named "run/seed"."""
    each = {run.name: quietly(dataset_runs, run.dataset, metrics) for run in runs}
    sequences = hmm.pool({name: own.sequences for name, own in each.items()})
    steps = np.full(sequences.mask.shape, np.nan)
    steps_of_runs = [own.steps for own in each.values()]
    ends = np.cumsum([len(own_steps) for own_steps in steps_of_runs])
    for end, own_steps in zip(ends, steps_of_runs, strict=True):
        steps[end - len(own_steps) : end, : own_steps.shape[1]] = own_steps
    diverged = np.concatenate([own.diverged for own in each.values()])
    unit = next(iter(each.values())).unit
    return Runs(sequences, steps, unit, np.full(len(steps), np.nan), diverged, {})


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
        row, analysis = _row(run, model.saved)
        rows.append(replace(row, prediction_r2=to_json(_prediction(model, run, analysis))))
    return rows


def _read(run: MappedRun, saved: SavedHMM) -> Reading:
    return read_runs(saved, quietly(raw_sequences, run.dataset, saved.metrics))


def _prediction(model: MappedRun, run: MappedRun, analysis: Analysis) -> float | None:
    alike = model.question.outcome == run.question.outcome
    if model.question.outcome == "convergence":
        alike = alike and time_unit(model.dataset) == time_unit(run.dataset)
    if not alike:
        return None
    known = model.analysis
    return prediction_r2(predict_outcome(known.bag, known.outcome, analysis.bag), analysis.outcome)


def _row(run: MappedRun, saved: SavedHMM) -> tuple[JointRow, Analysis]:
    """Returns the results of a run under a model, against the run's own model."""
    read, own = _read(run, saved), _read(run, run.saved)
    sequences = read.sequences
    analysis = analyse(run.dataset, sequences, saved.parameters, read.paths, run.question)
    regression, tmap = analysis.regression, analysis.training_map
    tested = saved.model is not None  # forks and detours are, of the run's own map
    away = np.isin(sequences.runs, run.saved.validation_runs)
    every = np.full(len(away), True)
    row = JointRow(
        run=run.name,
        experiment=run.config["experiment"],
        states_visited=np.flatnonzero(tmap.visits).tolist(),
        shares=to_json(analysis.bag.mean(axis=0)),
        num_runs=to_json(tmap.visits),
        own_states=run.summary.num_states,
        adjusted_rand=to_json(adjusted_rand_index(own.paths, read.paths)),
        log_likelihood=JointLikelihood(
            held_out=_per_checkpoint(read.log_likelihood, sequences.lengths, away),
            own_held_out=_per_checkpoint(own.log_likelihood, sequences.lengths, away),
            all_runs=_per_checkpoint(read.log_likelihood, sequences.lengths, every),
        ),
        outcome=run.question.outcome,
        r2=to_json(regression.r2),
        f_pvalue=to_json(regression.f_pvalue),
        leave_one_out_r2=to_json(regression.leave_one_out_r2),
        own_r2=to_json(run.analysis.regression.r2),
        dissimilarity=DissimilaritySummary(**to_json(analysis.dissimilarity)),
        forks=None if tested else bool(tmap.forking),
        detours=[] if tested else to_json(analysis.detours),
    )
    return row, analysis


def _per_checkpoint(totals: np.ndarray, lengths: np.ndarray, used: np.ndarray) -> PerCheckpoint:
    """Returns log-likelihood [run] in nats per checkpoint, of the runs used; None without any."""
    if not used.any():
        return PerCheckpoint(None, None)
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
