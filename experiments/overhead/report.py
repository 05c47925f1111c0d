"""What modes cost, as JSON, CSV, figures and one HTML page."""

import csv
import importlib.metadata
import importlib.util
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from seedmap.errors import UserError
from seedmap.experiments.overhead.figures import plot_kernels, plot_overhead
from seedmap.experiments.overhead.measuring import Settings, Trial
from seedmap.experiments.overhead.modes import Mode, note_of
from seedmap.experiments.overhead.networks import CIFAR_SIZE
from seedmap.experiments.overhead.results import Result, cells, failures, header
from seedmap.experiments.report import comparison as compare_report
from seedmap.experiments.report import html
from seedmap.experiments.runs import folder as run_folder
from seedmap.hmm import figures

JSON, CSV, HTML = "overhead.json", "overhead.csv", "overhead.html"
FILES = (JSON, CSV, HTML)
OWN = {*FILES, *(f"{name}.part" for name in FILES), run_folder.FIGURES}


def check_out(folder: Path, overwrite: bool) -> None:
    """Checks that a measurement may be written to a folder; changes nothing.

    Raises:
        UserError: it is a file, cannot be written to, holds a measurement and `overwrite` is
            false, or holds something that is not a measurement's.
    """
    compare_report.check_out(folder, JSON, OWN, "a measurement")
    if (folder / JSON).exists() and not overwrite:
        raise UserError(
            f"--out: {folder} holds another measurement; name another folder, or add --overwrite "
            "to replace it"
        )


def content_of(
    device: Mapping[str, Any],
    settings: Settings,
    modes: Sequence[Mode],
    trials: Sequence[Trial],
    results: Sequence[Result],
) -> dict[str, Any]:
    """What `overhead.json` holds."""
    names = ("steps", "batch_size", "rounds", "seeds", "image_size")
    return {
        "device": dict(device),
        "versions": _versions(),
        "git_commit": run_folder.git_commit(),
        "settings": {name: getattr(settings, name) for name in names},
        "modes": {mode.name: mode.about for mode in modes},
        "trials": [vars(trial) for trial in trials],
        "notes": _notes(settings, modes, results) + _unfinished(trials, results),
        "rows": [result.as_dict() for result in results],
    }


def _versions() -> dict[str, str]:
    names = [*run_folder.VERSIONED, *(["keras"] if importlib.util.find_spec("keras") else [])]
    return {name: importlib.metadata.version(name) for name in names}


def _notes(settings: Settings, modes: Sequence[Mode], results: Sequence[Result]) -> list[str]:
    """What a reader must know, most important first."""
    notes = [
        f"Times are of {settings.steps} training steps (Adam, cross-entropy) at batch size "
        f"{settings.batch_size} on one batch of random images, which stays on the device, over "
        f"{settings.rounds} rounds in which the modes take turns; compilation and warm-up are "
        "apart."
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
    timings = [result.timing for result in results]
    if any(t.network == "resnet18" and t.image_size != CIFAR_SIZE for t in timings):
        notes.append(
            "resnet18 is the one for CIFAR (3x3 stem, no pooling after it) at every image size; "
            "the ImageNet network of that name does far less work at 224x224."
        )
    if any(t.turns == "started anew each round" for t in timings):
        notes.append(
            "Where the processes of a network did not fit the device together, each was started "
            "anew, and warmed up again, every round."
        )
    return notes


def _unfinished(trials: Sequence[Trial], results: Sequence[Result]) -> list[str]:
    """Says which networks a measurement that was stopped has not come to."""
    done = {result.timing.network for result in results}
    left = [trial.network for trial in trials if trial.network not in done]
    return [f"Not measured when this was written: {', '.join(left)}."] * bool(left)


def write_measurement(folder: Path, content: Mapping[str, Any], results: Sequence[Result]) -> Path:
    """Writes `overhead.json`, `overhead.csv`, the figures and `overhead.html`; returns its path.

    Args:
        folder: made if need be; an earlier measurement in it is replaced.
        content: of `content_of`.
        results: the same rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.clear(folder, OWN - {JSON})  # which marks the folder as ours, and is replaced
    run_folder.write_json(folder / JSON, content)
    _write_csv(folder / CSV, results)
    drawn = make_figures(results)
    for name, figure in drawn.items():
        figures.save(figure, folder / run_folder.FIGURES / f"{name}.png")
    return html.write_page(folder / HTML, "What modes cost", _parts(content, results, drawn))


def _write_csv(path: Path, results: Sequence[Result]) -> None:
    rows = [result.flat() for result in results]
    draft = path.with_name(path.name + ".part")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(draft, path)


def make_figures(results: Sequence[Result]) -> dict[str, Figure]:
    """The figures, by name."""
    drawn = {"overhead": plot_overhead(results), "kernels": plot_kernels(results)}
    return {name: figure for name, figure in drawn.items() if figure is not None}


_CAPTIONS = {
    "overhead": (
        "Time of the same training steps over that under the default mode, seed for seed: bars "
        "begin at 1, to the right is slower. Whiskers are the intervals of the medians."
    ),
    "kernels": "The six-layer network by the size of its kernels, under each mode.",
}


def _parts(
    content: Mapping[str, Any], results: Sequence[Result], drawn: Mapping[str, Figure]
) -> list[str]:
    """The page's HTML."""
    device = content["device"]
    where = f"{device['count']} x {device['kind']} ({device['platform']})"
    failed = "".join(f"<li>{escape(said)}</li>" for said in failures(results))
    images = [
        html.figure(name, html.image_source(name, figure), _CAPTIONS[name])
        for name, figure in drawn.items()
    ]
    numbers = run_folder.json_ready(dict(content))
    return [
        f"<p>{escape(where)}, {device['cpu_cores']} CPU cores.</p>",
        html.notes(content["notes"]),
        *images,
        html.table(header(), map(cells, results)),
        f"<h2>Not timed</h2>\n<ul>{failed}</ul>" if failed else "",
        "<h2>Modes</h2>",
        html.key_values(content["modes"].items()),
        html.details("All numbers", html.key_values(html.flatten(numbers))),
    ]
