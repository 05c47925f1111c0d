"""The report of a study of noise: one HTML file that opens anywhere, and the terminal's table.

The page is that of `experiments.report.page`; its words are those of
`experiments.noise.report.headlines` and `captions`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from matplotlib.figure import Figure

from seedmap.experiments.noise.estimates import WITHIN
from seedmap.experiments.noise.report import captions
from seedmap.experiments.noise.report.answer import (
    answer,
    compared_measures,
    left_out,
    share_text,
)
from seedmap.experiments.noise.report.curve_tables import (
    commitment_table,
    interval_cell,
    shares_table,
    survival_tables,
)
from seedmap.experiments.noise.report.figure_sources import plot_components
from seedmap.experiments.noise.report.figures import share
from seedmap.experiments.noise.report.headlines import (
    RATES,
    above,
    headlines,
    num_tested,
    what_varies,
    when_apart,
)
from seedmap.experiments.noise.results import Estimate, RateSpread, StudySummary, VariantSummary
from seedmap.experiments.report import html, page
from seedmap.experiments.report.page import Drawn, Section
from seedmap.experiments.report.terminal import aligned, blocks
from seedmap.experiments.runs.folder import REPORT
from seedmap.showing import card
from seedmap.text import (
    DASH,
    count,
    interval,
    mean_and_sd,
    number,
    of,
    percent,
)

MOST_CLASSES = 200  # whose numbers are written out one by one
_MAP_CAPTIONS = {
    "training_map": "Circles are states, arrows transitions with the metrics that change most.",
    "state_raster": "Every run of the map, fastest to converge first.",
    "coefficients": "Association of time in each state with the outcome.",
    "dissimilarity": "Dissimilarity of every pair of runs, similar ones side by side.",
    "convergence": "Convergence times of the map's runs.",
}


def write_noise_report(
    folder: Path,
    summary: StudySummary,
    figures: Mapping[str, Figure],
    config: Mapping[str, Any],
    map_figures: Mapping[str, Figure] = MappingProxyType({}),
    notes: Sequence[str] = (),
) -> Path:
    """Writes `report.html` of a study, whole or not at all.

    Args:
        folder: of the study, which exists.
        summary: content of `noise.json`.
        figures: as `experiments.noise.report.figures.make_figures` draws them; others come last.
        config: content of `config.json`.
        map_figures: figures of the training map that paths were read with.
        notes: what a reader should know first; those of the study follow them.

    Returns:
        The path written.
    """
    lead = {name: figures[name] for name in ("components",) if name in figures}
    first = [
        page.titled(
            "Which sources matter, how much, how sure",
            *(html.figure(name, each, captions.components(summary)) for name, each in lead.items()),
            page.paragraph(" ".join([*answer(summary), *left_out(summary)])),
        ),
        html.notes(list(dict.fromkeys([*notes, *summary.notes]))),
    ]
    sections = [
        page.titled("What was found", page.bullets(headlines(summary))),
        *(page.render(section, summary, figures) for section in SECTIONS),
        _map(summary, map_figures),
        page.further_figures(SECTIONS, {k: v for k, v in figures.items() if k not in lead}),
        html.details("Settings and timings", page.numbers(config)),
        html.details("All numbers", _all_numbers(summary)),
    ]
    title = f"Randomness by its source: {summary.experiment or 'a study'}"
    path = Path(folder) / REPORT
    return html.write_page(path, title, sections, first, command=config.get("command"))


def _map(summary: StudySummary, drawn: Drawn) -> str:
    """Returns HTML of the training map, with its caption."""
    pieces = [
        html.figure(f"map_{name}", figure, _MAP_CAPTIONS.get(name, ""))
        for name, figure in drawn.items()
    ]
    about = () if summary.map is None else vars(summary.map).items()
    return page.titled("The training map", html.key_values(about), *pieces)


def _all_numbers(summary: StudySummary) -> str:
    """Returns every leaf of the summary, but for the classes where they are too many to read."""
    if (summary.num_classes or 0) <= MOST_CLASSES:
        return page.numbers(summary)
    variants = [replace(variant, classes=None) for variant in summary.variants]
    return f"{_IN_THE_FILE}\n{page.numbers(replace(summary, variants=variants))}"


_IN_THE_FILE = "<p>The numbers of single classes are in <code>noise.json</code>.</p>"


def _rows(
    summary: StudySummary, cells: Callable[[VariantSummary], Iterable[Any]]
) -> list[list[Any]]:
    return [[variant.name, *cells(variant)] for variant in summary.variants]


def _replicas(summary: StudySummary, variant: VariantSummary) -> str:
    used, all_ = variant.used, summary.roots * variant.replicas
    return str(all_) if used == all_ else of(used, all_)


def _variants(summary: StudySummary) -> str:
    header = ("variant", "replicas", "what varies between them")
    return html.table(header, _rows(summary, lambda v: (_replicas(summary, v), what_varies(v))))


def _budget(summary: StudySummary) -> str:
    keys = ("share_of_variance", "share_of_churn", "share_of_l2")
    header = ("variant", "share of variance", "share of churn", "share of weight distance")
    return html.table(
        header, _rows(summary, lambda v: [interval_cell(share(summary, v, key)) for key in keys])
    )


def _top_line(summary: StudySummary) -> str:
    header = (
        *("variant", "accuracy, %", "its SD, points", "cross-entropy", "its SD"),
        *("SD of independent errors, points", "SD over the distribution, points"),
    )

    def cells(variant: VariantSummary) -> list[str]:
        accuracy, loss = variant.accuracy, variant.cross_entropy
        return [
            interval_cell(accuracy and accuracy.mean, 100.0, digits=4),
            interval_cell(accuracy and accuracy.sd, 100.0),
            interval_cell(loss and loss.mean, digits=4),
            interval_cell(loss and loss.sd),
            _root(variant.test_set_variance),
            _root(variant.distribution_variance),
        ]

    return html.table(header, _rows(summary, cells))


def _root(variance: float | None) -> str:
    """Returns the SD in percentage points; an unbiased variance may be below 0."""
    if variance is None:
        return DASH
    return number(100 * variance**0.5) if variance >= 0 else "variance below 0"


def _pairs(summary: StudySummary) -> str:
    header = (
        *("variant", "churn, %", "distance of unit weights", "angle, radians"),
        *("correlation of logits", "ensemble gain, points", "error barrier, points"),
    )

    def cells(variant: VariantSummary) -> list[str]:
        return [
            interval_cell(variant.churn, 100.0, measure="churn"),
            interval_cell(variant.l2_distance, measure="l2_distance"),
            interval_cell(variant.angle, measure="angle"),
            interval_cell(variant.logit_correlation, digits=4, measure="logit_correlation"),
            interval_cell(variant.ensemble_gain, 100.0, measure="ensemble_gain"),
            interval_cell(variant.barrier and variant.barrier.interval, 100.0),
        ]

    return html.table(header, _rows(summary, cells))


def _classes(summary: StudySummary) -> str:
    having = [variant for variant in summary.variants if variant.classes]
    if not having:
        return ""
    by_size = math.sqrt(num_tested(summary))
    ratios = [
        (
            v.name,
            v.class_ratio and v.class_ratio.mean,
            v.class_ratio and v.class_ratio.max,
            sum(above(entry.interval, by_size) for entry in v.classes),
        )
        for v in having
    ]
    header = ("variant", "mean ratio of SD", "largest ratio", f"intervals above {by_size:.3g}")
    table = html.table(header, ratios)
    if len(having[0].classes) > MOST_CLASSES:
        return f"{table}\n{_IN_THE_FILE}"
    lines = [
        (variant.name, entry.label, *_spread(entry.accuracy, entry.sd, entry.interval))
        for variant in having
        for entry in variant.classes
    ]
    header = ("variant", "class", "accuracy", "SD, points", "SD over that of all examples")
    return f"{table}\n{html.details('Every class', html.table(header, lines))}"


def _groups(summary: StudySummary) -> str:
    lines = [
        [variant.name, group.group, group.size]
        + [cell for rate in RATES for cell in _rate(getattr(group, rate))]
        for variant in summary.variants
        for group in variant.groups or []
    ]
    if not lines:
        return ""
    header = ["variant", "group", "examples"]
    for rate in ("accuracy", "FPR", "FNR"):
        header += [rate, "SD, points", "ratio"]
    return html.details("Every subgroup of every variant", html.table(header, lines))


def _rate(rate: RateSpread) -> tuple[str, str, str]:
    return _spread(rate.mean, rate.sd, rate.interval)


def _spread(mean: float | None, sd: float | None, ratio: Estimate | None) -> tuple[str, str, str]:
    return percent(mean, 4), number(None if sd is None else 100 * sd), interval_cell(ratio)


def _parting(summary: StudySummary) -> str:
    header = (
        *("variant", "first step that differs", "growth per step", "steps to double"),
        *("exponent of a power of the step", "better fit", "largest churn during training"),
    )

    def cells(variant: VariantSummary) -> list[str]:
        growth = variant.parting.growth
        rate = growth.rate
        doubles = number(math.log(2) / rate) if rate and rate > 0 else DASH
        return [
            *(when_apart(variant), number(rate), doubles),
            *(number(growth.power), growth.better or DASH),
            percent(variant.parting.largest_churn),
        ]

    return html.table(header, _rows(summary, cells))


def _paths(summary: StudySummary) -> str:
    units = [variant.paths.convergence.unit for variant in summary.variants if variant.paths]
    if not units:
        return ""
    unit = units[0]
    header = (
        *("variant", "dissimilarity, discrete", "of means", "of indices", "orders of states"),
        *("pass a detour", f"{unit}s in detours", "their SD"),
        *("converge", f"on average at {unit}", "its SD"),
    )
    return html.table(header, _rows(summary, _path_cells))


def _path_cells(variant: VariantSummary) -> list[str]:
    paths = variant.paths
    if paths is None:
        return [DASH] * 10
    grounds, detours, time = paths.dissimilarity, paths.detour_time, paths.convergence
    return [
        interval_cell(grounds and grounds.discrete),
        interval_cell(grounds and grounds.means),
        interval_cell(grounds and grounds.index),
        count(paths.distinct),
        percent(paths.detour_rate),
        number(detours and detours.mean),
        interval_cell(detours and detours.sd),
        count(time.num),
        number(time.mean, 4),
        interval_cell(time.sd),
    ]


def _components(summary: StudySummary) -> str:
    """Returns every component, a row for each source."""
    measures = list(dict.fromkeys(line.measure for line in summary.components))
    if not measures:
        return ""
    by_place = {(line.source, line.measure): line for line in summary.components}
    sources = list(dict.fromkeys(line.source for line in summary.components))
    rows = [
        [
            source,
            *(share_text(line) if (line := by_place.get((source, m))) else DASH for m in measures),
        ]
        for source in sources
    ]
    header = ("source", *(measure.replace("_", " ") for measure in measures))
    return html.details("Shares of variance of every measure", html.table(header, rows))


SECTIONS = (
    Section("When fate is decided", {"commitment": captions.commitment}, (commitment_table,)),
    Section("Convergence", {"survival": captions.survival}, (survival_tables, _components)),
    Section("Noise budget", {"noise_budget": captions.noise_budget}, (_budget, _variants)),
    Section(
        "How much of it, and when", {"share_over_steps": captions.share_over_steps}, (shares_table,)
    ),
    Section(
        "Top line and disagreement",
        {"churn_accuracy": captions.churn_accuracy},
        (_top_line, _pairs),
    ),
    Section("Classes", {"class_spread": captions.class_spread}, (_classes,)),
    Section("Subgroups", {"group_spread": captions.group_spread}, (_groups,)),
    Section("How replicas part", {"divergence": captions.divergence}, (_parting,)),
    Section("Between two replicas", {"barriers": captions.barriers}),
    Section(
        "Paths through the training map",
        {
            "dissimilarity_by_source": captions.dissimilarity_by_source,
            "paths_by_source": captions.paths_by_source,
        },
        (_paths,),
    ),
)

_HEADER = (
    *("variant", "replicas", "accuracy %", "churn %", "L2", "share of variance"),
    *("share of churn", "differ after step"),
)


def terminal(summary: StudySummary) -> str:
    """Returns the study as an aligned table, a line for each variant; notes last."""
    rows = _rows(summary, lambda variant: _short(summary, variant))
    sentences = answer(summary) if summary.roots > 1 else []
    return blocks(aligned(_HEADER, rows), *sentences, notes=summary.notes)


def card_of(summary: StudySummary) -> str:
    """Returns the HTML by which a study shows itself in a notebook."""
    figure = plot_components(summary) if compared_measures(summary) else None
    sentences = [*answer(summary), *summary.notes]
    return card(
        repr(summary), figure, sentences, _HEADER, _rows(summary, lambda v: _short(summary, v))
    )


def _short(summary: StudySummary, variant: VariantSummary) -> list[str]:
    return [
        _replicas(summary, variant),
        _accuracy(variant),
        interval(variant.churn, 100.0, within=WITHIN["churn"]),
        number(variant.l2_distance and variant.l2_distance.value),
        interval(share(summary, variant, "share_of_variance"), digits=2),
        interval(share(summary, variant, "share_of_churn"), digits=2),
        when_apart(variant),
    ]


def _accuracy(variant: VariantSummary) -> str:
    if variant.accuracy is None:
        return DASH
    mean, sd = variant.accuracy.mean.value, variant.accuracy.sd.value
    return mean_and_sd(100 * mean, 100 * sd, sd_digits=2)
