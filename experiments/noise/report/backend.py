"""A study of settings of the tools: its folder, and what it found as text, CSV, JSON and HTML."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.noise.backend.results import BackendPlan, BackendSummary, SettingSummary
from seedmap.experiments.noise.backend.settings import LOGS, SETTINGS
from seedmap.experiments.noise.compare import PairSummary
from seedmap.experiments.noise.report.compare import (
    CAPTION,
    FIGURE,
    HEADER,
    cells,
    plot_differences,
    write_pairs,
)
from seedmap.experiments.report import html, out_folder, page
from seedmap.experiments.report.terminal import aligned, blocks
from seedmap.experiments.report.text import DASH, interval, number, of, percent
from seedmap.experiments.runs import folder as run_folder
from seedmap.lock import SERVICE
from seedmap.results import to_json
from seedmap.transaction import transaction

JSON, CSV, HTML = "backend.json", "backend.csv", "backend.html"
_OWN = out_folder.own_names((JSON, CSV, HTML)) | {LOGS}


@dataclass(frozen=True)
class _Standing:
    """Plan of the study in a folder, begun or done, which one that resumes it must share."""

    experiment: str
    hyperparameters: dict[str, Any]
    variables: dict[str, str]
    children: list[str]


def begin(folder: Path, plan: BackendPlan, overwrite: bool, resume: bool) -> BackendPlan:
    """Makes the folder with its `backend.json`, or clears or resumes the study in it.

    Returns:
        The plan; where a study is resumed, with the folders of its processes too.

    Raises:
        UserError: the folder holds something else, or another study and neither may it be replaced
            nor is it the one to resume.
    """
    before = _standing(folder)
    children = [] if before is None else before.children
    out_folder.check_out(folder, JSON, _OWN | set(children), "a study")
    if before is not None and resume:
        _check_same(folder, before, plan)
        # A study resumed under other settings still has the folders of the former ones.
        plan = replace(plan, children=list(dict.fromkeys([*children, *plan.children])))
    elif before is not None and not overwrite:
        raise UserError(
            f"--out: {folder} holds another study; name another folder, or add --resume to go on "
            "with it, or --overwrite to replace it"
        )
    stale = () if resume else {CSV, HTML, run_folder.FIGURES, LOGS, *children}
    with transaction(folder, stale, "noise backend") as draft:
        files.write_json(draft / JSON, to_json(plan))
    return plan


def take_away(folder: Path) -> None:
    """Takes away what `begin` made, where the folder holds nothing but that and logs."""
    if {path.name for path in folder.iterdir()} <= {JSON, LOGS, SERVICE}:
        files.clear(folder, (JSON, LOGS))


def _standing(folder: Path) -> _Standing | None:
    if not (folder / JSON).is_file():
        return None
    names = _Standing.__dataclass_fields__
    content = run_folder.read_json(folder, JSON, "noise backend EXPERIMENT", tuple(names))
    return _Standing(**{name: content[name] for name in names})


def _check_same(folder: Path, before: _Standing, plan: BackendPlan) -> None:
    flat_before, flat_plan = (
        dict(html.flatten({name: getattr(study, name) for name in _KEPT}))
        for study in (before, plan)
    )
    for name in {**flat_before, **flat_plan}:
        values = flat_before.get(name), flat_plan.get(name)
        if values[0] != values[1]:
            raise UserError(
                f"--resume: {folder} was begun with {name} {values[0]}, not {values[1]}; name "
                "another folder, or give the same flags"
            )


_KEPT = ("experiment", "hyperparameters", "variables")


def write_backend(folder: Path, summary: BackendSummary) -> Path:
    """Writes `backend.json`, `backend.csv`, the figure and `backend.html`; returns its path."""
    drawn = plot_differences(summary.pairs, list(map(_pair, summary.pairs)))
    parts = [
        html.notes(summary.notes),
        page.paragraph(INTRODUCTION),
        html.table(SETTINGS_HEADER, map(_setting_cells, summary.settings)),
        page.titled(
            "Within and between settings",
            html.table(HEADER, map(cells, summary.pairs)),
            page.figure(FIGURE, drawn, CAPTION),
            page.all_numbers(summary),
        ),
    ]
    with transaction(folder, (), "noise backend") as draft:
        files.write_json(draft / JSON, to_json(summary))
        write_pairs(draft, CSV, summary.pairs, drawn)
        html.write_page(draft / HTML, f"{summary.experiment}: randomness of the tools", parts)
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
