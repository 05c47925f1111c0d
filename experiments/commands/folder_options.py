"""The options of commands on a run folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from seedmap.experiments.commands.parsing import UsageError


@dataclass(frozen=True)
class FolderOptions:
    """Options of a step on a run folder."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Run folder, as `seedmap train` makes it."""


def check_is_folder(command: str, path: Path) -> None:
    """Refuses a path that is no folder, and says what was probably meant.

    Args:
        command: the command's name, for the message.
        path: what it was given.

    Raises:
        UsageError: the path does not exist, or is a file.
    """
    if path.is_dir():
        return
    if not path.exists():
        raise UsageError(
            f"there is no folder {path}; name a run folder, as `seedmap train` makes it"
        )
    from seedmap.experiments.runs.folder import OWN

    if path.name in OWN:
        raise UsageError(
            f"{path} is a file of a run; name its folder: seedmap {command} {path.parent}"
        )
    if path.suffix.lower() in (".csv", ".jsonl", ".ndjson"):
        raise UsageError(
            f"{path} is a file; a folder with a CSV file a run is given as the folder "
            f"({path.parent}), and one file with all runs goes by `seedmap import metrics {path} "
            "--out DIR`"
        )
    raise UsageError(f"{path} is a file; name a run folder, as `seedmap train` makes it")


def check_is_run(command: str, folder: Path) -> None:
    """Refuses what is no run folder, and says what was probably meant.

    Raises:
        UsageError: it is not a folder, or holds no run; runs that lie in it are named.
    """
    from seedmap.experiments.runs.folder import METRICS

    check_is_folder(command, folder)
    if (folder / METRICS).is_file():
        return
    runs = sorted(path.parent for path in folder.glob(f"*/{METRICS}"))
    if runs:
        which = "holds a run" if len(runs) == 1 else f"holds {len(runs)} runs"
        raise UsageError(f"{folder} {which}; name one: seedmap {command} {runs[0]}")
