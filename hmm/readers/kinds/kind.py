"""What a kind of logs is, and how files of several runs are named."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from seedmap.hmm.readers.files import stem_of
from seedmap.hmm.readers.log import Log


class Kind(NamedTuple):
    """A kind of logs.

    Attributes:
        name: what it is chosen by.
        summary: one line for help.
        find: from the path that was given and all files there, to those of this kind.
        read: from the path and these files to what they hold.
    """

    name: str
    summary: str
    find: Callable[[Path, Sequence[Path]], list[Path]]
    read: Callable[[Path, Sequence[Path]], list[Log]]


def run_names(root: Path, files: Sequence[Path], end: str | None = None) -> list[str]:
    """Names runs by what tells their files apart: folders, stems, or both.

    Args:
        root: the folder that was given.
        files: one of each run.
        end: name that all files have, and that is no part of the name.

    Example:
        >>> root = Path("logs")
        >>> run_names(root, [root / f"s{i}" / "version_0" / "metrics.csv" for i in range(2)])
        ['s0', 's1']
        >>> run_names(root, [root / "3.csv", root / "4.csv"])
        ['3', '4']
    """
    paths = [list(path.relative_to(root).parts[:-1]) for path in files]
    if end is None and (len({path.name for path in files}) > 1 or not any(paths)):
        paths = [[*of, stem_of(path)] for of, path in zip(paths, files, strict=True)]
    if len(files) > 1:
        while all(paths) and len({of[0] for of in paths}) == 1:
            paths = [of[1:] for of in paths]
        while all(paths) and len({of[-1] for of in paths}) == 1:
            paths = [of[:-1] for of in paths]
        if len({len(of) for of in paths}) == 1:
            differing = [i for i in range(len(paths[0])) if len({of[i] for of in paths}) > 1]
            paths = [[of[i] for i in differing] for of in paths]
    return ["/".join(of) or root.name for of in paths]
