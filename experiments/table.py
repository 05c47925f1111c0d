"""The short table of findings that a run ends with."""

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
