"""Terminal text of the commands on a run: summary, forecasts, baselines."""

from collections.abc import Mapping, Sequence
from typing import Any

from seedmap.experiments.report.terminal import aligned, blocks, labelled
from seedmap.experiments.report.text import (
    UNDEFINED,
    fixed,
    mean_and_sd,
    number,
    of,
    p_equals,
    p_value,
    time,
)
from seedmap.experiments.runs.summary import RunSummary
from seedmap.results import to_json


def summary_text(summary: RunSummary) -> str:
    """Returns what a run found, a label and a value per line; notes last."""
    times, regression = summary.convergence, summary.regression
    converged = f"{of(summary.num_converged, summary.num_seeds)} seeds"
    if summary.num_converged:
        converged += f", at {mean_and_sd(times.mean, times.std)} {times.unit}s"
    r2, left_out = (
        number(value, undefined=UNDEFINED) for value in (regression.r2, regression.leave_one_out_r2)
    )
    rows = {
        "converged": converged,
        "diverged": f"{summary.num_diverged} seeds",
        "states": f"{summary.num_states}, {len(summary.transitions)} transitions, "
        + ("runs fork" if summary.forking else "one path"),
        "detour states": ", ".join(map(str, summary.detours)) or "none",
        "regression": f"R² {r2}, {p_equals(regression.f_pvalue)}, left-out R² {left_out}",
        "dissimilarity": ", ".join(
            f"{ground} {number(value, undefined=UNDEFINED)}"
            for ground, value in to_json(summary.dissimilarity).items()
        ),
        "seconds": ", ".join(
            f"{step} {fixed(value, 1)}" for step, value in (to_json(summary.seconds) or {}).items()
        ),
    }
    return blocks(labelled(rows), notes=summary.notes)


def forecasts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns forecasts as a table, a line per seed, the soonest to converge first.

    Args:
        rows: as `experiments.runs.forecast.forecast_run` gives.
    """
    if not rows:
        return "No seed is left to forecast: all have converged by then."
    header = ("seed", "median", f"{round(100 * rows[0]['level'])} % interval", "came at")
    return aligned(header, map(_forecast, sorted(rows, key=lambda row: row["median"])))


def _forecast(row: Mapping[str, Any]) -> list[str]:
    return [
        str(row["seed"]),
        time(row["median"]),
        f"{time(row['low'])} to {time(row['high'])}",
        time(row["actual"]),
    ]


def baselines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns what explains convergence time, a line per model.

    Args:
        rows: as `hmm.training_map.baselines.compare_baselines` gives.
    """
    header = ("", "states", "runs", "R²", "left-out R²", "p")
    return aligned(header, map(_baseline, rows))


def _baseline(row: Mapping[str, Any]) -> list[str]:
    return [
        row["name"],
        str(row["num_states"]),
        str(row["num_runs"]),
        *(fixed(row[key], undefined=UNDEFINED) for key in ("r2", "leave_one_out_r2")),
        p_value(row["f_pvalue"]),
    ]
