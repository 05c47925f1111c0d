"""What a run still in progress will do, from its checkpoints so far.

    forecaster = fit_forecaster(train, outcome, steps)      # runs trained to the end, raw metrics
    forecast(forecaster, values)                            # values so far [time, metric], raw

The training map's HMM (`hmm.autoregressive`) is fitted to the checkpoints of the training runs
before they converge. A run's forecast at a checkpoint is the Kaplan-Meier curve of the training
runs that had not converged by then, by state (`hmm.forecasting.landmark`), mixed with that of time
alone. Nothing looks ahead: the scale is that of the training runs pooled (`hmm.features`), and
states are filtered, not smoothed. The number of states and the share of the mixture are chosen, and
intervals are calibrated, by forecasts of training runs that the HMM has not seen. What forecasts
are worth is measured on other runs, by `hmm.forecasting.skill`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from seedmap.errors import UserError
from seedmap.hmm.autoregressive.map_model import MapModel, filter_runs
from seedmap.hmm.forecasting.landmark import distribution_by_state, distribution_by_time
from seedmap.hmm.forecasting.scores import outcome_weights
from seedmap.hmm.sequences import from_arrays

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Forecaster:
    """What forecasts rest on; made by `fit_forecaster`.

    Attributes:
        model: from raw metrics to states, learnt from all training runs.
        share: of the states in the mixture with time alone, between 0 and 1.
        steps: float64 [time], step of each checkpoint.
        folds: int [run], the fold that a training run is in.
        beliefs: float [1 + fold, run, time, state], filtered states of all training runs under the
            model of all of them, and under that of all but those of each fold; 0 once they have
            converged or ended.
        arrivals: int [run], index of the first checkpoint at which a training run has converged;
            for one that never did, the number of its checkpoints.
        observed: bool [run], False for a run that never converged.
        errors: by number of states, the Brier score of left-out training runs, weighted for
            censoring and averaged over checkpoints and horizons.
    """

    model: MapModel
    share: float
    steps: Float[np.ndarray, " time"]
    folds: Int[np.ndarray, " run"]
    beliefs: Float[np.ndarray, "model run time state"]
    arrivals: Int[np.ndarray, " run"]
    observed: Bool[np.ndarray, " run"]
    errors: dict[int, float]

    @property
    def num_states(self) -> int:
        """Number of states that was chosen."""
        return self.model.num_states

    def at_risk(self, index: int) -> Int[np.ndarray, " n"]:
        """Training runs, int [n], that have not converged or ended by checkpoint `index`."""
        return np.flatnonzero(self.arrivals > index)

    def distribution(
        self, beliefs: Float[np.ndarray, "run state"], index: int
    ) -> Float[np.ndarray, "run checkpoint"]:
        """Returns the probability that other runs have converged by each checkpoint to come.

        Args:
            beliefs: float [run, state], filtered states at checkpoint `index`.
            index: of the checkpoint, counted from the run's first.

        Returns:
            float64 [run, 1 + checkpoints to come], from 0 at the checkpoint itself to the
            probability of convergence in training.

        Raises:
            UserError: every training run has converged or ended by then.
        """
        runs = self.at_risk(index)
        if not len(runs):
            raise UserError(
                f"every training run has converged or ended by step {self.steps[index]:g}: "
                "nothing is known of runs that take longer"
            )
        states, time = self._parts(runs, 0, beliefs, index)
        return self.share * states + (1 - self.share) * time

    def left_out(self, index: int) -> Float[np.ndarray, "n checkpoint"]:
        """Distributions at checkpoint `index` of the runs at risk, learnt without their folds."""
        states, time = self.left_out_parts(index)
        return self.share * states + (1 - self.share) * time

    def left_out_parts(
        self, index: int
    ) -> tuple[Float[np.ndarray, "n checkpoint"], Float[np.ndarray, "n checkpoint"]]:
        """The same by states and by time alone, not mixed yet."""
        runs = self.at_risk(index)
        states, time = np.zeros((2, len(runs), len(self.steps) - index))
        for fold in np.unique(self.folds[runs]):
            mine = self.folds[runs] == fold
            if not mine.all():  # else none is left to learn from, and convergence is not foreseen
                own = self.beliefs[1 + fold, runs[mine], index]
                states[mine], time[mine] = self._parts(runs[~mine], 1 + fold, own, index)
        return states, time

    def _parts(self, learnt: np.ndarray, model: int, beliefs: np.ndarray, index: int):
        """Distributions by states and by time alone, from training runs at risk."""
        known = (self.arrivals[learnt], self.observed[learnt])
        num_steps = len(self.steps)
        own = self.beliefs[model, learnt, index]
        return (
            distribution_by_state(own, *known, beliefs, index, num_steps),
            distribution_by_time(*known, index, num_steps),
        )


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
        UserError: other metrics, more checkpoints than the forecaster knows steps for, a level
            outside (0, 1), or a step by which every training run has converged or ended.
    """
    model = forecaster.model
    run = from_arrays([values], metrics=model.scale.metrics, runs=["so far"])
    index = int(run.lengths[0]) - 1
    if index >= len(forecaster.steps):
        raise UserError(
            f"the run has {index + 1} checkpoints and the training runs {len(forecaster.steps)}"
        )
    distribution = forecaster.distribution(filter_runs(model, run)[:, -1], index)
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


def median(
    forecaster: Forecaster, distribution: Float[np.ndarray, "run checkpoint"], index: int
) -> Float[np.ndarray, " run"]:
    """Returns the first step by which half of the probability is converged.

    It is infinite where that is not in training.

    Args:
        forecaster: learnt from other runs.
        distribution: of `Forecaster.distribution` at checkpoint `index`.
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
    Scores are those of training runs under models that have not seen them, each with weight w by
    inverse probability of censoring. An interval holds the outcomes whose score is no more than the
    least one by which a share `level` of sum w + 1 is reached, 1 being the new run; all, if that is
    never (Tibshirani et al. 2019). Not to converge in training is an outcome too, the last.

    Args:
        forecaster: learnt from other runs.
        distribution: of `Forecaster.distribution` at checkpoint `index`.
        index: of the checkpoint.
        level: share of runs to be held, between 0 and 1.

    Returns:
        Lower and upper ends, float64 [run], in units of the steps.

    Raises:
        UserError: the level is outside (0, 1).
    """
    if not 0 < level < 1:
        raise UserError(f"level must lie between 0 and 1, not {level}")
    largest = _largest_score(forecaster, index, level)
    held = _scores(distribution) <= largest + _ROUNDING
    outcomes = np.append(forecaster.steps[index + 1 :], np.inf)
    low = outcomes[held.argmax(axis=1)]
    high = outcomes[::-1][held[:, ::-1].argmax(axis=1)]
    return low, high


def _largest_score(forecaster: Forecaster, index: int, level: float) -> float:
    """The largest score of an outcome that an interval holds."""
    runs, num_steps = forecaster.at_risk(index), len(forecaster.steps)
    if not len(runs):
        return 0.5
    arrivals, observed = forecaster.arrivals[runs], forecaster.observed[runs]
    weights = outcome_weights(arrivals, observed, num_steps)
    outcome = np.where(observed, arrivals, num_steps) - index - 1
    own = _scores(forecaster.left_out(index))[np.arange(len(runs)), outcome]
    order = np.argsort(own, kind="stable")
    share = weights[order].cumsum() / (weights.sum() + 1)
    reached = share >= level - _ROUNDING
    return float(own[order][reached.argmax()]) if reached.any() else 0.5


def _scores(distribution: np.ndarray) -> np.ndarray:
    """Scores [run, outcome] of convergence at each checkpoint to come, and of none in training."""
    closed = np.column_stack([distribution, np.ones(len(distribution))])
    return np.abs((closed[:, 1:] + closed[:, :-1]) / 2 - 0.5)
