"""Forecasts of a run's seeds from the checkpoints so far, each made without that seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedmap import files, hmm
from seedmap.errors import UserError
from seedmap.experiments.report.out_folder import save_figures
from seedmap.experiments.runs import folder as run_folder, ids
from seedmap.experiments.runs.dataset import convergence_times, seed_rows, time_unit
from seedmap.experiments.runs.fitted import read_run, threshold_of
from seedmap.hmm import figures
from seedmap.hmm.forecasting.fitting import fit_forecaster
from seedmap.hmm.forecasting.forecaster import Forecast, forecast
from seedmap.hmm.forecasting.skill import ScoredSet, SkillRow, forecast_skill
from seedmap.hmm.readers.memory import from_xarray
from seedmap.results import to_json
from seedmap.transaction import transaction

FOLDS = 5
FEWEST = 5  # records that skill is measured from at least
SKILL_POINTS = 8  # times at which skill is measured, evenly spread up to the last convergence


@dataclass(frozen=True)
class SeedForecast:
    """The forecast of a seed that has not converged yet.

    Attributes:
        seed: its name.
        convergence_probability: of its ever converging.
        median: time of convergence; None where it is likelier not to come.
        low: lower end of the interval, likewise.
        high: upper end, likewise.
        level: probability that the interval holds.
        actual: time at which it converged, which the forecast has not seen; None where never.
    """

    seed: str
    convergence_probability: float
    median: float | None
    low: float | None
    high: float | None
    level: float
    actual: float | None


@dataclass(frozen=True)
class Forecasts:
    """The content of `forecast.json`.

    Attributes:
        training_id: of the run.
        map_id: of its map at that time; None without one.
        threshold: the number of the criterion of convergence, the map's where there is one.
        unit: of times, "epoch" or "step".
        upto: the last time seen.
        forecasts: of each seed that had not converged by then.
        skill: what such forecasts are worth, at several times; None where it was not measured.
    """

    training_id: str
    map_id: str | None
    threshold: float
    unit: str
    upto: float
    forecasts: list[SeedForecast]
    skill: list[SkillRow] | None = None


class Raw(NamedTuple):
    """What a run's forecasts are made from.

    Attributes:
        sequences: raw metrics of the usable seeds.
        convergence: [run], their times of convergence; NaN where it never came.
        steps: [time], times of the records.
        unit: of times.
        config: content of `config.json`.
    """

    sequences: hmm.Sequences
    convergence: np.ndarray
    steps: np.ndarray
    unit: str
    config: dict[str, Any]


def _row(name: str, made: Forecast, actual: float) -> SeedForecast:
    return SeedForecast(
        seed=name,
        convergence_probability=made.convergence_probability,
        median=to_json(made.convergence_median),
        low=to_json(made.low),
        high=to_json(made.high),
        level=made.level,
        actual=to_json(actual),
    )


def forecast_run(
    folder: Path,
    upto: float,
    callback: Callable[[int, int], None] | None = None,
    skill: bool = False,
) -> Forecasts:
    """Forecasts every seed that has not converged at `upto`; writes `forecast.json`.

    Seeds are left out in 5 groups; what forecasts a seed has seen only the other groups. Nothing of
    the seed after `upto` is read but `actual`, which is there to compare. Each group's model has
    states of its own, which are not the map's and therefore not shown.

    Args:
        folder: a run folder with metrics and `eval_accuracy`.
        upto: the last time seen, in epochs where the run knows them, else in steps.
        callback: called with (groups done, groups in all).
        skill: whether to score forecasts of all seeds, each left out, at several times
            (`hmm.forecasting.skill`), and draw `figures/forecast.png`.

    Returns:
        What is written.

    Raises:
        UserError: the folder is no run, or too few of its seeds converge after the first
            record, or to measure skill.
    """
    raw = load_raw(folder)
    sequences, convergence, steps, unit, config = raw
    if not np.isfinite(upto):
        raise UserError(f"--upto is {upto}; it must be a time between the records")
    seen = int(np.searchsorted(steps, upto, side="right"))
    if seen == 0:
        raise UserError(f"--upto {upto:g} is before the first record, at {steps[0]:g}")
    if upto > steps[-1]:
        raise UserError(
            f"--upto {upto:g} is beyond the last record, at {steps[-1]:g}; choose an earlier time"
        )
    times = _skill_times(folder, raw) if skill else None
    rows, sets = [], []
    for group, others in _groups(sequences.num_runs, callback):
        waiting = [
            run
            for run in group
            if not convergence[run] <= steps[seen - 1] and sequences.lengths[run] >= seen
        ]
        if not waiting and not skill:
            continue
        train, test = sequences.select(others), sequences.select(group)
        model = fit_forecaster(train, convergence[others], steps)
        sets.append(ScoredSet(model, train, convergence[others], test, convergence[group]))
        for run in waiting:
            made = forecast(model, sequences.values[run, :seen])
            rows.append(_row(sequences.runs[run], made, convergence[run]))
    scores = forecast_skill(sets, times) if skill else None
    made = Forecasts(
        config[ids.TRAINING], ids.map_id(config), threshold_of(config), unit, upto, rows, scores
    )
    drawn = {} if scores is None else {"forecast": figures.plot_forecast_skill(scores, unit)}
    with transaction(folder, (), "forecast") as draft:
        files.write_json(draft / run_folder.FORECAST, made)
        save_figures(draft, drawn)
    return made


def _groups(
    num_runs: int, callback: Callable[[int, int], None] | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields each group of runs to leave out, and the others."""
    order = np.random.default_rng(0).permutation(num_runs)
    groups = np.array_split(order, min(FOLDS, num_runs))
    for done, group in enumerate(groups):
        if callback is not None:
            callback(done, len(groups))
        yield group, np.setdiff1d(order, group)
    if callback is not None:
        callback(len(groups), len(groups))


def load_raw(folder: Path) -> Raw:
    """Loads what forecasts are made from.

    Raises:
        UserError: the folder is no run, or its files are not of one training.
    """
    dataset, config = read_run(folder)
    sequences = from_xarray(dataset).sequences
    times = convergence_times(dataset, threshold_of(config))
    convergence, unit = times[seed_rows(dataset, sequences.runs)], time_unit(dataset)
    return Raw(sequences, convergence, dataset[unit].values.astype(float), unit, config)


def _skill_times(folder: Path, raw: Raw) -> np.ndarray:
    """Times at which skill is measured."""
    num_converging = int(np.isfinite(raw.convergence).sum())
    if len(raw.steps) <= FEWEST or not num_converging:
        raise UserError(
            f"--skill needs more than {FEWEST} records and seeds that converge; {folder} has "
            f"{len(raw.steps)} records and {num_converging} such seeds"
        )
    points = np.linspace(0, np.nanmax(raw.convergence), SKILL_POINTS + 2)[1:-1]
    return points[points >= raw.steps[0]]
