"""A lock is held by one process, named to all others, and gone when its process is."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers.kills import Killed, killed_before, operations
from seedmap.errors import UserError
from seedmap.lock import SERVICE, InUseError, lock

HOLD = """
import sys
from pathlib import Path
from seedmap.lock import lock
with lock(Path(sys.argv[1]), "fit", shared=len(sys.argv) > 2):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder, *shared):
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *shared],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def end(process, kill=False):
    if kill:
        process.kill()
    process.communicate()


def test_the_second_process_is_refused_and_told_who_holds_it(tmp_path):
    folder = tmp_path / "run"
    process = holder(folder)
    says = rf"{folder} is in use by `seedmap fit` \(process {process.pid} on .*, since 20.*\); wait"
    for shared in (False, True):
        with pytest.raises(InUseError, match=says), lock(folder, "map", shared=shared):
            pass
    assert json.loads((folder / SERVICE / "lock").read_text())["process"] == process.pid
    end(process)
    assert not folder.exists()  # it stayed empty
    with lock(folder, "map"):
        assert folder.is_dir()
    assert not folder.exists()


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    end(holder(tmp_path), kill=True)
    assert (tmp_path / SERVICE / "lock").is_file()
    with lock(tmp_path, "map"):
        content = json.loads((tmp_path / SERVICE / "lock").read_text())
        assert (content["command"], content["process"]) == ("map", os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_a_thread_may_take_its_lock_again_and_another_thread_may_not(tmp_path):
    refused = []

    def other():
        try:
            with lock(tmp_path, "map"):
                pass
        except InUseError as error:
            refused.append(str(error))

    with lock(tmp_path, "fit"):
        with lock(tmp_path, "fit"):
            pass
        assert (tmp_path / SERVICE / "lock").is_file()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert f"process {os.getpid()} on" in refused[0]
    other()
    assert len(refused) == 1


def test_a_shared_lock_is_shared_and_its_file_stays_until_the_last_lets_go(tmp_path):
    process = holder(tmp_path, "shared")
    with lock(tmp_path, "train", shared=True), lock(tmp_path, "train", part=0):
        assert (tmp_path / SERVICE / "lock-0").is_file()
    assert (tmp_path / SERVICE / "lock").is_file()
    with pytest.raises(InUseError), lock(tmp_path, "collect"):
        pass
    end(process)
    with lock(tmp_path, "collect"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_of_many_at_once_one_holds_it(tmp_path):
    """Files are removed and made all the time; no two ever hold the lock together."""
    inside, most, held = 0, 0, 0
    count = threading.Lock()

    def work(_):
        nonlocal inside, most, held
        try:
            with lock(tmp_path / "run", "fit"):
                with count:
                    inside += 1
                    most, held = max(most, inside), held + 1
                with count:
                    inside -= 1
        except InUseError:
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(400)))
    assert most == 1
    assert held >= 1
    assert list(tmp_path.rglob("lock*")) == []


def test_a_file_that_was_removed_before_it_was_locked_is_no_lock(tmp_path, monkeypatch):
    """Its holder has let go; the next one would lock another file."""
    opened, original = [], os.open

    def removed_at_once(path, *flags):
        descriptor = original(path, *flags)
        if not opened:
            os.unlink(path)
        opened.append(path)
        return descriptor

    monkeypatch.setattr(os, "open", removed_at_once)
    with lock(tmp_path, "fit"):
        assert len(opened) == 2
        assert (tmp_path / SERVICE / "lock").is_file()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told_of_and_the_work_goes_on(code, tmp_path, monkeypatch):
    def none(descriptor, kind):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.warns(UserWarning, match="has no locks") as caught, lock(tmp_path, "fit"):
        assert (tmp_path / SERVICE / "lock").is_file()
    assert len(caught) == 1


def test_where_nothing_can_be_written_it_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run cannot be written to \(Not a directory\)"):
        lock(tmp_path / "file" / "run", "fit").__enter__()


def test_links_lead_nowhere(tmp_path):
    """A folder from somebody else does not have us write or remove files elsewhere."""
    theirs, mine = tmp_path / "theirs", tmp_path / "mine"
    mine.mkdir(), theirs.mkdir()
    (mine / "lock").write_text("mine")
    (theirs / SERVICE).symlink_to(mine)
    with pytest.raises(UserError, match="is a link"), lock(theirs, "fit"):
        pass
    (theirs / SERVICE).unlink()
    (theirs / SERVICE).mkdir()
    (theirs / SERVICE / "lock").symlink_to(mine / "lock")
    with pytest.raises(UserError, match="cannot be written to"), lock(theirs, "fit"):
        pass
    assert (mine / "lock").read_text() == "mine"


def test_a_kill_at_any_operation_leaves_a_folder_that_can_be_locked(tmp_path):
    with operations() as seen, lock(tmp_path / "run", "fit"):
        pass
    assert len(seen) == 5
    for stop in range(len(seen)):
        folder = tmp_path / f"run-{stop}"
        with killed_before(stop), pytest.raises(Killed), lock(folder, "fit"):
            pass
        with lock(folder, "fit"):
            pass
        assert list(folder.rglob("*")) == []
