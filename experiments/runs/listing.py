"""The runs in a folder, at a glance: what `seedmap ls` shows.

Only JSON is read, and only what is asked: a file that is damaged leaves its fields empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedmap import limits
from seedmap.errors import UserError
from seedmap.experiments.runs.names import CONFIG, METRICS, NOISE, REPORT, SUMMARY, TRAINING

_STEPS = ((REPORT, "reported"), (SUMMARY, "mapped"), (NOISE, "measured"), (METRICS, "trained"))


@dataclass(frozen=True)
class ListedRun:
    """A run folder.

    Attributes:
        folder: its path.
        experiment: what was trained, or what the runs were imported from; None where unknown.
        started: when, as `config.json` has it; None where unknown.
        step: the last that was done: "training" (not complete), "trained", "mapped", "measured"
            (a study of noise) or "reported".
        seeds: how many; None before the map.
        converged: how many of them; None before the map, and where convergence is not recorded.
        states: of the map; None before it.
        headline: what is said of forks; None before the map.
    """

    folder: str
    experiment: str | None
    started: str | None
    step: str
    seeds: int | None
    converged: int | None
    states: int | None
    headline: str | None


def list_runs(folder: Path) -> list[ListedRun]:
    """Lists the runs in a folder, and the folder itself where it is one; by name."""
    folders = [path for path in (folder, *sorted(folder.iterdir())) if _is_run(path)]
    return [_listed(path) for path in folders]


def _is_run(path: Path) -> bool:
    return any((path / name).exists() for name in (METRICS, TRAINING)) and path.is_dir()


def _listed(path: Path) -> ListedRun:
    config, summary = _content(path / CONFIG), _content(path / SUMMARY)
    convergence = summary.get("convergence")
    criterion = isinstance(convergence, dict) and convergence.get("criterion")
    done = [step for name, step in _STEPS if (path / name).is_file()]
    return ListedRun(
        folder=str(path),
        experiment=config.get("experiment"),
        started=config.get("started"),
        step=done[0] if done else "training",
        seeds=summary.get("num_seeds"),
        converged=summary.get("num_converged") or (0 if criterion else None),
        states=summary.get("num_states"),
        headline=summary.get("headline"),
    )


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = limits.read_json(path)
    except (OSError, UserError):
        return {}
    return content if isinstance(content, dict) else {}
