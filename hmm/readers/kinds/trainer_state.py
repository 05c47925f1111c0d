"""Hugging Face's `trainer_state.json`, in `run/` or in `run/checkpoint-N/`: the latest of a run."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seedmap import limits
from seedmap.errors import UserError
from seedmap.hmm.readers.files import frame_of
from seedmap.hmm.readers.kinds.kind import Kind, run_names
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.names import natural

_NAME = "trainer_state.json"


def _find(root: Path, files: Sequence[Path]) -> list[Path]:
    return [path for path in files if path.name == _NAME]


def _read(root: Path, files: Sequence[Path]) -> list[Log]:
    by_run: dict[Path, list[Path]] = {}
    for path in files:
        folder = path.parent
        in_checkpoint = re.fullmatch(r"checkpoint-\d+", folder.name) and folder != root
        by_run.setdefault(folder.parent if in_checkpoint else folder, []).append(path)
    base = root.parent if root.is_file() else root
    inside = [folder / _NAME for folder in by_run]
    names = run_names(base, inside) if all(base in path.parents for path in inside) else [root.name]
    logs = [_latest(name, paths) for name, paths in zip(names, by_run.values(), strict=True)]
    return sorted(logs, key=lambda log: natural(log.run or ""))


def _latest(run: str, paths: Sequence[Path]) -> Log:
    """The log of the state that has come furthest."""
    states = {path: _state(path) for path in paths}
    path = max(states, key=lambda path: (states[path].get("global_step", 0), -len(path.parts)))
    return Log(frame_of(states[path]["log_history"]), str(path), run, "entry")


def _state(path: Path) -> dict[str, Any]:
    try:
        state = limits.read_json(path)
    except UserError as error:
        raise UserError(f"{path} is not JSON ({error}); remove it, or copy it anew") from None
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise UserError(f"{path} has no list 'log_history'; remove it, or copy it anew")
    return state


TRAINER_STATE = Kind("trainer-state", "Hugging Face's trainer_state.json", _find, _read)
