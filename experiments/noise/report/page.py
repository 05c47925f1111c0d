"""The report of a study of noise: one HTML file that opens anywhere, and the table in the terminal.

The page is that of `experiments.report.html`; its words are those of
`experiments.noise.report.captions`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from seedmap.experiments.noise.report import captions
from seedmap.experiments.noise.report.captions import DASH, Found, number, percent, when_apart
from seedmap.experiments.noise.report.figures import share
from seedmap.experiments.report import html
from seedmap.experiments.report.captions import part
from seedmap.experiments.runs.folder import REPORT
from seedmap.hmm.io import json_ready

MOST_CLASSES = 200  # whose numbers are written out one by one
_MAP_CAPTIONS = {
    "training_map": "Circles are states, arrows transitions with the metrics that change most.",
    "state_raster": "Every run of the map, soonest to converge first.",
    "coefficients": "What more time in each state goes with.",
    "dissimilarity": "Dissimilarity of every pair of runs, similar ones side by side.",
    "convergence": "When the runs of the map converge.",
}


class Section(NamedTuple):
    """A part of the report.

    Attributes:
        heading: its heading.
        figures: names of its figures, each with the function that writes its caption.
        tables: functions from the findings to HTML.
    """

    heading: str
    figures: Mapping[str, Callable[[Found], str]]
    tables: tuple[Callable[[Found], str], ...] = ()


def write_noise_report(
    folder: Path,
    found: Mapping[str, Any],
    figures: Mapping[str, Figure],
    config: Mapping[str, Any],
    map_figures: Mapping[str, Figure | str | Path] = {},
    notes: Sequence[str] = (),
) -> Path:
    """Writes `report.html` of a study, whole or not at all.

    Args:
        folder: of the study, which exists.
        found: content of `noise.json`.
        figures: as `experiments.noise.report.figures.make_figures` draws them; others come last.
        config: content of `config.json`.
        map_figures: figures of the training map that paths were read with, each a figure or the
            path of a PNG file.
        notes: what a reader should know first; those of the study follow them.

    Returns:
        The path written.

    Raises:
        UserError: a figure's file is missing.
    """
    found = json_ready(dict(found))
    images = {name: html.image_source(name, figure) for name, figure in figures.items()}
    maps = {name: html.image_source(name, figure) for name, figure in map_figures.items()}
    said = list(dict.fromkeys([*notes, *found["notes"]]))
    parts = [html.notes(said), _headlines(found)]
    parts += [_section(section, found, images) for section in SECTIONS]
    parts.append(_map(found, maps))
    known = {name for section in SECTIONS for name in section.figures}
    further = {name: _no_caption for name in images if name not in known}
    if further:
        parts.append(_section(Section("Further figures", further), found, images))
    parts.append(html.details("All numbers", _all_numbers(found)))
    settings = html.key_values(html.flatten(json_ready(dict(config))))
    parts.append(f"<h2>Configuration</h2>{settings}")
    title = f"Randomness by its source: {found.get('experiment') or 'a study'}"
    return html.write_page(Path(folder) / REPORT, title, parts)


def _headlines(found: Found) -> str:
    items = "\n".join(f"<li>{escape(said)}</li>" for said in captions.headlines(found))
    return f"<h2>What was found</h2>\n<ul>\n{items}\n</ul>"


def _section(section: Section, found: Found, images: Mapping[str, str]) -> str:
    shown = [name for name in section.figures if name in images]
    parts = [html.figure(name, images[name], section.figures[name](found)) for name in shown]
    parts += [table for table in (make(found) for make in section.tables) if table]
    return "\n".join([f"<h2>{escape(section.heading)}</h2>", *parts]) if parts else ""


def _map(found: Found, images: Mapping[str, str]) -> str:
    """The training map, with what is known of it."""
    about = found.get("map")
    if not about and not images:
        return ""
    parts = [
        html.figure(f"map_{name}", source, _MAP_CAPTIONS.get(name, ""))
        for name, source in images.items()
    ]
    return "\n".join(["<h2>The training map</h2>", html.key_values((about or {}).items()), *parts])


def _all_numbers(found: Found) -> str:
    """Every leaf of the findings, but for the classes where they are too many to be read."""
    if (found["num_classes"] or 0) <= MOST_CLASSES:
        return html.key_values(html.flatten(found))
    variants = [
        {k: v for k, v in variant.items() if k != "classes"} for variant in found["variants"]
    ]
    lean = html.key_values(html.flatten(dict(found) | {"variants": variants}))
    return "<p>The numbers of single classes are in <code>noise.json</code>.</p>\n" + lean


def _rows(found: Found, cells: Callable[[Found], Iterable[Any]]) -> list[list[Any]]:
    return [[variant["name"], *cells(variant)] for variant in found["variants"]]


def _replicas(variant: Found) -> str:
    used, count = variant["used"], variant["replicas"]
    return str(count) if used == count else f"{used} of {count}"


def _variants(found: Found) -> str:
    header = ("variant", "replicas", "what varies between them")
    return html.table(header, _rows(found, lambda v: (_replicas(v), captions.what_varies(v))))


def _budget(found: Found) -> str:
    keys = ("share_of_variance", "share_of_churn", "share_of_l2")
    header = ("variant", "share of variance", "share of churn", "share of weight distance")
    return html.table(
        header, _rows(found, lambda v: [_keep(_share(found, v, key)) for key in keys])
    )


def _interval(found: Any, factor: float = 1.0, digits: int = 3) -> str:
    return _keep(captions.interval(found, factor, digits=digits))


def _keep(text: str) -> str:
    """A cell whose brackets stay on one line, however narrow its column is."""
    return text.replace(", ", ",\N{NO-BREAK SPACE}")


def _share(found: Found, variant: Found, key: str, digits: int = 3) -> str:
    """As the figure shows it: 1 of all sources together, and CONTROL's own."""
    value = share(found, variant, key)
    if isinstance(value, Mapping):
        return captions.interval(value, digits=digits)
    return DASH if value is None else f"{value:.{digits}g}"


def _top_line(found: Found) -> str:
    header = (
        *("variant", "accuracy, %", "its SD, points", "cross-entropy", "its SD"),
        *("SD of independent errors, points", "SD over the distribution, points"),
    )

    def cells(variant: Found) -> list[str]:
        accuracy, loss = variant["accuracy"] or {}, variant["cross_entropy"] or {}
        return [
            _interval(accuracy.get("mean"), 100, digits=4),
            _interval(accuracy.get("sd"), 100),
            _interval(loss.get("mean"), digits=4),
            _interval(loss.get("sd")),
            _root(variant["test_set_variance"]),
            _root(variant["distribution_variance"]),
        ]

    return html.table(header, _rows(found, cells))


def _root(variance: float | None) -> str:
    """Standard deviation in percentage points; an unbiased variance may be below 0."""
    if variance is None:
        return DASH
    return number(100 * variance**0.5) if variance >= 0 else "variance below 0"


def _pairs(found: Found) -> str:
    header = (
        *("variant", "churn, %", "distance of unit weights", "angle, radians"),
        *("correlation of logits", "ensemble gain, points", "error barrier, points"),
    )

    def cells(variant: Found) -> list[str]:
        barrier = part(variant, "barrier", "mean")
        return [
            _interval(variant["churn"], 100),
            _interval(variant["l2_distance"]),
            _interval(variant["angle"]),
            _interval(variant["logit_correlation"], digits=4),
            _interval(variant["ensemble_gain"], 100),
            number(None if barrier is None else 100 * barrier),
        ]

    return html.table(header, _rows(found, cells))


def _classes(found: Found) -> str:
    having = [variant for variant in found["variants"] if variant["classes"]]
    if not having:
        return ""
    ratios = [
        (v["name"], part(v, "class_ratio", "mean"), part(v, "class_ratio", "max")) for v in having
    ]
    table = html.table(("variant", "mean ratio of SD", "largest ratio"), ratios)
    if len(having[0]["classes"]) > MOST_CLASSES:
        return table + "\n<p>The numbers of single classes are in <code>noise.json</code>.</p>"
    lines = [
        (variant["name"], entry["class"], *_rate(entry | {"mean": entry["accuracy"]}))
        for variant in having
        for entry in variant["classes"]
    ]
    header = ("variant", "class", "accuracy", "SD, points", "SD over that of the whole")
    return f"{table}\n{html.details('Every class', html.table(header, lines))}"


def _groups(found: Found) -> str:
    lines = [
        [variant["name"], group["group"], group["size"]]
        + [cell for rate in captions.RATES for cell in _rate(group[rate])]
        for variant in found["variants"]
        for group in variant["groups"] or []
    ]
    if not lines:
        return ""
    header = ["variant", "group", "examples"]
    for rate in ("accuracy", "FPR", "FNR"):
        header += [rate, "SD, points", "ratio"]
    return html.details("Every subgroup of every variant", html.table(header, lines))


def _rate(rate: Found) -> tuple[str, str, str]:
    sd = None if rate["sd"] is None else 100 * rate["sd"]
    return percent(rate["mean"], 4), number(sd), _interval(rate["interval"])


def _parting(found: Found) -> str:
    header = (
        *("variant", "first step apart", "growth per step", "steps to double"),
        *("exponent of a power of the step", "better fit", "largest churn on the way"),
    )

    def cells(variant: Found) -> list[str]:
        growth = variant["parting"]["growth"]
        rate = growth["rate"]
        doubles = number(math.log(2) / rate) if rate and rate > 0 else DASH
        return [
            *(when_apart(variant), number(rate), doubles),
            *(number(growth["power"]), growth["better"] or DASH),
            percent(variant["parting"]["largest_churn"]),
        ]

    return html.table(header, _rows(found, cells))


def _paths(found: Found) -> str:
    if not any(variant["paths"] for variant in found["variants"]):
        return ""
    unit = next(
        (u for v in found["variants"] if (u := part(v, "paths", "convergence", "unit"))), "step"
    )
    header = (
        *("variant", "dissimilarity, discrete", "of means", "of indices", "orders of states"),
        *("pass a detour", f"{unit}s in detours", "their SD"),
        *("converge", f"on average at {unit}", "its SD"),
    )

    def cells(variant: Found) -> list[str]:
        grounds = [
            part(variant, "paths", "dissimilarity", g) for g in ("discrete", "means", "index")
        ]
        time = part(variant, "paths", "convergence") or {}
        return [
            *map(_interval, grounds),
            _count(part(variant, "paths", "distinct")),
            percent(part(variant, "paths", "detour_rate")),
            number(part(variant, "paths", "detour_time", "mean"), 3),
            _interval(part(variant, "paths", "detour_time", "sd")),
            _count(time.get("num")),
            number(time.get("mean"), 4),
            _interval(time.get("sd")),
        ]

    return html.table(header, _rows(found, cells))


def _count(value: int | None) -> str:
    return DASH if value is None else str(value)


def _no_caption(found: Found) -> str:
    return ""


SECTIONS = (
    Section("Noise budget", {"noise_budget": captions.noise_budget}, (_budget, _variants)),
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
    *("share of churn", "apart after step"),
)


def terminal(found: Mapping[str, Any]) -> str:
    """The study as an aligned table, a line for each variant; notes last.

    Args:
        found: content of `noise.json`.
    """
    found = json_ready(dict(found))
    lines = [list(_HEADER), *_rows(found, lambda variant: _short(found, variant))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    joined = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join(joined + [f"note: {note}" for note in found["notes"]])


def _short(found: Found, variant: Found) -> list[str]:
    mean = part(variant, "accuracy", "mean", "value")
    sd = part(variant, "accuracy", "sd", "value")
    accuracy = DASH
    if mean is not None and sd is not None:
        accuracy = f"{number(100 * mean, 4)} ± {number(100 * sd, 2)}"
    return [
        _replicas(variant),
        accuracy,
        captions.interval(variant["churn"], 100),
        number(part(variant, "l2_distance", "value")),
        _share(found, variant, "share_of_variance", 2),
        _share(found, variant, "share_of_churn", 2),
        when_apart(variant),
    ]
