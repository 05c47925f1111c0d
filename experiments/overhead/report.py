"""Overhead of modes, as JSON, CSV, figures and one HTML page."""

import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.overhead.figures import plot_kernels, plot_overhead
from seedmap.experiments.overhead.measuring import Settings, Trial
from seedmap.experiments.overhead.modes import Mode, note_of
from seedmap.experiments.overhead.networks import CIFAR_SIZE
from seedmap.experiments.overhead.results import (
    OverheadSummary,
    Result,
    Sizes,
    failures,
)
from seedmap.experiments.report import html, out_folder, page
from seedmap.experiments.report.terminal import aligned, blocks
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.device import Device
from seedmap.results import from_json, to_json
from seedmap.text import fixed, number
from seedmap.transaction import transaction

JSON, CSV, HTML = "overhead.json", "overhead.csv", "overhead.html"
OWN = out_folder.own_names((JSON, CSV, HTML))


def check_out(folder: Path, overwrite: bool) -> None:
    """Checks that a measurement may be written to a folder; changes nothing.

    Raises:
        UserError: it is a file, cannot be written to, holds a measurement and `overwrite` is
            false, or holds something that is not a measurement's.
    """
    out_folder.check_out(folder, JSON, OWN, "a measurement")
    if (folder / JSON).exists() and not overwrite:
        raise UserError(
            f"--out: {folder} holds another measurement; name another folder, or add --overwrite "
            "to replace it"
        )


def summarise_measurement(
    device: Mapping[str, Any],
    settings: Settings,
    modes: Sequence[Mode],
    trials: Sequence[Trial],
    results: Sequence[Result],
) -> OverheadSummary:
    """Returns what `overhead.json` holds."""
    sizes = {field.name: getattr(settings, field.name) for field in fields(Sizes)}
    return OverheadSummary(
        device=from_json(Device, dict(device)),
        versions=_versions(),
        git_commit=run_folder.git_commit(),
        settings=Sizes(**sizes),
        modes={mode.name: mode.about for mode in modes},
        trials=list(trials),
        notes=_notes(settings, modes, results) + _unfinished(trials, results),
        rows=list(results),
    )


def _versions() -> dict[str, str]:
    names = [*run_folder.VERSIONED, *(["keras"] if importlib.util.find_spec("keras") else [])]
    return {name: importlib.metadata.version(name) for name in names}


def _notes(settings: Settings, modes: Sequence[Mode], results: Sequence[Result]) -> list[str]:
    """Returns what a reader must know, most important first."""
    notes = [
        f"Times are of {settings.steps} training steps (Adam, cross-entropy) at batch size "
        f"{settings.batch_size} on one batch of random images, which stays on the device, over "
        f"{settings.rounds} rounds in which the modes take turns; compilation and warm-up are not "
        "included."
    ]
    coverage = next((result.step_ms.coverage for result in results if result.step_ms), None)
    if coverage is not None:
        notes.append(
            "Medians over the rounds; intervals are between order statistics and hold the true "
            f"median with probability {coverage:.1%}. Ratios are taken within rounds, time over "
            "that of the default mode, seed for seed."
        )
    failed = len(failures(results))
    if failed:
        notes.append(f"{failed} of {len(results)} could not be timed; the reasons are listed.")
    notes += filter(None, (note_of(mode, settings.platform) for mode in modes))
    if any(r.network == "resnet18" and r.image_size != CIFAR_SIZE for r in results):
        notes.append(
            "resnet18 is the one for CIFAR (3x3 stem, no pooling after it) at every image size; "
            "the ImageNet network of that name does far less work at 224x224."
        )
    if any(r.turns == "started anew each round" for r in results):
        notes.append(
            "Where the processes of a network did not fit the device together, each was started "
            "anew, and warmed up again, every round."
        )
    return notes


def _unfinished(trials: Sequence[Trial], results: Sequence[Result]) -> list[str]:
    """Notes the networks that a measurement cut short has not timed."""
    done = {result.network for result in results}
    left = [trial.network for trial in trials if trial.network not in done]
    return [f"Not measured when this was written: {', '.join(left)}."] * bool(left)


def write_measurement(folder: Path, summary: OverheadSummary) -> Path:
    """Writes `overhead.json`, `overhead.csv`, the figures and `overhead.html`; returns its path.

    Args:
        folder: made if need be; an earlier measurement in it is replaced.
        summary: what to write.
    """
    drawn = make_figures(summary.rows)
    with transaction(folder, OWN, "overhead") as draft:
        files.write_json(draft / JSON, to_json(summary))
        out_folder.write_csv(draft / CSV, [result.flat() for result in summary.rows])
        out_folder.save_figures(draft, drawn)
        first, sections = _sections(summary, drawn)
        made_by = run_folder.command().get("command")
        html.write_page(draft / HTML, "What modes cost", sections, first, command=made_by)
    return folder / HTML


def make_figures(results: Sequence[Result]) -> dict[str, Figure]:
    """Returns the figures, by name."""
    drawn = {"overhead": plot_overhead(results), "kernels": plot_kernels(results)}
    return {name: figure for name, figure in drawn.items() if figure is not None}


_CAPTIONS = {
    "overhead": (
        "Time of the same training steps over that under the default mode, seed for seed: bars "
        "begin at 1, to the right is slower. Whiskers are the intervals of the medians."
    ),
    "kernels": "The six-layer network by the size of its kernels, under each mode.",
}
_HEADER = ("network", "mode", "ms a step and seed", "interval", "ratio", "interval", "compile s")


def cells(result: Result) -> list[str]:
    """Returns a row of the table, as text; an error takes the place of the times."""
    compiled = fixed(result.compile_seconds, 1, undefined="")
    if result.step_ms is None:
        return [result.network, result.mode, "failed", "", "", "", compiled]
    step_ms, ratio = result.step_ms, result.ratio
    ratios = ["", ""]
    if ratio is not None:
        ratios = [fixed(ratio.median), f"{fixed(ratio.low)} to {fixed(ratio.high)}"]
    times = [number(step_ms.median, 4), f"{number(step_ms.low, 4)} to {number(step_ms.high, 4)}"]
    return [result.network, result.mode, *times, *ratios, compiled]


def terminal(summary: OverheadSummary) -> str:
    """Returns the table as aligned text; failures and notes last."""
    failed = [f"failed: {failure}" for failure in failures(summary.rows)]
    return blocks(aligned(_HEADER, map(cells, summary.rows)), *failed, notes=summary.notes)


def _sections(summary: OverheadSummary, drawn: Mapping[str, Figure]) -> tuple[list[str], list[str]]:
    """Returns the page's HTML: what stands above its table of contents, and what under it."""
    device = summary.device
    first = [
        page.paragraph(
            f"{device.count} x {device.kind} ({device.platform}), {device.cpu_cores} CPU cores."
        ),
        *(html.figure(name, figure, _CAPTIONS[name]) for name, figure in drawn.items()),
        html.notes(summary.notes),
    ]
    sections = [
        page.titled("Times", html.table(_HEADER, map(cells, summary.rows))),
        page.titled("Not timed", page.bullets(failures(summary.rows))),
        page.titled("Modes", html.key_values(summary.modes.items())),
        page.all_numbers(summary),
    ]
    return first, sections
