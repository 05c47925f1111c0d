"""The processes that time, seen from the one that starts them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seedmap.errors import UserError
from seedmap.experiments.overhead.child import Job
from seedmap.experiments.overhead.modes import Mode
from seedmap.experiments.processes import settings
from seedmap.experiments.processes.child import ChildProcess, ProcessFailed

_MODULE = "seedmap.experiments.overhead.child"


def environment(mode: Mode, scratch: Path) -> dict[str, str]:
    """Makes the environment of a process that times under a mode.

    Compiled programs are kept for as long as the command runs, so that a process that is started
    again compiles nothing; in a folder for each mode, since JAX's keys of programs include XLA's
    flags but not by the number of threads they were compiled for. On a GPU processes take memory as
    they need it, since several live at the same time. Keras reads its settings from an empty
    folder: the user's may change what it computes.

    Args:
        mode: which.
        scratch: folder for what the processes keep.
    """
    programs = hashlib.sha256(mode.name.encode()).hexdigest()[:16]
    return {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        **settings.environment(mode.tools.flags, mode.tools.variables),
        "KERAS_BACKEND": "jax",
        "KERAS_HOME": str(scratch / "keras"),
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "xla" / programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }


class Process(ChildProcess):
    """A process that times one network under one mode; `close` it."""

    def __init__(self, job: Job | None, environ: Mapping[str, str]):
        """Starts it; without a job it only says what the device is."""
        super().__init__(_MODULE, [job.json()] if job else [], environ)

    def answer(self) -> dict[str, Any]:
        """Waits for its next answer.

        Raises:
            ProcessFailed: it says that it failed, or has died.
        """
        content = super().answer()
        if "error" in content:
            raise ProcessFailed(content["error"])
        return content

    def run(self, num_steps: int) -> float:
        """Returns the seconds that a number of steps take.

        Raises:
            ProcessFailed: as `answer`.
        """
        self.send(str(num_steps))
        return self.answer()["seconds"]


def find_device(scratch: Path) -> dict[str, Any]:
    """Asks a process for the device that they compute on, as asking takes hold of it.

    Raises:
        UserError: JAX cannot start.
    """
    with Process(None, environment(Mode("device", ""), scratch)) as process:
        try:
            return process.answer()
        except ProcessFailed as failure:
            raise UserError(f"JAX does not start in a process of its own: {failure}") from None
