"""The report: one HTML file that opens anywhere, figures inlined, no script, no network."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from seedmap.experiments.report import captions, html
from seedmap.experiments.report.captions import measure, part, text, threshold
from seedmap.hmm.figures.semantics import MORE_TIME
from seedmap.hmm.figures.style import signed


class Section(NamedTuple):
    """A part of the report.

    Attributes:
        heading: Its heading.
        figures: Names of its figures, each with the function that writes its caption from the
            summary.
        tables: Functions from the summary to HTML.
    """

    heading: str
    figures: Mapping[str, Callable[[Mapping], str]]
    tables: tuple[Callable[[Mapping], str], ...] = ()


def write_report(
    path: str | Path,
    title: str,
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    figures: Mapping[str, Figure | str | Path],
    notes: Sequence[str] = (),
) -> Path:
    """Write the report of a run as one self-contained HTML file, whole or not at all.

    Figures are `training_map`, `state_raster`, `losses`, `dissimilarity`, `convergence`,
    `model_selection`, `held_out` and `coefficients`; those not given are left out, others come
    last under their names.

    Args:
        path: File to write.
        title: Title of the report.
        summary: Content of `summary.json`.
        config: Content of `config.json`.
        figures: Figures by name, each a figure or the path of a PNG file.
        notes: Warnings, shown first.

    Returns:
        The path written.

    Raises:
        UserError: A figure's file is missing.
    """
    images = {name: html.image_source(name, figure) for name, figure in figures.items()}
    parts = [html.notes(notes), _headline(summary)]
    parts += [_section(section, summary, images) for section in SECTIONS]
    known = {name for section in SECTIONS for name in section.figures}
    further = {name: _no_caption for name in images if name not in known}
    if further:
        parts.append(_section(Section("Further figures", further), summary, images))
    parts.append(html.details("All numbers of the summary", html.key_values(html.flatten(summary))))
    parts.append("<h2>Configuration</h2>" + html.key_values(html.flatten(config)))
    return html.write_page(Path(path), title, parts)


def _section(section: Section, summary: Mapping, images: Mapping[str, str]) -> str:
    shown = [name for name in section.figures if name in images]
    parts = [html.figure(name, images[name], section.figures[name](summary)) for name in shown]
    parts += [table(summary) for table in section.tables]
    parts = [part for part in parts if part]
    return "\n".join([f"<h2>{escape(section.heading)}</h2>", *parts]) if parts else ""


def _records(records: Sequence[Mapping[str, Any]]) -> str:
    """A table of records, a column per key."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    rows = [[record.get(key) for key in keys] for record in records]
    return html.table([key.replace("_", " ") for key in keys], rows)


def _headline(summary: Mapping) -> str:
    unit = part(summary, "convergence", "unit")
    mean, spread = (text(part(summary, "convergence", key)) for key in ("mean", "std"))
    rows = [
        ("seeds", part(summary, "num_seeds")),
        ("diverged", part(summary, "num_diverged")),
        ("converged", part(summary, "num_converged")),
        ("time of convergence", f"{mean} ± {spread} ({text(unit)}; mean ± standard deviation)"),
        ("converged means", f"evaluation accuracy above {threshold(summary)}"),
        ("states", part(summary, "num_states")),
        ("runs fork", part(summary, "forking")),
        ("detour states", part(summary, "detours")),
        ("R² of bag of states on time of convergence", part(summary, "regression", "r2")),
        ("R² on left-out runs", part(summary, "regression", "leave_one_out_r2")),
        ("p (F test)", part(summary, "regression", "f_pvalue")),
    ]
    rows += [
        (f"dissimilarity of runs ({ground})", value)
        for ground, value in (part(summary, "dissimilarity") or {}).items()
    ]
    rows += [
        (f"seconds to {what}", value) for what, value in (part(summary, "seconds") or {}).items()
    ]
    return html.table((), rows)


def _transitions(summary: Mapping) -> str:
    transitions = part(summary, "transitions") or []
    return _records(
        [t | {"top_features": _features(t.get("top_features") or [])} for t in transitions]
    )


def _features(features: Iterable[Sequence[Any]]) -> str:
    return ", ".join(f"{name} {signed(change)}" for name, change in features)


_SELECTION = {
    "num_states": "states",
    "num_parameters": "parameters",
    "prior_scale": "prior scale",
    "train_log_likelihood": "log-likelihood, training",
    "validation_log_likelihood": "log-likelihood, held out",
    "robust_log_likelihood": "log-likelihood, held out, robust",
    "aic": "AIC (held out)",
    "bic": "BIC (held out)",
    "robust_bic": "robust BIC",
    "kfold": "k-fold",
    "num_degenerate": "degenerate restarts",
}


def _selection(summary: Mapping) -> str:
    rows = part(summary, "selection") or []
    columns = {key: label for key, label in _SELECTION.items() if any(key in row for row in rows)}
    shown = html.table(list(columns.values()), [[row.get(key) for key in columns] for row in rows])
    return shown and shown + "\n<p>Further criteria are in <code>summary.json</code>.</p>"


def _coefficients(summary: Mapping) -> str:
    whole = f"{measure(summary)}, wholly in the state"
    header = ("state", whole, "standard error", "low", "high", "for 10 % more of the time there")
    rows = []
    for row in part(summary, "regression", "coefficients") or []:
        kept = [row.get(key) for key in ("state", "value", "standard_error", "low", "high")]
        value = row.get("value")
        rows.append([*kept, None if value is None else MORE_TIME * value])
    return html.table(header, rows)


def _circularity(summary: Mapping) -> str:
    """How far R² can be believed, with what the beginnings of the runs alone explain."""
    outcome = part(summary, "regression", "outcome")
    if part(summary, "regression", "r2") is None or outcome != "convergence":
        return ""
    early = part(summary, "regression", "early")
    beginnings = ", and at R² from the beginnings of the runs that converge later" if early else ""
    return (
        "<p>R² is partly circular where runs enter a state at about the time they converge: then "
        "the share of their time in it is the time of convergence in other words. So look also at "
        f"R² on left-out runs{beginnings}.</p>\n" + (_early(summary) if early else "")
    )


def _early(summary: Mapping) -> str:
    unit = text(part(summary, "convergence", "unit"))
    header = (
        f"R² from the checkpoints up to {unit}",
        "R²",
        "R² on left-out runs",
        "p (F test)",
        "runs that converge later",
    )
    keys = ("upto", "r2", "leave_one_out_r2", "f_pvalue", "num_runs")
    rows = [[row.get(key) for key in keys] for row in part(summary, "regression", "early")]
    return html.table(header, rows)


def _visits(summary: Mapping) -> str:
    return _records(part(summary, "states") or [])


def _restarts(summary: Mapping) -> str:
    agreement = part(summary, "stability", "adjusted_rand")
    if not agreement:
        return ""
    return (
        "<p>Adjusted Rand index of the decoding with that of the other restarts (1: the same "
        "states whatever their labels, 0: as independent ones): "
        + escape(", ".join(f"{value:.2f}" for value in agreement))
        + ".</p>"
    )


def _refits(summary: Mapping) -> str:
    refits = part(summary, "stability", "refits")
    if not refits:
        return ""
    agreement, broken = sorted(refits["adjusted_rand"]), refits["num_degenerate"]
    found = "none could be fitted"
    if agreement:
        low, middle, high = agreement[0], median(agreement), agreement[-1]
        found = f"median {middle:.2f}, from {low:.2f} to {high:.2f}"
    failed = f"; {broken} broke down and are left out" if broken else ""
    return (
        "<p>The same, of the model refitted to each of "
        f"{refits['num_resamples']} resamples of its training runs, from this map's parameters: "
        f"{found}{failed}.</p>"
    )


def _priors(summary: Mapping) -> str:
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
    rows = [tuple(row.values()) for row in part(summary, "stability", "priors") or []]
    return html.table(header, rows)


def _edges(summary: Mapping) -> str:
    shares = {
        "restarts": "share of restarts with the edge",
        "bootstrap": "share of resamples of the runs",
        "refits": "share of refits to resamples",
    }
    edges = part(summary, "stability", "edges") or []
    rows = [(e["from"], e["to"], *(e.get(name) for name in shares)) for e in edges]
    return html.table(("from", "to", *shares.values()), rows)


def _held_out(summary: Mapping) -> str:
    runs = part(summary, "held_out_log_likelihood") or {}
    return html.table(("held-out run", "log-likelihood per checkpoint (nats)"), runs.items())


def _convergence_times(summary: Mapping) -> str:
    times = part(summary, "convergence", "values")
    if not times:
        return ""
    seeds = part(summary, "seeds")
    diverged = part(summary, "diverged_seeds") or []
    rows = [
        (seed, time if time is not None else "diverged" if seed in diverged else "never")
        for seed, time in zip(seeds, times, strict=True)
    ]
    header = ("seed", text(part(summary, "convergence", "unit")))
    return html.details("Time of convergence of every seed", html.table(header, rows))


def _no_caption(summary: Mapping) -> str:
    return ""


SECTIONS = (
    Section("Training map", {"training_map": captions.training_map}, (_transitions, _visits)),
    Section(
        "States over time",
        {
            "state_raster": captions.state_raster,
            "losses": captions.losses,
            "dissimilarity": captions.dissimilarity,
        },
    ),
    Section("Convergence", {"convergence": captions.convergence}, (_convergence_times,)),
    Section(
        "What the states mean for convergence",
        {"coefficients": captions.coefficients},
        (_circularity, _coefficients),
    ),
    Section(
        "Number of states",
        {"model_selection": captions.model_selection, "held_out": captions.held_out},
        (_selection, _held_out),
    ),
    Section("How far the map can be trusted", {}, (_priors, _restarts, _refits, _edges)),
)
