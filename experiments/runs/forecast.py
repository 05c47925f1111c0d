"""Forecasts of a run's seeds from the checkpoints so far, each made without that seed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from seedmap import files, hmm
from seedmap.errors import UserError
from seedmap.experiments.report.out_folder import save_figures
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs import ids
from seedmap.experiments.runs.dataset import convergence_times, seed_rows, time_unit
from seedmap.experiments.runs.fitted import read_run, threshold_of
from seedmap.hmm import figures
from seedmap.hmm.forecasting.forecaster import Forecast, fit_forecaster, forecast
from seedmap.hmm.forecasting.skill import forecast_skill
from seedmap.hmm.readers.memory import from_xarray
from seedmap.results import to_json
from seedmap.transaction import transaction

FOLDS = 5
FEWEST = 5  # records before the first time at which skill is measured
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
        threshold: evaluation accuracy of convergence, the map's where there is one.
        unit: of times, "epoch" or "step".
        upto: the last time seen.
        forecasts: of each seed that had not converged by then.
    """

    training_id: str
    map_id: str | None
    threshold: float
    unit: str
    upto: float
    forecasts: list[SeedForecast]


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
        skill: whether to write `figures/forecast.png` as well, see `plot_skill`.

    Returns:
        What is written.

    Raises:
        UserError: the folder is no run, or too few of its seeds converge after `upto`.
    """
    sequences, convergence, steps, unit, config = load_raw(folder)
    if not np.isfinite(upto):
        raise UserError(f"--upto is {upto}; it must be a time between the records")
    seen = int(np.searchsorted(steps, upto, side="right"))
    if seen == 0:
        raise UserError(f"--upto {upto:g} is before the first record, at {steps[0]:g}")
    if upto > steps[-1]:
        raise UserError(
            f"--upto {upto:g} is beyond the last record, at {steps[-1]:g}; choose an earlier time"
        )
    order = np.random.default_rng(0).permutation(sequences.num_runs)
    groups = np.array_split(order, min(FOLDS, sequences.num_runs))
    rows = []
    for done, group in enumerate(groups):
        if callback is not None:
            callback(done, len(groups))
        waiting = [
            run
            for run in group
            if not convergence[run] <= steps[seen - 1] and sequences.lengths[run] >= seen
        ]
        if not waiting:
            continue
        others = np.setdiff1d(order, group)
        model = fit_forecaster(sequences.select(others), convergence[others], steps)
        for run in waiting:
            made = forecast(model, sequences.values[run, :seen])
            rows.append(_row(sequences.runs[run], made, convergence[run]))
    if callback is not None:
        callback(len(groups), len(groups))
    made = Forecasts(
        config[ids.TRAINING], ids.map_id(config), threshold_of(config), unit, upto, rows
    )
    drawn = {"forecast": plot_skill(folder)} if skill else {}
    with transaction(folder, (), "forecast") as draft:
        files.write_json(draft / run_folder.FORECAST, made)
        save_figures(draft, drawn)
    return made


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


def plot_skill(folder: Path) -> Figure:
    """Measures what forecasts of this run's seeds are worth, and draws it.

    Left-out skill of the HMM, of a regression on the raw metrics and of the median, against the
    time seen (`hmm.forecasting.skill`).
    """
    sequences, convergence, steps, unit, _ = load_raw(folder)
    if len(steps) <= FEWEST or not np.isfinite(convergence).any():
        raise UserError(
            f"--skill needs more than {FEWEST} records and seeds that converge; {folder} has "
            f"{len(steps)} records and {int(np.isfinite(convergence).sum())} such seeds"
        )
    last = np.nanmax(convergence)
    points = np.linspace(0, last, SKILL_POINTS + 2)[1:-1]
    rows = forecast_skill(sequences, convergence, steps, points[points >= steps[FEWEST]])
    return figures.plot_forecast_skill(rows, unit)
