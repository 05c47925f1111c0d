"""Where the time of a command goes: parts that add up, compilation taken out of what waits."""

import builtins
import threading
from contextlib import suppress

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
    assert found.programs == {"step": 9}
    assert "compile step" in timings.table(found)
    assert "in all" in timings.table(found)


def test_other_threads_do_not_turn_the_clock(clock):
    timings.start()

    def work():
        with timings.timed("train"):
            clock(7)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert timings.measured().parts == {"imports": 2, "other": 7}


def test_nothing_is_measured_unasked(clock):
    with timings.timed("fit"):
        clock(1)
    assert timings.measured() is None


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
