"""Where the time of a command goes: parts that add up, compilation taken out of what waits."""

import builtins
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.command import seedmap
from seedmap import timings


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what a test adds."""
    now = [100.0]
    monkeypatch.setattr(timings, "_clock", None)
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)
    monkeypatch.setattr(timings.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timings, "_seconds_of_the_process", lambda: 2.0)

    def pass_time(seconds):
        now[0] += seconds

    return pass_time


def test_parts_are_what_is_not_in_an_inner_part(clock):
    timings.start()
    clock(1)
    with timings.timed("fit"):
        clock(4)
        with timings.timed("tests"):
            clock(8)
        clock(16)
        with suppress(KeyError), timings.timed("tests"):
            clock(32)
            raise KeyError
    found = timings.measured()
    assert found.parts == {"imports": 2, "other": 1, "fit": 20, "tests": 40}
    assert found.total == sum(found.parts.values()) == 63


def test_compilation_is_taken_out_of_the_part_that_waits_for_it_once(clock):
    timings.start()
    with timings.timed("fit"):
        clock(10)
        timings._compiled("/jax/core/compile/jaxpr_trace_duration", 3.0, fun_name="step")
        timings._compiled("/jax/core/compile/backend_compile_duration", 6.0, fun_name="jit(step)")
        timings._compiled("/jax/other", 5.0, fun_name="step")
        clock(1)
    found = timings.measured()
    assert found.parts == {"imports": 2, "other": 0, "fit": 5, "compile": 6}  # the two overlap
    assert found.programs == {"step": timings.Programs(seconds=9, count=1, cached=0)}
    assert "compile step" in timings.table(found)
    assert "in all" in timings.table(found)


def test_programs_that_the_cache_had_are_told_apart(clock):
    timings.start()
    for name, found in (("step", True), ("step", False), ("decode", True)):
        if found:
            timings._found("/jax/compilation_cache/cache_hits")
        timings._found("/jax/compilation_cache/cache_misses")
        timings._compiled("/jax/core/compile/backend_compile_duration", 2.0, fun_name=name)
    found = timings.measured()
    assert found.programs["step"] == timings.Programs(4, count=2, cached=1)
    assert found.programs["decode"] == timings.Programs(2, count=1, cached=1)
    assert "programs: 3, 2 of them from the cache" in timings.table(found)


def test_other_threads_do_not_turn_the_clock(clock):
    timings.start()

    def work():
        with timings.timed("train"):
            clock(7)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert timings.measured().parts == {"imports": 2, "other": 7}


def test_a_share_of_a_part_goes_to_another(clock):
    timings.start()
    with timings.timed("train"):
        clock(10)
        timings._compiled("/jax/core/compile/backend_compile_duration", 2.0, fun_name="advance")
    with timings.timed(timings.TIMING):
        clock(3)
        timings._compiled("/jax/core/compile/backend_compile_duration", 1.0, fun_name="walk")
    timings.divide("train", "metrics", 0.25)
    expected = {"train": 6, "metrics": 2, "compile": 2, "timing": 3, "imports": 2, "other": 0}
    assert timings.measured().parts == expected
    assert timings.measured() == timings.measured()


def test_nothing_is_measured_unasked(clock):
    with timings.timed("fit"):
        clock(1)
    timings.divide("fit", "tests", 0.5)
    assert timings.measured() is None
    assert not timings.is_on()


def test_imports_of_what_is_new_count(clock, tmp_path, monkeypatch):
    (tmp_path / "slow_to_load.py").write_text("from seedmap import timings\ntimings.tick(5)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(timings, "tick", clock, raising=False)
    timings.start()
    with timings.timed("fit"):
        import slow_to_load  # noqa: F401

        clock(1)
    assert timings.measured().parts == {"imports": 7, "other": 0, "fit": 1}


def test_a_command_says_where_its_time_went(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(timings, "_clock", None)
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)
    (tmp_path / "runs.csv").write_text(
        "run,step,l2\n" + "".join(f"{r},{s},{r + s}\n" for r in range(5) for s in range(3))
    )
    out = tmp_path / "out"
    words = ("import", "metrics", tmp_path / "runs.csv", "--out", out, "--metrics", "l2")
    assert seedmap(*words, "--timings") == 0
    error = capsys.readouterr().err
    assert "imports" in error
    assert "in all" in error
    kept = json.loads((out / "config.json").read_text())
    total = sum(kept["timings"]["parts"].values())
    assert kept["timings"]["total"] == pytest.approx(total, rel=1e-3)
    said = float(re.search(r"in all +([\d.]+) s", error)[1])
    assert said - 1 < kept["timings"]["total"] <= said + 0.01  # it is written before the end
    assert kept["timings"]["programs"].keys() >= set(re.findall(r"(?m)^  compile (\S+)", error))
    monkeypatch.setattr(timings, "_clock", None)
    assert seedmap("fit", out, "--states", "1", "--restarts", "1") == 0  # it is still a run


def test_the_metrics_of_a_training_are_a_part(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(timings, "_clock", None)
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)
    words = "train parities --preset quick --epochs 20 --timings --out".split()
    assert seedmap(*words, tmp_path / "run") == 0
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["timings"]
    assert kept["parts"].keys() >= {"train", "metrics", "timing"}
    assert kept["parts"]["metrics"] > 0
    assert kept["total"] == pytest.approx(sum(kept["parts"].values()), rel=1e-3)


def process(*words, **environment):
    """Runs the command in a process; returns its wall seconds and what `--timings` says."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "seedmap", *map(str, words), "--timings"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - began, done.stderr


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a process's age is not known")
def test_the_parts_are_the_wall_time_of_the_process(tmp_path):
    """Within 2 %, from before Python starts until after it has ended."""
    (tmp_path / "runs.csv").write_text("run,step,l2\n0,0,1\n0,1,2\n1,0,3\n1,1,4\n")
    wall, said = process(
        *("import", "metrics", tmp_path / "runs.csv", "--metrics", "l2"),
        *("--out", tmp_path / "out"),
    )
    seconds = {
        name: float(value) for name, value in re.findall(r"(?m)^(\w[\w ]*?) +([\d.]+) s", said)
    }
    total = seconds.pop("in all")
    assert total == pytest.approx(sum(seconds.values()), abs=0.01 * len(seconds))
    assert total == pytest.approx(wall, rel=0.02)


@pytest.mark.slow
def test_a_second_run_of_the_same_shapes_compiles_nothing(tmp_path):
    words = "run parities --preset quick --epochs 60 --overwrite --out".split()
    cache = {"JAX_COMPILATION_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path)}
    counts = []
    for _ in range(2):
        said = process(*words, tmp_path / "run", **cache)[1]
        counts.append(re.search(r"programs: (\d+), (\d+) of them from the cache", said).groups())
    (first, of_first), (second, of_second) = counts
    assert of_first == "0"
    assert first == second == of_second
    assert int(first) <= 10  # none for what NumPy does in milliseconds
