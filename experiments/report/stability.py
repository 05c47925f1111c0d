"""How far a map depends on restart, runs and prior, as the report of a run shows it."""

from collections.abc import Callable
from dataclasses import astuple
from statistics import median

from seedmap.experiments.report import html, page
from seedmap.experiments.runs.summary import RunSummary
from seedmap.hmm.autoregressive.residuals import AUTOCORRELATED
from seedmap.text import fixed


def _of_stability(table: Callable[[RunSummary], str]) -> Callable[[RunSummary], str]:
    """Makes a table of the stability; empty where it was not measured."""
    return lambda summary: "" if summary.stability is None else table(summary)


def _restarts(summary: RunSummary) -> str:
    agreement = summary.stability.adjusted_rand
    if not agreement:
        return ""
    return page.paragraph(
        "Adjusted Rand index of the decoding with that of the other restarts (1: the same "
        "states up to their labels, 0: as independent ones): "
        + ", ".join(fixed(value, 2) for value in agreement)
        + "."
    )


def _refits(summary: RunSummary) -> str:
    refits = summary.stability.refits
    if not refits:
        return ""
    agreement, broken = sorted(refits.adjusted_rand), refits.num_degenerate
    outcome = "none could be fitted"
    if agreement:
        low, middle, high = (fixed(v, 2) for v in (agreement[0], median(agreement), agreement[-1]))
        outcome = f"median {middle}, from {low} to {high}"
    failed = f"; {broken} failed and are left out" if broken else ""
    return page.paragraph(
        "Adjusted Rand index of the decoding with that of the model refitted to each of "
        f"{refits.num_resamples} resamples of its training runs (1: the same states up to their "
        f"labels, 0: as independent ones): {outcome}{failed}."
    )


def _autocorrelation(summary: RunSummary) -> str:
    each = summary.stability.autocorrelation
    if not each:
        return ""
    known = [value for value in each if value is not None]
    strong = max(map(abs, known), default=0.0) > AUTOCORRELATED
    meaning = " Records are not independent given their states." if strong else ""
    listed = ", ".join(fixed(value, 2) for value in each)
    of = "metric" if summary.resolution is None else "component"
    return page.paragraph(
        f"Lag-1 autocorrelation of the residuals within states, by {of}: {listed}.{meaning}"
    )


def _priors(summary: RunSummary) -> str:
    header = (
        "prior",
        "criterion",
        "scatter added",
        "states",
        "training",
        "held out, mean",
        "held out, median run",
        "agreement with this map",
    )
    priors = summary.stability.priors
    if not priors:
        return ""
    table = html.table(header, map(astuple, priors))
    if len(priors) > 1:
        return table
    return (
        table + "<p>The other prior is fitted with <code>seedmap fit --compare-priors</code>.</p>"
    )


def _edges(summary: RunSummary) -> str:
    header = (
        *("from", "to", "share of restarts with the edge", "share of resamples of the runs"),
        "share of refits to resamples",
    )
    rows = [astuple(edge) for edge in summary.stability.edges]
    known = [i for i in range(len(header)) if any(row[i] is not None for row in rows)]
    return html.table([header[i] for i in known], ([row[i] for i in known] for row in rows))


STABILITY_TABLES = tuple(
    map(_of_stability, (_priors, _restarts, _refits, _autocorrelation, _edges))
)
