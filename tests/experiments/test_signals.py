"""Signals and processes at once, for real."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from helpers.command import seedmap
from seedmap.experiments.commands import main as cli
from seedmap.experiments.runs.import_metrics import import_frame
from seedmap.lock import SERVICE, lock

ROOT = Path(__file__).parents[2]
SEEDMAP = [sys.executable, "-m", "seedmap"]
TRAINING = "parities --preset quick --seeds 6 --epochs 3000".split()


@pytest.mark.parametrize(
    "words",
    [
        ("train", "parities", "--seeds", "5", "--out"),
        ("run", "parities", "--seeds", "5", "--resume", "--out"),
        ("noise", "parities", "--overwrite", "--out"),
        ("noise", "backend", "parities", "--out"),
        ("import", "metrics", ROOT, "--out"),
        ("overhead", "--overwrite", "--out"),
    ],
)
def test_a_folder_in_use_is_refused_at_once(words, tmp_path, capsys):
    """Nothing is compiled, read or written before."""
    refused = _refused(words, tmp_path / "run", capsys)
    assert refused.startswith(f"seedmap: {tmp_path / 'run'} is in use by `seedmap fit` (process ")
    assert refused.endswith("; wait until it ends, or name another folder\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [("fit", "--overwrite"), ("map",), ("report",), ("import", "metrics", "--overwrite", ROOT)],
)
def test_a_run_in_use_is_refused_at_once(words, tmp_path, capsys):
    """And stays as it is."""
    frame = pd.DataFrame({"seed": [0, 0, 1, 1], "step": [1, 2, 1, 2], "l2": range(4)})
    folder = tmp_path / "run"
    import_frame(frame, folder)
    out = ("--out",) if words[0] == "import" else ()
    refused = _refused((*words, *out), folder, capsys)
    assert refused.startswith(f"seedmap: {folder} is in use by `seedmap fit` (process ")


def _refused(words, folder, capsys):
    """What the command says while another process holds the folder's lock."""
    holder = (
        "import sys; from pathlib import Path; from seedmap.lock import lock\n"
        "with lock(Path(sys.argv[1]), 'fit'): print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    before = sorted(folder.rglob("*"))
    code = seedmap(*words, folder)
    assert sorted(folder.rglob("*")) == before
    process.communicate()
    assert code == 2
    return capsys.readouterr().err


def test_a_ctrl_c_in_a_callback_of_the_collector_is_not_lost(monkeypatch):
    """Python drops what is raised there; JAX has such a callback."""
    stopped = []
    # A shell has its background jobs ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("os._exit", lambda code: stopped.append(code))

    def callback(phase, info):
        if phase == "start" and callback in gc.callbacks:
            gc.callbacks.remove(callback)
            signal.raise_signal(signal.SIGINT)

    def command(argv):
        gc.callbacks.append(callback)
        gc.collect()
        for _ in range(500):
            time.sleep(0.01)
        stopped.append("lost")

    try:
        cli.guarded(command, [])
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped == [130]


@pytest.mark.slow
def test_of_two_trainings_resumed_at_once_the_second_is_refused(tmp_path):
    words = [*SEEDMAP, "train", *TRAINING, "--out", str(tmp_path / "run"), "--resume"]
    first = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / SERVICE / "lock").is_file():
        time.sleep(0.05)
    second = subprocess.run(words, capture_output=True, text=True)
    assert second.returncode == 2
    assert f"in use by `seedmap train` (process {first.pid} on" in second.stderr
    first.communicate()
    assert first.returncode == 0
    whole = tmp_path / "whole"
    assert subprocess.run([*words[:-2], str(whole)], capture_output=True).returncode == 0
    from seedmap.experiments.runs.folder import read_dataset

    assert read_dataset(tmp_path / "run").identical(read_dataset(whole))


def written(path):
    """When a file was written last, and its size; zeros where it is not, such as while it goes."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@pytest.mark.slow
def test_ctrl_c_always_ends_an_import_of_checkpoints(tmp_path):
    rng = np.random.default_rng(0)
    for step in range(1, 400):
        tensors = {"kernel": rng.normal(size=(200, 100)).astype("float32")}
        save_file(tensors, tmp_path / f"seed_0-step_{step}.safetensors")
    pattern = str(tmp_path / "seed_{run}-step_{step}.safetensors")
    words = [*SEEDMAP, "import", "checkpoints", pattern, "--out", str(tmp_path / "run")]
    for i in range(20):
        process = subprocess.Popen([*words, "--overwrite"], stderr=subprocess.DEVNULL)
        done = tmp_path / "run" / "training" / "run-0" / "import.jsonl"
        before, size = written(done)
        now = before
        while process.poll() is None and (now in (0, before) or size < 500 * i):
            time.sleep(0.001)
            now, size = written(done)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130, i


@pytest.mark.slow
def test_the_soak():
    soak = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--kills", "3"]
    done = subprocess.run(soak, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_is_not_left_behind(tmp_path, capsys):
    assert seedmap("import", "metrics", tmp_path / "nothing", "--out", tmp_path / "run") == 2
    assert not (tmp_path / "run").exists()
    with lock(tmp_path / "run", "fit"):
        pass
