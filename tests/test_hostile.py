"""Hostile input: one line, exit 2, within 10 seconds and 1 GB, and nothing written."""

import re
import sys
import time
from pathlib import Path

import pytest

from helpers import hostile
from helpers.command import seedmap
from helpers.hostile import checkpoint
from seedmap.experiments.datasets import cifar, idx

SECONDS, BYTES = 10, 1 << 30
CHECKPOINTS = {
    name: (checkpoint(write, f"step_1.{kind}"), words)
    for kind, cases in (("npz", hostile.NPZ), ("safetensors", hostile.SAFETENSORS))
    for name, (write, words) in cases.items()
}
COMMANDS = {
    **hostile.TABLES,
    **CHECKPOINTS,
    **hostile.RULES,
    **hostile.HDF5,
    **hostile.FOLDERS,
}
READERS = {
    **{name: (make, words, idx.read_images) for name, (make, words) in hostile.IDX.items()},
    **{
        name: (make, words, lambda folder: cifar.read_images(folder, 10))
        for name, (make, words) in hostile.CIFAR.items()
    },
}


def listing(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


class Peak:
    """The most memory that this process had since `begin`, beyond what it had then."""

    def begin(self):
        if sys.platform == "linux":
            Path("/proc/self/clear_refs").write_text("5")
            self.before = self._now("VmRSS")

    def bytes(self):
        return self._now("VmHWM") - self.before if sys.platform == "linux" else 0

    def _now(self, name):
        (line,) = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return 1024 * int(line)


@pytest.fixture
def bounded(tmp_path, monkeypatch):
    """Calls a function in a folder: within the limits, and nothing there is changed."""
    monkeypatch.chdir(tmp_path)
    peak = Peak()

    def call(function):
        before, started = listing(tmp_path), time.perf_counter()
        peak.begin()
        result = function()
        assert peak.bytes() < BYTES
        assert time.perf_counter() - started < SECONDS
        assert listing(tmp_path) == before
        return result

    return call


def check_line(line, words):
    assert line.isprintable()
    assert len(line) < 2100
    for word in words:
        assert word in line, line


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_refuses_it_in_one_line(tmp_path, bounded, capsys, name):
    make, words = COMMANDS[name]
    arguments = make(tmp_path)
    assert bounded(lambda: seedmap(*arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("seedmap: ")
    check_line(line, words)


def refusal(read, folder):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the words are checked
        read(folder)
    return str(caught.value)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_refuses_it_in_one_line(tmp_path, bounded, name):
    make, words, read = READERS[name]
    folder = make(tmp_path)
    check_line(bounded(lambda: refusal(read, folder)), words)
