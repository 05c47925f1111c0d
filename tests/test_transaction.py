"""A transaction leaves the former results or the new ones, wherever it is stopped."""

import json
import os
import shutil
import threading
import time

import pytest

from helpers.kills import Killed, killed_before, killed_when, operations
from seedmap import files, transaction as module
from seedmap.errors import UserError
from seedmap.lock import SERVICE, InUseError, lock
from seedmap.transaction import claim, settled, transaction

FORMER = {"a": "1", "b": "1", "kept": "1", "figures/x": "1", "figures/y": "1", "whole/z": "1"}
NEW = {"b": "2", "c": "2", "kept": "1", "figures/x": "2", "figures/y": "1", "whole/w": "2"}


def write(folder, content):
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / name, text)


def content(folder):
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {p.as_posix(): (folder / p).read_text() for p in paths if p.parts[0] != SERVICE}


def replace(folder):
    """`a` goes, `b` is replaced, `c` comes, `figures` is added to, `whole` replaced as a folder."""
    with transaction(folder, ("a", "whole", "nothing"), "fit") as draft:
        write(draft, {"b": "2", "c": "2", "figures/x": "2", "whole/w": "2"})


MADE = {"training/b": "unused", "training/c": "2", "training/figures/x": "2"}
MADE |= {"training/whole/w": "2"}


def bring(folder):
    """The same; all but `b` is in a folder of its own already, of two the draft's comes."""
    with transaction(folder, ("a", "whole"), "fit", "training") as draft:
        write(draft, {"b": "2"})


def test_what_is_named_goes_and_what_is_in_the_draft_comes(tmp_path):
    write(tmp_path, FORMER)
    replace(tmp_path)
    assert content(tmp_path) == NEW
    assert not (tmp_path / SERVICE).exists()


CASES = {"draft": (FORMER, replace), "a folder of its own": (FORMER | MADE, bring)}


@pytest.mark.parametrize("source", CASES)
@pytest.mark.parametrize("settle", ["reader", "writer"])
def test_stopped_anywhere_and_stopped_again_in_settling(settle, source, tmp_path, monkeypatch):
    """The folder is the former or the new one, also where the rolling forward is stopped itself."""

    def mend(folder):
        if settle == "reader":
            settled(folder)
            return
        with claim(folder, "map"):
            pass

    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    before, change = CASES[source]
    former, folder = tmp_path / "former", tmp_path / "run"
    write(former, before)
    shutil.copytree(former, folder)
    with operations() as seen:
        change(folder)
    moving = seen.index(("replace", folder / SERVICE / "journal.json"))
    for stop in range(len(seen)):
        for again in range(30) if stop == moving + 1 else (0, 9):
            shutil.rmtree(folder)
            shutil.copytree(former, folder)
            with killed_before(stop), pytest.raises(Killed):
                change(folder)
            try:
                with killed_before(again):
                    mend(folder)
            except Killed:
                pass
            settled(folder)
            assert content(folder) == (before if stop <= moving else NEW)
            if stop <= moving:
                change(folder)
            assert content(folder) == NEW
            with claim(folder, "fit"):
                pass
            assert not (folder / SERVICE).exists()


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, OSError])
def test_a_block_that_fails_changes_nothing(error, tmp_path):
    write(tmp_path, FORMER)

    def fail(draft):
        write(draft, {"b": "2"})
        raise error

    with pytest.raises(error), transaction(tmp_path, ("a",), "fit") as draft:
        fail(draft)
    assert content(tmp_path) == FORMER
    assert not (tmp_path / SERVICE).exists()
    with pytest.raises(error), transaction(tmp_path / "fresh", (), "fit") as draft:
        fail(draft)
    assert not (tmp_path / "fresh").exists()


def test_ctrl_c_as_the_journal_arrives_loses_nothing(tmp_path, monkeypatch):
    write(tmp_path, FORMER)
    original = files.write_json

    def interrupted(path, content):
        original(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace(tmp_path)
    assert content(tmp_path) == NEW


def test_drafts_of_former_versions_go_with_their_files(tmp_path):
    write(tmp_path, {"b": "1", "b.partial": "half", "a.part": "half", "other.part": "kept"})
    replace(tmp_path)
    assert content(tmp_path).keys() == {"b", "c", "figures/x", "whole/w", "other.part"}


def test_a_file_where_a_folder_should_be_is_named_and_nothing_is_moved(tmp_path):
    write(tmp_path, {"a": "1", "figures": "a file"})
    with pytest.raises(UserError, match="figures is no folder, but is to be one; move it away"):
        replace(tmp_path)
    assert content(tmp_path) == {"a": "1", "figures": "a file"}


def test_the_check_is_made_again_once_the_folder_is_locked(tmp_path):
    """Another command may have come to its end in between."""
    seen = []

    def check():
        seen.append((tmp_path / SERVICE / "lock").is_file())
        if seen[-1]:
            raise UserError("taken")

    with pytest.raises(UserError, match="taken"), claim(tmp_path, "fit", check):
        pass
    assert seen == [False, True]
    assert list(tmp_path.iterdir()) == []


def stopped_in_moving(folder):
    write(folder, FORMER)
    with (
        killed_when(lambda kind, path: path.name == "c" and kind == "move"),
        pytest.raises(Killed),
    ):
        replace(folder)


def test_a_reader_waits_for_who_moves(tmp_path):
    stopped_in_moving(tmp_path)

    def move():
        with claim(tmp_path, "fit"):
            pass

    with lock(tmp_path, "fit"):
        reader = threading.Thread(target=settled, args=(tmp_path,))
        reader.start()
        time.sleep(0.05)
        assert reader.is_alive()
        module.settle(tmp_path)
    reader.join()
    assert content(tmp_path) == NEW


def test_a_reader_does_not_wait_for_ever(tmp_path, monkeypatch):
    stopped_in_moving(tmp_path)
    monkeypatch.setattr(module, "_PATIENCE", 0.02)
    told = []

    def read():
        try:
            settled(tmp_path)
        except InUseError as error:
            told.append(str(error))

    with lock(tmp_path, "fit"):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert "in use by `seedmap fit`" in told[0]


@pytest.mark.parametrize(
    "names",
    [["../mine"], ["/etc/mine"], ["link/mine"], ["a/b/c/d"], [""], [7], {"a": 1}, "a", None],
)
def test_a_journal_from_somebody_else_moves_nothing_of_mine(names, tmp_path):
    folder = tmp_path / "theirs"
    (folder / SERVICE).mkdir(parents=True)
    (tmp_path / "mine").write_text("mine")
    (folder / "link").symlink_to(tmp_path)
    for journal in ({"goes": names}, {"goes": [], "made": names}):
        (folder / SERVICE / "journal.json").write_text(json.dumps({"comes": []} | journal))
        with pytest.raises(UserError, match=r"journal\.json is damaged; remove .*\.seedmap, and m"):
            settled(folder)
    assert (tmp_path / "mine").read_text() == "mine"
