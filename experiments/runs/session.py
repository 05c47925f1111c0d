"""A run folder being filled, in one session or several: claimed, begun, resumed, moved in.

    DIR/config.json             claims the folder, so that no other command takes it
        training/config.json    what a training was begun with, compared when it is resumed
                 import.json    the same of an import of checkpoints
                 collected/     the run's own files while they are written

A run that is replaced stays whole until the new one's files are all written; what a command leaves
that is stopped is known, and the same command resumes or replaces it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.folder import COLLECTED, CONFIG, METRICS, OWN, TRAINING

# What each kind of work leaves in `training/`.
_KINDS = {"a training": ("config.json*", "part-*"), "an import": ("import.json*",)}


@dataclass(frozen=True)
class Work:
    """Work in a run folder, done in one session or several.

    Attributes:
        kind: "a training" or "an import".
        command: that makes it, for messages.
        config: content of the run's `config.json`.
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
    config: dict[str, Any]
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


def claim(folder: Path, overwrite: bool, config: Mapping[str, Any], resume: bool = False) -> bool:
    """Makes a run folder with its `config.json`, unless it holds a run that may be resumed.

    Returns:
        Whether it was made here.

    Raises:
        UserError: as `folder.check_free`, or the folder cannot be made.
    """
    run_folder.check_free(folder, overwrite or resume)
    if not run_folder.is_empty(folder):
        return False
    try:
        files.make_folder(folder)
        files.write_json(folder / CONFIG, config)
    except OSError as error:
        raise UserError(f"--out: cannot write to {folder} ({error.strerror})") from None
    return True


@contextmanager
def claimed(
    folder: Path, overwrite: bool, config: Mapping[str, Any], resume: bool = False
) -> Iterator[None]:
    """Claims a folder for a run: it has its `config.json` while the body makes the rest.

    A run that is replaced stays whole until the body moves the new one in (`collected`). If the
    body fails, a folder made here is removed again, but for one with a save point to resume from.

    Raises:
        UserError: as `claim`.
    """
    fresh = claim(folder, overwrite, config, resume)
    try:
        yield
    except BaseException:
        if not run_folder.can_resume(folder):
            files.clear(folder, OWN if fresh else (TRAINING,))
            if fresh:
                folder.rmdir()
        raise


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


@contextmanager
def begun(folder: Path, work: Work, overwrite: bool, resume: bool) -> Iterator[None]:
    """Claims a folder and begins or resumes the work in it, while the body does it.

    Raises:
        UserError: as `check_kind`, `claim` and `begin`.
    """
    if resume:
        check_kind(folder, work)
    with claimed(folder, overwrite, work.config, resume):
        begin(folder, work, resume)
        yield


@contextmanager
def collected(folder: Path) -> Iterator[Path]:
    """Gives a folder to write the run's own files to; once all are there they are moved in.

    They replace the run that was there, and `training/` is removed. Stopped, it can be done again.
    """
    draft = folder / TRAINING / COLLECTED
    files.clear(draft.parent, (draft.name,))
    files.make_folder(draft)
    yield draft
    files.clear(folder, OWN - {TRAINING})
    for path in sorted(draft.iterdir()):
        files.move(path, folder / path.name)
    files.clear(folder, (TRAINING,))
