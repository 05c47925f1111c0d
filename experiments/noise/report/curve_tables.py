"""Tables of what a study of noise shows over training: survival, commitment, shares."""

from collections.abc import Sequence

from seedmap.experiments.noise.convergence_results import Survival
from seedmap.experiments.noise.estimates import WITHIN
from seedmap.experiments.noise.measures.shares import shares_along
from seedmap.experiments.noise.report.answer import fixed_text, measure_name
from seedmap.experiments.noise.results import Estimate, StudySummary
from seedmap.experiments.report import html
from seedmap.text import DASH, count, interval, number, of, p_value


def interval_cell(
    estimate: Estimate | None, factor: float = 1.0, digits: int = 3, measure: str = ""
) -> str:
    """Returns a cell whose brackets stay on one line, however narrow its column is."""
    text = interval(estimate, factor, digits=digits, within=WITHIN.get(measure))
    return text.replace(", ", ",\N{NO-BREAK SPACE}")


def survival_tables(summary: StudySummary) -> str:
    """Returns how replicas converge by variant, and by root and branch, with numbers at risk."""
    having = [(v.name, v.survival) for v in summary.variants if v.survival]
    groups = [(group.name, group.survival) for group in summary.groups]
    tables = [_survivals("variant", having, f"p against {summary.whole}")]
    tables.append(_survivals("root or branch", groups, "p of the branch, within roots"))
    return "\n".join(filter(None, tables))


def _survivals(what: str, having: Sequence[tuple[str, Survival]], test: str) -> str:
    """Returns a table of how groups of replicas converge, with the numbers at risk."""
    if not having:
        return ""
    first = having[0][1]
    shown = [i for i, when in enumerate(first.at) if when not in first.at[:i]]
    header = (
        *(what, "converge", f"restricted mean, {first.unit}s", test),
        *(f"at risk at {number(first.at[i])}" for i in shown),
    )
    rows = [
        (
            *(name, of(s.converged, s.num), interval_cell(s.restricted_mean, digits=4)),
            DASH if s.log_rank is None else p_value(s.log_rank),
            *(str(s.at_risk[i]) for i in shown),
        )
        for name, s in having
    ]
    return html.table(header, rows)


def shares_table(summary: StudySummary) -> str:
    """Returns each source's share at quarters of the training, and when it does all."""
    if not summary.shares:
        return ""
    steps = summary.shares[0].steps
    at = sorted({round(share * (len(steps) - 1)) for share in (0, 0.25, 0.5, 0.75, 1)})
    header = ("variant", "share of", *(f"at step {steps[i]}" for i in at), "all from step on")
    rows = [
        (
            *(curve.source, curve.measure),
            *(interval_cell(shares_along(curve)[i], digits=2) for i in at),
            count(curve.whole_at),
        )
        for curve in summary.shares
    ]
    return html.table(header, rows)


def commitment_table(summary: StudySummary) -> str:
    """Returns how much is fixed by each step, a row for each source and measure."""
    points = {(p.source, p.measure, p.step): p for p in summary.commitment}
    steps = sorted({point.step for point in summary.commitment})
    rows = []
    for source, measure in dict.fromkeys((p.source, p.measure) for p in summary.commitment):
        of_row = [points.get((source, measure, step)) for step in steps]
        cells = [DASH if p is None else fixed_text(p.fixed, p.low, p.high) for p in of_row]
        rows.append((source, measure_name(measure), *cells))
    header = ("what differs from the step on", "fixed of", *(f"by step {step}" for step in steps))
    return html.table(header, rows) if rows else ""
