"""What forecasts of convergence are worth on runs that had no part in learning them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from seedmap.errors import UserError
from seedmap.hmm.autoregressive.map_model import filter_runs
from seedmap.hmm.forecasting.fitting import (
    MIN_AT_RISK,
    ForecastSettings,
    arrivals_of,
    fit_forecaster,
)
from seedmap.hmm.forecasting.forecaster import Forecaster, interval
from seedmap.hmm.forecasting.landmark import distribution_by_time
from seedmap.hmm.forecasting.reference import by_regression
from seedmap.hmm.forecasting.scores import (
    bootstrap,
    brier_by_run,
    concordance,
    concordance_pairs,
    coverage,
    expected_wait,
    outcome_weights,
)
from seedmap.hmm.sequences import Sequences
from seedmap.hmm.training_map.survival import Interval

_Statistic = Callable[[np.ndarray], np.ndarray]  # of how often each run counts [resample, run]


@dataclass(frozen=True, eq=False)
class ScoredSet:
    """Runs to score a forecaster on, and the runs it has learnt from, all in raw metrics.

    Attributes:
        forecaster: learnt from `train`.
        train: the runs learnt from.
        train_outcome: float [run], step of convergence, NaN where it never came.
        test: other runs: left out, or of fresh seeds.
        outcome: float [run], likewise.
    """

    forecaster: Forecaster
    train: Sequences
    train_outcome: Float[np.ndarray, " run"]
    test: Sequences
    outcome: Float[np.ndarray, " test_run"]


@dataclass(frozen=True)
class Comparison:
    """A score of the three forecasts on the same runs, with 95 % intervals over runs.

    Attributes:
        hmm: of `hmm.forecasting.forecaster`.
        regression: of a regression on the raw metrics of the last checkpoint seen.
        time: of time alone, Kaplan-Meier given no convergence so far.
        over_regression: HMM less regression, paired.
        over_time: HMM less time alone, paired.
    """

    hmm: Interval
    regression: Interval
    time: Interval
    over_regression: Interval
    over_time: Interval


@dataclass(frozen=True)
class SkillRow:
    """Scores of forecasts made at one step.

    Attributes:
        upto: the step; nothing after it was read.
        num_runs: runs forecast: all that had not converged nor ended.
        num_converging: those of them that were seen to converge later.
        brier: Brier score over all horizons to come, weighted for censoring; 0 is perfect.
        concordance: C-index, weighted for censoring; 0.5 knows nothing.
        coverage: share of runs inside the HMM's interval.
        level: share that the interval is to hold.
        width: median width of the interval; None where it is unbounded for half of the runs.
    """

    upto: float
    num_runs: int
    num_converging: int
    brier: Comparison
    concordance: Comparison
    coverage: Interval
    level: float
    width: float | None


def left_out_folds(
    sequences: Sequences,
    outcome: Real[np.ndarray, " run"],
    steps: Real[np.ndarray, " time"],
    folds: int = 5,
    settings: ForecastSettings | None = None,
) -> Iterator[ScoredSet]:
    """Yields the runs in groups, each with a forecaster learnt from the others alone.

    Args:
        sequences: raw metrics of all runs.
        outcome: float [run], step of convergence; NaN for a run that did not converge.
        steps: [time], step of each checkpoint, increasing.
        folds: number of groups.
        settings: of the forecasters; its seed draws the groups.

    Raises:
        UserError: as `fit_forecaster`, or folds that are not between 2 and the number of runs.
    """
    if not 2 <= folds <= sequences.num_runs:
        raise UserError(f"folds must lie between 2 and {sequences.num_runs} runs, not {folds}")
    settings = settings or ForecastSettings()
    order = np.random.default_rng(settings.seed).permutation(sequences.num_runs)
    for fold in range(folds):
        left_out = np.sort(order[fold::folds])
        learnt = np.setdiff1d(order, left_out)
        train = sequences.select(learnt)
        made = fit_forecaster(train, outcome[learnt], steps, settings)
        test = sequences.select(left_out)
        yield ScoredSet(made, train, outcome[learnt], test, outcome[left_out])


def forecast_skill(
    sets: Sequence[ScoredSet],
    upto: Sequence[float] | Real[np.ndarray, " step"],
    level: float = 0.8,
    seed: int = 0,
) -> list[SkillRow]:
    """Scores forecasts of runs that were not learnt from, at several steps, beside simpler ones.

    Runs that never converge are scored like the others, and those that end before training does
    count by the weights of the others. Several sets, such as folds, make one table.

    Args:
        sets: forecasters and the runs to score them on, of one sequence of steps.
        upto: steps to forecast at; the last checkpoint not after each is the last one seen.
        level: of the intervals.
        seed: of the resamples of runs.

    Returns:
        A row for each step before the last at which at least 5 runs can be forecast, from at least
        5 training runs that converge later.

    Raises:
        UserError: a step before the first checkpoint, an outcome after a run's last checkpoint, or
            runs with another number of checkpoints than those learnt from.
    """
    steps = sets[0].forecaster.steps
    indices = _last_seen(steps, np.asarray(upto, dtype=float))
    rows = []
    for step, index in zip(upto, indices.tolist(), strict=True):
        made = [_forecasts(each, index, level) for each in sets] if index < len(steps) - 1 else []
        pooled = _pool([each for each in made if each is not None])
        if pooled is not None and len(pooled.arrivals) >= MIN_AT_RISK:
            rows.append(_row(float(step), pooled, index, level, seed))
    return rows


def _last_seen(steps: np.ndarray, upto: np.ndarray) -> np.ndarray:
    """Index of the last checkpoint not after each step, int [step]."""
    indices = np.searchsorted(steps, upto, side="right") - 1
    if (indices < 0).any():
        raise UserError(
            f"step {upto.min():g} is before the first checkpoint; the steps run from {steps[0]:g} "
            f"to {steps[-1]:g}"
        )
    return indices


@dataclass(frozen=True, eq=False)
class _Forecasts:
    """Forecasts of runs at risk by all three, and what became of the runs; arrays by run."""

    hmm: np.ndarray  # [run, checkpoint], as are the next two
    regression: np.ndarray
    time: np.ndarray
    held: Bool[np.ndarray, " run"]  # whether the interval holds what came
    width: Float[np.ndarray, " run"]
    arrivals: Int[np.ndarray, " run"]
    observed: Bool[np.ndarray, " run"]
    group: Int[np.ndarray, " run"]


def _forecasts(given: ScoredSet, index: int, level: float) -> _Forecasts | None:
    """The forecasts of one set; None where it has too few runs to learn from, or none to score."""
    steps = given.forecaster.steps
    learnt, converges = arrivals_of(given.train, given.train_outcome, steps)
    arrivals, observed = arrivals_of(given.test, given.outcome, steps)
    at_risk, scored = np.flatnonzero(learnt > index), np.flatnonzero(arrivals > index)
    if converges[at_risk].sum() < MIN_AT_RISK or len(scored) == 0:
        return None
    test, forecaster = given.test.select(scored), given.forecaster
    hmm = forecaster.distribution(filter_runs(forecaster.model, test)[:, index], index)
    regression = by_regression(
        given.train.values[at_risk, index],
        given.train_outcome[at_risk],
        learnt[at_risk],
        test.values[:, index],
        steps,
        index,
    )
    time = distribution_by_time(learnt[at_risk], converges[at_risk], index, len(steps))
    arrivals, observed = arrivals[scored], observed[scored]
    low, high = interval(forecaster, hmm, index, level)
    came = np.append(steps, np.inf)[np.where(observed, arrivals, len(steps))]
    return _Forecasts(
        hmm=hmm,
        regression=regression,
        time=np.tile(time, (len(scored), 1)),
        held=(low <= came) & (came <= high),
        width=high - np.where(np.isinf(low), steps[-1], low),
        arrivals=arrivals,
        observed=observed,
        group=np.zeros(len(scored), int),
    )


def _pool(made: Sequence[_Forecasts]) -> _Forecasts | None:
    """All forecasts as one, `group` telling the sets apart."""
    if not made:
        return None
    joined = {
        name: np.concatenate([getattr(each, name) for each in made]) for name in vars(made[0])
    }
    joined["group"] = np.repeat(np.arange(len(made)), [len(each.group) for each in made])
    return _Forecasts(**joined)


def _row(upto: float, made: _Forecasts, index: int, level: float, seed: int) -> SkillRow:
    num_steps, known = index + made.hmm.shape[1], (made.arrivals, made.observed)
    num_runs, width = len(made.arrivals), float(np.median(made.width))

    def brier(distribution: np.ndarray) -> _Statistic:
        losses = brier_by_run(distribution, *known, index)
        return lambda counts: counts @ losses / num_runs

    def c_index(distribution: np.ndarray) -> _Statistic:
        waits = expected_wait(distribution)
        pairs = concordance_pairs(waits, *known, num_steps, made.group)
        return lambda counts: concordance(counts, *pairs)

    return SkillRow(
        upto=upto,
        num_runs=num_runs,
        num_converging=int(made.observed.sum()),
        brier=_compare(made, brier, seed),
        concordance=_compare(made, c_index, seed),
        coverage=coverage(made.held, outcome_weights(*known, num_steps)),
        level=level,
        width=width if np.isfinite(width) else None,
    )


def _compare(made: _Forecasts, score: Callable[[np.ndarray], _Statistic], seed: int) -> Comparison:
    """A score, a function of a distribution, of the three forecasts."""
    hmm, regression, time = map(score, (made.hmm, made.regression, made.time))

    def over(other: _Statistic) -> _Statistic:
        return lambda counts: hmm(counts) - other(counts)

    statistics = (hmm, regression, time, over(regression), over(time))
    return Comparison(*(bootstrap(each, len(made.arrivals), seed) for each in statistics))
