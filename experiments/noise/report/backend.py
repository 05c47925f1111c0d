"""What a study of settings of the tools found, as text, CSV, JSON and HTML."""

from pathlib import Path

import numpy as np

from seedmap import files
from seedmap.experiments.noise.backend.folder import CSV, HTML, JSON, collected
from seedmap.experiments.noise.backend.results import BackendSummary, SettingSummary
from seedmap.experiments.noise.backend.settings import SETTINGS
from seedmap.experiments.noise.compare import PairSummary
from seedmap.experiments.noise.report.compare import (
    CAPTION,
    FIGURE,
    HEADER,
    cells,
    plot_differences,
    write_pairs,
)
from seedmap.experiments.report import html, page
from seedmap.experiments.report.terminal import aligned, blocks
from seedmap.experiments.runs import folder as run_folder
from seedmap.results import to_json
from seedmap.text import DASH, interval, number, of, percent


def write_backend(folder: Path, summary: BackendSummary) -> Path:
    """Writes `backend.json`, `backend.csv`, the figure and `backend.html`; returns its path.

    With them the processes come, and a study that they replace goes.
    """
    drawn = plot_differences(summary.pairs, list(map(_pair, summary.pairs)))
    first = [
        page.paragraph(INTRODUCTION),
        html.figure(FIGURE, drawn, CAPTION),
        html.notes(summary.notes),
    ]
    sections = [
        page.titled(
            "The settings", html.table(SETTINGS_HEADER, map(_setting_cells, summary.settings))
        ),
        page.titled("Within and between settings", html.table(HEADER, map(cells, summary.pairs))),
        page.all_numbers(summary),
    ]
    with collected(folder) as draft:
        files.write_json(draft / JSON, to_json(summary))
        write_pairs(draft, CSV, summary.pairs, drawn)
        title, made_by = f"{summary.experiment}: randomness of the tools", run_folder.command()
        html.write_page(draft / HTML, title, sections, first, command=made_by.get("command"))
    return folder / HTML


INTRODUCTION = (
    "One replica, from the same keys, trained repeatedly in separate processes. Processes "
    "of the same setting differ where kernels add up in no fixed order or are chosen by timing; "
    "processes of two settings also where another program, number of threads or batching rounds "
    "otherwise."
)
SETTINGS_HEADER = (
    *("setting", "what", "flags", "processes", "accuracy", "SD of accuracy"),
    *("seconds of training", "copies identical"),
)


def _setting_cells(setting: SettingSummary) -> list[str]:
    accuracy, copies = setting.accuracy, setting.copies_alike
    variables = [f"{name}={value}" for name, value in setting.variables]
    return [
        setting.name,
        setting.what if setting.name in SETTINGS else "flags given",
        " ".join([*setting.flags, *variables]) or DASH,
        str(setting.trained),
        percent(accuracy and accuracy.mean, 4),
        interval(accuracy and accuracy.sd),
        number(float(np.median(setting.seconds)) if setting.seconds else None),
        of(sum(copies), len(copies)) if copies else DASH,
    ]


def _pair(row: PairSummary) -> str:
    first, second = row.runs
    return f"{first}, its processes" if first == second else f"{first} : {second}"


def terminal(summary: BackendSummary) -> str:
    """Returns the results as aligned text; notes last."""
    settings = aligned(SETTINGS_HEADER, map(_setting_cells, summary.settings))
    pairs = aligned(HEADER, map(cells, summary.pairs))
    return blocks(settings, "", pairs, notes=summary.notes)
