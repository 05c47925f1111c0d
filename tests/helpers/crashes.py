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
from helpers.kills import Killed, killed_before, operations, refused_at
from seedmap.errors import UserError
from seedmap.hmm.figures import style
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
    """Has a function compute once."""
    module, _, function = name.partition(":")
    original, known = getattr(import_module(module), function), []

    def remembered(*arguments, **options):
        if not known:
            known.append(original(*arguments, **options))
        return known[0]

    patch.setattr(f"{module}.{function}", remembered)


def remember_figures(patch: pytest.MonkeyPatch) -> None:
    """Has each figure become a PNG once."""
    known = {}

    def remembered(figure):
        if id(figure) not in known:
            known[id(figure)] = style.png(figure), figure  # which keeps its id
        return known[id(figure)][0]

    patch.setitem(style._WRITERS, ".png", remembered)


def remember_loads(patch: pytest.MonkeyPatch) -> None:
    """Has the same NetCDF file read once: reading one is most of what a short command does."""
    load, read = xr.load_dataset, {}

    def remembering_load(path, **options):
        content = Path(path).read_bytes()
        if content not in read:
            read[content] = load(path, **options)
        return read[content].copy(deep=True)

    patch.setattr(xr, "load_dataset", remembering_load)


def remember_netcdf(patch: pytest.MonkeyPatch) -> None:
    """Has the same file read once, and the same dataset turned into a file once.

    Nothing waits for the disk either.
    """
    patch.setattr(os, "fsync", lambda descriptor: None)
    remember_loads(patch)
    write, written = xr.Dataset.to_netcdf, {}

    def remembering_write(dataset, buffer, **options):
        key = repr(dataset.to_dict())
        if key not in written:
            made = io.BytesIO()
            write(dataset, made, **options)
            written[key] = made.getvalue()
        buffer.write(written[key])

    patch.setattr(xr.Dataset, "to_netcdf", remembering_write)


def _execute(case: Case, folder: Path) -> int | None:
    try:
        words = case.run(folder)
        return 0 if words is None else seedmap(*words)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


class Replay:
    """A case that has been run once, whole: what there was before, and what there is after it."""

    def __init__(self, case: Case, folder: Path, patch: pytest.MonkeyPatch):
        remember_netcdf(patch)
        remember_figures(patch)
        for name in case.dear:
            once(patch, name)
        self.case, self.folder = case, folder
        self.former = self.begin()
        with operations() as self.seen:
            assert _execute(case, folder) == 0
        self.new = contents(folder, case.scratch)
        assert not (folder / SERVICE).exists()
        self.changed = {
            name for name in self.former | self.new if self.former.get(name) != self.new.get(name)
        }
        assert self.changed

    def begin(self) -> dict[str, bytes]:
        """Makes the folder as it was."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.case.former is not None:
            shutil.copytree(self.case.former, self.folder)
        return contents(self.folder, self.case.scratch)

    def execute(self) -> int | None:
        """Runs the command; returns its exit code."""
        return _execute(self.case, self.folder)

    def state(self) -> str:
        """Says whether the results are "former" or "new"; all of them are."""
        now = contents(self.folder, self.case.scratch)
        if now == self.former:
            return "former"
        assert now.keys() == self.new.keys()
        stale = [name for name in self.changed & now.keys() if now[name] == self.former.get(name)]
        assert not stale
        self.case.read(self.folder)
        return "new"

    def goes_through(self, left: str, capsys) -> None:
        """Checks that the same command goes through, or says that it is done."""
        capsys.readouterr()
        code = self.execute()
        refusal = capsys.readouterr().err
        if self.case.resume is not None and "add --resume to continue it" in refusal:
            code = self.case.resume(self.folder) or 0
        done = left == "new" and self.case.passing is not None
        assert code == (2 if done else 0), refusal
        assert not done or self.case.passing in refusal
        assert self.state() == "new"
        assert done or not (self.folder / SERVICE).exists()


def replay(case: Case, folder: Path, capsys, every: int = 1) -> tuple[int, int]:
    """Stops the command before each operation; returns how many stops it survived, of how many.

    After each the results are the former ones or the new ones, none of these with any of those,
    and the same command goes through and leaves the new ones.

    Args:
        case: the command.
        folder: where it writes.
        capsys: pytest's.
        every: 3 stops before the last operation and every third before it.
    """
    with pytest.MonkeyPatch.context() as patch:
        case_run = Replay(case, folder, patch)
        operations_seen = len(case_run.seen)
        stops = range(operations_seen - 1, -1, -every)
        for stop in stops:
            assert case_run.begin() == case_run.former
            with killed_before(stop), pytest.raises(Killed):
                case_run.execute()
            case_run.goes_through(case_run.state(), capsys)
        return len(stops), operations_seen


def refuse(case: Case, folder: Path, capsys) -> None:
    """Has the disk refuse each operation, one at a time.

    The command says so in one line, which names the file; the results are the former ones, or
    already the new ones where no more than tidying up was left; the same command goes through.
    """
    with pytest.MonkeyPatch.context() as patch:
        case_run = Replay(case, folder, patch)
        for stop in range(len(case_run.seen)):
            assert case_run.begin() == case_run.former
            capsys.readouterr()
            with refused_at(stop) as refused:
                code = case_run.execute()
            *_, line = capsys.readouterr().err.splitlines() or [""]
            left = case_run.state()
            if code == 0:
                assert left == "new"
            else:
                assert code == 2
                assert line.startswith("seedmap: ") or case.former is None
                assert "No space left on device" in line
                assert refused[0].name in line or folder.name in line
            case_run.goes_through(left, capsys)
