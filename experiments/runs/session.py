"""A run folder being filled, in one session or several: claimed, begun, resumed.

    DIR/training/config.json    what a training was begun with, compared when it is resumed
                 import.json    the same of an import of checkpoints

A run that is replaced stays whole until the new one is moved in (`seedmap.transaction`); what a
command leaves that is stopped is known, and the same command resumes or replaces it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.folder import CONFIG, METRICS, OWN, TRAINING
from seedmap.transaction import claim, transaction

# What each kind of work leaves in `training/`.
_KINDS = {"a training": ("config.json*", "part-*"), "an import": ("import.json*",)}


@dataclass(frozen=True)
class Work:
    """Work in a run folder, done in one session or several.

    Attributes:
        kind: "a training" or "an import".
        command: that makes it, for messages.
        record: name of the file in `training/` that says what was begun.
        content: of that file.
        progress: pattern of files in `training/` once there is something to resume.
        check_config: compares a complete run, given its folder and `config.json`, with this work;
            raises UserError where they differ.
        check_record: compares what was begun the same way, given the folder and the record.
        fields: that `check_config` needs.
    """

    kind: str
    command: str
    record: str
    content: dict[str, Any]
    progress: str
    check_config: Callable[[Path, dict[str, Any]], None]
    check_record: Callable[[Path, dict[str, Any]], None]
    fields: tuple[str, ...]


def is_complete(folder: Path, work: Work) -> bool:
    """Tells whether the run in the folder is the one asked for, and done.

    Raises:
        UserError: it is done, but with other settings.
    """
    if (folder / TRAINING).exists() or not (folder / METRICS).exists():
        return False
    work.check_config(folder, run_folder.read_json(folder, CONFIG, work.command, work.fields))
    return True


def check_kind(folder: Path, work: Work) -> None:
    """Refuses to go on where another kind of work was cut short: it would be lost.

    Raises:
        UserError: another kind was.
    """
    for kind, patterns in _KINDS.items():
        if kind != work.kind and any(any((folder / TRAINING).glob(name)) for name in patterns):
            raise UserError(
                f"--resume: {folder} holds {kind} cut short, not {work.kind}; name another folder"
            )


def check(folder: Path, work: Work, overwrite: bool, resume: bool) -> None:
    """Checks that the work may be done in a folder; changes nothing.

    Raises:
        UserError: as `folder.check_free` and `check_kind`.
    """
    run_folder.check_free(folder, overwrite or resume)
    if resume:
        check_kind(folder, work)


def claimed(folder: Path, command: str, overwrite: bool) -> AbstractContextManager[None]:
    """Claims a folder for a run, of which the block reads and computes everything.

    Raises:
        UserError: as `transaction.claim` and `folder.check_free`.
    """
    return claim(folder, command, lambda: run_folder.check_free(folder, overwrite))


def begin(folder: Path, work: Work, resume: bool) -> None:
    """Makes `training/` with the record of what is begun, or checks that it is the same.

    Raises:
        UserError: what was begun there has other settings, or has lost its record.
    """
    training = folder / TRAINING
    if not resume:
        files.clear(folder, (TRAINING,))
    files.make_folder(training)
    if any(training.glob(work.progress)):
        work.check_record(folder, run_folder.read_json(training, work.record, work.command))
    else:
        files.write_json(training / work.record, work.content)


def in_place(folder: Path, command: str) -> AbstractContextManager[None]:
    """Claims the run in a folder, which the block reads and adds to.

    Raises:
        UserError: as `transaction.claim` and `folder.check_there`.
    """
    return claim(folder, command, lambda: run_folder.check_there(folder))


@contextmanager
def begun(folder: Path, work: Work, resume: bool) -> Iterator[None]:
    """Begins or resumes the work in a folder that is claimed, while the body does it.

    If the body fails before it has come to a save point, nothing of the work is left.

    Raises:
        UserError: as `begin`.
    """
    try:
        begin(folder, work, resume)
        yield
    except BaseException:
        if not run_folder.can_resume(folder):
            files.clear(folder, (TRAINING,))
        raise


def collected(folder: Path, command: str) -> AbstractContextManager[Path]:
    """Gives a draft to write a run to, which replaces all that is in the folder."""
    return transaction(folder, OWN, command)
