"""The report of a run: one HTML file that opens anywhere, with its figures inside."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from seedmap.experiments.report import captions, html, page
from seedmap.experiments.report.branches import branch_survival, branch_table
from seedmap.experiments.report.captions import measure
from seedmap.experiments.report.key_numbers import key_numbers
from seedmap.experiments.report.page import Drawn, Section
from seedmap.experiments.report.stability import STABILITY_TABLES
from seedmap.experiments.runs.summary import RunSummary
from seedmap.hmm.autoregressive.map_sweep import SizeRow
from seedmap.hmm.explorer.content import Explored, to_content
from seedmap.hmm.explorer.embed import explorer, style as explorer_style
from seedmap.hmm.figures.semantics import MORE_TIME
from seedmap.hmm.figures.style import signed
from seedmap.results import ABSENT, to_json
from seedmap.text import mean_and_sd


def write_report(
    path: str | Path,
    title: str,
    summary: RunSummary,
    config: Mapping[str, Any],
    figures: Drawn,
    explored: Explored | None = None,
) -> Path:
    """Writes the report of a run as one self-contained HTML file, whole or not at all.

    Figures are `training_map`, `state_raster`, `losses`, `dissimilarity`, `convergence`,
    `model_selection`, `held_out` and `coefficients`; those not given are left out, others come
    last under their names.

    Args:
        path: File to write.
        title: Title of the report.
        summary: Content of `summary.json`.
        config: Content of `config.json`.
        figures: Figures by name.
        explored: What is shown to explore; None: figures alone.

    Returns:
        The path written.
    """
    markup = None if explored is None else explorer(to_content(explored))
    folded = _IN_THE_EXPLORER if markup else ()
    first = [
        page.render(MAP, summary, figures, folded, markup.map if markup else ""),
        html.key_numbers(key_numbers(summary)),
        html.notes(summary.notes),
    ]
    rest = [
        markup.runs if markup else "",
        *(page.render(section, summary, figures, folded) for section in SECTIONS),
        page.further_figures((MAP, *SECTIONS), figures),
        html.details("Settings and timings", _facts(summary) + "\n" + page.numbers(config)),
        page.all_numbers(summary, "All numbers of the summary"),
    ]
    style = explorer_style() if markup else ""
    return html.write_page(Path(path), title, rest, first, style, config.get("command"))


def _records(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns a table of records, a column per key."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    rows = [[record.get(key) for key in keys] for record in records]
    return html.table([key.replace("_", " ") for key in keys], rows)


def _facts(summary: RunSummary) -> str:
    rows = [
        ("seeds", summary.num_seeds),
        ("diverged", summary.num_diverged),
        *_convergence(summary),
        ("states", summary.num_states),
        ("branches", summary.headline),
        ("detour states", summary.delaying_states),
        ("runs left off the map as odd", summary.odd_runs),
        ("emission", f"{summary.emission}, metrics on the scale of {_SCALES[summary.scale]}"),
    ]
    rows += [
        (f"dissimilarity of runs ({ground})", value)
        for ground, value in to_json(summary.dissimilarity).items()
    ]
    rows += [
        (f"seconds to {step}", value) for step, value in (to_json(summary.seconds) or {}).items()
    ]
    return html.table((), rows)


def _convergence(summary: RunSummary) -> list[tuple[str, Any]]:
    if not summary.has_convergence:
        return [("convergence", "not recorded")]
    times = summary.convergence
    when = mean_and_sd(times.mean, times.std)
    return [
        ("converged", summary.num_converged),
        ("time of convergence", f"{when} ({times.unit}; mean ± standard deviation)"),
        ("converged means", captions.criterion(summary)),
    ]


_SCALES = {"common": "all runs pooled", "run": "each run"}


def _transitions(summary: RunSummary) -> str:
    return _records(
        [
            to_json(transition) | {"top_features": _features(transition.top_features)}
            for transition in summary.transitions
        ]
    )


def _features(features: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {signed(change)}" for name, change in features)


_SIZES = {
    "num_states": "states",
    "num_parameters": "parameters",
    "bic": "BIC (nats)",
    "icl": "ICL (nats)",
    "log_likelihood": "log-likelihood per record",
    "agreement": "agreement of halves",
    "chance": "by chance",
    "reason": "why chosen or not",
}
_ALIGNED = (
    "States are sought in runs without what sets each apart in every state alike; likelihoods are "
    "of these, the map is of the runs as recorded."
)
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


def _selection(summary: RunSummary) -> str:
    rows = summary.selection
    if summary.resolution is not None:
        cells = [[*(getattr(row, key) for key in _SIZES), _above_chance(row)] for row in rows]
        table = html.table([*_SIZES.values(), "agreement above chance"], cells)
        return table + f"\n<p>{_ALIGNED}</p>"
    columns = {
        key: label
        for key, label in _SELECTION.items()
        if any(getattr(row, key) is not ABSENT for row in rows)
    }
    table = html.table(list(columns.values()), [[getattr(row, k) for k in columns] for row in rows])
    return table and table + "\n<p>Further criteria are in <code>summary.json</code>.</p>"


def _above_chance(row: SizeRow) -> float | None:
    """Agreement of halves less that of random segmentations; one state always agrees."""
    if row.agreement is None or row.num_states == 1:
        return None
    return row.agreement - row.chance


def _coefficients(summary: RunSummary) -> str:
    if summary.explains_nothing:
        return ""
    in_state = f"{measure(summary)}, wholly in the state"
    header = ("state", in_state, "standard error", "low", "high", "for 10 % more of the time in it")
    rows = [
        (*astuple(row), None if row.value is None else MORE_TIME * row.value)
        for row in summary.regression.coefficients
    ]
    return html.table(header, rows)


def _circularity(summary: RunSummary) -> str:
    """Describes how far R² can be believed, by what the first records alone explain."""
    regression = summary.regression
    if regression.r2 is None or regression.outcome != "convergence":
        return ""
    beginnings = ", and R² from the beginnings of the runs that converge later"
    sentences = (
        "R² is partly circular where runs enter a state at about the time they converge: then "
        "the share of their time in it restates the time of convergence. See also "
        f"R² on left-out runs{beginnings if regression.early else ''}."
    )
    return page.paragraph(sentences) + "\n" + (_early(summary) if regression.early else "")


def _bag(summary: RunSummary) -> str:
    """Shows what the bag of states explains, beside what much less explains."""
    regression, findings = summary.regression, summary.findings
    if not regression.num_runs:
        return ""
    header = ("what explains " + regression.outcome, "R²", "R² on left-out runs", "p (F test)")
    rows: list[tuple[Any, ...]] = [
        (
            "shares of time in the states",
            regression.r2,
            regression.leave_one_out_r2,
            regression.f_pvalue,
        )
    ]
    if findings.single_threshold is not None:
        best = findings.single_threshold
        label = f"share of records with {best.metric} below {best.threshold:.4g}"
        rows.append((label, best.r2, best.left_out_r2, None))
    if findings.leak is not None:
        leak = findings.leak
        rows.append(("first record as the HMM sees it", None, leak.scaled, None))
        rows.append(("first record as recorded", None, leak.raw, None))
    return html.table(header, rows)


def _published(summary: RunSummary) -> str:
    """Shows both methods side by side."""
    theirs, regression = summary.published, summary.regression
    if not theirs:
        return ""
    header = ("", "this map", "Hu et al. (2023)")
    rows = [
        ("states", summary.num_states, theirs.num_states),
        ("forks", summary.headline, theirs.forking),
        ("detour states", summary.delaying_states, theirs.detours),
        ("R² of the bag of states", regression.r2, theirs.r2),
        ("R² on left-out runs", regression.leave_one_out_r2, theirs.leave_one_out_r2),
        ("agreement of the decodings (adjusted Rand index)", None, theirs.adjusted_rand),
    ]
    return html.table(header, rows)


def _early(summary: RunSummary) -> str:
    header = (
        f"R² from the checkpoints up to {summary.convergence.unit}",
        "R²",
        "R² on left-out runs",
        "p (F test)",
        "runs that converge later",
    )
    rows = [
        (row.upto, row.r2, row.leave_one_out_r2, row.f_pvalue, row.num_runs)
        for row in summary.regression.early
    ]
    return html.table(header, rows)


def _visits(summary: RunSummary) -> str:
    return _records(to_json(summary.states))


def _held_out(summary: RunSummary) -> str:
    header = ("held-out run", "log-likelihood per checkpoint (nats)")
    return html.table(header, summary.held_out_log_likelihood.items())


def _convergence_times(summary: RunSummary) -> str:
    times = summary.convergence.values
    if not times or not summary.has_convergence:
        return ""
    rows = [
        (seed, time if time is not None else _instead(summary, seed))
        for seed, time in zip(summary.seeds, times, strict=True)
    ]
    header = ("seed", summary.convergence.unit)
    return html.details("Time of convergence of every seed", html.table(header, rows))


def _instead(summary: RunSummary, seed: int | str) -> str:
    return "diverged" if seed in summary.diverged_seeds else "never"


_IN_THE_EXPLORER = ("training_map", "state_raster", "losses")
MAP = Section("Training map", {"training_map": captions.training_map})
SECTIONS = (
    Section("Branches, arrows and states", {}, (branch_table, _transitions, _visits)),
    Section(
        "Runs beside each other",
        {
            "state_raster": captions.state_raster,
            "losses": captions.losses,
            "dissimilarity": captions.dissimilarity,
        },
    ),
    Section("Path or speed", {"path_or_speed": captions.path_or_speed}),
    Section(
        "Convergence",
        {
            "survival": captions.survival,
            "convergence": captions.convergence,
            "moves_first": captions.moves_first,
        },
        (branch_survival, _convergence_times),
    ),
    Section(
        "States and convergence",
        {"coefficients": captions.coefficients},
        (_bag, _circularity, _coefficients),
    ),
    Section(
        "Number of states",
        {"model_selection": captions.model_selection, "held_out": captions.held_out},
        (_selection, _held_out),
    ),
    Section(
        "The published method beside it", {"published_map": captions.published_map}, (_published,)
    ),
    Section("Reliability of the map", {}, STABILITY_TABLES),
)
