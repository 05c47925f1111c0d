"""The one writer: every file of ours is written through here, whole or not at all.

with atomic(path) as draft:            # any library writes the draft
    ...
write_text(path, text)                 # also write_bytes, write_json
append_line(path, 0, text, owner)      # a log that survives being cut short; read_lines
clear(folder, names)                   # also make_folder, move, remove, truncate

A file is written as a draft in its own folder, `NAME.part`, brought to disk and moved onto its name
in one step; a folder that is removed becomes a draft first. A process that is killed leaves the
former file or the new one, and perhaps a draft, which `without_draft` tells from other files and
the next writer of that name replaces.

`observe` calls a hook before every operation, so that tests can list the operations of a command
and stop it before any of them.
"""

import io
import json
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from seedmap import limits
from seedmap.errors import UserError
from seedmap.results import to_json

DRAFT = ".part"
_FORMER_DRAFTS = (".partial",)  # of former versions: known and removed, never written

Operation = Literal["write", "replace", "append", "truncate", "remove", "move", "make folder"]
Hook = Callable[[Operation, Path], None]


def _nothing(operation: Operation, path: Path) -> None:
    """Observes nothing."""


_hook: Hook = _nothing


def announce(operation: Operation, path: Path) -> None:
    """Tells the hook of an operation that is about to be done, perhaps by another library."""
    _hook(operation, path)


@contextmanager
def observe(hook: Hook) -> Iterator[None]:
    """Calls a hook with the kind and the path of every operation in the block, before it is done.

    What the hook raises stops the work there. It is called for the operations that tidy up, too:
    a hook that goes on raising leaves the folder as a kill would.
    """
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Makes an OSError name the file, in one line: those of `write` and HDF5 name none."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and str(error.filename) != str(draft_of(path)):
            raise
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise OSError(error.errno, reason, str(path)) from error


def draft_of(path: Path) -> Path:
    """Returns the draft of a file."""
    return path.with_name(path.name + DRAFT)


def without_draft(name: str) -> str:
    """Returns the name without the suffix of a draft, this version's or a former one's."""
    for suffix in (DRAFT, *_FORMER_DRAFTS):
        name = name.removesuffix(suffix)
    return name


def drafts_left(path: Path) -> list[Path]:
    """Lists the drafts that a kill has left of a file or folder."""
    drafts = (path.with_name(path.name + suffix) for suffix in (DRAFT, *_FORMER_DRAFTS))
    return [draft for draft in drafts if os.path.lexists(draft)]


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Gives a draft to write, brings it to disk, and moves it onto `path` when the block is done.

    If the block fails, the draft is removed and the former file stays.

    Raises:
        OSError: it cannot be written; the error names `path`.
    """
    draft = draft_of(path)
    try:
        with _naming(path):
            for left in drafts_left(path):
                remove(left)
            announce("write", draft)
            yield draft
            with draft.open("r+b") as file:
                os.fsync(file.fileno())
            announce("replace", path)
            os.replace(draft, path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell of
            if draft.exists():
                remove(draft)
        raise


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes a file whole or not at all.

    Raises:
        OSError: as `atomic`.
    """
    with atomic(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8, line ends as they are, whole or not at all.

    Raises:
        OSError: as `atomic`.
    """
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any, indent: int = 2) -> None:
    """Writes JSON whole or not at all, as `results.to_json` makes it.

    Raises:
        OSError: as `atomic`.
        TypeError: a value that JSON cannot hold.
    """
    write_text(path, json.dumps(to_json(content), indent=indent, allow_nan=False) + "\n")


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name as an uncompressed .npz, whole or not at all.

    Raises:
        OSError: as `atomic`.
    """
    entries: dict[str, Any] = dict(arrays)  # NumPy's types take one of them for `allow_pickle`
    with atomic(path) as draft, draft.open("wb") as file:
        np.savez(file, **entries)


def open_npz(file: BinaryIO) -> np.lib.npyio.NpzFile:
    """Opens the .npz in an open file, which `np.load` would leave open if it cannot read it.

    Nothing is unpickled, and every array is as large as its header says.

    Raises:
        UserError: it is no archive, such as a single array, or a pickle, or it holds more than it
            can (`limits.check_archive`).
        OSError, EOFError, zipfile.BadZipFile: it is damaged.
    """
    start = file.read(6)
    file.seek(0)
    if start == b"\x93NUMPY":
        raise UserError("it holds a single array")
    if not start.startswith(b"PK"):  # NumPy would suggest to unpickle it
        raise UserError("it is no zip archive")
    archive = np.load(file, allow_pickle=False)
    limits.check_archive(archive.zip, os.fstat(file.fileno()).st_size)
    for member in archive.zip.namelist():
        if member.endswith(".npy"):
            limits.npy_header(archive.zip, member)
    return archive


def append(path: Path, content: bytes) -> None:
    """Appends to a file and waits until it is on disk.

    Raises:
        OSError: it cannot be written; the file is left as it was, and the error names it.
    """
    with _naming(path):
        before = path.stat().st_size if path.exists() else 0
        announce("append", path)
        try:
            with path.open("ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            if path.exists():
                os.truncate(path, before)
            raise


def append_line(path: Path, number: int, text: str, owner: str) -> None:
    """Appends a line `CHECKSUM NUMBER TEXT` and waits until it is on disk.

    Args:
        path: of the log.
        number: of the line, from 0.
        text: its content.
        owner: id of the work whose log it is; the checksum is of it, the number and the text.

    Raises:
        OSError: as `append`.
    """
    append(path, _log_line(number, text.encode(), owner))


def _log_line(number: int, text: bytes, owner: str) -> bytes:
    numbered = b"%d %s" % (number, text)
    return b"%08x %s\n" % (zlib.crc32(numbered, zlib.crc32(owner.encode())), numbered)


def read_lines(path: Path, owner: str) -> list[str]:
    """Reads what `append_line` wrote, up to the first line that is no good; that and all after go.

    A line is good that is whole, undamaged, in its place and of this owner.

    Raises:
        OSError: the file cannot be read or shortened.

    Warns:
        UserWarning: something goes.
    """
    lines, behind = intact_lines(path, owner)
    if behind:
        warnings.warn(
            f"{path}: the {len(behind)} bytes after its first {len(lines)} lines are cut "
            "short, damaged, out of their place or of other work, and dropped",
            UserWarning,
            stacklevel=2,
        )
        truncate(path, path.stat().st_size - len(behind))
    return lines


def intact_lines(path: Path, owner: str) -> tuple[list[str], bytes]:
    """Reads what `append_line` wrote, as `read_lines` does, and changes nothing.

    Returns:
        The good lines, and what follows them: nothing, or the beginning of a line that is being
        written, or what is no good.

    Raises:
        OSError: the file cannot be read.
    """
    lines: list[str] = []
    intact = 0
    content = path.read_bytes() if path.exists() else b""
    for line in io.BytesIO(content):  # which ends lines at \n alone
        text = line.rstrip(b"\n").split(b" ", 2)[-1]
        if line != _log_line(len(lines), text, owner):
            break
        lines.append(text.decode())
        intact += len(line)
    return lines, content[intact:]


def keep_lines(path: Path, owner: str, count: int) -> None:
    """Drops all lines after the first `count` that `append_line` wrote.

    Raises:
        OSError: as `truncate`.
    """
    lines, _ = intact_lines(path, owner)
    kept = (_log_line(i, line.encode(), owner) for i, line in enumerate(lines[:count]))
    truncate(path, sum(map(len, kept)))


def truncate(path: Path, size: int) -> None:
    """Shortens a file to a number of bytes; one that is shorter or missing is left as it is.

    Raises:
        OSError: it cannot be written; the error names it.
    """
    with _naming(path):
        if path.exists() and path.stat().st_size > size:
            announce("truncate", path)
            os.truncate(path, size)


def make_folder(path: Path) -> None:
    """Makes a folder and those it lies in, where they are missing.

    Raises:
        OSError: it cannot be made.
    """
    if not path.is_dir():
        announce("make folder", path)
        path.mkdir(parents=True, exist_ok=True)


def remove_empty(path: Path) -> bool:
    """Removes a folder that holds nothing; returns whether it did."""
    try:
        if any(path.iterdir()):
            return False
    except (FileNotFoundError, NotADirectoryError):  # removed by another process just now, perhaps
        return False
    announce("remove", path)
    with suppress(OSError):  # filled, or removed, by another process just now
        path.rmdir()
        return True
    return False


def bring_to_disk(folder: Path) -> None:
    """Waits until all that a folder holds is on disk, whichever library has written it.

    Raises:
        OSError: a file cannot be written; the error names it.
    """
    for path in (*folder.rglob("*"), folder):
        if path.is_dir():
            with suppress(OSError):  # not all file systems know it of folders
                _sync(path)
        else:
            with _naming(path):
                _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move(source: Path, target: Path) -> None:
    """Moves a file onto another, or a folder to where none is, in one step.

    Raises:
        OSError: it cannot be moved; the error names the target.
    """
    with _naming(target):
        announce("move", target)
        os.replace(source, target)


def clear(folder: Path, names: Iterable[str]) -> None:
    """Removes the named files and folders, where they are there, and drafts that a kill left.

    A folder becomes a draft in one step, and is removed then: it is never there in part.

    Raises:
        OSError: one cannot be removed; the error names it.
    """
    for path in (folder / name for name in sorted(names)):
        for left in drafts_left(path):
            remove(left)
        if path.is_dir() and not path.is_symlink():
            move(path, draft_of(path))
            remove(draft_of(path))
        elif os.path.lexists(path):
            remove(path)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that it holds; of a link only the link.

    Raises:
        OSError: it cannot be removed; the error names it.
    """
    with _naming(path):
        if path.is_dir() and not path.is_symlink():
            for entry in sorted(path.iterdir()):
                remove(entry)
            announce("remove", path)
            path.rmdir()
        else:
            announce("remove", path)
            path.unlink(missing_ok=True)
