"""A comparison of studies as text, CSV, JSON, a figure and one HTML page."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seedmap.experiments.noise.compare import MEASURES
from seedmap.experiments.report import html
from seedmap.experiments.report.comparison import aligned, check_out, write_csv
from seedmap.experiments.runs import folder as run_folder
from seedmap.hmm import figures
from seedmap.hmm.figures.style import GREY, INK, PALE, WIDTH, shorten, styled

JSON, CSV, HTML = "noise_compare.json", "noise_compare.csv", "noise_compare.html"
FILES = (JSON, CSV, HTML)
OWN = {*FILES, *(f"{name}.part" for name in FILES), run_folder.FIGURES}

Content = Mapping[str, Any]


def check_free(folder: Path) -> None:
    """Raises UserError unless a comparison may be written to the folder."""
    check_out(folder, JSON, OWN)


def write_comparison(folder: Path, content: Content) -> Path:
    """Writes `noise_compare.json`, `.csv`, the figure and `noise_compare.html`; returns its path.

    Args:
        folder: made if need be; an earlier comparison in it is replaced.
        content: as `experiments.noise.compare.compare_studies` gives it.
    """
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(folder / JSON, content)
    write_csv(folder / CSV, [flat(row) for row in content["pairs"]])
    names = [f"{' : '.join(row['runs'])}, {row['variant']}" for row in content["pairs"]]
    drawn = plot_differences(content["pairs"], names)
    figures.save(drawn, folder / run_folder.FIGURES / "differences.png")
    parts = [
        html.notes(content["notes"]),
        f"<p>{escape(INTRODUCTION)}</p>",
        html.table(HEADER, map(cells, content["pairs"])),
        html.figure("differences", html.image_source("differences", drawn), CAPTION),
        "<h2>What differs between the runs' environments</h2>",
        *environment_parts(content["environment"], content["runs"]),
        html.details("All numbers", html.key_values(html.flatten(run_folder.json_ready(content)))),
    ]
    return html.write_page(folder / HTML, f"{content['experiment']}: replicas compared", parts)


INTRODUCTION = (
    "The same replicas, trained in separate processes: replica by replica, are their final weights "
    "the same to the bit, at which step does a record first differ, and how far are they apart at "
    "the end? Means over replicas with 95 % intervals."
)
CAPTION = (
    "How far the same replicas of two runs are apart at the end of training: share of test "
    "examples that get another class, and distance between the weights as vectors of unit length. "
    "Lines are 95 % intervals over replicas; a hollow ring is exactly zero."
)
HEADER = (
    *("runs", "variant", "equal to the bit", "first apart", "churn", "L2 distance", "angle"),
    *("logit correlation", "accuracy difference", "P(A > B)"),
)


def flat(row: Content) -> dict[str, Any]:
    """A row without nesting, as the CSV file has it."""
    steps = [step for step in row["first_apart"] if step is not None]
    plain = {
        "first_run": row["runs"][0],
        "second_run": row["runs"][1],
        "variant": row["variant"],
        "replicas": row["replicas"],
        "used": row["used"],
        "equal": row["equal"],
        "first_apart": min(steps, default=None),
    }
    for name in (*MEASURES, "better"):
        found = row[name] or dict.fromkeys(("value", "low", "high"))
        plain |= {name: found["value"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
    return plain


def cells(row: Content) -> list[str]:
    """A pair's row of the table, as text."""
    return [
        " : ".join(row["runs"]),
        row["variant"],
        f"{row['equal']} of {row['replicas']}",
        apart(row),
        percent(row["churn"]),
        number(row["l2_distance"]),
        number(row["angle"]),
        number(row["logit_correlation"], ".4f"),
        percent(row["accuracy_difference"]),
        number(row["better"], ".2f"),
    ]


def apart(row: Content) -> str:
    """The first step at which a record of any replica differs, and which record."""
    found = [pair for pair in zip(row["first_apart"], row["record"], strict=True) if pair[1]]
    if found:
        return "step {} ({})".format(*min(found))
    return "never" if row["equal"] == row["replicas"] else "in no record"


def percent(found: Mapping[str, float | None] | None) -> str:
    """An interval of a share, in per cent."""
    if found is None:
        return "\N{EN DASH}"
    return number({k: v and 100 * v for k, v in found.items()}, ".2f", " %")


def number(found: Mapping[str, float | None] | None, form: str = ".2g", unit: str = "") -> str:
    """An interval as text: value, and its ends in brackets where there are any that differ."""
    if found is None:
        return "\N{EN DASH}"
    value, low, high = found["value"], found["low"], found["high"]
    ends = f" [{low:{form}}, {high:{form}}]" if low is not None and low != high else ""
    exact = "0" if value == 0 else f"{value:{form}}"
    return f"{exact}{unit}{ends}"


def terminal(content: Content) -> str:
    """The comparison as aligned text; environments and notes last."""
    lines = [aligned(HEADER, map(cells, content["pairs"]))]
    for name, values in content["environment"].items():
        lines.append(f"{name}: " + ", ".join(f"{run} {value}" for run, value in values.items()))
    return "\n".join(lines + [f"note: {note}" for note in content["notes"]])


def environment_parts(environment: Content, runs: Sequence[str]) -> list[str]:
    """HTML of what differs between environments."""
    if not environment:
        return ["<p>Nothing that config.json records.</p>"]
    rows = [
        (name, *("not set" if values[run] is None else values[run] for run in runs))
        for name, values in environment.items()
    ]
    return [html.table(("", *runs), rows)]


@styled
def plot_differences(rows: Sequence[Content], names: Sequence[str]) -> Figure:
    """Churn and weight distance, a line for each row, top to bottom."""
    figure = Figure(figsize=(WIDTH, 1.0 + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    _draw_intervals(axes[0], [_scaled(row["churn"], 100) for row in rows])
    axes[0].set(title="Churn", xlabel="% of test examples")
    _draw_intervals(axes[1], [row["l2_distance"] for row in rows])
    axes[1].set(title="L2 distance of weights", xlabel="of unit vectors, at most 2")
    axes[0].set_yticks(range(len(rows)), [shorten(name, 44) for name in names])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _scaled(found: Mapping[str, float | None] | None, factor: float):
    return found and {name: value and factor * value for name, value in found.items()}


def _draw_intervals(ax, found: Sequence[Mapping[str, float | None] | None]) -> None:
    values = [one["value"] for one in found if one is not None and one["value"] > 0]
    ends = [one["high"] for one in found if one is not None and one["high"]]
    if values and max(values) > 30 * min(values):
        ax.set_xscale("symlog", linthresh=10 ** np.floor(np.log10(min(values))), linscale=0.5)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}"))
    for row, one in enumerate(found):
        ax.axhline(row, color=PALE, linewidth=0.8, zorder=0)
        if one is None:
            ax.annotate("not defined", (0.02, row), xycoords=("axes fraction", "data"), color=GREY)
            continue
        if one["low"] is not None:
            ax.plot([one["low"], one["high"]], [row, row], color=INK, linewidth=1.2)
        fill = "none" if one["value"] == 0 else "#0072b2"
        ax.plot(one["value"], row, "o", mfc=fill, mec="#0072b2", markersize=5, clip_on=False)
    ax.set_xlim(0, 1.08 * max([*values, *ends], default=1.0))
    ax.tick_params(axis="y", length=0)
