"""Terminal text of the commands on a run: summary, forecasts, baselines."""

import math

from seedmap.experiments.report.terminal import aligned, blocks, labelled
from seedmap.experiments.runs.baselines import Baseline, Baselines
from seedmap.experiments.runs.forecast import Forecasts, SeedForecast
from seedmap.experiments.runs.summary import RunSummary
from seedmap.results import to_json
from seedmap.text import (
    UNDEFINED,
    explained,
    fixed,
    mean_and_sd,
    number,
    of,
    p_equals,
    p_value,
    time,
)


def summary_text(summary: RunSummary) -> str:
    """Returns what a run found, a label and a value per line; notes last."""
    rows = {
        "converged": _converged(summary),
        "diverged": f"{summary.num_diverged} seeds",
        "states": _states(summary),
        "branches": summary.headline,
        **_detours(summary),
        **_speed(summary),
        **_explained(summary),
        "dissimilarity": ", ".join(
            f"{ground} {number(value, undefined=UNDEFINED)}"
            for ground, value in to_json(summary.dissimilarity).items()
        ),
        "seconds": ", ".join(
            f"{step} {fixed(value, 1)}" for step, value in (to_json(summary.seconds) or {}).items()
        ),
    }
    return blocks(labelled(rows), notes=summary.notes)


def _converged(summary: RunSummary) -> str:
    """How many seeds converge and when, or how to say what convergence is."""
    if not summary.has_convergence:
        return "not recorded; say what it is when importing, as --converged 'train_loss < 1.6'"
    times, converged = summary.convergence, of(summary.num_converged, summary.num_seeds)
    when = f", at {mean_and_sd(times.mean, times.std)} {times.unit}s"
    return f"{converged} seeds{when if summary.num_converged else ''}"


def _explained(summary: RunSummary) -> dict[str, str]:
    """What the bag of states explains, where there is something to explain."""
    if summary.explains_nothing:
        return {}
    regression = summary.regression
    r2, left_out = (
        number(value, undefined=UNDEFINED) for value in (regression.r2, regression.leave_one_out_r2)
    )
    bag = f"R² {r2}, {p_equals(regression.f_pvalue)}, left-out R² {left_out}"
    return {"bag of states": bag + _alone(summary)}


def _states(summary: RunSummary) -> str:
    """The number of states, and what other temperings would choose."""
    states = f"{summary.num_states}, {len(summary.transitions)} transitions"
    if summary.resolution is None:
        return states
    other = summary.resolution
    return f"{states}; {other.half} where records count half, {other.double} where double"


def _detours(summary: RunSummary) -> dict[str, str]:
    """The detour states; of a map without a named branch there is nothing to say of them."""
    if summary.resolution is not None and not summary.forking:
        return {}
    return {"detour states": ", ".join(summary.delaying_states) or "none"}


def _speed(summary: RunSummary) -> dict[str, str]:
    """What the difference between runs is."""
    findings = summary.findings.path_or_speed
    return {"path or speed": findings.sentences[0]} if findings else {}


def _alone(summary: RunSummary) -> str:
    """What a threshold and a first record explain, beside which R² is to be read."""
    best, leak = summary.findings.single_threshold, summary.findings.leak
    alone = "" if best is None else f"; one threshold of {best.metric} alone R² {number(best.r2)}"
    return alone if leak is None else f"{alone}; the first record alone {explained(leak.scaled)}"


def forecasts(made: Forecasts) -> str:
    """Returns forecasts as a table, a line per seed, the soonest to converge first."""
    if not made.forecasts:
        return "No seed is left to forecast: all have converged by then."
    level = round(100 * made.forecasts[0].level)
    header = ("seed", "median", f"{level} % interval", "came at")
    soonest = sorted(made.forecasts, key=lambda row: math.inf if row.median is None else row.median)
    return aligned(header, map(_forecast, soonest))


def _forecast(row: SeedForecast) -> list[str]:
    return [row.seed, time(row.median), f"{time(row.low)} to {time(row.high)}", time(row.actual)]


def baselines(made: Baselines) -> str:
    """Returns what explains convergence time, a line per model."""
    header = ("", "states", "runs", "R²", "left-out R²", "p")
    return aligned(header, map(_baseline, made.rows))


def _baseline(row: Baseline) -> list[str]:
    return [
        row.name,
        str(row.num_states),
        str(row.num_runs),
        *(fixed(value, undefined=UNDEFINED) for value in (row.r2, row.leave_one_out_r2)),
        p_value(row.f_pvalue),
    ]
