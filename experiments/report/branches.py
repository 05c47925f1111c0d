"""Tables of the branches of a run's map."""

from seedmap.experiments.report import html
from seedmap.experiments.runs.summary import RunSummary
from seedmap.hmm import Delay
from seedmap.text import interval, of, p_value


def branch_table(summary: RunSummary) -> str:
    """Shows every branch with what speaks for it."""
    header = (
        *("state", "of", "named", "detour", "visitors", "skippers", "z", "resolved", "support"),
        *("timing (AUC)", "times later at the same speed", "p of the delay"),
    )
    rows = [
        (
            *(branch.state, branch.num_states, branch.named, branch.detour),
            *(len(branch.visitors), len(branch.skippers), branch.z),
            *(f"{branch.resolved} of {branch.needed} needed", branch.support, branch.timing),
            *(_factor(branch.delay), branch.delay and branch.delay.pvalue),
        )
        for branch in summary.branches
    ]
    return html.details("Branches that were tested", html.table(header, rows)) if rows else ""


def branch_survival(summary: RunSummary) -> str:
    """Shows how the sides of every named branch converge."""
    survival = summary.findings.survival
    if survival is None or not survival.branches:
        return ""
    unit = summary.convergence.unit
    header = (
        *("state", "of", "visitors that converge", "skippers that converge"),
        *(f"visitors later, {unit}s (restricted means)", "p (log-rank)"),
    )
    rows = [
        (
            *(row.state, row.num_states, of(row.visitors_converged, row.visitors)),
            *(of(row.skippers_converged, row.skippers), interval(row.later), p_value(row.pvalue)),
        )
        for row in survival.branches
    ]
    return html.table(header, rows)


def _factor(delay: Delay | None) -> str | None:
    if delay is None or delay.factor is None:
        return None
    high = "∞" if delay.high is None else f"{delay.high:.2g}"
    return f"{delay.factor:.2g} ({delay.low:.2g} to {high})"
