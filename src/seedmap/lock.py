"""A lock on a folder: one command writes there at a time.

with lock(folder, "fit"):
    ...                            # the same thread may take it again; another process is refused

It is flock(2)'s lock of `.seedmap/lock`, never waited for, and ends with its process however that
ends. The file says who holds it and is removed when the lock is let go; one that a kill has left
hinders nobody. Several processes that write one folder together share it, and each takes one for
its part besides.
"""

import errno
import fcntl
import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from seedmap import files, limits
from seedmap.errors import UserError

SERVICE = ".seedmap"
"""Folder in a folder of results, there while a command writes to it, and after one was killed."""
_LOCK = "lock"
_HAS_NONE = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

_held: ContextVar[frozenset[Path]] = ContextVar("_held", default=frozenset())


class InUseError(UserError):
    """Another command writes to the folder."""


@contextmanager
def lock(
    folder: Path, command: str, *, shared: bool = False, part: int | None = None
) -> Iterator[None]:
    """Holds the lock of a folder, which is made if need be and removed again if it stays empty.

    Args:
        folder: where to write.
        command: that writes, for whoever is refused.
        shared: whether others may hold it too, that share it as well.
        part: of several processes that share the folder; None: the folder's own lock.

    Raises:
        InUseError: another process, or thread, holds it; the message says which.
        UserError: the folder cannot be written to.

    Warns:
        UserWarning: the file system has no locks.
    """
    path = _path(folder, part)
    if path in _held.get():
        yield
        return
    held = take(folder, command, shared=shared, part=part)
    token = _held.set(_held.get() | {path})
    try:
        yield
    finally:
        _held.reset(token)
        let_go(held)


class Held(NamedTuple):
    """A lock that is held until `let_go`, or until the process ends.

    Attributes:
        descriptor: of its open file.
        path: of that file.
        made: folders that were made for it, the innermost first.
    """

    descriptor: int
    path: Path
    made: list[Path]


def take(folder: Path, command: str, *, shared: bool = False, part: int | None = None) -> Held:
    """Takes the lock of a folder for longer than a block; arguments and errors as of `lock`.

    It is refused to whoever holds it already, the same thread too.
    """
    made = [each for each in (folder, *folder.absolute().parents) if not os.path.lexists(each)]
    path = _path(folder, part)
    try:
        descriptor = _take(folder, path, shared)
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error.strerror})") from None
    _sign(descriptor, command)
    return Held(descriptor, path, made)


def let_go(held: Held) -> None:
    """Lets a lock go, and removes the folders that were made for it where they stayed empty."""
    try:
        _let_go(held.descriptor, held.path)
        for each in held.made:
            if not files.remove_empty(each):
                break
    finally:
        os.close(held.descriptor)


def _path(folder: Path, part: int | None) -> Path:
    return folder.resolve() / SERVICE / (_LOCK if part is None else f"{_LOCK}-{part}")


def _take(folder: Path, path: Path, shared: bool) -> int:
    """Opens and locks the file; returns its descriptor."""
    while True:
        if path.parent.is_symlink():
            raise UserError(f"{path.parent} is a link, which no command makes; remove it")
        try:
            files.make_folder(path.parent)
        except FileExistsError:
            if os.path.lexists(path.parent) and not path.parent.is_dir():
                raise
            continue  # it was made by another, and removed just now
        files.announce("write", path)  # what others are to lock cannot be a draft
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # its folder was removed just now
            continue
        try:
            if not _lock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, folder):
                raise InUseError(
                    f"{folder} is in use by {_holder(descriptor)}; wait until it ends, or name "
                    "another folder"
                )
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed just now


def _lock(descriptor: int, kind: int, folder: Path) -> bool:
    """Locks a file, or takes it for locked where there are no locks; returns whether it did."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _HAS_NONE:
            raise
        warnings.warn(
            f"the file system of {folder} has no locks; see to it that no other command writes "
            "there meanwhile",
            stacklevel=6,
        )
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Tells whether the open file is the one of that name, and not one that was removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(descriptor: int, command: str) -> None:
    """Writes down who holds the lock; a full disk hinders nobody."""
    content = {
        "command": command,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(content).encode(), 0)


def _holder(descriptor: int) -> str:
    """Says who holds a lock."""
    try:
        content = limits.parse_json(os.pread(descriptor, 4096, 0).decode())
        return (
            f"`seedmap {content['command']}` (process {int(content['process'])} on "
            f"{content['host']}, since {content['since']})"
        )
    except (OSError, ValueError, KeyError, TypeError):  # it is just signing
        return "another command"


def _let_go(descriptor: int, path: Path) -> None:
    """Removes the file of a lock, unless others share it."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):
            files.remove(path)
        files.remove_empty(path.parent)
