"""Forecasts of a run's seeds from the checkpoints so far, each made without that seed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seedmap import files, hmm
from seedmap.errors import UserError
from seedmap.experiments.report.out_folder import save_figures
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.dataset import convergence_times, seed_rows, time_unit
from seedmap.experiments.runs.fit_and_map import read_config, threshold_of
from seedmap.hmm import figures
from seedmap.hmm.forecasting.forecaster import Forecast, fit_forecaster, forecast
from seedmap.hmm.forecasting.skill import forecast_skill
from seedmap.hmm.readers.read import from_xarray
from seedmap.transaction import transaction

FOLDS = 5
FEWEST = 5  # records before the first time at which skill is measured
SKILL_POINTS = 8  # times at which skill is measured, evenly spread up to the last convergence


def _row(name: str, made: Forecast, actual: float) -> dict[str, Any]:
    return {
        "seed": name,
        "convergence_probability": made.convergence_probability,
        "median": made.convergence_median,
        "low": made.low,
        "high": made.high,
        "level": made.level,
        "actual": actual,
    }


def forecast_run(
    folder: Path,
    upto: float,
    callback: Callable[[int, int], None] | None = None,
    skill: bool = False,
) -> list[dict[str, Any]]:
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
        A row per seed: `seed`, `convergence_probability`, `median`, `low`, `high` (time of
        convergence), `level`, `actual`.

    Raises:
        UserError: the folder is no run, or too few of its seeds converge after `upto`.
    """
    sequences, convergence, steps = load_raw(folder)
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
    drawn = {"forecast": plot_skill(folder)} if skill else {}
    with transaction(folder, (), "forecast") as draft:
        files.write_json(draft / run_folder.FORECAST, {"upto": upto, "forecasts": rows})
        save_figures(draft, drawn)
    return rows


def load_raw(folder: Path) -> tuple[hmm.Sequences, np.ndarray, np.ndarray]:
    """Loads raw metrics of the usable seeds, their convergence times, and times of records."""
    dataset = run_folder.read_dataset(folder)
    threshold = threshold_of(read_config(folder))
    sequences = from_xarray(dataset).sequences
    convergence = convergence_times(dataset, threshold)[seed_rows(dataset, sequences.runs)]
    return sequences, convergence, dataset[time_unit(dataset)].values.astype(float)


def plot_skill(folder: Path) -> Figure:
    """Measures what forecasts of this run's seeds are worth, and draws it.

    Left-out skill of the HMM, of a regression on the raw metrics and of the median, against the
    time seen (`hmm.forecasting.skill`).
    """
    sequences, convergence, steps = load_raw(folder)
    if len(steps) <= FEWEST or not np.isfinite(convergence).any():
        raise UserError(
            f"--skill needs more than {FEWEST} records and seeds that converge; {folder} has "
            f"{len(steps)} records and {int(np.isfinite(convergence).sum())} such seeds"
        )
    last = np.nanmax(convergence)
    points = np.linspace(0, last, SKILL_POINTS + 2)[1:-1]
    rows = forecast_skill(sequences, convergence, steps, points[points >= steps[FEWEST]])
    unit = time_unit(run_folder.read_dataset(folder))
    return figures.plot_forecast_skill(rows, unit)
