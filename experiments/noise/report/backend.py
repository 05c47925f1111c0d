"""A study of settings of the tools: its folder, and what it found as text, CSV, JSON and HTML."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.noise.backend.settings import LOGS, SETTINGS
from seedmap.experiments.noise.report.compare import (
    CAPTION,
    HEADER,
    cells,
    flat,
    number,
    plot_differences,
)
from seedmap.experiments.report import html
from seedmap.experiments.report.comparison import aligned, check_out, write_csv
from seedmap.experiments.runs import folder as run_folder
from seedmap.hmm import figures

JSON, CSV, HTML = "backend.json", "backend.csv", "backend.html"
FILES = (JSON, CSV, HTML)
KEPT = ("experiment", "hyperparameters", "variables")  # what a study that is gone on with keeps to

Content = Mapping[str, Any]


def begin(folder: Path, plan: Content, overwrite: bool, resume: bool) -> None:
    """Makes the folder with its `backend.json`, or clears or takes on what stands there.

    Raises:
        UserError: the folder holds something else, or another study and neither may it be replaced
            nor is it the one to go on with.
    """
    before = _stands(folder)
    check_out(folder, JSON, _own(before))
    plan = json.loads(json.dumps(run_folder.json_ready(dict(plan))))
    if before is not None and resume:
        _check_same(folder, before, plan)
    elif before is not None and not overwrite:
        raise UserError(
            f"--out: {folder} holds another study; name another folder, or add --resume to go on "
            "with it, or --overwrite to replace it"
        )
    elif before is not None:
        for child in _children(before):
            if (folder / child).is_dir():
                run_folder.clear(folder / child, run_folder.OWN)
                (folder / child).rmdir()
        run_folder.clear(folder, {*FILES, run_folder.FIGURES, LOGS} - {JSON})
    folder.mkdir(parents=True, exist_ok=True)
    # A study gone on with under other settings still has the folders of the former ones.
    both = dict.fromkeys([*(before or {}).get("children", ()), *_children(plan)] if resume else ())
    run_folder.write_json(folder / JSON, {**plan, "children": list(both) or _children(plan)})


def take_away(folder: Path) -> None:
    """Takes away a folder that `begin` made, where it holds nothing but that and logs."""
    if {path.name for path in folder.iterdir()} <= {JSON, LOGS}:
        run_folder.clear(folder, (JSON, LOGS))
        folder.rmdir()


def _stands(folder: Path) -> dict[str, Any] | None:
    if not (folder / JSON).is_file():
        return None
    fields = (*KEPT, "children")
    return run_folder.read_json(folder, JSON, "noise backend EXPERIMENT", fields)


def _children(plan: Content) -> list[str]:
    if "children" in plan:
        return list(plan["children"])
    return [f"{s['name']}-{r}" for r in range(plan["replicas"]) for s in plan["settings"]]


def _own(before: Content | None) -> set[str]:
    names = {*FILES, *(f"{name}.part" for name in FILES), run_folder.FIGURES, LOGS}
    return names | set(_children(before) if before is not None else ())


def _check_same(folder: Path, before: Content, plan: Content) -> None:
    flat_before, flat_plan = (
        dict(html.flatten({key: content[key] for key in KEPT})) for content in (before, plan)
    )
    for name in {**flat_before, **flat_plan}:
        values = flat_before.get(name), flat_plan.get(name)
        if values[0] != values[1]:
            raise UserError(
                f"--resume: {folder} was begun with {name} {values[0]}, not {values[1]}; name "
                "another folder, or give the same flags"
            )


def write_backend(folder: Path, content: Content) -> Path:
    """Writes `backend.json`, `backend.csv`, the figure and `backend.html`; returns its path."""
    before = run_folder.read_json(folder, JSON, "noise backend EXPERIMENT", ("children",))
    run_folder.write_json(folder / JSON, {**content, "children": before["children"]})
    write_csv(folder / CSV, [flat(row) for row in content["pairs"]])
    drawn = plot_differences(content["pairs"], [_pair(row) for row in content["pairs"]])
    figures.save(drawn, folder / run_folder.FIGURES / "differences.png")
    parts = [
        html.notes(content["notes"]),
        f"<p>{escape(INTRODUCTION)}</p>",
        html.table(SETTINGS_HEADER, map(_setting_cells, content["settings"])),
        "<h2>Within settings and between them</h2>",
        html.table(HEADER, map(cells, content["pairs"])),
        html.figure("differences", html.image_source("differences", drawn), CAPTION),
        html.details("All numbers", html.key_values(html.flatten(run_folder.json_ready(content)))),
    ]
    return html.write_page(folder / HTML, f"{content['experiment']}: what the tools do", parts)


INTRODUCTION = (
    "One replica, from the same keys, trained in a process of its own again and again. Processes "
    "of the same setting differ where kernels add up in no fixed order or are chosen by timing; "
    "processes of two settings also where another program, number of threads or batching rounds "
    "otherwise."
)
SETTINGS_HEADER = (
    *("setting", "what", "flags", "processes", "accuracy", "SD of accuracy"),
    *("seconds of training", "copies alike"),
)


def _setting_cells(setting: Content) -> list[str]:
    accuracy, copies = setting["accuracy"], setting["copies_alike"]
    variables = [f"{name}={value}" for name, value in setting["variables"]]
    dash = "\N{EN DASH}"
    return [
        setting["name"],
        setting["what"] if setting["name"] in SETTINGS else "flags that were named",
        " ".join([*setting["flags"], *variables]) or dash,
        str(setting["trained"]),
        f"{100 * accuracy['mean']:.2f} %" if accuracy else dash,
        number(accuracy["sd"]) if accuracy else dash,
        f"{np.median(setting['seconds']):.3g}" if setting["seconds"] else dash,
        f"{sum(copies)} of {len(copies)}" if copies else dash,
    ]


def _pair(row: Content) -> str:
    one, other = row["runs"]
    return f"{one}, its processes" if one == other else f"{one} : {other}"


def terminal(content: Content) -> str:
    """What was found as aligned text; notes last."""
    lines = [
        aligned(SETTINGS_HEADER, map(_setting_cells, content["settings"])),
        "",
        aligned(HEADER, map(cells, content["pairs"])),
    ]
    return "\n".join(lines + [f"note: {note}" for note in content["notes"]])
