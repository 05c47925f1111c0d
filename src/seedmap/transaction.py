"""Results that replace those in a folder all at once.

with claim(folder, "fit"):                       # one command at a time
    ...                                          # everything is read and computed
    with transaction(folder, replaces) as draft:
        ...                                      # everything is written
                                                 # here it is moved in

    DIR/.seedmap/lock            who writes here (`seedmap.lock`)
                 draft/          what is written
                 journal.json    there while it is moved in: what comes, what goes
                 former/         what went

Stopped before the journal is on disk, the former results are whole; stopped after, the next command
that reads or writes the folder moves the rest in. The moving is a few renames.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from seedmap import files, limits, timings
from seedmap.errors import UserError
from seedmap.lock import SERVICE, InUseError, lock

_DRAFT, _FORMER, _JOURNAL = "draft", "former", "journal.json"
_PATIENCE = 5.0  # seconds that a reader waits for what takes a command milliseconds


class _Journal(NamedTuple):
    """Names in the folder, or in a folder in it.

    Attributes:
        comes: what is moved in from the draft.
        goes: what is moved out.
        made: what is moved in from another folder in it: FOLDER/NAME, or FOLDER/NAME/NAME.
    """

    comes: list[str]
    goes: list[str]
    made: Sequence[str] = ()  # journals of former versions have none

    def arrivals(self) -> list[tuple[str, str]]:
        """Lists what is moved in: where it is, and its name to be."""
        from_draft = [(f"{SERVICE}/{_DRAFT}/{name}", name) for name in self.comes]
        return from_draft + [(path, path.partition("/")[2]) for path in self.made]


@contextmanager
def claim(folder: Path, command: str, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds a folder's lock, with what a kill left there settled.

    Args:
        folder: where to write; made if need be, and removed again if it stays empty.
        command: that writes, for whoever is refused.
        check: refuses the folder; called before anything is touched there, and again once no other
            command can change it.

    Raises:
        InUseError: another command writes there.
        UserError: the folder cannot be written to.
    """
    check()
    with lock(folder, command):
        settle(folder)
        check()
        yield


@contextmanager
def transaction(
    folder: Path, replaces: Collection[str], command: str, made: str | None = None
) -> Iterator[Path]:
    """Gives a draft folder to write to; what it holds is moved into `folder` after the block.

    A folder in the draft is added to one of its name, unless that is to be replaced. If the block
    fails, everything stays as it was.

    Args:
        folder: made if need be.
        replaces: names of what is removed from it.
        command: as of `claim`.
        made: a folder in it, too dear to be written as a draft, that is moved in as well: its
            entries, but for those that the draft has too, and it is removed.

    Raises:
        UserError: as `claim`, or a file is where a folder has to be.
        OSError: it cannot be written; the error names the file.
    """
    with claim(folder, command):
        draft = folder / SERVICE / _DRAFT
        try:
            files.make_folder(draft)
            yield draft
            journal = _plan(folder, replaces, made)
            files.bring_to_disk(draft)
            if made is not None:
                files.bring_to_disk(folder / made)
            files.write_json(folder / SERVICE / _JOURNAL, journal._asdict())
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell of
                settle(folder)
            raise
        settle(folder)
        timings.wrote(folder)


def _plan(folder: Path, replaces: Collection[str], made: str | None) -> _Journal:
    """Lists what comes and what goes."""
    comes = _arriving(folder, folder / SERVICE / _DRAFT, replaces)
    others = [] if made is None else _arriving(folder, folder / made, replaces, without=comes)
    arriving, emptied = {*comes, *others}, set() if made is None else {made}
    taken = [folder / name for name in sorted({*replaces, *arriving, *emptied})]
    goes = [path for each in taken for path in (each, *files.drafts_left(each))]
    names = [path.relative_to(folder).as_posix() for path in goes if os.path.lexists(path)]
    return _Journal(
        comes,
        [name for name in names if name not in arriving],
        [f"{made}/{name}" for name in others],
    )


def _arriving(
    folder: Path, source: Path, replaces: Collection[str], without: Collection[str] = ()
) -> list[str]:
    """Lists the names under which what is in a folder is moved in."""
    names = []
    for entry in sorted(source.iterdir()):
        standing = folder / entry.name
        if entry.is_dir() and entry.name not in replaces and os.path.lexists(standing):
            if standing.is_symlink() or not standing.is_dir():
                raise UserError(f"{standing} is no folder, but is to be one; move it away")
            names += [f"{entry.name}/{inner.name}" for inner in sorted(entry.iterdir())]
        else:
            names.append(entry.name)
    return [name for name in names if name not in without]


def settle(folder: Path) -> None:
    """Ends what a command that was stopped began: moves it in, or removes its draft.

    Whoever calls it holds the folder's lock.

    Raises:
        UserError: the journal is damaged.
        OSError: something cannot be moved; the error names it.
    """
    service = folder / SERVICE
    if (service / _JOURNAL).is_file():
        _move_in(folder, _read_journal(service / _JOURNAL))
        files.remove(service / _JOURNAL)
    for name in (_DRAFT, _FORMER, files.draft_of(service / _JOURNAL).name):
        if os.path.lexists(service / name):
            files.remove(service / name)


def settled(folder: Path) -> None:
    """Waits, for a reader, until nothing is being moved into a folder; ends it if nobody else does.

    Raises:
        UserError: a command was stopped in the moving, and the folder cannot be written to.
        InUseError: a command moves, and does not come to its end.
    """
    until = time.monotonic() + _PATIENCE
    while (folder / SERVICE / _JOURNAL).is_file():
        try:
            with lock(folder, "a reader"):
                settle(folder)
        except InUseError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def _move_in(folder: Path, journal: _Journal) -> None:
    """Moves out what goes and in what comes; done in part before, it does the rest."""
    service = folder / SERVICE
    files.make_folder(service / _FORMER)
    departures = [(None, name) for name in journal.goes]
    for number, (source, name) in enumerate((*journal.arrivals(), *departures)):
        standing = folder / name
        if source is not None and not os.path.lexists(folder / source):
            continue  # it came before
        if os.path.lexists(standing):
            files.move(standing, service / _FORMER / str(number))
        if source is not None:
            files.move(folder / source, standing)


def _read_journal(path: Path) -> _Journal:
    """Reads a journal, none of whose names leads out of the folder.

    Raises:
        UserError: it is damaged.
    """
    folder = path.parents[1]
    try:
        journal = _Journal(**limits.read_json(path))
        if all(isinstance(names, list | tuple) for names in journal) and _stays_in(folder, journal):
            return journal
    except (ValueError, TypeError):
        pass
    raise UserError(f"{path} is damaged; remove {path.parent}, and make the results anew")


def _stays_in(folder: Path, journal: _Journal) -> bool:
    """Tells whether no name in a journal leads out of the folder."""
    if not all(isinstance(name, str) for names in journal for name in names):
        return False
    targets = [name for _, name in journal.arrivals()]
    return all(_is_in(folder, name) for name in (*targets, *journal.goes)) and all(
        _is_in(folder, path, most=3) for path in journal.made
    )


def _is_in(folder: Path, name: str, most: int = 2) -> bool:
    """Tells whether a name is of an entry of the folder, or of a folder in it, `most` deep."""
    parts = PurePosixPath(name).parts
    inner = [entry for entry in parts if entry not in ("/", "..", SERVICE)]
    parents = [folder.joinpath(*parts[:depth]) for depth in range(1, len(parts))]
    return 0 < len(parts) == len(inner) <= most and not any(p.is_symlink() for p in parents)
