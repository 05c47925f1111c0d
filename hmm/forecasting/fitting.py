"""From finished runs to a `Forecaster`: all fits as one batch, its choices made out of fold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int, Real

from seedmap.errors import UserError
from seedmap.hmm.autoregressive.fits import Fitted, Job, make_fits, precision
from seedmap.hmm.autoregressive.map_model import MapModel, filter_runs
from seedmap.hmm.autoregressive.model import default_tempering
from seedmap.hmm.autoregressive.records import records_of
from seedmap.hmm.autoregressive.starts import draw_labels, progress_along_the_way
from seedmap.hmm.features import apply_scale, fit_scale
from seedmap.hmm.forecasting.forecaster import Forecaster
from seedmap.hmm.forecasting.scores import brier_by_run
from seedmap.hmm.sequences import Sequences, from_arrays

MIN_AT_RISK = 5
"""Training runs that must converge after the first checkpoint."""

_LANDMARKS = 20  # checkpoints at which numbers of states are compared, at most
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ForecastSettings:
    """How to fit a forecaster.

    Attributes:
        states: numbers of states to try.
        restarts: starts of each fit.
        iterations: of EM at most.
        folds: groups of training runs, each left out in turn.
        seed: of folds and starts.
    """

    states: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    restarts: int = 2
    iterations: int = 50
    folds: int = 5
    seed: int = 0


def fit_forecaster(
    train: Sequences,
    outcome: Real[np.ndarray, " _run"],
    steps: Real[np.ndarray, " _time"],
    settings: ForecastSettings | None = None,
) -> Forecaster:
    """Learns from finished runs what forecasts need.

    All fits, to all runs and without each fold, of every number of states and from every start, are
    one batch. They share the scale of the training runs, which knows no outcome.

    Args:
        train: raw metrics of the runs.
        outcome: float [run], step of convergence; NaN for a run that did not converge.
        steps: [time], step of each checkpoint, increasing, the same for all runs. Training ends
            with the last one.
        settings: how; default: `ForecastSettings()`.

    Returns:
        The forecaster with the number of states whose forecasts of left-out runs have the least
        Brier score.

    Raises:
        UserError: shapes that do not match, steps that do not increase, a run that converges after
            its last checkpoint, or fewer than 5 runs that converge after the first.
    """
    settings = settings or ForecastSettings()
    outcome, steps = np.asarray(outcome, dtype=float), np.asarray(steps, dtype=float)
    arrivals, observed = arrivals_of(train, outcome, steps)
    _check_converging(int((observed & (arrivals > 0)).sum()))
    runs = np.flatnonzero(arrivals > 0)
    arrivals, observed = arrivals[runs], observed[runs]
    before = from_arrays(train.values[runs], arrivals, train.metrics, _names(train, runs))
    folds = _draw_folds(observed, settings)
    candidates = []
    for fits in _fits(before, folds, settings):
        candidates.append(_with_best_share(_learn(fits, before, observed, folds, steps)))
    errors = {made.num_states: error for error, made in candidates}
    _, chosen = min(candidates, key=lambda each: (each[0], each[1].num_states))
    return replace(chosen, errors=errors)


def arrivals_of(
    sequences: Sequences, outcome: Real[np.ndarray, " _run"], steps: Real[np.ndarray, " _time"]
) -> tuple[Int[np.ndarray, " run"], Bool[np.ndarray, " run"]]:
    """Returns the first checkpoint at which each run has converged, and whether it has.

    Args:
        sequences: the runs.
        outcome: float [run], step of convergence; NaN for a run that did not converge.
        steps: float [time], step of each checkpoint, increasing.

    Returns:
        int [run], the number of its checkpoints for a run that did not converge; bool [run].

    Raises:
        UserError: shapes that do not match, steps that do not increase, or a run that converges
            after its last checkpoint.
    """
    num_steps = sequences.values.shape[1]
    if outcome.shape != (sequences.num_runs,) or steps.shape != (num_steps,):
        raise UserError(
            f"need an outcome for each of {sequences.num_runs} runs and a step for each of "
            f"{num_steps} checkpoints, not {outcome.shape} and {steps.shape}"
        )
    if not np.isfinite(steps).all() or (np.diff(steps) <= 0).any():
        raise UserError("steps must increase from checkpoint to checkpoint")
    late = outcome > steps[sequences.lengths - 1]  # False for NaN
    if late.any():
        run = int(late.argmax())
        raise UserError(
            f"run {sequences.runs[run]} converges at step {outcome[run]:g}, after its last "
            "checkpoint: give more checkpoints, or NaN for a run not seen to converge"
        )
    observed = ~np.isnan(outcome)
    return np.where(observed, np.searchsorted(steps, outcome), sequences.lengths), observed


def _check_converging(number: int) -> None:
    if number < MIN_AT_RISK:
        raise UserError(
            f"{number} training runs converge after the first checkpoint; a forecast takes "
            f"{MIN_AT_RISK}: train more seeds, or record more often"
        )


def _names(train: Sequences, runs: np.ndarray) -> list[str]:
    return [train.runs[run] for run in runs]


def _draw_folds(observed: np.ndarray, settings: ForecastSettings) -> np.ndarray:
    """The fold of each run, int [run]; runs that converge are spread evenly, and so the others."""
    generator = np.random.default_rng(settings.seed)
    order = generator.permutation(len(observed))
    order = order[np.argsort(~observed[order], kind="stable")]
    folds = np.empty(len(observed), int)
    folds[order] = np.arange(len(observed)) % settings.folds
    return folds


def _fits(before: Sequences, folds: np.ndarray, settings: ForecastSettings) -> list[list[MapModel]]:
    """By number of states, the model of all runs and that without each fold, the best of starts."""
    weights = np.vstack([np.ones(len(folds)), folds != np.arange(settings.folds)[:, None]])
    counted = int((weights @ (before.lengths - 1)).min())
    states = [k for k in settings.states if 2 * k <= counted]
    if not states:
        raise UserError(
            f"{min(settings.states)} states are more than {counted} records before convergence "
            "allow: record more often, or train more seeds"
        )
    scale = fit_scale(before)
    tempering = default_tempering(before.lengths)
    iterations = settings.iterations
    with precision():
        features = apply_scale(scale, before)
        shares = progress_along_the_way(features)
        jobs = [
            Job(k, draw_labels(shares, k, (settings.seed, start)), row, tempering, iterations)
            for k in states
            for row in weights.astype(float)
            for start in range(settings.restarts if k > 1 else 1)
        ]
        made = iter(make_fits(records_of(features), features.mask, jobs))
    return [
        [
            MapModel(scale, tempering, _best(made, settings.restarts if k > 1 else 1), ())
            for _ in weights
        ]
        for k in states
    ]


def _best(made, restarts: int):
    """Parameters of the best of the next fits."""
    fits: list[Fitted] = [next(made) for _ in range(restarts)]
    return max(fits, key=lambda fit: fit.score).parameters


def _learn(
    models: Sequence[MapModel],
    before: Sequences,
    observed: np.ndarray,
    folds: np.ndarray,
    steps: np.ndarray,
) -> Forecaster:
    """The forecaster of one number of states: models of all runs, and without each fold."""
    return Forecaster(
        model=models[0],
        share=1.0,
        steps=steps,
        folds=folds,
        beliefs=np.stack([filter_runs(model, before) for model in models]),
        arrivals=before.lengths,
        observed=observed,
        errors={},
    )


def _with_best_share(forecaster: Forecaster) -> tuple[float, Forecaster]:
    """The least Brier score of training runs left out, and the forecaster that has it.

    The score is quadratic in the share, so that three shares tell it for all.
    """
    none, half, all_ = np.mean([_losses(forecaster, i) for i in _landmarks(forecaster)], axis=0)
    curvature = 2 * (none + all_ - 2 * half)
    slope = all_ - none - curvature
    share = float(np.clip(-slope / (2 * curvature), 0, 1)) if curvature > _ROUNDING else 0.0
    return float(none + (slope + curvature * share) * share), replace(forecaster, share=share)


def _landmarks(forecaster: Forecaster) -> list[int]:
    """Checkpoints with enough runs at risk and others to come, evenly spread."""
    last = len(forecaster.steps) - 1
    indices = [i for i in range(last) if len(forecaster.at_risk(i)) >= MIN_AT_RISK]
    chosen = np.linspace(0, len(indices) - 1, _LANDMARKS).round().astype(int)
    return [indices[i] for i in np.unique(chosen)]


def _losses(forecaster: Forecaster, index: int) -> list[float]:
    """Brier scores at a checkpoint if the share of the states is 0, 1/2 and 1."""
    runs = forecaster.at_risk(index)
    known = (forecaster.arrivals[runs], forecaster.observed[runs])
    states, time = forecaster.left_out_parts(index)
    mixtures = (time, (states + time) / 2, states)
    return [float(brier_by_run(each, *known, index).mean()) for each in mixtures]
