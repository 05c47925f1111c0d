"""What a run still in progress will do, from its checkpoints so far.

    forecaster = fit_forecaster(train, outcome, steps)      # runs trained to the end, raw metrics
    forecast(forecaster, values)                            # values so far [time, metric], raw

Convergence is one more state of the chain, an absorbing one: an HMM is fitted to the checkpoints of
the training runs before they converge, and each of its states has a probability to converge at the
next checkpoint. Filtered states and powers of the transition matrix then give everything in closed
form. Nothing looks ahead: the metrics of a checkpoint are scaled by the run's past alone
(`hmm.forecasting.causal`), for the runs learnt from as for the run forecast, and states are
filtered, not smoothed. What forecasts are worth is measured on left-out runs, by
`hmm.forecasting.skill`.
"""

import math
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Real

from seedmap.errors import UserError
from seedmap.hmm.decoding import decode
from seedmap.hmm.forecasting.absorbing import absorbed, exit_probabilities
from seedmap.hmm.forecasting.causal import MINIMUM, causal_z_score
from seedmap.hmm.inference import filtered
from seedmap.hmm.parameters import Parameters
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.criteria import best_restarts
from seedmap.hmm.selection.sweep import fit_sweep
from seedmap.hmm.sequences import Sequences, from_arrays, split_runs

MIN_AT_RISK = 5
"""Training runs that must converge after the first checkpoint at which forecasts are made."""

FORECAST_SWEEP = SweepConfig(
    states=(2, 3, 4, 6, 8, 10, 12), restarts=3, covariance="diagonal", prior="weak"
)
"""More states than for a map, and simpler ones.

On 4 x 40 seeds of sparse parities left out by fifths, at 50 to 250 epochs, the skill over all steps
was 0.35 with these settings, 0.34 with the held-out prior (8 times slower), 0.34 to 0.36 with full
covariances, and 0.31 for regression on the raw metrics.
"""

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Forecaster:
    """What forecasts rest on; made by `fit_forecaster`.

    Attributes:
        parameters: HMM of causally z-scored metrics before convergence, states in order of first
            visit.
        exits: float64 [state], probability e_k to converge at the next checkpoint.
        metrics: names of the metrics.
        steps: float64 [time], step of each checkpoint.
        minimum: number of checkpoints before the first forecast.
        beliefs: float [run, time - minimum + 1, state], filtered states of the training runs,
            0 once they have converged or ended.
        arrivals: int [run], index of the first checkpoint at which a training run has converged;
            for one that never did, the number of its checkpoints.
        observed: bool [run], False for a run that never converged.
        train_error: mean absolute error of the forecast median over training runs and checkpoints,
            in units of the steps.
    """

    parameters: Parameters
    exits: Float[np.ndarray, " state"]
    metrics: tuple[str, ...]
    steps: Float[np.ndarray, " time"]
    minimum: int
    beliefs: Float[np.ndarray, "run forecast state"]
    arrivals: Int[np.ndarray, " run"]
    observed: Bool[np.ndarray, " run"]
    train_error: float

    def at_risk(self, index: int) -> Int[np.ndarray, " n"]:
        """Training runs, int [n], that have not converged or ended by checkpoint `index`."""
        return np.flatnonzero(self.arrivals > index)


@dataclass(frozen=True, eq=False)
class Forecast:
    """Forecast of a run that has not converged yet. Times are steps; training ends with the last.

    Attributes:
        step: step of the last checkpoint seen.
        convergence_probability: probability of convergence before training ends.
        convergence_median: infinite if the run more likely than not does not converge in training.
        low: lower end of the interval.
        high: upper end; infinite where the run may well not converge in training, or where too few
            training runs are left to tell.
        level: share of runs that intervals are made to hold.
        num_runs_at_risk: training runs that had not converged either.
    """

    step: float
    convergence_probability: float
    convergence_median: float
    low: float
    high: float
    level: float
    num_runs_at_risk: int


def fit_forecaster(
    train: Sequences,
    outcome: Real[np.ndarray, " _run"],
    steps: Real[np.ndarray, " _time"],
    config: SweepConfig = FORECAST_SWEEP,
    seed: int = 0,
    minimum: int = MINIMUM,
) -> Forecaster:
    """Learns from finished runs what forecasts need.

    For each number of states an HMM is fitted to causal z-scores of the checkpoints before
    convergence. The one chosen has the least mean absolute error of the forecast median over
    training runs and checkpoints.

    Args:
        train: raw metrics of the runs.
        outcome: float [run], step of convergence; NaN for a run that did not converge.
        steps: [time], step of each checkpoint, increasing, the same for all runs. Training ends
            with the last one.
        config: the sweep.
        seed: of its split and its restarts.
        minimum: as in `causal_z_score`.

    Returns:
        The forecaster.

    Raises:
        UserError: shapes that do not match, steps that do not increase, a run that converges after
            its last checkpoint, too few checkpoints, fewer than 5 runs that converge after the
            first forecast, or a sweep whose fits are all degenerate.
    """
    outcome, steps = np.asarray(outcome, dtype=float), np.asarray(steps, dtype=float)
    _check_outcome(train, outcome, steps, minimum)
    observed = ~np.isnan(outcome)
    arrivals = np.where(observed, np.searchsorted(steps, outcome), train.lengths)
    before = _before_convergence(causal_z_score(train, minimum), arrivals - minimum + 1)
    fitted, held_out = split_runs(before.num_runs, seed=seed)
    key = jax.random.key(seed)
    best = best_restarts(fit_sweep(before.select(fitted), before.select(held_out), config, key))
    if not best:
        raise UserError("every fit is degenerate: try fewer states or more runs")
    runs = np.flatnonzero(arrivals >= minimum)
    times = (arrivals[runs], observed[runs])
    candidates = [_learn(best[k].parameters, before, *times, steps, minimum) for k in sorted(best)]
    chosen = min(candidates, key=lambda made: made.train_error)
    return _in_order(chosen, before)


def _check_outcome(train: Sequences, outcome: np.ndarray, steps: np.ndarray, minimum: int) -> None:
    num_steps = train.values.shape[1]
    if outcome.shape != (train.num_runs,) or steps.shape != (num_steps,):
        raise UserError(
            f"need an outcome for each of {train.num_runs} runs and a step for each of {num_steps} "
            f"checkpoints, not {outcome.shape} and {steps.shape}"
        )
    if not np.isfinite(steps).all() or (np.diff(steps) <= 0).any():
        raise UserError("steps must increase from checkpoint to checkpoint")
    late = outcome > steps[train.lengths - 1]  # False for NaN
    if late.any():
        run = int(late.argmax())
        raise UserError(
            f"run {train.runs[run]} converges at step {outcome[run]:g}, after its last checkpoint: "
            "give more checkpoints, or NaN for a run not seen to converge"
        )
    later = int((outcome > steps[min(minimum, num_steps) - 1]).sum())
    if later < MIN_AT_RISK:
        raise UserError(
            f"{later} training runs converge after checkpoint {minimum}, where forecasts begin; "
            f"it takes {MIN_AT_RISK}: train more seeds, or record more often"
        )


def _before_convergence(z: Sequences, lengths: np.ndarray) -> Sequences:
    """The first checkpoints of each run, without runs that have none left."""
    runs = np.flatnonzero(lengths > 0)
    kept = z.select(runs)
    return from_arrays(kept.values, lengths[runs], kept.metrics, kept.runs)


def _learn(
    parameters: Parameters,
    before: Sequences,
    arrivals: np.ndarray,
    observed: np.ndarray,
    steps: np.ndarray,
    minimum: int,
) -> Forecaster:
    """The forecaster of one HMM, with its error."""
    beliefs = filtered(parameters, before)
    made = Forecaster(
        parameters=parameters,
        exits=exit_probabilities(beliefs, before.lengths, observed),
        metrics=before.metrics,
        steps=steps,
        minimum=minimum,
        beliefs=beliefs,
        arrivals=arrivals,
        observed=observed,
        train_error=np.nan,
    )
    return replace(made, train_error=_train_error(made))


def _in_order(forecaster: Forecaster, before: Sequences) -> Forecaster:
    """The forecaster with states in order of first visit."""
    decoded = decode(forecaster.parameters, before)
    return replace(
        forecaster,
        parameters=decoded.parameters,
        exits=forecaster.exits[decoded.order],
        beliefs=forecaster.beliefs[:, :, decoded.order],
    )


def forecast(
    forecaster: Forecaster, values: Real[np.ndarray, "time metric"], level: float = 0.8
) -> Forecast:
    """Forecasts a run from its checkpoints so far; it must not have converged yet.

    Args:
        forecaster: learnt from other runs.
        values: float [time so far, metric], raw metrics from the first checkpoint on.
        level: share of runs that the interval is to hold, between 0 and 1; see `interval`.

    Returns:
        The forecast.

    Raises:
        UserError: other metrics, fewer checkpoints than the forecaster's minimum or more than it
            knows steps for, or a level outside (0, 1).
    """
    run = from_arrays([values], metrics=forecaster.metrics, runs=["so far"])
    index = int(run.lengths[0]) - 1
    if index >= len(forecaster.steps):
        raise UserError(
            f"the run has {index + 1} checkpoints and the training runs {len(forecaster.steps)}"
        )
    z = causal_z_score(run, forecaster.minimum)
    now = filtered(forecaster.parameters, z)[:, -1]
    distribution = convergence_distribution(forecaster, now, index)
    low, high = interval(forecaster, distribution, index, level)
    return Forecast(
        step=float(forecaster.steps[index]),
        convergence_probability=float(distribution[0, -1]),
        convergence_median=float(median(forecaster, distribution, index)[0]),
        low=float(low[0]),
        high=float(high[0]),
        level=level,
        num_runs_at_risk=len(forecaster.at_risk(index)),
    )


def convergence_distribution(
    forecaster: Forecaster, beliefs: Float[np.ndarray, "run state"], index: int
) -> Float[np.ndarray, "run checkpoint"]:
    """Returns the probability that runs have converged by each checkpoint to come (`absorbing`).

    Args:
        forecaster: learnt from other runs.
        beliefs: float [run, state], filtered states at checkpoint `index`.
        index: of the checkpoint, counted from the run's first.

    Returns:
        float64 [run, 1 + checkpoints to come], from 0 at the checkpoint itself to the probability
        of convergence in training.
    """
    num_left = len(forecaster.steps) - 1 - index
    return absorbed(forecaster.parameters.transition, forecaster.exits, beliefs, num_left)


def median(
    forecaster: Forecaster, distribution: Float[np.ndarray, "run checkpoint"], index: int
) -> Float[np.ndarray, " run"]:
    """Returns the first step by which half of the probability is converged.

    It is infinite where that is not in training.

    Args:
        forecaster: learnt from other runs.
        distribution: of `convergence_distribution` at checkpoint `index`.
        index: of the checkpoint.

    Returns:
        float64 [run].
    """
    steps = np.append(forecaster.steps[index:], np.inf)
    reached = distribution >= 0.5 - _ROUNDING
    first = np.where(reached.any(axis=1), reached.argmax(axis=1), len(steps) - 1)
    return steps[first]


def interval(
    forecaster: Forecaster,
    distribution: Float[np.ndarray, "run checkpoint"],
    index: int,
    level: float,
) -> tuple[Float[np.ndarray, " run"], Float[np.ndarray, " run"]]:
    """Returns conformal intervals for the step of convergence.

    By the distribution function F of each run at risk (Chernozhukov, Wüthrich & Zhu 2021): the
    score of an outcome is |F - 1/2|, with F taken half-way through the outcome's own probability.
    An interval holds the outcomes whose score is no more than the ceil((n + 1) level)-th smallest
    score of n training runs at risk; all, if n is less than that. Not to converge in training is an
    outcome too, the last. The HMM has seen the training runs, so the level is nominal:
    `hmm.forecasting.skill` measures it.

    Args:
        forecaster: learnt from other runs.
        distribution: of `convergence_distribution` at checkpoint `index`.
        index: of the checkpoint.
        level: share of runs to be held, between 0 and 1.

    Returns:
        Lower and upper ends, float64 [run], in units of the steps.

    Raises:
        UserError: the level is outside (0, 1).
    """
    if not 0 < level < 1:
        raise UserError(f"level must lie between 0 and 1, not {level}")
    runs = forecaster.at_risk(index)
    scores = _scores(_at(forecaster, runs, index))
    outcome = np.where(forecaster.observed[runs], forecaster.arrivals[runs] - index, 0) - 1
    own = np.sort(scores[np.arange(len(runs)), outcome])
    rank = math.ceil((len(runs) + 1) * level - _ROUNDING)
    largest = own[rank - 1] if rank <= len(runs) else 0.5
    held = _scores(distribution) <= largest + _ROUNDING
    outcomes = np.append(forecaster.steps[index + 1 :], np.inf)
    low = outcomes[held.argmax(axis=1)]
    high = outcomes[::-1][held[:, ::-1].argmax(axis=1)]
    return low, high


def _scores(distribution: np.ndarray) -> np.ndarray:
    """Scores [run, outcome] of convergence at each checkpoint to come, and of none in training."""
    closed = np.column_stack([distribution, np.ones(len(distribution))])
    return np.abs((closed[:, 1:] + closed[:, :-1]) / 2 - 0.5)


def _at(forecaster: Forecaster, runs: np.ndarray, index: int) -> np.ndarray:
    """Distributions of convergence of training runs at a checkpoint."""
    beliefs = forecaster.beliefs[runs, index - forecaster.minimum + 1]
    return convergence_distribution(forecaster, beliefs, index)


def _train_error(forecaster: Forecaster) -> float:
    """Mean absolute error over the runs that converge, at every checkpoint before."""
    errors = []
    for index in range(forecaster.minimum - 1, len(forecaster.steps)):
        runs = forecaster.at_risk(index)
        runs = runs[forecaster.observed[runs]]
        medians = median(forecaster, _at(forecaster, runs, index), index)
        medians = np.minimum(medians, forecaster.steps[-1])
        errors.append(np.abs(medians - forecaster.steps[forecaster.arrivals[runs]]))
    return float(np.concatenate(errors).mean())
