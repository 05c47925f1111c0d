"""Results of a run: the content of `summary.json` (docs/reference/run_folder.md)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.analysis import Analysis
from seedmap.experiments.runs.dataset import criterion_of, time_unit
from seedmap.experiments.runs.findings_summary import (
    FindingsSummary,
    PublishedSummary,
    Resolution,
)
from seedmap.experiments.runs.read_result import read_result
from seedmap.experiments.runs.regression_summary import CoefficientSummary, RegressionSummary
from seedmap.experiments.runs.stability_summary import Stability
from seedmap.experiments.tasks.base import MapConfig
from seedmap.hmm import Branch
from seedmap.hmm.autoregressive.map_sweep import SizeRow
from seedmap.hmm.training_map.branches import states_with_branches
from seedmap.hmm.training_map.drawn import states_of_branches
from seedmap.map_fitting import leak_notes
from seedmap.results import ABSENT, Absent, from_json, named, to_json


@dataclass(frozen=True)
class Convergence:
    """Times at which the runs converge.

    Attributes:
        threshold: the number of the criterion of convergence.
        unit: "epoch" or "step".
        values: time of every seed, None where it never came.
        mean: over the seeds that converge; None where none does.
        std: standard deviation over them (ddof 1); None for fewer than two.
        criterion: when a run has converged, such as "eval_accuracy above 0.9"; absent where
            convergence is not recorded.
    """

    threshold: float
    unit: str
    values: list[float | None]
    mean: float | None
    std: float | None
    criterion: str | Absent = ABSENT


@dataclass(frozen=True, kw_only=True)
class SelectionRow:
    """Scores of one number of states (`hmm.selection_table`); None where all are degenerate."""

    num_states: int
    num_parameters: int
    num_degenerate: int
    restart: int | None
    prior_scale: float | None
    train_bic: float | None
    train_aic: float | None
    train_icl: float | None
    validation_bic: float | None
    validation_aic: float | None
    validation_icl: float | None
    train_log_likelihood: float | None
    validation_log_likelihood: float | None
    robust_bic: float | None
    robust_aic: float | None
    robust_log_likelihood: float | None
    kfold: float | Absent | None = ABSENT  # of sweeps with a cross-validation
    aic: float | None
    bic: float | None
    best_validation_log_likelihood: float | None
    mean_train_log_likelihood: float | None
    mean_validation_log_likelihood: float | None
    mean_aic: float | None
    mean_bic: float | None


@dataclass(frozen=True)
class DissimilaritySummary:
    """Mean dissimilarity over pairs of runs, by ground metric; None for fewer than two runs."""

    index: float | None
    discrete: float | None
    means: float | None


@dataclass(frozen=True)
class StateSummary:
    """Share of all checkpoints in a state, and how many runs visit it."""

    state: int
    occupancy: float
    num_runs: int


@dataclass(frozen=True)
class TransitionSummary:
    """An edge of the training map, with the changes of its most important metrics, in z units."""

    source: int = field(metadata=named("from"))
    target: int = field(metadata=named("to"))
    probability: float
    num_runs: int
    top_features: list[tuple[str, float]]


@dataclass(frozen=True)
class Seconds:
    """Wall time of the steps of a run; None for a step that another program did."""

    compile: float | None
    train: float | None
    fit: float | None
    analyse: float | None


@dataclass(frozen=True)
class RunSummary:
    """The content of `summary.json`; numbers that are not defined are None.

    `branches` are tested claims; `forking` and `detours` follow from those that are named. Of a
    Gaussian HMM there are none, and `forking` and `detours` are by the definitions of Hu et al.
    (2023). `stability`, `seconds` and `map_id` are None until `map_run` has filled them in.
    """

    num_seeds: int
    seeds: list[int | str]
    num_runs: int
    num_diverged: int
    diverged_seeds: list[int | str]
    num_converged: int
    convergence: Convergence
    emission: str
    scale: str
    num_states: int
    resolution: Resolution | None
    selection: list[SizeRow | SelectionRow]
    held_out_log_likelihood: dict[str, float | None]
    odd_runs: list[str]
    headline: str
    branches: list[Branch]
    forking: bool
    detours: list[int]
    firm_detours: list[int]
    findings: FindingsSummary
    regression: RegressionSummary
    dissimilarity: DissimilaritySummary
    states: list[StateSummary]
    transitions: list[TransitionSummary]
    notes: list[str]
    stability: Stability | None = None
    seconds: Seconds | None = None
    published: PublishedSummary | Absent = ABSENT  # where methods are compared
    map_id: str | None = None  # which all files of the map carry

    @property
    def has_convergence(self) -> bool:
        """Whether it is recorded when a run has converged; older files do not say what that is."""
        return bool(self.convergence.criterion) or self.num_converged > 0

    @property
    def explains_nothing(self) -> bool:
        """Whether the time of convergence was to be explained, and is not recorded."""
        return self.regression.outcome == "convergence" and not self.has_convergence

    @property
    def detours_on_map(self) -> list[int]:
        """States of the map of the chosen number of states in which runs are delayed."""
        if self.resolution is None:
            return self.detours
        return list(states_of_branches(self.branches, self.num_states)[1])

    @property
    def delaying_states(self) -> list[str]:
        """The detours as people read them; a tested one with the number of states of its map."""
        if self.resolution is None:
            return [str(state) for state in self.detours]
        return [
            f"{branch.state} of {branch.num_states}" for branch in self.branches if branch.detour
        ]

    @property
    def num_states_drawn(self) -> int:
        """Number of states of the map that is drawn, in which the named branches can be seen."""
        return states_with_branches(self.branches, self.num_states)

    @property
    def detours_drawn(self) -> list[int]:
        """States of the map that is drawn in which runs are delayed."""
        if self.resolution is None:
            return self.detours
        return list(states_of_branches(self.branches, self.num_states_drawn)[1])


def read_summary(folder: Path) -> RunSummary:
    """Returns the content of a run's `summary.json`.

    Raises:
        UserError: the file is missing or damaged; the message says which command makes it.
    """
    return read_result(RunSummary, folder, run_folder.SUMMARY, f"map {folder}")


class SummaryParts(NamedTuple):
    """What a summary takes over as it is.

    Attributes:
        selection: a row per number of states, as the saved HMM has them.
        scale: what metrics are scaled by, "common" or "run".
        held_out: log-likelihood per record of each run held out, nats.
        fit_notes: what the fit has to tell.
        odd: runs left off the map.
        branches: tested claims; none of a Gaussian HMM.
        headline: what they say.
        resolution: the number of states at other temperings; None of a Gaussian HMM.
        findings: survival, path or speed, what moves first.
        published: what the published method says; None where methods are not compared.
    """

    selection: list[dict[str, Any]]
    scale: str
    held_out: dict[str, float]
    fit_notes: list[str]
    odd: tuple[str, ...]
    branches: tuple[Branch, ...]
    headline: str
    resolution: Resolution | None
    findings: FindingsSummary
    published: PublishedSummary | None


def summarise(
    dataset: xr.Dataset, analysis: Analysis, config: MapConfig, inputs: SummaryParts
) -> RunSummary:
    """Summarises a run, but for its stability and times.

    Args:
        dataset: metrics of all seeds.
        analysis: of the chosen HMM.
        config: what the map was asked.
        inputs: what is taken over.
    """
    tmap, diverged = analysis.training_map, dataset.diverged.values >= 0
    assert config.threshold is not None  # the question of a map has it filled in
    return RunSummary(
        num_seeds=dataset.sizes["seed"],
        seeds=to_json(dataset.seed.values),
        num_runs=tmap.num_runs,
        num_diverged=int(diverged.sum()),
        diverged_seeds=to_json(dataset.seed.values[diverged]),
        num_converged=int(np.isfinite(analysis.convergence).sum()),
        convergence=_convergence(dataset, analysis, config.threshold),
        emission="gaussian" if inputs.resolution is None else "autoregressive",
        scale=inputs.scale,
        num_states=tmap.num_states,
        resolution=inputs.resolution,
        selection=[_selection_row(row) for row in inputs.selection],
        held_out_log_likelihood=to_json(inputs.held_out),
        odd_runs=list(inputs.odd),
        headline=inputs.headline,
        branches=list(inputs.branches),
        **_forks(analysis, inputs),
        findings=inputs.findings,
        regression=_regression(analysis, config.outcome),
        dissimilarity=DissimilaritySummary(**to_json(analysis.dissimilarity)),
        states=[
            StateSummary(k, float(tmap.occupancy[k]), int(tmap.visits[k]))
            for k in range(tmap.num_states)
        ],
        transitions=[
            TransitionSummary(
                source=int(edge.source),
                target=int(edge.target),
                probability=float(edge.probability),
                num_runs=int(edge.num_runs),
                top_features=[(name, float(change)) for name, change in edge.top_features],
            )
            for edge in tmap.edges
        ],
        notes=_notes(dataset, analysis, inputs),
        published=ABSENT if inputs.published is None else inputs.published,
    )


def _selection_row(row: dict[str, Any]) -> SizeRow | SelectionRow:
    kind: Any = SizeRow if "agreement" in row else SelectionRow
    return from_json(kind, to_json(row))


def _forks(analysis: Analysis, inputs: SummaryParts) -> dict[str, Any]:
    """Whether runs fork and where they are delayed, by tested claims where the map has them."""
    if inputs.resolution is None:
        return {
            "forking": bool(analysis.training_map.forking),
            "detours": to_json(analysis.detours),
            "firm_detours": to_json(analysis.firm_detours),
        }
    detours = sorted({branch.state for branch in inputs.branches if branch.detour})
    forking = any(branch.named for branch in inputs.branches)
    return {"forking": forking, "detours": detours, "firm_detours": detours}


def _convergence(dataset: xr.Dataset, analysis: Analysis, threshold: float) -> Convergence:
    criterion = criterion_of(dataset, threshold)
    times = analysis.convergence[np.isfinite(analysis.convergence)]
    return Convergence(
        threshold=threshold,
        unit=time_unit(dataset),
        values=to_json(analysis.convergence),
        mean=float(times.mean()) if len(times) else None,
        std=float(times.std(ddof=1)) if len(times) > 1 else None,
        criterion=ABSENT if criterion is None else criterion.words,
    )


def _regression(analysis: Analysis, outcome: str) -> RegressionSummary:
    regression = analysis.regression
    names = ("state", "value", "standard_error", "low", "high")
    return RegressionSummary(
        outcome=outcome,
        r2=to_json(regression.r2),
        f_pvalue=to_json(regression.f_pvalue),
        permutation_pvalue=to_json(analysis.permutation_pvalue),
        leave_one_out_r2=to_json(regression.leave_one_out_r2),
        num_runs=regression.num_runs,
        num_censored=regression.num_censored,
        censoring=regression.censoring,
        coefficients=[
            CoefficientSummary(**{name: to_json(getattr(coefficient, name)) for name in names})
            for coefficient in regression.coefficients
        ],
    )


def _notes(dataset: xr.Dataset, analysis: Analysis, inputs: SummaryParts) -> list[str]:
    notes = []
    diverged = dataset.diverged.values >= 0
    if diverged.any():
        steps = dataset.diverged.values[diverged]
        names = [str(seed) for seed in dataset.seed.values[diverged]]
        named = ", ".join(f"{s} (step {t:g})" for s, t in zip(names, steps, strict=True))
        notes.append(f"diverged seeds, cut at divergence and left out of the regression: {named}")
        mapped = {*analysis.sequences.runs, *inputs.odd}
        unusable = [name for name in names if name not in mapped]
        if unusable:
            notes.append(f"diverged too soon for the HMM: {', '.join(unusable)}")
    never = int((np.isnan(analysis.convergence) & ~diverged).sum())
    if never and criterion_of(dataset, 0.0) is not None:
        runs = "1 run" if never == 1 else f"{never} runs"
        consequence = "left out of the regression"
        if analysis.regression.censoring == "cap":
            consequence = "in the regression with the end of training as their time"
        notes.append(f"{runs} never converged: {consequence}")
    notes += leak_notes(inputs.findings.leak)
    return notes + list(analysis.regression.warnings) + inputs.fit_notes
