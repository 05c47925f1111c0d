"""Child processes import nothing from the working folder, end with their parent, say why."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seedmap.experiments.noise.backend import settings as backend
from seedmap.experiments.overhead.modes import Mode
from seedmap.experiments.overhead.processes import Process, environment
from seedmap.experiments.processes.child import (
    ChildProcess,
    ProcessFailed,
    last_line,
    reason,
    safe_environment,
)
from seedmap.experiments.processes.settings import parse_flags, tools_of

DECOYS = ("json.py", "trainer.py", "hmm.py", "seedmap.py", "numpy.py", "experiments/__init__.py")
WAITS = """
import os, time
from seedmap.experiments.processes.child import answers, end_with_parent
next_line, answer = end_with_parent(), answers()
print("not an answer")
answer(pid=os.getpid())
while True:
    answer(line=next_line())
"""
PARENT = """
import os, sys, time
from seedmap.experiments.processes.child import ChildProcess
child = ChildProcess("waits", [], os.environ)
print(child.answer()["pid"], flush=True)
time.sleep(60)
"""


@pytest.fixture
def decoys(tmp_path, monkeypatch):
    """A working folder, on PYTHONPATH by its relative names, with files that refuse to be run."""
    for name in DECOYS:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise SystemExit('a file of the working folder was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", "", "experiments/.."]))
    return tmp_path


@pytest.fixture
def waits(tmp_path, monkeypatch):
    """The environment of a module `waits` that answers until it is ended."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "waits.py").write_text(WAITS)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([".", str(packages)])}


@pytest.mark.slow
def test_a_process_of_overhead_imports_nothing_from_the_working_folder(decoys):
    with Process(None, environment(Mode("device", ""), decoys)) as process:
        assert process.answer()["platform"]


@pytest.mark.slow
def test_a_child_of_noise_imports_nothing_from_the_working_folder(decoys):
    child = backend.Child(backend.SETTINGS["default"], 0, decoys / "study" / "default-0")
    with pytest.raises(ValueError, match=r"^--hidden is 0; it must be above 0"):
        backend.run_child(child, ["parities", "--preset", "quick", "--hidden", "0"])


def test_only_absolute_entries_of_pythonpath_stay(tmp_path):
    packages = str(tmp_path / "packages")
    given = {"PYTHONPATH": os.pathsep.join(["", ".", packages, "..", "lib"]), "HOME": "/root"}
    assert safe_environment(given) == {"PYTHONPATH": packages, "HOME": "/root"}
    assert safe_environment({"PYTHONPATH": "."}) == safe_environment({}) == {}


def test_answers_are_apart_from_what_is_printed(waits):
    with ChildProcess("waits", [], waits) as child:
        assert child.answer()["pid"] != os.getpid()
        child.send("hello")
        assert child.answer() == {"line": "hello\n"}


def ended(pid, seconds=30):
    """Waits for a process to end: gone, or a zombie that nobody has asked for."""
    for _ in range(10 * seconds):
        state = Path(f"/proc/{pid}/stat")
        try:
            if state.read_text().rpartition(") ")[2][0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent(waits, how):
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT], env=waits, stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    assert not ended(pid, seconds=0)
    parent.send_signal(how)
    parent.communicate()
    assert ended(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_a_child_that_is_closed_ends(waits):
    with ChildProcess("waits", [], waits) as child:
        pid = child.answer()["pid"]
    assert ended(pid, seconds=1)


def test_a_child_that_dies_says_why_in_one_line(waits, tmp_path):
    (tmp_path / "packages" / "dies.py").write_text("raise RuntimeError('no memory')")
    log = tmp_path / "logs" / "dies.log"
    with ChildProcess("dies", [], waits, log) as child:
        with pytest.raises(
            ProcessFailed, match=r"^ended with exit code 1: RuntimeError: no memory"
        ):
            child.answer()
        with pytest.raises(ProcessFailed, match="no memory"):
            child.send("3")
    assert "Traceback" in log.read_text()


def test_the_last_line_is_not_of_a_stack_trace():
    says = "F2 parse.cc:234] Unknown flag in XLA_FLAGS: --xla_x=1"
    trace = "*** Check failure stack trace: ***\n    @     0x7f8c  (unknown)\nPC: @ 0x1\n"
    assert last_line(f"W1 parse.cc] hm\n{says}\n{trace}") == says
    jax = (
        "jax.errors.JaxRuntimeError: UNIMPLEMENTED: no deterministic kernel\n--------------------\n"
    )
    jax += "For simplicity, JAX has removed its internal frames from the traceback.\n"
    assert last_line(jax).endswith("UNIMPLEMENTED: no deterministic kernel")
    assert last_line("") == ""
    logged = f"F1121 20:07:00.021179    6903 {says.removeprefix('F2 ')}"
    assert last_line(logged) == "Unknown flag in XLA_FLAGS: --xla_x=1"
    assert last_line(f"{logged}\nAborted (core dumped)") == last_line(logged)


def test_the_reason_is_how_it_ended_and_the_line():
    stack = (
        "F1121 18:00:32.835827 10180 parse.cc:234] Unknown flag: --xla_x\n*** stack ***\n @ main"
    )
    assert reason(1, last_line(stack)) == "ended with exit code 1: Unknown flag: --xla_x"
    assert reason(-signal.SIGABRT, last_line("a\nb\n")) == "ended by SIGABRT: b"
    assert reason(-signal.SIGKILL, "").startswith("killed (SIGKILL, as the system does")
    assert reason(1, "") == "ended with exit code 1: it wrote nothing"
    assert len(reason(1, "long " * 100)) == 300


def test_flags_and_variables_are_named_once():
    assert tools_of("one-thread").variables == (("NPROC", "1"),)
    assert tools_of("default") == tools_of("vmapped")
    assert parse_flags("flags:--xla_a=1 --xla_b", "--modes").flags == ("--xla_a=1", "--xla_b")
    for text in ("flags:", "flags:xla_a=1", "flags:--xla_a=1 rm"):
        with pytest.raises(ValueError, match=r"^--modes: 'flags:.*for a flag of XLA's"):
            parse_flags(text, "--modes")
