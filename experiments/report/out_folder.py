"""Files that commands with --out DIR write beside their page: checks, CSV, figures."""

import csv
import io
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder
from seedmap.files import without_draft, write_text
from seedmap.hmm import figures as hmm_figures
from seedmap.lock import SERVICE
from seedmap.transaction import settled


def own_names(files: Sequence[str]) -> set[str]:
    """Returns the names of all that a command writes: its files and the figures."""
    return {*files, run_folder.FIGURES}


def check_out(folder: Path, marker: str, own: Collection[str], whose: str) -> None:
    """Checks that results may be written to a folder; changes nothing.

    Args:
        folder: where.
        marker: the file that says results of this kind stand there.
        own: names of all that is written; drafts of them, which a kill leaves, are known.
        whose: what writes there, for the message.

    Raises:
        UserError: it is a file, cannot be written to, or holds something that is not of this kind.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out: {folder} is a file; name a folder")
    settled(folder)
    standing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (standing.is_dir() and os.access(standing, os.W_OK | os.X_OK)):
        raise UserError(
            f"--out: cannot make {folder}, {standing} is no folder that may be written to; name "
            "another folder"
        )
    entries = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    # What has a name of ours may still be someone else's where nothing of this kind stands.
    known = {SERVICE, *(own if marker in entries else ())}
    foreign = [name for name in entries if without_draft(name) not in known]
    if foreign:
        raise UserError(
            f"--out: {folder} holds {foreign[0]}, which is not {whose}'s; name another folder"
        )


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of the same columns, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def save_figures(folder: Path, drawn: Mapping[str, Figure]) -> dict[str, Path]:
    """Writes `figures/NAME.png` for each figure; returns their paths by name.

    What stands where is settled with it: the page draws the same figures once more.
    """
    paths = {}
    for name, figure in drawn.items():
        paths[name] = hmm_figures.save(figure, folder / run_folder.FIGURES / f"{name}.png")
        figure.set_layout_engine("none")
    return paths
