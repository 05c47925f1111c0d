"""Hostile input: one line, exit 2, within 10 seconds and 1 GB, and nothing written."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import hostile, hostile_data
from helpers.command import seedmap
from helpers.hostile import checkpoint
from seedmap.experiments.checkpoints import matching
from seedmap.experiments.datasets import adult, celeba, cifar, idx
from seedmap.experiments.runs.fitted import read_config
from seedmap.experiments.runs.folder import read_dataset
from seedmap.hmm.io import load_hmm

SECONDS, BYTES = 10, 1 << 30
KINDS = {".npz": hostile.NPZ, ".safetensors": hostile.SAFETENSORS, "": hostile.ORBAX}
CHECKPOINTS = {
    name: (checkpoint(write, f"step_1{kind}"), words)
    for kind, cases in KINDS.items()
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
    **{name: (make, words, idx.read_images) for name, (make, words) in hostile_data.IDX.items()},
    **{
        name: (make, words, lambda folder: cifar.read_images(folder, 10))
        for name, (make, words) in hostile_data.CIFAR.items()
    },
    **{name: (make, words, adult.read_adult) for name, (make, words) in hostile_data.ADULT.items()},
    **{
        name: (make, words, lambda folder: celeba.read_celeba(folder, "Blond_Hair"))
        for name, (make, words) in hostile_data.CELEBA.items()
    },
    "hmm.json: deep": (*hostile.JSON["hmm.json: deep"], load_hmm),
    "config.json: deep": (*hostile.JSON["config.json: deep"], read_config),
}


def listing(folder):
    """All that is in a folder, and when each file was written; folders had a lock meanwhile."""
    paths = folder.rglob("*")
    return {path: None if path.is_dir() else path.lstat().st_mtime_ns for path in paths}


def cpu_seconds():
    """Of this process and its children; the clock on the wall depends on what else runs."""
    return sum(os.times()[:4])


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
    monkeypatch.setattr(matching, "SECONDS", 1)
    peak = Peak()

    def call(function):
        before, started = listing(tmp_path), cpu_seconds()
        peak.begin()
        result = function()
        assert peak.bytes() < BYTES
        assert cpu_seconds() - started < SECONDS
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


def test_of_20_000_columns_only_what_was_asked_for_is_read_and_written(tmp_path, capsys):
    rng = np.random.default_rng(0)
    names = ["run", "step", "eval_accuracy", *(f"c{i}" for i in range(20_000))]
    values = rng.random((4, 20_001)).round(3).tolist()
    rows = [["a", 1], ["a", 2], ["b", 1], ["b", 2]]
    text = [",".join(map(str, row + own)) for row, own in zip(rows, values, strict=True)]
    (tmp_path / "all.csv").write_text("\n".join([",".join(names), *text]))
    started = cpu_seconds()
    flags = ["--metrics", "c7", "mine", "--columns", "mine=c8", "other=c9"]
    out = tmp_path / "out"
    assert seedmap("import", "metrics", tmp_path / "all.csv", "--out", out, *flags) == 0
    assert cpu_seconds() - started < SECONDS / 2
    dataset = read_dataset(out)
    recorded = {"c7", "mine", "eval_accuracy", "other"}
    assert set(dataset.data_vars) == recorded | {"diverged", "convergence"}
    assert dataset.mine.values.ravel().tolist() == [row[9] for row in values]


NAMES = ["\x1b[31mred", "nul\0", "line\nend", "\ud800", "\u202eright", "<b>bold</b>"]


def test_names_are_printable_once_they_are_read(tmp_path, capsys):
    lines = [
        {"run": name, "step": step, "l1": step, f"of {name.replace('/', '')}": 1.0}
        for name in NAMES
        for step in (1, 2)
    ]
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "all.jsonl").write_text(text)
    assert seedmap("import", "metrics", tmp_path / "all.jsonl", "--out", tmp_path / "out") == 0
    dataset = read_dataset(tmp_path / "out")
    seeds = [str(name) for name in dataset.seed.values]
    assert seeds == [
        r"\x1b[31mred",
        r"nul\x00",
        r"line\nend",
        r"\ud800",
        r"\u202eright",
        "<b>bold</b>",
    ]
    assert {f"of {name}" for name in seeds[:5]} < set(dataset.data_vars)
    capsys.readouterr()
    assert seedmap("fit", tmp_path / "out", "--validation-runs", "\x1b[31mred") == 2
    assert capsys.readouterr().err.strip().isprintable()


def test_nothing_of_another_file_is_read_through_a_link(tmp_path, capsys):
    make, _ = hostile.HDF5["hdf5: a link to another file"]
    seedmap(*make(tmp_path))
    assert "secret" not in capsys.readouterr().err


def test_no_pickle_has_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, (make, _, read) in READERS.items():
        if "runs" in name:
            refusal(read, make(tmp_path))
    make, _ = CHECKPOINTS["npz: objects"]
    seedmap(*make(tmp_path))
    assert not (tmp_path / "made-by-a-pickle").exists()
