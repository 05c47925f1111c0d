"""Comparison of several mapped runs, a row each, with the rows of Hu et al. (2023)."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.analysis import Analysis
from seedmap.experiments.runs.fit_and_map import read_mapped
from seedmap.experiments.runs.summary import DissimilaritySummary, RunSummary
from seedmap.experiments.tasks.base import FitConfig, MapConfig
from seedmap.hmm.io import SavedHMM
from seedmap.results import ABSENT, Absent


@dataclass(frozen=True)
class PaperRow:
    """A row of the tables of Hu et al. 2023 (arXiv 2308.09543; 40 seeds; MultiBERTs: 5).

    Attributes:
        states: number of states chosen.
        r2: of the regression; None where it was not made.
        pvalue: of it, as printed.
        dissimilarity: by the index of states.
        forks: whether runs fork.
    """

    states: int
    r2: float | None
    pvalue: str | None
    dissimilarity: float | None
    forks: bool


PAPER = {  # by the names of our experiments
    "parities": PaperRow(6, 0.961, "<0.001", 0.183, True),
    "modular": PaperRow(6, 0.977, "<0.001", 0.496, True),
    "modular-stabilised": PaperRow(3, 0.514, "<0.001", 0.038, False),
    "mnist": PaperRow(6, 0.049, "0.61", 0.063, False),
    "cifar100": PaperRow(5, 0.094, "0.47", 0.028, False),
    "cifar100-destabilised": PaperRow(5, 0.905, "<0.001", 0.806, True),
    "mlm": PaperRow(5, None, None, None, True),
}


PAPERS_OWN = {  # hyperparameters by which a run has the network, task and data of Hu et al. (2023)
    "mnist": {"model": "mlp", "data": "mnist"},
    "cifar100": {"data": "cifar"},
    "cifar100-destabilised": {"data": "cifar"},
    "modular": {"operation": "add"},
    "modular-stabilised": {"operation": "add"},
}


@dataclass(frozen=True)
class RunRow:
    """Results of one run, with the row of Hu et al. (2023) of its experiment, if there is one.

    Attributes:
        run: what the comparison calls it.
        experiment: what was trained.
        seeds: how many.
        converged: how many of them; None where convergence is not recorded.
        diverged: likewise.
        checkpoints: records of each.
        num_metrics: that its HMM sees.
        states: chosen.
        outcome: that the regression explains.
        r2: of it; None where it is not defined.
        f_pvalue: likewise.
        leave_one_out_r2: likewise.
        dissimilarity: mean over pairs of seeds.
        threshold_r2: of the outcome on the best single threshold of a metric; None where it was
            not sought.
        first_record_r2: leave-one-out R2 of log time on the first record as the HMM sees it; None
            where it is not defined.
        forks: whether the seeds fork.
        headline: what is said of that.
        detours: where runs are delayed.
        convergence_mean: mean time of those that converge.
        convergence_std: standard deviation.
        unit: of these times.
        threshold: the number of the criterion of convergence.
        paper: the row of Hu et al. (2023); None for another experiment.
    """

    run: str
    experiment: str
    seeds: int
    converged: int | None
    diverged: int
    checkpoints: int
    num_metrics: int
    states: int
    outcome: str
    r2: float | None
    f_pvalue: float | None
    leave_one_out_r2: float | None
    dissimilarity: DissimilaritySummary
    threshold_r2: float | None
    first_record_r2: float | None
    forks: bool
    headline: str
    detours: list[str]
    convergence_mean: float | None
    convergence_std: float | None
    unit: str
    threshold: float
    paper: PaperRow | None


@dataclass(frozen=True)
class PerCheckpoint:
    """Log-likelihood in nats per checkpoint: over all checkpoints, and of the median run."""

    mean: float | None
    median: float | None


@dataclass(frozen=True)
class JointLikelihood:
    """Of the held-out runs under the HMM in question, under their own, and of all runs."""

    held_out: PerCheckpoint
    own_held_out: PerCheckpoint
    all_runs: PerCheckpoint


@dataclass(frozen=True)
class JointRow:
    """Results of a run under an HMM of another run, or of several runs.

    Attributes:
        run: what the comparison calls it.
        experiment: what was trained.
        states_visited: those of the HMM's states that any seed visits.
        shares: of the checkpoints in each state, mean over seeds.
        num_runs: seeds that visit each state.
        own_states: number of states of the run's own HMM.
        adjusted_rand: agreement of the two decodings.
        log_likelihood: in nats per checkpoint.
        outcome: that the regression explains.
        r2: of the outcome on these shares.
        f_pvalue: likewise.
        leave_one_out_r2: likewise.
        own_r2: with the run's own HMM.
        dissimilarity: mean over pairs of seeds.
        forks: whether the seeds fork; None where that is tested, of each run's own map alone.
        detours: detour states.
        prediction_r2: of the coefficients of the HMM's run, unchanged; None where the two cannot be
            compared. Absent of an HMM fitted to all runs.
    """

    run: str
    experiment: str
    states_visited: list[int]
    shares: list[float | None]
    num_runs: list[int]
    own_states: int
    adjusted_rand: float | None
    log_likelihood: JointLikelihood
    outcome: str
    r2: float | None
    f_pvalue: float | None
    leave_one_out_r2: float | None
    own_r2: float | None
    dissimilarity: DissimilaritySummary
    forks: bool | None
    detours: list[int]
    prediction_r2: float | Absent | None = ABSENT


@dataclass(frozen=True)
class Comparison:
    """The content of `compare.json`.

    Attributes:
        runs: a row each.
        notes: what a reader should know first.
        together: what one HMM fitted to all runs says of each, where it was asked for.
        model: the run whose HMM read the others, where one was asked for.
        zero_shot: what that says of each.
    """

    runs: list[RunRow]
    notes: list[str]
    together: list[JointRow] | Absent = ABSENT
    model: str | Absent = ABSENT
    zero_shot: list[JointRow] | Absent = ABSENT


def paper_row(config: Mapping[str, Any]) -> PaperRow | None:
    """Returns the row of Hu et al. (2023) of a run's experiment.

    Args:
        config: the run's `config.json`.

    Returns:
        None where the run was imported, or is of another network, task or data than theirs.
    """
    name, used = config["experiment"], config.get("hyperparameters", {})
    own = PAPERS_OWN.get(name, {})
    if "imported_from" in config or any(used.get(key, own[key]) != own[key] for key in own):
        return None
    return PAPER.get(name)


class MappedRun(NamedTuple):
    """A mapped run, as read from its folder.

    Attributes:
        name: what the comparison calls it.
        folder: where it is.
        config: its `config.json`.
        summary: its `summary.json`.
        dataset: its metrics and outcomes.
        question: what its map was asked.
        saved: its HMM.
        analysis: what that says.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    summary: RunSummary
    dataset: xr.Dataset
    question: MapConfig
    saved: SavedHMM
    analysis: Analysis

    @property
    def fit(self) -> FitConfig:
        """Settings of the fit."""
        return FitConfig(**self.config["fit"])


def read_runs(folders: Sequence[Path]) -> list[MappedRun]:
    """Reads mapped runs, at least two different ones.

    Raises:
        UserError: there are fewer than two, one comes twice, or is not fitted or not mapped; the
            message says which command to run first.
    """
    names = run_names(folders)
    return [_read_run(name, folder) for name, folder in zip(names, folders, strict=True)]


def run_names(folders: Sequence[Path]) -> list[str]:
    """Returns names of the folders, with as much of their paths as makes them unique.

    Raises:
        UserError: there are fewer than two, or one comes twice.
    """
    if len(folders) < 2:
        raise UserError(f"a comparison needs at least two runs; got {len(folders)}: name another")
    for i, folder in enumerate(folders):
        for other in folders[:i]:
            if other.resolve() == folder.resolve():
                raise UserError(f"{folder} comes twice; name each run once")
    full = [str(folder.resolve()) for folder in folders]
    shared = os.path.commonpath([str(Path(path).parent) for path in full])
    last = [Path(path).name for path in full]
    if len(set(last)) == len(last):
        return last
    return [Path(path).relative_to(shared).as_posix() for path in full]


def _read_run(name: str, folder: Path) -> MappedRun:
    dataset = run_folder.read_dataset(folder)
    if "state" not in dataset:
        raise UserError(f"{folder} is not fitted; make it so with `seedmap fit {folder}`")
    mapped = read_mapped(folder)
    fitted = mapped.fitted
    return MappedRun(
        name,
        folder,
        fitted.config,
        mapped.summary,
        fitted.dataset,
        mapped.question,
        fitted.saved,
        mapped.analysis,
    )


def compare_runs(runs: Sequence[MappedRun]) -> Comparison:
    """Compares runs, a row each."""
    rows = [row_of(run) for run in runs]
    return Comparison(rows, _notes(runs, rows))


def row_of(run: MappedRun) -> RunRow:
    """Returns the results of a run by its summary, with those of Hu et al. (2023)."""
    summary = run.summary
    threshold, leak = summary.findings.single_threshold, summary.findings.leak
    return RunRow(
        run=run.name,
        experiment=run.config["experiment"],
        seeds=summary.num_seeds,
        converged=summary.num_converged if summary.has_convergence else None,
        diverged=summary.num_diverged,
        checkpoints=run.dataset.sizes["step"],
        num_metrics=len(run.saved.metrics),
        states=summary.num_states,
        outcome=summary.regression.outcome,
        r2=summary.regression.r2,
        f_pvalue=summary.regression.f_pvalue,
        leave_one_out_r2=summary.regression.leave_one_out_r2,
        dissimilarity=summary.dissimilarity,
        threshold_r2=threshold.r2 if threshold else None,
        first_record_r2=leak.scaled if leak else None,
        forks=summary.forking,
        headline=summary.headline,
        detours=summary.delaying_states,
        convergence_mean=summary.convergence.mean,
        convergence_std=summary.convergence.std,
        unit=summary.convergence.unit,
        threshold=summary.convergence.threshold,
        paper=paper_row(run.config),
    )


def _notes(runs: Sequence[MappedRun], rows: Sequence[RunRow]) -> list[str]:
    """Returns the differences between runs that bear on a comparison."""
    fields = [
        ("checkpoints", "the number of checkpoints", "scales and shares are each run's own"),
        ("unit", "the unit of time", "times of convergence cannot be compared"),
        ("outcome", "the outcome explained", "R² explains different outcomes"),
    ]
    notes = []
    for field, name, consequence in fields:
        values = {row.run: getattr(row, field) for row in rows}
        if len(set(values.values())) > 1:
            notes.append(f"runs differ in {name} ({_each(values)}): {consequence}")
    if len({frozenset(run.saved.metrics) for run in runs}) > 1:
        counts = {row.run: row.num_metrics for row in rows}
        notes.append(
            f"runs differ in the metrics that their HMMs see ({_each(counts)} of them): "
            "dissimilarities by means are in different spaces"
        )
    if any(row.paper for row in rows):
        notes.append(
            "the rows of Hu et al. (2023) are of their own settings (40 seeds, prior near maximum "
            "likelihood); see each run's configuration for what differs"
        )
    return notes


def _each(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
