"""Finds the runs and steps that a pattern such as "ckpts/seed_{run}/step_{step}" means on disk."""

import glob
import re
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from seedmap.errors import UserError
from seedmap.hmm.readers.names import listed, natural

_NUMBER, _SCALE = r"\d+(?:\.\d+)?", "[kKmM]?"
_TOKENS = re.compile(r"(\{run\}|\{step\}|\*\*/?|\*|\?)")
_AS_REGEX = {"*": "[^/]*", "?": "[^/]", "**/": "(?:.*/)?", "**": ".*"}
_SCALES = {"k": 1000, "m": 1_000_000}
_HOW = (
    "write {run} and {step} where their names stand, as in 'ckpts/seed_{run}/step_{step}' or "
    "'multiberts-seed_{run}-step_{step}'"
)


class Entry(NamedTuple):
    """A checkpoint on disk.

    Attributes:
        run: name of its run.
        step: optimisation steps.
        path: its file or folder.
    """

    run: str
    step: int
    path: Path


def parse_step(text: str) -> int:
    """Parses a step as names on the hub have it: "512", "20k" (20 000), "2000k", "1.5M".

    Raises:
        UserError: it is no whole number of steps.
    """
    match = re.fullmatch(f"({_NUMBER})({_SCALE})", text.strip())
    steps = Decimal(match[1]) * _SCALES.get(match[2].lower(), 1) if match else None
    if steps is None or steps != int(steps):
        raise UserError(f"step {text!r} is not a whole number; write 512, 20k or 1.5M")
    return int(steps)


def as_regex(pattern: str) -> re.Pattern:
    """Returns what matches the names that a pattern means, with groups `run` and `step`."""
    seen: set[str] = set()

    def piece(token: str) -> str:
        if token in ("{run}", "{step}"):
            name = token[1:-1]
            if name in seen:
                return f"(?P={name})"
            seen.add(name)
            return f"(?P<{name}>{_NUMBER + _SCALE if name == 'step' else '[^/]+?'})"
        return _AS_REGEX.get(token) or re.escape(token)

    return re.compile("".join(piece(token) for token in _TOKENS.split(pattern) if token))


def _as_glob(token: str) -> str:
    if token in ("{run}", "{step}"):
        return "*"
    return token if token in _AS_REGEX else glob.escape(token)


def find_checkpoints(pattern: str) -> list[Entry]:
    """Finds the checkpoints that a pattern means, by run and step.

    Args:
        pattern: a path with {run} and {step}, and with *, ? and ** as in the shell. A placeholder
            that occurs twice has one name.

    Returns:
        Runs in natural order of their names (seed2 before seed10), steps ascending.

    Raises:
        UserError: a placeholder is missing, no checkpoint matches, or a step of a run comes twice.

    Of a cache of the hub, a pattern of references ('.../refs/step{step}') or of its folders means
    the snapshots that they name.
    """
    pattern = pattern.rstrip("/")
    lacking = [name for name in ("{run}", "{step}") if name not in pattern]
    if lacking:
        raise UserError(f"pattern {pattern!r} has no {' and no '.join(lacking)}; {_HOW}")
    wild = "".join(_as_glob(token) for token in _TOKENS.split(pattern))
    regex = as_regex(pattern)
    paths = sorted(path.rstrip("/") for path in glob.glob(wild, recursive=True))
    named = [(match, path) for path in paths if (match := regex.fullmatch(path))]
    if not named:
        near = f"; found {listed(Path(path).name for path in paths)} there" if paths else ""
        raise UserError(f"no checkpoint is at {pattern!r}{near}; {_HOW}, the step a number")
    entries = [
        Entry(match["run"], parse_step(match["step"]), _snapshot(Path(path)))
        for match, path in named
    ]
    return in_order(entries)


def in_order(entries: list[Entry]) -> list[Entry]:
    """Returns checkpoints in natural order of their runs, steps ascending.

    Raises:
        UserError: a step of a run comes twice.
    """
    ordered = sorted(entries, key=lambda entry: (natural(entry.run), entry.step))
    for entry, other in pairwise(ordered):
        if entry[:2] == other[:2]:
            raise UserError(
                f"step {entry.step} of run {entry.run!r} is both {entry.path} and {other.path}; "
                "remove one, or narrow the pattern"
            )
    return ordered


def _snapshot(path: Path) -> Path:
    """Returns the snapshot that a reference, or a model's folder, of a hub's cache means.

    Raises:
        UserError: it means none, or one of several.
    """
    if path.is_file() and "refs" in path.parent.parts:
        model = next(parent for parent in path.parents if parent.name == "refs").parent
        if (model / "snapshots").is_dir():
            return model / "snapshots" / path.read_text().strip()
    if not (path / "snapshots").is_dir():
        return path
    if (path / "refs" / "main").is_file():
        return _snapshot(path / "refs" / "main")
    snapshots = sorted((path / "snapshots").iterdir())
    if len(snapshots) != 1:
        raise UserError(
            f"{path} holds {len(snapshots)} snapshots and no refs/main; name one by its reference, "
            "as in '.../refs/step{step}'"
        )
    return snapshots[0]


def steps_by_run(entries: list[Entry]) -> dict[str, list[int]]:
    """Lists the steps of every run, ascending."""
    steps: dict[str, list[int]] = {}
    for entry in entries:
        steps.setdefault(entry.run, []).append(entry.step)
    return steps
