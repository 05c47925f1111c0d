"""A command stopped before each of its file operations, replayed in one process."""

import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
import xarray as xr

from helpers.command import seedmap
from helpers.kills import Killed, killed_before, operations
from seedmap.errors import UserError
from seedmap.lock import SERVICE
from seedmap.transaction import settled


@dataclass(frozen=True)
class Case:
    """A command that writes a folder.

    Attributes:
        former: a folder to begin with; None: there is none yet.
        run: the command, given the folder; words of the command line, or a function.
        read: reads the results in a folder; what is not whole it refuses.
        dear: functions, "module:name", that compute once and return the same from then on.
        passing: words of the one line that refuses the command where it is done; None: it may be
            run again.
        resume: goes on where what was begun has a save point, which the command would not replace.
        scratch: names that are no results: what was begun.
    """

    former: Path | None
    run: Callable[[Path], Sequence[object] | None]
    read: Callable[[Path], object]
    dear: tuple[str, ...] = ()
    passing: str | None = None
    resume: Callable[[Path], None] | None = None
    scratch: tuple[str, ...] = ("training",)


def contents(folder: Path, scratch: Sequence[str]) -> dict[str, bytes]:
    """The results in a folder, by their paths in it, as a reader finds them."""
    if not folder.is_dir():
        return {}
    settled(folder)
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {
        path.as_posix(): (folder / path).read_bytes()
        for path in paths
        if path.parts[0] not in (SERVICE, *scratch)
    }


def once(patch: pytest.MonkeyPatch, name: str) -> None:
    """Has a function compute once, for each first argument."""
    module, _, function = name.partition(":")
    original, known = getattr(import_module(module), function), {}

    def remembered(*arguments, **options):
        key = id(arguments[0]) if function == "png" else None
        if key not in known:
            known[key] = original(*arguments, **options), arguments  # which keep their ids
        return known[key][0]

    patch.setattr(f"{module}.{function}", remembered)


def _remember_netcdf(patch: pytest.MonkeyPatch) -> None:
    """Has the same file read once, and the same dataset turned into a file once.

    Nothing waits for the disk either.
    """
    patch.setattr(os, "fsync", lambda descriptor: None)
    load, write, read, written = xr.load_dataset, xr.Dataset.to_netcdf, {}, {}

    def remembering_load(path, **options):
        content = Path(path).read_bytes()
        if content not in read:
            read[content] = load(path, **options)
        return read[content].copy()

    def remembering_write(dataset, buffer, **options):
        key = repr(dataset.to_dict())
        if key not in written:
            made = io.BytesIO()
            write(dataset, made, **options)
            written[key] = made.getvalue()
        buffer.write(written[key])

    patch.setattr(xr, "load_dataset", remembering_load)
    patch.setattr(xr.Dataset, "to_netcdf", remembering_write)


def _execute(case: Case, folder: Path) -> int | None:
    try:
        words = case.run(folder)
        return 0 if words is None else seedmap(*words)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def replay(case: Case, folder: Path, capsys) -> tuple[int, int]:
    """Stops the command before each operation; returns how many stops it survived, of how many.

    After each the results are the former ones or the new ones, none of these with any of those,
    and the same command goes through and leaves the new ones.
    """
    with pytest.MonkeyPatch.context() as patch:
        _remember_netcdf(patch)
        for name in case.dear:
            once(patch, name)

        def begin():
            shutil.rmtree(folder, ignore_errors=True)
            if case.former is not None:
                shutil.copytree(case.former, folder)
            return contents(folder, case.scratch)

        former = begin()
        with operations() as seen:
            assert _execute(case, folder) == 0
        new = contents(folder, case.scratch)
        assert not (folder / SERVICE).exists()
        changed = {name for name in former | new if former.get(name) != new.get(name)}
        assert changed

        def state():
            now = contents(folder, case.scratch)
            if now == former:
                return "former"
            assert now.keys() == new.keys()
            assert not [name for name in changed & now.keys() if now[name] == former.get(name)]
            case.read(folder)
            return "new"

        for stop in range(len(seen)):
            assert begin() == former
            with killed_before(stop), pytest.raises(Killed):
                _execute(case, folder)
            left = state()
            capsys.readouterr()
            code = _execute(case, folder)
            refusal = capsys.readouterr().err
            if case.resume is not None and "add --resume to continue it" in refusal:
                code = case.resume(folder) or 0
            done = left == "new" and case.passing is not None
            assert code == (2 if done else 0), f"stop {stop} of {seen}: {refusal}"
            assert not done or case.passing in refusal
            assert state() == "new"
            assert done or not (folder / SERVICE).exists()
        return len(seen), len(seen)
