"""The processes that time, seen from the one that starts them."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seedmap.errors import UserError
from seedmap.experiments.overhead.child import Job
from seedmap.experiments.overhead.modes import Mode

_MODULE = "seedmap.experiments.overhead.child"
_LONGEST = 300  # characters of a reason


class ProcessFailed(RuntimeError):
    """A process that times has said that it cannot, or has died; the message is its last line."""


def environment(mode: Mode, scratch: Path) -> dict[str, str]:
    """Variables of a process that times under a mode.

    Compiled programs are kept for as long as the command runs, so that a process that is started
    again compiles nothing; apart for each mode, since JAX tells programs apart by XLA's flags but
    not by the number of threads they were compiled for. On a GPU processes take memory as they need
    it, since several live at the same time. Keras reads its settings from an empty folder: the
    user's may change what it computes.

    Args:
        mode: which.
        scratch: folder for what the processes keep.
    """
    inherited = dict(os.environ)
    programs = hashlib.sha256(mode.name.encode()).hexdigest()[:16]
    flags = [inherited.get("XLA_FLAGS", ""), *mode.xla_flags]
    return {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        **inherited,
        "XLA_FLAGS": " ".join(filter(None, flags)),
        "KERAS_BACKEND": "jax",
        "KERAS_HOME": str(scratch / "keras"),
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "xla" / programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        **dict(mode.environment),
    }


class Process:
    """A process that times one network under one mode; `close` it.

    It is in a session of its own: Ctrl-C reaches the command alone, which then closes it. Should
    the command be killed, its input ends, and it with that.
    """

    def __init__(self, job: Job | None, environ: Mapping[str, str]):
        """Starts it; without a job it only says what the device is."""
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115, see close
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, *([job.json()] if job else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=dict(environ),
            text=True,
            start_new_session=True,
        )

    def answer(self) -> dict[str, Any]:
        """Waits for its next answer.

        Raises:
            ProcessFailed: it says that it failed, or has died.
        """
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise ProcessFailed(self._last_words())
        content = json.loads(line)
        if "error" in content:
            raise ProcessFailed(content["error"])
        return content

    def run(self, num_steps: int) -> float:
        """Seconds that a number of steps take.

        Raises:
            ProcessFailed: as `answer`.
        """
        try:
            print(num_steps, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise ProcessFailed(self._last_words()) from None
        return self.answer()["seconds"]

    def close(self) -> None:
        """Ends it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # what it was told last may be in the buffer
            self._process.stdin.close()
        self._said.close()

    def _last_words(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        return last_words(code, self._said.read())

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def last_words(code: int, said: str) -> str:
    """Why a process died, in a line: how, and the line that says most of what it wrote.

    That is the first fatal one of XLA's log (`F1121 18:00:33.3 17 file.cc:234] reason`), which a
    stack trace may follow, or else the last one.

    Args:
        code: what it returned; minus the number of the signal that ended it.
        said: what it wrote to standard error.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    fatal = [line.partition("] ")[2] for line in lines if line[:1] == "F" and line[1:5].isdigit()]
    words = (fatal[:1] or lines[-1:] or ["it wrote nothing"])[0]
    if code == -signal.SIGKILL:
        return f"killed (SIGKILL, as the system does where memory runs out): {words}"[:_LONGEST]
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{how}: {words}"[:_LONGEST]


def find_device(scratch: Path) -> dict[str, Any]:
    """The device that the processes compute on; asked of one, as asking takes hold of it.

    Raises:
        UserError: JAX cannot start.
    """
    with Process(None, environment(Mode("device", ""), scratch)) as process:
        try:
            return process.answer()
        except ProcessFailed as failure:
            raise UserError(f"JAX does not start in a process of its own: {failure}") from None
