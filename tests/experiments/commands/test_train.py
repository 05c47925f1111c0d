"""`seedmap train` cut short, resumed, watched and collected."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr

from helpers.command import seedmap
from seedmap.experiments.report import progress as progress_bars
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.train import collect_run
from seedmap.trainer import Progress

SMALL = "--seeds 6 --epochs 12 --record-every 2 --hidden 8 --train-size 64 --test-size 20".split()
SMALL += ["--record", "l2", "mean_w"]  # whose programs are small
TRAIN = ["train", "parities", *SMALL, "--seeds-at-once", "6"]


def cut_short(out, monkeypatch, at_step=8, *flags):
    """A training that meets a full disk after some save points."""

    @contextmanager
    def failing_bar():
        def on_progress(progress):
            if progress.record is not None and progress.step >= at_step:
                raise OSError(28, "No space left on device", "training")

        yield on_progress

    with monkeypatch.context() as patch:
        patch.setattr("seedmap.experiments.commands.train.training_bar", failing_bar)
        assert seedmap(*TRAIN, "--out", out, "--save-seconds", 0, *flags) == 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert seedmap(*TRAIN, "--out", out) == 0
    return out


def test_a_second_run_of_the_same_shapes_compiles_nothing(tmp_path, whole):
    """And asks for a dozen programs at most: those of training, and of keys."""
    asked, found = "/jax/compilation_cache/compile_requests_use_cache", "cache_hits"
    events = []

    def listen(event, **_):
        events.append(event)

    jax.clear_caches()
    jax.monitoring.register_event_listener(listen)
    try:
        assert seedmap(*TRAIN, "--out", tmp_path / "again") == 0
    finally:
        jax.monitoring.unregister_event_listener(listen)
    requests = events.count(asked)
    assert 2 <= requests <= 12
    assert sum(event.endswith(found) for event in events) == requests


def test_a_training_cut_short_is_kept_and_resumed(tmp_path, whole, monkeypatch, capsys):
    out = tmp_path / "run"
    cut_short(out, monkeypatch)
    assert (out / "training" / "part-0" / "checkpoints").is_dir()
    capsys.readouterr()
    assert seedmap(*TRAIN, "--out", out) == 2
    assert "--resume to continue it" in capsys.readouterr().err
    assert seedmap(*TRAIN, "--out", out, "--resume", "--hidden", 9) == 2
    message = capsys.readouterr().err
    assert "hidden was 8 and is 9" in message
    assert "batch_size" not in message
    assert seedmap(*TRAIN, "--out", out, "--resume") == 0
    assert not (out / "training").exists()
    assert run_folder.read_dataset(out).identical(run_folder.read_dataset(whole))
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "begin"] == [0, 4]
    assert {"seconds", "seed_steps_per_second", "num_converged", "diverged"} < set(lines[1])


def test_resuming_what_is_finished_does_nothing_and_what_is_not_there_begins(whole, tmp_path):
    before = (whole / "metrics.nc").read_bytes()
    assert seedmap(*TRAIN, "--out", whole, "--resume") == 0
    assert (whole / "metrics.nc").read_bytes() == before
    assert seedmap(*TRAIN, "--out", tmp_path / "new", "--resume") == 0
    assert (tmp_path / "new" / "metrics.nc").exists()


def test_resume_needs_a_folder(capsys):
    assert seedmap(*TRAIN, "--resume") == 2
    assert "--resume needs --out" in capsys.readouterr().err


def test_a_run_being_replaced_stays_until_the_new_one_is_done(tmp_path, monkeypatch, whole):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    cut_short(out, monkeypatch, 8, "--overwrite", "--first-seed", 50)
    assert run_folder.read_dataset(out).seed.values[0] == 0
    assert seedmap(*TRAIN, "--out", out, "--resume", "--first-seed", 50) == 0
    assert run_folder.read_dataset(out).seed.values[0] == 50


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--record", "sharpnes"], ["'sharpnes' is not known", "sharpness"]),
        (["--vary", "weather"], ["'weather'", "init"]),
        (["--precision", "half"], ["--precision", "tf32"]),
        (["--seeds-at-once", "0"], ["--seeds-at-once is 0"]),
        (["--save-seconds", "-1"], ["--save-seconds is -1"]),
        (["--save-seconds", "nan"], ["--save-seconds is nan"]),
        (
            ["--distributed", "--coordinator", "x", "--num-processes", "1", "--process-id", "0"],
            ["HOST:PORT"],
        ),
        (["--num-processes", "2"], ["--distributed"]),
        (["--distributed", "--num-processes", "2"], ["go together"]),
    ],
)
def test_wrong_training_flags_get_one_line(flags, words, tmp_path, capsys):
    assert seedmap(*TRAIN, "--out", tmp_path / "run", *flags) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert not (tmp_path / "run").exists()


def test_collecting_what_is_not_there_is_told(tmp_path, whole, capsys):
    for folder, words in ((tmp_path, "see `seedmap train`"), (whole, "next: seedmap fit")):
        assert seedmap("collect", folder) == 2
        assert words in capsys.readouterr().err


def test_a_part_that_is_not_done_is_not_collected(tmp_path, monkeypatch):
    cut_short(tmp_path / "run", monkeypatch)
    with pytest.raises(ValueError, match="not trained to its end"):
        collect_run(tmp_path / "run")
    begun = tmp_path / "run" / "training" / "config.json"
    config = json.loads(begun.read_text())
    config["hyperparameters"]["hidden"] += 1  # as if it came from another host's training
    begun.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"job.json and \S+config.json are of different trainings"):
        collect_run(tmp_path / "run")


def test_a_damaged_log_costs_only_times(tmp_path, monkeypatch, whole):
    out = tmp_path / "run"
    cut_short(out, monkeypatch)
    (out / "training" / "part-0" / "log.jsonl").write_bytes(b"\xb6\x00{")
    assert seedmap(*TRAIN, "--out", out, "--resume") == 0
    assert run_folder.read_dataset(out).identical(run_folder.read_dataset(whole))


def test_another_experiment_and_a_lost_job_are_refused(tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    cut_short(out, monkeypatch)
    capsys.readouterr()
    assert seedmap("train", "modular", "--preset", "quick", "--out", out, "--resume") == 2
    assert "holds a training of parities, not of modular" in capsys.readouterr().err
    (out / "training" / "part-0" / "job.json").unlink()
    assert seedmap(*TRAIN, "--out", out, "--resume") == 2
    assert "lost its job.json" in capsys.readouterr().err


def test_a_collection_cut_short_can_be_done_again(tmp_path, monkeypatch, whole):
    """The old run stays whole, and the training with it, when the new files cannot be written."""
    out = tmp_path / "run"
    shutil.copytree(whole, out)

    def full(*arguments):
        raise OSError(28, "No space left on device", "metrics.nc")

    with monkeypatch.context() as patch:
        patch.setattr("seedmap.experiments.runs.folder.write_dataset", full)
        assert seedmap(*TRAIN, "--out", out, "--overwrite", "--first-seed", 50) == 2
    assert run_folder.read_dataset(out).seed.values[0] == 0
    (out / "config.json").unlink()
    assert seedmap(*TRAIN, "--out", out, "--resume", "--first-seed", 50) == 0
    assert run_folder.read_dataset(out).seed.values[0] == 50


@pytest.mark.slow
def test_two_processes_make_one_run(tmp_path, whole):
    """Started together on one file system, without --resume."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    out, source = tmp_path / "run", Path(__file__).parents[3]
    common = [sys.executable, "-m", "seedmap", *TRAIN, "--out", out, "--distributed"]
    common += ["--coordinator", f"localhost:{port}", "--num-processes", "2", "--process-id"]
    hosts = [
        subprocess.Popen([*map(str, common), str(i)], cwd=source, stderr=subprocess.PIPE)
        for i in range(2)
    ]
    for host in hosts:
        error = host.communicate(timeout=300)[1]
        assert host.returncode == 0, error
    assert seedmap("collect", out) == 0
    assert seedmap("fit", out, "--states", "1-2", "--iterations", "2") == 0
    found, expected = (run_folder.read_dataset(folder) for folder in (out, whole))
    for name in expected.data_vars:  # groups of 3 instead of 6: equal but for rounding
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_more_can_be_recorded_and_fitted(tmp_path):
    out = tmp_path / "run"
    extra = ["--record", "weights", "l2/layers", "gradient_norm", "sharpness"]
    assert seedmap(*TRAIN, "--out", out, *extra) == 0
    with xr.open_dataset(out / "metrics.nc") as dataset:
        names = set(dataset.data_vars)
        assert {"l2", "gradient_norm", "sharpness"} < names
        assert any(name.startswith("l2.Dense_0") for name in names)
        assert (dataset.gradient_norm > 0).any()
        assert np.isfinite(dataset.sharpness).all()
    fit = ["--metrics", "l2", "sharpness", "--states", "1-2", "--iterations", "3"]
    assert seedmap("fit", out, *fit) == 0


def test_tensorboard_gets_the_spread_over_seeds(tmp_path):
    assert seedmap(*TRAIN, "--out", tmp_path / "run", "--tensorboard", tmp_path / "board") == 0
    (events,) = (tmp_path / "board").iterdir()
    content = events.read_bytes()
    for tag in (b"eval_loss/mean", b"l2/min", b"mean_w/max"):
        assert tag in content


def run_unprivileged(*arguments):
    """Runs the command in a process that heeds file modes, as root too does without this right."""
    drop = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, "-m", "seedmap", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root heeds no file modes"
)
def test_a_read_only_folder_is_one_line_and_costs_nothing(tmp_path, whole, monkeypatch):
    out = tmp_path / "run"
    cut_short(out, monkeypatch)
    kept = sorted(p for p in out.rglob("*"))
    folders = [out, *(p for p in kept if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    refused = run_unprivileged(*TRAIN, "--out", out, "--resume")
    for folder in folders:
        folder.chmod(0o755)
    assert refused.returncode == 2
    last = refused.stderr.splitlines()[-1]
    assert last.startswith("seedmap: ")
    assert str(out) in last
    assert "Permission denied" in last
    assert "Traceback" not in refused.stderr
    assert sorted(p for p in out.rglob("*")) == kept
    assert seedmap(*TRAIN, "--out", out, "--resume") == 0
    assert run_folder.read_dataset(out).identical(run_folder.read_dataset(whole))


def test_records_counted_in_steps_end_with_the_last_whole_one(whole, tmp_path, capsys):
    out = tmp_path / "run"
    assert seedmap(*TRAIN, "--record-unit", "steps", "--record-every", 5, "--out", out) == 0
    dataset, by_epoch = run_folder.read_dataset(out), run_folder.read_dataset(whole)
    assert dataset.step.values.tolist() == [5, 10, 15, 20]  # of 24
    assert dataset.epoch.values.tolist() == [2.5, 5.0, 7.5, 10.0]
    for name in ("l2", "eval_loss"):
        here, there = dataset[name].sel(step=20), by_epoch[name].sel(step=20)
        np.testing.assert_allclose(here, there, rtol=1e-6)
    capsys.readouterr()
    assert seedmap(*TRAIN, "--record-unit", "steps", "--record-every", 13, "--out", out) == 2
    assert "12 epochs of 2 steps must hold at least two records" in capsys.readouterr().err
    flags = [*TRAIN[1:], "--record-unit", "steps", "--record-every", 12, "--states", "1-6"]
    assert seedmap("run", *flags, "--out", tmp_path / "few") == 2
    assert "6 training checkpoints allow at most 3" in capsys.readouterr().err
    assert not (tmp_path / "few").exists()


def test_the_bar_of_a_resumed_training_leaves_out_what_was_done_before(monkeypatch):
    bars = []

    def make(**options):
        bars.append(progress_bars.tqdm(file=io.StringIO(), mininterval=0, **options))
        return bars[-1]

    monkeypatch.setattr(progress_bars, "_bar", make)
    with progress_bars.training_bar() as show:
        show(Progress(0, 1000, 4, 0.0, 0, {}, None))
        show(Progress(900, 1000, 4, 0.0, 0, {}, None))
        time.sleep(0.05)
        show(Progress(910, 1000, 4, 0.1, 0, {}, {"l2": np.zeros(4)}))
        (bar,) = bars
        assert (bar.n, bar.total) == (3640, 4000)
        assert bar.format_dict["rate"] <= 40 / 0.05  # not 3640 / 0.05
