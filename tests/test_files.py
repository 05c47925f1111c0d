"""The one writer: stopped before any operation it leaves the former file or the new one."""

import errno
import itertools
import json
import os
import resource
import shutil
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from helpers.kills import Killed, killed_before, operations
from seedmap import files
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.netcdf import write_netcdf
from seedmap.hmm.figures import save
from seedmap.hmm.io import SavedHMM, load_hmm, save_hmm
from seedmap.hmm.parameters import Parameters


def hmm(num_states):
    return SavedHMM(
        Parameters(
            np.full(num_states, 1 / num_states),
            np.full((num_states, num_states), 1 / num_states),
            np.zeros((num_states, 2)),
            np.tile(np.eye(2), (num_states, 1, 1)),
        ),
        metrics=("l1", "l2"),
        covariance="full",
        z_score={"first": 1000, "per": "run"},
        train_runs=("0",),
        validation_runs=("1",),
        config={},
        selection=[],
    )


def dataset(value):
    return xr.Dataset({"l2": (("seed", "step"), np.full((2, 3), value))})


def json_of(path):
    return json.loads(path.read_text())


def npz_of(path):
    with path.open("rb") as file, files.open_npz(file) as archive:
        return archive["a"].tolist()


def netcdf_of(path):
    return float(xr.load_dataset(path, engine="h5netcdf").l2[0, 0])


WRITERS = {
    "text": (files.write_text, str, lambda path: path.read_text()),
    "json": (files.write_json, lambda i: {"a": i}, lambda path: json_of(path)),
    "npz": (files.write_npz, lambda i: {"a": np.full(3, i)}, npz_of),
    "netcdf": (write_netcdf, dataset, netcdf_of),
}
CONTENTS = {"text": str, "json": lambda i: {"a": i}, "npz": lambda i: [i] * 3, "netcdf": float}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_write_stopped_anywhere_leaves_the_former_file_or_the_new_one(kind, tmp_path):
    write, make, read = WRITERS[kind]
    content, path = CONTENTS[kind], tmp_path / "file"
    write(path, make(0))
    with operations() as seen:
        write(path, make(0))
    assert [kind for kind, _ in seen] == ["write", "replace"]
    for stop in range(len(seen)):
        with killed_before(stop), pytest.raises(Killed):
            write(path, make(1))
        assert read(path) == content(0)
        write(path, make(2))
        assert read(path) == content(2)
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
        write(path, make(0))


def test_a_write_that_fails_removes_its_draft(tmp_path):
    path = tmp_path / "file"
    path.write_text("former")

    def fail(draft):
        draft.write_text("half")
        raise KeyError

    with pytest.raises(KeyError), files.atomic(path) as draft:
        fail(draft)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "former"


def test_a_folder_is_removed_as_a_whole(tmp_path):
    """Stopped anywhere, it has all its files or another name; what is left is cleared next time."""
    names = [f"{folder}/{file}" for folder in ("a", "b") for file in "xyz"]

    def fill():
        for name in names:
            (tmp_path / "training" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "training" / name).write_text(name)
        (tmp_path / "other").write_text("kept")

    def whole():
        return all((tmp_path / "training" / name).is_file() for name in names)

    fill()
    with operations() as seen:
        files.clear(tmp_path, ("training", "nothing"))
    assert len(seen) == 1 + len(names) + 2 + 1
    for stop in range(len(seen)):
        fill()
        with killed_before(stop), pytest.raises(Killed):
            files.clear(tmp_path, ("training", "nothing"))
        assert whole() or not (tmp_path / "training").exists()
        files.clear(tmp_path, ("training", "nothing"))
        assert [entry.name for entry in tmp_path.iterdir()] == ["other"]


def test_links_are_removed_and_what_they_lead_to_is_not(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "data").write_text("mine")
    (tmp_path / "figures").symlink_to(kept)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "link").symlink_to(kept)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    files.clear(tmp_path, ("figures", "checkpoint", "broken"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]
    assert (kept / "data").read_text() == "mine"


# The append log


LINES = ["one", '{"a": "naïve\\u2028"}', "", "four"]


def write_log(path, lines, owner="one"):
    path.unlink(missing_ok=True)
    for number, line in enumerate(lines):
        files.append_line(path, number, line, owner)
    return path.read_bytes()


def check_log(path, content, count):
    """Of a log with this content exactly so many lines are read; the rest goes, and is told of."""
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert files.read_lines(path, "one") == LINES[:count]
    kept = b"".join(content.splitlines(keepends=True)[:count])
    assert path.read_bytes() == kept
    behind = len(content) - len(kept)
    told = f"the {behind} bytes after its first {count} lines"
    assert [told in str(each.message) for each in caught] == [True] * bool(behind)


def test_a_log_cut_short_at_any_byte_keeps_the_lines_before(tmp_path):
    path = tmp_path / "log"
    content = write_log(path, LINES)
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    assert len(ends) == len(LINES)
    for size in range(len(content) + 1):
        intact = sum(end <= size for end in ends)
        check_log(path, content[:size], intact)
        files.append_line(path, intact, "more", "one")
        assert files.read_lines(path, "one") == [*LINES[:intact], "more"]


def test_a_log_damaged_at_any_bit_keeps_the_lines_before(tmp_path):
    path = tmp_path / "log"
    content = write_log(path, LINES)
    for at in range(8 * len(content)):
        flipped = bytes([content[at // 8] ^ 1 << at % 8])
        damaged = content[: at // 8] + flipped + content[at // 8 + 1 :]
        check_log(path, damaged, content[: at // 8].count(b"\n"))


def test_lines_out_of_their_place_and_of_other_work_are_not_read(tmp_path):
    path = tmp_path / "log"
    other = write_log(path, LINES, "other").splitlines(keepends=True)
    lines = write_log(path, LINES).splitlines(keepends=True)
    for i, j in itertools.combinations(range(4), 2):
        swapped = [*lines]
        swapped[i], swapped[j] = swapped[j], swapped[i]
        check_log(path, b"".join(swapped), i)
    for i in range(4):
        check_log(path, b"".join([*lines[: i + 1], lines[i], *lines[i + 1 :]]), i + 1)
        check_log(path, b"".join([*lines[:i], *lines[i + 1 :]]), i)
        check_log(path, b"".join([*lines[:i], *other[i:]]), i)
    # Two processes that go on from one place, line by line.
    check_log(path, b"".join([lines[0], *(line for line in lines[1:] for _ in range(2))]), 2)


def test_a_log_that_is_not_there_has_no_lines(tmp_path):
    assert files.read_lines(tmp_path / "log", "one") == []
    assert list(tmp_path.iterdir()) == []


# Errors


@contextmanager
def full_disk(size):
    """A limit on the size of files stands for the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def figure():
    made = Figure()
    made.subplots().plot([0, 1])
    return made


FULL = {
    "text": ("file", lambda path: files.write_text(path, "x" * 9999)),
    "npz": ("file", lambda path: files.write_npz(path, {"a": np.zeros(9999)})),
    "netcdf": ("file", lambda path: write_netcdf(path, dataset(0.0))),
    "figure": ("file.png", lambda path: save(figure(), path)),
    "log": ("file", lambda path: files.append_line(path, 0, "x" * 9999, "one")),
}


@pytest.mark.parametrize("kind", FULL)
def test_a_full_disk_names_the_file_and_leaves_nothing(kind, tmp_path):
    name, write = FULL[kind]
    path = tmp_path / name
    path.write_bytes(b"former\n")
    with full_disk(1000), pytest.raises(OSError, match="File too large") as caught:
        write(path)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert caught.value.strerror == os.strerror(errno.EFBIG)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == b"former\n"


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, files.atomic(tmp_path / "file"):
        (tmp_path / "source").read_bytes()
    assert caught.value.filename == str(tmp_path / "source")


# What a kill leaves in a run folder


def run_with_hmm(folder):
    folder.mkdir()
    files.write_json(folder / "config.json", {"versions": {"seedmap": "0"}})
    save_hmm(folder, hmm(2))


def test_a_kill_while_the_hmm_is_saved_never_blocks_the_folder(tmp_path):
    with operations() as seen:
        run_with_hmm(tmp_path / "run")
    saving = [i for i, (_, path) in enumerate(seen) if "hmm" in path.name]
    assert len(saving) == 4
    for stop in saving:
        folder = tmp_path / f"run-{stop}"
        with killed_before(stop), pytest.raises(Killed):
            run_with_hmm(folder)
        if stop == saving[1]:
            assert (folder / "hmm.npz.part").is_file()
        run_folder.check_free(folder, overwrite=True)
        save_hmm(folder, hmm(3))
        assert len(load_hmm(folder).parameters.initial) == 3
        names = sorted(entry.name for entry in folder.iterdir())
        assert names == ["config.json", "hmm.json", "hmm.npz"]


@pytest.mark.parametrize("left", ["hmm.npz.partial", "hmm.json.partial", "metrics.nc.part"])
def test_what_former_versions_left_never_blocks_the_folder(left, tmp_path):
    run_with_hmm(tmp_path / "run")
    (tmp_path / "run" / left).write_bytes(b"PK half")
    run_folder.check_free(tmp_path / "run", overwrite=True)
    save_hmm(tmp_path / "run", hmm(2))
    run_folder.write_dataset(tmp_path / "run", dataset(0.0))
    assert not (tmp_path / "run" / left).exists()
    (tmp_path / "run" / left).write_bytes(b"PK half")
    files.clear(tmp_path / "run", run_folder.OWN)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_draft_alone_is_no_run_and_blocks_nothing(tmp_path):
    (tmp_path / "config.json.part").write_text("{")
    run_folder.check_free(tmp_path, overwrite=False)
    shutil.copy(tmp_path / "config.json.part", tmp_path / "thesis.tex.part")
    with pytest.raises(ValueError, match=r"holds thesis\.tex\.part, which is not a seedmap run's"):
        run_folder.check_free(tmp_path, overwrite=True)
