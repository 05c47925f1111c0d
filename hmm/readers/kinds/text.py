"""Lines that loops print, such as nanoGPT's `step 250: train loss 1.96, val loss 2.09`."""

import re
from collections.abc import Sequence
from pathlib import Path

from seedmap.errors import UserError
from seedmap.hmm.readers.files import frame_of, head, read_text, suffix_of
from seedmap.hmm.readers.kinds.kind import Kind, run_names
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.names import natural

_SUFFIXES = (".log", ".txt", ".out")
_LINE = re.compile(
    r"\s*(?:\[[^\]]*\]\s*)?(step|iter|iteration|epoch)[ :=]+(\d+)(?:/\d+)?\s*[:,|;]?\s+(\S.*)", re.I
)
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+|nan|inf)"
_PAIR = re.compile(rf"([a-z_][\w/ .-]*?)\s*[:= ]\s*({_NUMBER})(?:ms|s|%|k|m)?(?=[\s,;|)]|$)", re.I)
_FEWEST = 2  # lines by which a file is known


def _find(root: Path, files: Sequence[Path]) -> list[Path]:
    return [path for path in files if suffix_of(path) in _SUFFIXES and _is_log(path)]


def _is_log(path: Path) -> bool:
    matches = (line for line in head(path).splitlines() if _record(line) is not None)
    return len([line for line, _ in zip(matches, range(_FEWEST), strict=False)]) == _FEWEST


def _record(line: str) -> tuple[str, dict[str, float]] | None:
    """What a line counts in, and its numbers; None where it is another line."""
    match = _LINE.match(line)
    pairs = _PAIR.findall(match[3]) if match else []
    if match is None or not pairs:
        return None
    unit = "epoch" if match[1].lower() == "epoch" else "step"
    return unit, {unit: float(match[2])} | {name.strip(): float(cell) for name, cell in pairs}


def _read(root: Path, files: Sequence[Path]) -> list[Log]:
    names = [root.stem] if root.is_file() else run_names(root, files)
    logs = [_log(path, name) for path, name in zip(files, names, strict=True)]
    return sorted(logs, key=lambda log: natural(log.run or ""))


def _log(path: Path, run: str) -> Log:
    records = [
        (number, record)
        for number, line in enumerate(read_text(path).splitlines(), 1)
        if (record := _record(line)) is not None
    ]
    if not records:
        raise UserError(f"{path} has no line such as 'step 250: train loss 1.96'; name another")
    units = {unit for _, (unit, _) in records}
    unit = "step" if "step" in units else "epoch"
    kept = [(number, cells) for number, (of, cells) in records if of == unit]
    return Log(frame_of([cells for _, cells in kept], [n for n, _ in kept]), str(path), run)


TEXT = Kind("text", "printed lines: nanoGPT's 'step 250: train loss 1.96'", _find, _read)
