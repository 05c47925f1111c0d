"""A training cut short anywhere goes on to the bit; a damaged save point is noticed."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seedmap.experiments.tasks.sparse_parities import ParitiesConfig, parities_task
from seedmap.trainer import Replicas, Saving, collect, train
from seedmap.trainer.storage import folder as store


def largest(params):
    """One metric in place of the 14, whose decompositions take long to compile."""
    return {"largest": jnp.stack([jnp.abs(leaf).max() for leaf in jax.tree.leaves(params)]).max()}


CONFIG = ParitiesConfig(hidden=8, bits=6, train_size=40, test_size=20)
OPTIONS = {"batch_size": 16, "steps": 36, "record_every": 3, "threshold": 0.9, "seeds_at_once": 6}
OPTIONS |= {"metrics": largest}


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


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Copies a training that was killed in the report of step 24; it is trained once."""
    folders = {}

    def copy(folder, batch_size=16):
        if batch_size not in folders:
            folders[batch_size] = tmp_path_factory.mktemp("begun")
            options = {"batch_size": batch_size, "on_progress": stop_at(24)}
            with pytest.raises(Killed):
                run(folders[batch_size], save_seconds=0, **options)
        shutil.copytree(folders[batch_size], folder, dirs_exist_ok=True)

    return copy


def damage(path, offset=-10):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def checkpoint_files(folder, step):
    files = (folder / "part-0/checkpoints" / str(step)).rglob("*")
    return [path for path in files if path.is_file()]


@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_used(tmp_path, whole, begun, how):
    begun(tmp_path)
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


def test_whole_files_with_other_numbers_are_noticed(tmp_path, whole, begun):
    """A file's own checksums hold; that of the leaf, beside it, does not."""
    begun(tmp_path)
    (path,) = (p for p in checkpoint_files(tmp_path, 21) if p.name == "leaves.npz")
    with np.load(path) as arrays:
        leaves = dict(arrays)
    leaves["arr_0"] = leaves["arr_0"] ^ np.uint8(1)
    np.savez(path, **leaves)
    with pytest.warns(UserWarning, match="step 21 .* is damaged .*checksums do not match"):
        assert_same(run(tmp_path, resume=True), whole)


def row_size(folder):
    return store.read_job(folder / "part-0").layout.row.itemsize


@pytest.mark.parametrize("row", [0, 6])
def test_a_damaged_record_takes_back_to_the_save_point_before_it(tmp_path, whole, begun, row):
    """Two checkpoints are kept: a damaged early record leaves none, and training begins anew."""
    begun(tmp_path)
    path = tmp_path / "part-0/records.bin"
    damage(path, row * row_size(tmp_path) + 15)
    seen = []
    with pytest.warns(UserWarning, match=rf"after its first {row} records .* are not used"):
        resumed = run(tmp_path, resume=True, on_progress=lambda p: seen.append(p.step))
    assert seen[1] == (18 if row == 6 else 0)
    assert_same(resumed, whole)


def test_two_trainings_that_wrote_the_same_records_are_noticed(tmp_path, whole, begun):
    """FAULTS 3: a second process began again at the save point and appended its own, too."""
    begun(tmp_path)
    path, size = tmp_path / "part-0/records.bin", row_size(tmp_path)
    rows = path.read_bytes()
    path.write_bytes(rows[: 5 * size] + rows[3 * size : 6 * size] + rows[5 * size :])
    with pytest.warns(UserWarning, match="after its first 5 records .* out of their place"):
        resumed = run(tmp_path, resume=True)
    assert_same(resumed, whole)


def test_records_and_checkpoints_of_another_training_are_not_taken(tmp_path, whole, begun):
    """Of other settings: the same shapes, other numbers."""
    begun(tmp_path / "ours")
    begun(tmp_path / "other", batch_size=8)
    ours, other = tmp_path / "ours/part-0", tmp_path / "other/part-0"
    shutil.rmtree(ours / "checkpoints/21")
    shutil.copytree(other / "checkpoints/21", ours / "checkpoints/21")
    with pytest.warns(UserWarning, match="checkpoint of step 21 .* of another training"):
        assert store.restore(ours, store.read_job(ours)).step == 18
    shutil.copy(other / "records.bin", ours)
    seen = []
    with pytest.warns(UserWarning, match="after its first 0 records .* another training"):
        resumed = run(tmp_path / "ours", resume=True, on_progress=lambda p: seen.append(p.step))
    assert seen[1] == 0
    assert_same(resumed, whole)


def test_parts_of_two_trainings_are_not_put_together(tmp_path, whole):
    run(tmp_path)
    first = tmp_path / "part-0"
    job = store.read_job(first)
    of_two = replace(job, num_parts=2)
    store.write_job(first, of_two)
    store.write_job(tmp_path / "part-1", replace(of_two, part=1))
    assert len(store.read_jobs(tmp_path)) == 2
    store.write_job(tmp_path / "part-1", of_two)
    with pytest.raises(ValueError, match=r"part-1/job.json is of part 0: copy the parts"):
        collect(tmp_path)
    other = replace(of_two, part=1, identity=job.identity | {"batch_size": 8})
    store.write_job(tmp_path / "part-1", other)
    with pytest.raises(ValueError, match=r"part-1/job.json and .*part-0/job.json are of different"):
        collect(tmp_path)
    store.write_job(first, replace(job, part=1, num_parts=2))
    with pytest.raises(ValueError, match="holds part 1 of 2, process 0 of 1"):
        run(tmp_path, resume=True)


def test_an_unfinished_training_of_a_former_version_is_refused_in_one_line(tmp_path, begun):
    begun(tmp_path)
    path = tmp_path / "part-0/job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    with pytest.raises(ValueError, match=r"format 1, this one reads 2.*version that began it"):
        run(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 8}, "batch_size was 16 and is 8"),
        ({"steps": 72}, "steps was 36 and is 72"),
        ({"vary": ("init",)}, r"vary was \[.*\] and is \['init'\]"),
        ({"identity": {"model": {"depth": 3}}}, "model.depth was None and is 3"),
    ],
)
def test_other_settings_are_refused_with_the_difference(tmp_path, begun, change, message):
    begun(tmp_path)
    with pytest.raises(ValueError, match=message):
        run(tmp_path, resume=True, **change)


@pytest.mark.parametrize("version", [None, 1])
def test_a_training_of_another_arithmetic_is_refused(tmp_path, begun, version):
    begun(tmp_path)
    path = tmp_path / "part-0" / "job.json"
    job = json.loads(path.read_text())
    job["identity"].pop("arithmetic")
    job["identity"] |= {} if version is None else {"arithmetic": version}
    path.write_text(json.dumps(job))
    with pytest.raises(ValueError, match="was begun by a version of seedmap with other orders"):
        run(tmp_path, resume=True)


def test_a_training_is_not_overwritten_unasked(tmp_path, begun):
    begun(tmp_path)
    with pytest.raises(ValueError, match="holds a training: resume it"):
        run(tmp_path)


def test_a_resumed_model_of_another_shape_is_refused(tmp_path, begun):
    begun(tmp_path)
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a record that the kill has cut short
        resumed = run(tmp_path, resume=True, steps=3000)
    assert_same(resumed, run(steps=3000))


def test_a_full_disk_is_told_and_costs_nothing_before_it(tmp_path, whole, begun):
    """A limit on the size of files stands for the disk."""
    begun(tmp_path)
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
