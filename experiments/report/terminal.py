"""The short table of findings that a run ends with."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def _number(value: float | None, form: str = ".3g") -> str:
    return "undefined" if value is None else format(value, form)


def _pvalue(value: float | None) -> str:
    return "< 0.001" if value is not None and value < 0.001 else f"= {_number(value)}"


def findings(summary: dict[str, Any]) -> str:
    """What a run found, a line each.

    Args:
        summary: the content of `summary.json`.

    Returns:
        Aligned text, a label and a value per line; notes last.
    """
    convergence, regression = summary["convergence"], summary["regression"]
    dissimilarity = summary["dissimilarity"]
    spread = f" ± {convergence['std']:.4g}" if convergence["std"] is not None else ""
    mean = f"{_number(convergence['mean'], '.4g')}{spread} {convergence['unit']}s"
    rows = {
        "converged": f"{summary['num_converged']} of {summary['num_seeds']} seeds"
        + (f", at {mean}" if summary["num_converged"] else ""),
        "diverged": f"{summary['num_diverged']} seeds",
        "states": f"{summary['num_states']}, {len(summary['transitions'])} transitions, "
        + ("runs fork" if summary["forking"] else "one path"),
        "detour states": ", ".join(map(str, summary["detours"])) or "none",
        "regression": f"R² {_number(regression['r2'])}, p {_pvalue(regression['f_pvalue'])}, "
        f"left-out R² {_number(regression['leave_one_out_r2'])}",
        "dissimilarity": ", ".join(f"{k} {_number(v)}" for k, v in dissimilarity.items()),
        "seconds": ", ".join(f"{k} {v:.1f}" for k, v in summary["seconds"].items()),
    }
    width = max(map(len, rows))
    lines = [f"{label:<{width}}  {value}" for label, value in rows.items()]
    return "\n".join(lines + [f"note: {note}" for note in summary["notes"]])


def forecasts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Forecasts as a table, a line per seed, the soonest to converge first.

    Args:
        rows: as `experiments.runs.forecast.forecast_run` gives.
    """
    if not rows:
        return "No seed is left to forecast: all have converged by then."
    percent = round(100 * rows[0]["level"])
    lines = [f"{'seed':>10}  {'median':>8}  {f'{percent} % interval':>18}  {'came at':>8}"]
    for row in sorted(rows, key=lambda row: row["median"]):
        interval = f"{_time(row['low'])} to {_time(row['high'])}"
        lines.append(
            f"{row['seed']:>10}  {_time(row['median']):>8}  {interval:>18}  "
            f"{_time(row['actual']):>8}"
        )
    return "\n".join(lines)


def baselines(rows: Sequence[Mapping[str, Any]]) -> str:
    """What explains convergence time, a line per model.

    Args:
        rows: as `hmm.training_map.baselines.compare_baselines` gives.
    """
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'':{width}}  states  runs      R²  left-out R²        p"]
    for row in rows:
        lines.append(
            f"{row['name']:{width}}  {row['num_states']:6d}  {row['num_runs']:4d}  "
            f"{_number(row['r2'], '6.3f')}  {_number(row['leave_one_out_r2'], '11.3f')}  "
            f"{_number(row['f_pvalue'], '7.1g')}"
        )
    return "\n".join(lines)


def _time(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "never"
