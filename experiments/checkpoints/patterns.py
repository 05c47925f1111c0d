"""Which runs and steps a pattern such as "ckpts/seed_{run}/step_{step}" finds on disk."""

import glob
import re
import warnings
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from seedmap.errors import UserError
from seedmap.hmm.readers.run_table import listed, natural

_NUMBER, _SCALE = r"\d+(?:\.\d+)?", "[kKmM]?"
_TOKENS = re.compile(r"(\{run\}|\{step\}|\*\*/?|\*|\?)")
_AS_REGEX = {"*": "[^/]*", "?": "[^/]", "**/": "(?:.*/)?", "**": ".*"}
_SCALES = {"k": 1000, "m": 1_000_000}
_HOW = (
    "write {run} and {step} where their names stand, as in 'ckpts/seed_{run}/step_{step}' or "
    "'multiberts-seed_{run}-step_{step}'"
)


class Found(NamedTuple):
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
    """A step as names on the hub have it: "512", "20k" (20 000), "2000k", "1.5M".

    Raises:
        UserError: it is no whole number of steps.
    """
    found = re.fullmatch(f"({_NUMBER})({_SCALE})", text.strip())
    steps = Decimal(found[1]) * _SCALES.get(found[2].lower(), 1) if found else None
    if steps is None or steps != int(steps):
        raise UserError(f"step {text!r} is not a whole number; write 512, 20k or 1.5M")
    return int(steps)


def _regex(pattern: str) -> re.Pattern:
    """Matches the paths that a pattern means, with groups `run` and `step`."""
    seen: set[str] = set()

    def one(token: str) -> str:
        if token in ("{run}", "{step}"):
            name = token[1:-1]
            if name in seen:
                return f"(?P={name})"
            seen.add(name)
            return f"(?P<{name}>{_NUMBER + _SCALE if name == 'step' else '[^/]+?'})"
        return _AS_REGEX.get(token) or re.escape(token)

    return re.compile("".join(one(token) for token in _TOKENS.split(pattern) if token))


def _as_glob(token: str) -> str:
    if token in ("{run}", "{step}"):
        return "*"
    return token if token in _AS_REGEX else glob.escape(token)


def find_checkpoints(pattern: str) -> list[Found]:
    """The checkpoints that a pattern finds, by run and step.

    Args:
        pattern: a path with {run} and {step}, and with *, ? and ** as in the shell. A place holder
            that comes twice stands for the same name.

    Returns:
        Runs in natural order of their names (seed2 before seed10), steps ascending.

    Raises:
        UserError: a place holder is missing, nothing is found, or a step of a run comes twice.

    Warns:
        UserWarning: names the runs that lack steps which others have.
    """
    pattern = pattern.rstrip("/")
    lacking = [name for name in ("{run}", "{step}") if name not in pattern]
    if lacking:
        raise UserError(f"pattern {pattern!r} has no {' and no '.join(lacking)}; {_HOW}")
    wild = "".join(_as_glob(token) for token in _TOKENS.split(pattern))
    regex = _regex(pattern)
    paths = sorted(path.rstrip("/") for path in glob.glob(wild, recursive=True))
    named = [(match, path) for path in paths if (match := regex.fullmatch(path))]
    if not named:
        near = f"; found {listed(Path(path).name for path in paths)} there" if paths else ""
        raise UserError(f"no checkpoint is at {pattern!r}{near}; {_HOW}, the step a number")
    found = [Found(match["run"], parse_step(match["step"]), Path(path)) for match, path in named]
    found.sort(key=lambda one: (natural(one.run), one.step))
    for one, other in pairwise(found):
        if one[:2] == other[:2]:
            raise UserError(
                f"step {one.step} of run {one.run!r} is both {one.path} and {other.path}; remove "
                "one, or narrow the pattern"
            )
    _warn_of_gaps(found)
    return found


def steps_by_run(found: list[Found]) -> dict[str, list[int]]:
    """Steps of every run, ascending."""
    steps: dict[str, list[int]] = {}
    for one in found:
        steps.setdefault(one.run, []).append(one.step)
    return steps


def _warn_of_gaps(found: list[Found]) -> None:
    steps = steps_by_run(found)
    every = sorted({one.step for one in found})
    gaps = {run: [s for s in every if s < own[-1] and s not in own] for run, own in steps.items()}
    said = [f"{run!r} lacks {', '.join(map(str, gap[:5]))}" for run, gap in gaps.items() if gap]
    if said:
        more = "; ..." if len(said) > 5 else ""
        warnings.warn(
            f"runs lack steps that others have, so that checkpoints are counted 1, 2, ... instead: "
            f"{'; '.join(said[:5])}{more}",
            stacklevel=3,
        )
