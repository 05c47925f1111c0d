"""`seedmap show DIR` and `seedmap ls FOLDER`: what was found, again, and which runs there are."""

import json
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from seedmap import limits
from seedmap.errors import UserError
from seedmap.experiments.commands.folder_options import FolderOptions, check_is_folder
from seedmap.experiments.commands.parsing import UsageError, parse
from seedmap.experiments.runs import names


@dataclass(frozen=True)
class ShowOptions(FolderOptions):
    """Options of `seedmap show`."""

    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the results alone, as their JSON file has them."""
    open: tyro.conf.FlagCreatePairsOff[bool] = False
    """Open the page in a browser."""


@dataclass(frozen=True)
class ListOptions:
    """Options of `seedmap ls`."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")] = Path("runs")
    """Folder whose runs are listed."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the list as JSON."""


class _Kind(NamedTuple):
    """A kind of results.

    Attributes:
        page: name of its page.
        result: where its dataclass is.
        text: where the function is that writes it for a terminal.
        made_by: the command that makes it; of a run folder the folder follows.
    """

    page: str
    result: str
    text: str
    made_by: str


_REPORTS = "seedmap.experiments"
_KINDS = {  # by file; of a folder that has several the first
    "noise.json": _Kind(
        "report.html", "noise.results:StudySummary", "noise.report.page:terminal", "noise"
    ),
    "summary.json": _Kind(
        "report.html", "runs.summary:RunSummary", "report.run_text:summary_text", "map"
    ),
    "compare.json": _Kind(
        "compare.html", "runs.compare:Comparison", "report.comparison:terminal", "compare"
    ),
    "noise_compare.json": _Kind(
        "noise_compare.html",
        *("noise.compare:StudyComparison", "noise.report.compare:terminal", "noise compare"),
    ),
    "backend.json": _Kind(
        "backend.html",
        *("noise.backend.results:BackendSummary", "noise.report.backend:terminal"),
        "noise backend",
    ),
    "overhead.json": _Kind(
        "overhead.html",
        *("overhead.results:OverheadSummary", "overhead.report:terminal", "overhead"),
    ),
    "plan.json": _Kind("plan.html", "plan.results:Plan", "plan.summary:summary_text", "plan"),
}


def show_command(argv: Sequence[str]) -> None:
    """Runs `seedmap show DIR`."""
    options = parse(ShowOptions, "show", argv)
    if options.json and options.open:
        raise UsageError("--json and --open are two ways to look; choose one")
    folder = options.folder
    check_is_folder("show", folder)
    name = next((name for name in _KINDS if (folder / name).is_file()), None)
    if name is None:
        raise UserError(_without_results(folder))
    if options.json:
        limits.check_whole(folder / name)
        print((folder / name).read_text(encoding="utf-8"), end="")
    elif options.open:
        _open(folder, name)
    else:
        print(_text(folder, name))


def _without_results(folder: Path) -> str:
    """What to do about a folder without results."""
    if not (folder / names.METRICS).is_file():
        return f"{folder} has no results; `seedmap ls {folder}` lists the runs in it"
    made_by = "map" if (folder / names.HMM[0]).is_file() else "fit"
    return f"{folder} has no map yet; make it with `seedmap {made_by} {folder}`"


def _text(folder: Path, name: str) -> str:
    from seedmap.experiments.runs.read_result import read_result

    kind = _KINDS[name]
    made_by = _made_by(folder, name)
    return _named(kind.text)(read_result(_named(kind.result), folder, name, made_by))


def _made_by(folder: Path, name: str) -> str:
    command = _KINDS[name].made_by
    return f"{command} {folder}" if command == "map" else f"{command} ... --out {folder}"


def _named(path: str) -> Callable:
    module, _, name = path.partition(":")
    return getattr(import_module(f"{_REPORTS}.{module}"), name)


def _open(folder: Path, name: str) -> None:
    page = folder / _KINDS[name].page
    if not page.is_file():
        again = f"report {folder}" if name == "summary.json" else _made_by(folder, name)
        raise UserError(f"{folder} has no {page.name}; make it with `seedmap {again}`")
    print(f"Page: {page}")
    if not webbrowser.open(page.resolve().as_uri()):
        raise UserError(f"no browser could be started; open {page} yourself")


def list_command(argv: Sequence[str]) -> None:
    """Runs `seedmap ls FOLDER`."""
    options = parse(ListOptions, "ls", argv)
    check_is_folder("ls", options.folder)
    from seedmap.experiments.report.terminal import aligned
    from seedmap.experiments.runs.listing import ListedRun, list_runs

    runs = list_runs(options.folder)
    if options.json:
        print(json.dumps([asdict(run) for run in runs], indent=1))
        return
    if not runs:
        raise UserError(f"{options.folder} holds no runs; `seedmap run` makes them in runs/")

    def cells(run: ListedRun) -> list[str]:
        converged = "" if run.converged is None else f"{run.converged} of {run.seeds}"
        return [
            run.folder,
            run.experiment or "",
            (run.started or "")[:16].replace("T", " "),
            run.step,
            converged,
            "" if run.states is None else str(run.states),
            (run.headline or "").partition(" (")[0],  # without its power
        ]

    header = ("run", "experiment", "started", "step", "converged", "states", "branches")
    print(aligned(header, map(cells, runs)))
