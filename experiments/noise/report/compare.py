"""A comparison of studies as text, CSV, JSON, a figure and one HTML page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seedmap import files
from seedmap.experiments.noise.compare import MEASURES, PairSummary, StudyComparison
from seedmap.experiments.noise.estimates import WITHIN
from seedmap.experiments.noise.results import Estimate
from seedmap.experiments.report import html, out_folder, page
from seedmap.experiments.report.terminal import aligned, blocks
from seedmap.experiments.runs import folder as run_folder
from seedmap.hmm.figures.style import GREY, INK, PALE, WIDTH, Drawing, plain_tick, shorten, styled
from seedmap.results import to_json
from seedmap.text import NOT_DETERMINED, interval, of, says_nothing
from seedmap.transaction import transaction

JSON, CSV, HTML = "noise_compare.json", "noise_compare.csv", "noise_compare.html"
OWN = out_folder.own_names((JSON, CSV, HTML))
FIGURE = "differences"


def check_free(folder: Path) -> None:
    """Raises UserError unless a comparison may be written to the folder."""
    out_folder.check_out(folder, JSON, OWN, "a comparison")


def write_comparison(folder: Path, comparison: StudyComparison) -> Path:
    """Writes `noise_compare.json`, `.csv`, the figure and `noise_compare.html`; returns its path.

    Args:
        folder: made if need be; an earlier comparison in it is replaced.
        comparison: what to write.
    """
    check_free(folder)
    names = [f"{' : '.join(row.runs)}, {row.variant}" for row in comparison.pairs]
    drawn = plot_differences(comparison.pairs, names)
    first = [
        page.paragraph(INTRODUCTION),
        html.figure(FIGURE, drawn, CAPTION),
        html.notes(comparison.notes),
    ]
    sections = [
        page.titled("The replicas", html.table(HEADER, map(cells, comparison.pairs))),
        page.titled("Differences between the runs' environments", _environment(comparison)),
        page.all_numbers(comparison),
    ]
    with transaction(folder, OWN, "noise compare") as draft:
        files.write_json(draft / JSON, to_json(comparison))
        write_pairs(draft, CSV, comparison.pairs, drawn)
        title, made_by = f"{comparison.experiment}: replicas compared", run_folder.command()
        html.write_page(draft / HTML, title, sections, first, command=made_by.get("command"))
    return folder / HTML


def write_pairs(folder: Path, csv: str, pairs: Sequence[PairSummary], drawn: Figure) -> None:
    """Writes the CSV file and the figure of compared pairs."""
    out_folder.write_csv(folder / csv, [flat(row) for row in pairs])
    out_folder.save_figures(folder, {FIGURE: drawn})


INTRODUCTION = (
    "The same replicas, trained in separate processes, compared one by one: identity of their "
    "final weights to the bit, the first step at which a record differs, and their distance at "
    "the end. Means over replicas with 95 % intervals."
)
CAPTION = (
    "Differences between the same replicas of two runs at the end of training: share of test "
    "examples predicted as another class, and distance between the weights as vectors of unit "
    "length. Lines are 95 % intervals over replicas; a hollow ring is exactly zero."
)
HEADER = (
    *("runs", "variant", "equal to the bit", "first difference", "churn", "L2 distance"),
    *("angle (rad)", "logit correlation", "accuracy difference", "P(A > B)"),
)


def flat(row: PairSummary) -> dict[str, Any]:
    """Returns a row without nesting, as the CSV file has it."""
    steps = [step for step in row.first_apart if step is not None]
    plain = {
        "first_run": row.runs[0],
        "second_run": row.runs[1],
        "variant": row.variant,
        "replicas": row.replicas,
        "used": row.used,
        "equal": row.equal,
        "first_apart": min(steps, default=None),
    }
    for name in (*MEASURES, "better"):
        measured = getattr(row, name) or Estimate(None, None, None)
        ends = {f"{name}_low": measured.low, f"{name}_high": measured.high}
        plain |= {name: measured.value, **ends}
    return plain


def cells(row: PairSummary) -> list[str]:
    """Returns a pair's row of the table, as text."""
    return [
        " : ".join(row.runs),
        row.variant,
        of(row.equal, row.replicas),
        first_difference(row),
        interval(row.churn, 100.0, " %", within=WITHIN["churn"]),
        interval(row.l2_distance, within=WITHIN["l2_distance"]),
        interval(row.angle, within=WITHIN["angle"]),
        interval(row.logit_correlation, digits=4, within=WITHIN["logit_correlation"]),
        interval(row.accuracy_difference, 100.0, " %"),
        interval(row.better, within=(0.0, 1.0)),
    ]


def first_difference(row: PairSummary) -> str:
    """Returns the first step at which a record of any replica differs, and which record."""
    differing = [pair for pair in zip(row.first_apart, row.record, strict=True) if pair[1]]
    if differing:
        return "step {} ({})".format(*min(differing))
    return "never" if row.equal == row.replicas else "in no record"


def terminal(comparison: StudyComparison) -> str:
    """Returns the comparison as aligned text; environments and notes last."""
    environments = [
        f"{name}: " + ", ".join(f"{run} {value}" for run, value in values.items())
        for name, values in comparison.environment.items()
    ]
    table = aligned(HEADER, map(cells, comparison.pairs))
    return blocks(table, *environments, notes=comparison.notes)


def _environment(comparison: StudyComparison) -> str:
    """Returns HTML of the differences between environments."""
    if not comparison.environment:
        return page.paragraph("Nothing that config.json records.")
    runs = comparison.runs
    rows = [
        (name, *("not set" if values[run] is None else values[run] for run in runs))
        for name, values in comparison.environment.items()
    ]
    return html.table(("", *runs), rows)


@styled
def plot_differences(rows: Sequence[PairSummary], names: Sequence[str]) -> Figure:
    """Draws churn and weight distance, a line for each row, top to bottom."""
    figure = Drawing(figsize=(WIDTH, 1.0 + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    _draw_estimates(axes[0], [_in_percent(row.churn) for row in rows])
    axes[0].set(title="Churn", xlabel="% of test examples")
    _draw_estimates(axes[1], [row.l2_distance for row in rows])
    axes[1].set(title="L2 distance of weights", xlabel="of unit vectors, at most 2")
    axes[0].set_yticks(range(len(rows)), [shorten(name, 44) for name in names])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _in_percent(share: Estimate | None) -> Estimate | None:
    if share is None:
        return None
    ends = (share.value, share.low, share.high)
    return Estimate(*(end and 100 * end for end in ends))


def _draw_estimates(ax: Axes, estimates: Sequence[Estimate | None]) -> None:
    known = [e for e in estimates if e is not None and not says_nothing(e)]
    values = [estimate.value for estimate in known if estimate.value > 0]
    ends = [estimate.high for estimate in known if estimate.high]
    if values and max(values) > 30 * min(values):
        ax.set_xscale("symlog", linthresh=10 ** np.floor(np.log10(min(values))), linscale=0.5)
        ax.xaxis.set_major_formatter(plain_tick)
    for row, estimate in enumerate(estimates):
        ax.axhline(row, color=PALE, linewidth=0.8, zorder=0)
        if estimate is None or says_nothing(estimate):
            note = NOT_DETERMINED if estimate else "not defined"
            ax.annotate(note, (0.02, row), xycoords=("axes fraction", "data"), color=GREY)
            continue
        if estimate.low is not None:
            ax.plot([estimate.low, estimate.high], [row, row], color=INK, linewidth=1.2)
        fill = "none" if estimate.value == 0 else "#0072b2"
        ax.plot(estimate.value, row, "o", mfc=fill, mec="#0072b2", markersize=5, clip_on=False)
    ax.set_xlim(0, 1.08 * max([*values, *ends], default=1.0))
    ax.tick_params(axis="y", length=0)
