"""A training cut short anywhere goes on to the bit; a damaged save point is noticed."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import optax
import pytest

from seedmap.experiments.tasks.sparse_parities import ParitiesConfig, parities_task
from seedmap.trainer import Replicas, Saving, collect, train
from seedmap.trainer.storage.records import RecordLayout, append_records, intact_rows, read_records

CONFIG = ParitiesConfig(hidden=8, bits=6, train_size=40, test_size=20)
OPTIONS = {"batch_size": 16, "steps": 36, "record_every": 3, "threshold": 0.9, "seeds_at_once": 6}


def run(folder=None, *, resume=False, identity=None, save_seconds=60.0, vary=None, **options):
    saving = None if folder is None else Saving(folder, resume, identity, save_seconds)
    replicas = Replicas() if vary is None else Replicas(vary=vary)
    return train(
        parities_task(CONFIG),
        optax.adamw(0.01),
        range(6),
        saving=saving,
        replicas=replicas,
        **OPTIONS | options,
    )


def assert_same(one, other):
    """All records, parameters and outcomes equal to the bit."""
    assert set(one.dataset) == set(other.dataset)
    for name in one.dataset:
        np.testing.assert_array_equal(one.dataset[name].values, other.dataset[name].values)
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    np.testing.assert_array_equal(one.diverged, other.diverged)
    np.testing.assert_array_equal(one.converged, other.converged)


class Killed(Exception):
    """Stands for a kill at some point of the loop."""


def stop_at(step):
    def on_progress(progress):
        if progress.step >= step and progress.record is not None:
            raise Killed

    return on_progress


@pytest.fixture(scope="module")
def whole():
    return run()


def test_a_folder_holds_what_memory_does(tmp_path, whole):
    assert_same(run(tmp_path), whole)
    assert_same(collect(tmp_path), whole)


@pytest.mark.parametrize("save_seconds", [0.0, 1e9])
def test_a_training_cut_short_goes_on_to_the_bit(tmp_path, whole, save_seconds):
    """With save points at every record, and with none: then it begins anew."""
    for step in (9, 24):
        with pytest.raises(Killed):
            run(tmp_path, resume=True, save_seconds=save_seconds, on_progress=stop_at(step))
    seen = []
    resumed = run(tmp_path, resume=True, on_progress=lambda progress: seen.append(progress.step))
    # Stopped in the report of step 24, before its checkpoint: the last save point is step 21.
    assert seen[1] == (21 if save_seconds == 0 else 0)
    assert_same(resumed, whole)
    assert_same(run(tmp_path, resume=True), whole)  # finished: read, not trained


def damage(path, offset=-10):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def checkpoint_files(folder, step):
    files = (folder / "part-0/checkpoints" / str(step)).rglob("*")
    return [path for path in files if path.is_file()]


@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_used(tmp_path, whole, how):
    with pytest.raises(Killed):
        run(tmp_path, save_seconds=0, on_progress=stop_at(24))
    for path in checkpoint_files(tmp_path, 21):
        if how == "flip":
            damage(path, len(path.read_bytes()) // 2)
        elif how == "truncate":
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.unlink()
    seen = []
    with pytest.warns(UserWarning, match="checkpoint of step 21 .* is damaged"):
        resumed = run(tmp_path, resume=True, on_progress=lambda p: seen.append(p.step))
    assert seen[1] == 18
    assert_same(resumed, whole)


@pytest.mark.parametrize("row", [0, 6])
def test_a_damaged_record_takes_back_to_the_save_point_before_it(tmp_path, whole, row):
    """Two checkpoints are kept: a damaged early record leaves none, and training begins anew."""
    with pytest.raises(Killed):
        run(tmp_path, save_seconds=0, on_progress=stop_at(24))
    path = tmp_path / "part-0/records.bin"
    layout = json.loads((tmp_path / "part-0/job.json").read_text())["layout"]
    size = RecordLayout(**layout).row.itemsize
    damage(path, row * size + 5)
    seen = []
    resumed = run(tmp_path, resume=True, on_progress=lambda p: seen.append(p.step))
    assert seen[1] == (18 if row == 6 else 0)
    assert_same(resumed, whole)


def test_a_row_cut_short_is_not_counted(tmp_path):
    layout = RecordLayout(("a", "b"), 3, "float32")
    path = tmp_path / "records.bin"
    rows = [
        {"a": np.full(3, i, np.float32), "b": -np.arange(3, dtype=np.float32)} for i in range(4)
    ]
    append_records(path, layout, rows[:1])
    append_records(path, layout, rows[1:])
    assert intact_rows(path, layout) == 4
    np.testing.assert_array_equal(read_records(path, layout)["a"], [[0, 1, 2, 3]] * 3)
    for cut in range(1, layout.row.itemsize + 1):
        os.truncate(path, 4 * layout.row.itemsize - cut)
        assert intact_rows(path, layout) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 8}, "batch_size was 16 and is 8"),
        ({"steps": 72}, "steps was 36 and is 72"),
        ({"vary": ("init",)}, r"vary was \[.*\] and is \['init'\]"),
        ({"identity": {"model": {"depth": 3}}}, "model.depth was None and is 3"),
    ],
)
def test_other_settings_are_refused_with_the_difference(tmp_path, change, message):
    with pytest.raises(Killed):
        run(tmp_path, save_seconds=0, on_progress=stop_at(6))
    with pytest.raises(ValueError, match=message):
        run(tmp_path, resume=True, **change)


@pytest.mark.parametrize("version", [None, 1])
def test_a_training_of_another_arithmetic_is_refused(tmp_path, version):
    with pytest.raises(Killed):
        run(tmp_path, on_progress=stop_at(3), save_seconds=0)
    path = tmp_path / "part-0" / "job.json"
    job = json.loads(path.read_text())
    job["identity"].pop("arithmetic")
    job["identity"] |= {} if version is None else {"arithmetic": version}
    path.write_text(json.dumps(job))
    with pytest.raises(ValueError, match="was begun by a version of seedmap with other orders"):
        run(tmp_path, resume=True)


def test_a_training_is_not_overwritten_unasked(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, save_seconds=0, on_progress=stop_at(6))
    with pytest.raises(ValueError, match="holds a training: resume it"):
        run(tmp_path)


def test_a_resumed_model_of_another_shape_is_refused(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, save_seconds=0, on_progress=stop_at(6))
    other = parities_task(ParitiesConfig(hidden=9, bits=6, train_size=40, test_size=20))
    with pytest.raises(
        ValueError, match=r"^resume: the checkpoint is of another model or optimiser"
    ):
        train(other, optax.adamw(0.01), range(6), saving=Saving(tmp_path, resume=True), **OPTIONS)


SCRIPT = """
import pathlib, runpy, sys
run = runpy.run_path(sys.argv[1])["run"]
run(pathlib.Path(sys.argv[2]), resume=True, save_seconds=0, steps=3000)
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, __file__, str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows_written(folder):
    path = folder / "part-0/records.bin"
    return path.stat().st_size if path.exists() else 0


@pytest.mark.slow
def test_kill_nine_and_resume(tmp_path):
    """Killed twice in the middle of writing; the soak script does it 20 times."""
    for _ in range(2):
        process, before = start(tmp_path), rows_written(tmp_path)
        while rows_written(tmp_path) <= before and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert_same(run(tmp_path, resume=True, steps=3000), run(steps=3000))


def test_a_full_disk_is_told_and_costs_nothing_before_it(tmp_path, whole):
    """A limit on the size of files stands for the disk."""
    with pytest.raises(Killed):
        run(tmp_path, save_seconds=0, on_progress=stop_at(12))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (rows_written(tmp_path) + 100, hard))
    try:
        with pytest.raises(OSError, match=r"File too large|not saved"):
            run(tmp_path, resume=True, save_seconds=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_same(run(tmp_path, resume=True), whole)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "part-0").write_text("a file where the part's folder should be")
    with pytest.raises(OSError, match="part-0"):
        run(tmp_path)
