"""What a fitted run says beyond its states: branches, survival, path or speed, what moves first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from seedmap import hmm
from seedmap.errors import UserError
from seedmap.experiments.runs.analysis import Analysis
from seedmap.experiments.runs.dataset import time_unit
from seedmap.experiments.runs.engines import AnySweep
from seedmap.experiments.runs.findings_summary import (
    BranchSurvival,
    FindingsSummary,
    MovesFirstSummary,
    PathOrSpeedSummary,
    Resolution,
    SurvivalSummary,
)
from seedmap.experiments.runs.fitted import Fitted
from seedmap.hmm.autoregressive.map_sweep import MapSweep
from seedmap.hmm.reading import read_beliefs
from seedmap.text import p_equals

Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Findings:
    """The findings with their curves, for figures.

    Attributes:
        summary: as `summary.json` has them.
        curves: Kaplan-Meier curves by group of runs: all, and the sides of every named branch.
        end: last time of the records.
        unit: of times.
        path_or_speed: what the difference between runs is; None where there are too few.
        moves_first: what turns before convergence; likewise.
    """

    summary: FindingsSummary
    curves: Mapping[str, hmm.SurvivalCurve]
    end: float
    unit: str
    path_or_speed: hmm.PathOrSpeed | None
    moves_first: hmm.MovesFirst | None


def resolution_of(sweep: AnySweep) -> Resolution | None:
    """Returns the number of states at other temperings; None of a Gaussian HMM."""
    if not isinstance(sweep, MapSweep):
        return None
    return Resolution(sweep.tempering, sweep.num_states, sweep.half, sweep.double)


def find_branches(fitted: Fitted, analysis: Analysis) -> tuple[tuple[hmm.Branch, ...], str]:
    """Returns the branches of a run's map and the headline that says what they are.

    Args:
        fitted: the run; of a Gaussian HMM no branches are tested, and the headline says whether two
            runs visit states in different orders (Hu et al. 2023), and how many go back.
        analysis: of the runs on its map.
    """
    saved = fitted.saved
    if saved.model is None:
        return (), analysis.training_map.order
    features = hmm.apply_scale(saved.model.scale, fitted.raw)
    made = hmm.FittedRuns(saved.model, features, saved.train_runs)
    times = np.full(len(features.runs), np.nan)
    times[fitted.on_the_map] = analysis.run_convergence
    steps = np.broadcast_to(fitted.steps, features.x.shape[:2])
    seed = fitted.config["fit"]["fit_seed"]
    branches = hmm.search_branches(made, fitted.decodings, steps, times, seed)
    return branches, hmm.branch_sentence(branches, fitted.paths[made.rows])


def find_out(
    fitted: Fitted, analysis: Analysis, branches: tuple[hmm.Branch, ...], by_time: bool
) -> Findings:
    """Returns the findings of a run.

    Args:
        fitted: the run.
        analysis: of the runs on its map.
        branches: of the map.
        by_time: whether the outcome explained is the time of convergence.
    """
    raw = fitted.raw.select(fitted.on_the_map)
    values = np.where(raw.mask[:, :, None], raw.values, np.nan)
    steps, times = fitted.steps, analysis.run_convergence
    unit = time_unit(fitted.dataset)
    converge = bool(np.isfinite(times).any())
    moves = None
    if converge:
        moves = _unless_refused(lambda: hmm.moves_first(values, steps, times, raw.metrics))
    compared = _unless_refused(lambda: hmm.path_or_speed(_features(raw)))
    threshold = _unless_refused(lambda: hmm.best_threshold(values, analysis.outcome, raw.metrics))
    curves = _curves(raw, steps, times, branches) if converge else {}
    return Findings(
        summary=FindingsSummary(
            leak=_leak(fitted, raw, analysis) if by_time else None,
            single_threshold=threshold,
            survival=_survival(fitted, raw, steps, times, branches, unit) if converge else None,
            path_or_speed=compared
            and PathOrSpeedSummary(compared, list(hmm.speed_sentences(compared))),
            moves_first=moves and _moves(moves, unit),
        ),
        curves=curves,
        end=float(steps[raw.lengths.max() - 1]),
        unit=unit,
        path_or_speed=compared,
        moves_first=moves,
    )


def _unless_refused(find: Callable[[], Found]) -> Found | None:
    """The finding; None where the runs are too few or too short for it."""
    try:
        return find()
    except UserError:
        return None


def _features(raw: hmm.Sequences) -> np.ndarray:
    """Components on one scale for all runs, NaN where nothing was recorded."""
    features = hmm.apply_scale(hmm.fit_scale(raw), raw)
    return np.where(features.present[:, :, None], features.x, np.nan)


def _leak(fitted: Fitted, raw: hmm.Sequences, analysis: Analysis) -> hmm.Leak | None:
    """What first records tell of convergence, as the HMM sees them and as they were recorded."""
    if fitted.saved.scale is None:
        first = analysis.sequences.values[:, 0]
    else:
        first = hmm.apply_scale(fitted.saved.scale, raw).x[:, 0]
    return hmm.leak(first, raw.values[:, 0], analysis.run_convergence)


def _curves(
    raw: hmm.Sequences, steps: np.ndarray, times: np.ndarray, branches: tuple[hmm.Branch, ...]
) -> dict[str, hmm.SurvivalCurve]:
    """Kaplan-Meier curves of all runs and of the sides of every named branch."""
    when, observed = hmm.censored_times(times, steps[raw.lengths - 1])
    curves = {"all runs": hmm.kaplan_meier(when, observed)}
    for branch in (branch for branch in branches if branch.named):
        for side in ("visitors", "skippers"):
            rows = np.isin(raw.runs, getattr(branch, side))
            name = f"{side} of state {branch.state} of {branch.num_states}"
            curves[name] = hmm.kaplan_meier(when[rows], observed[rows])
    return curves


def _survival(
    fitted: Fitted,
    raw: hmm.Sequences,
    steps: np.ndarray,
    times: np.ndarray,
    branches: tuple[hmm.Branch, ...],
    unit: str,
) -> SurvivalSummary:
    beliefs = read_beliefs(fitted.saved, raw)
    known = np.where(raw.mask[:, :, None], beliefs, np.nan)
    hazards = hmm.hazard_by_state(known, steps, times)
    when, observed = hmm.censored_times(times, steps[raw.lengths - 1])
    end = float(when.max())
    curve = hmm.kaplan_meier(when, observed)
    half = np.flatnonzero(curve.survival <= 0.5)
    named = [branch for branch in branches if branch.named]
    by_branch = [branch_survival(branch, raw.runs, when, observed) for branch in named]
    return SurvivalSummary(
        num_runs=curve.num_runs,
        num_converged=curve.num_converged,
        half=float(curve.times[half[0]]) if len(half) else None,
        restricted_mean=_unless_refused(lambda: hmm.restricted_mean(when, observed, end)),
        hazards=list(hazards),
        branches=by_branch,
        sentences=[
            *hmm.survival_sentences(curve, hazards, unit),
            *(_branch_sentence(survival, unit) for survival in by_branch),
        ],
    )


def branch_survival(
    branch: hmm.Branch, runs: Sequence[str], times: np.ndarray, observed: np.ndarray
) -> BranchSurvival:
    """Returns how the visitors and the skippers of a branch converge.

    Args:
        branch: a named one.
        runs: names.
        times: [run], of convergence or of censoring.
        observed: [run], whether the time is that of convergence.
    """
    visits = np.isin(runs, branch.visitors)
    members = visits | np.isin(runs, branch.skippers)
    own = times[members], observed[members], visits[members]
    later = _unless_refused(lambda: hmm.restricted_difference(*own))
    return BranchSurvival(
        state=branch.state,
        num_states=branch.num_states,
        visitors=int(own[2].sum()),
        visitors_converged=int(own[1][own[2]].sum()),
        skippers=int((~own[2]).sum()),
        skippers_converged=int(own[1][~own[2]].sum()),
        later=later,
        pvalue=hmm.log_rank_pvalue(*own),
    )


def _branch_sentence(survival: BranchSurvival, unit: str) -> str:
    who = f"The visitors of state {survival.state} of {survival.num_states}"
    test = f"log-rank {p_equals(survival.pvalue)}"
    if survival.later is None:
        return f"{who} and those who pass it by cannot be compared in restricted means ({test})."
    later = survival.later
    side = "later" if later.value >= 0 else "sooner"
    ends = sorted([later.low, later.high]) if later.value >= 0 else (-later.high, -later.low)
    return (
        f"{who} converge {abs(later.value):.3g} {unit}s {side} than those who pass it by (95 % "
        f"interval {ends[0]:.3g} to {ends[1]:.3g}; {test})."
    )


def _moves(moves: hmm.MovesFirst, unit: str) -> MovesFirstSummary:
    sentences = list(hmm.first_sentences(moves, "convergence", unit))
    return MovesFirstSummary(list(moves.turns), list(moves.steady), moves.runs, sentences)
