"""Child processes of ours: how one is started, what it answers, how it ends.

with ChildProcess(module, arguments, environ) as child:     # in the parent
    child.send("3")
    child.answer()                                          # {"seconds": 0.5}

next_line, answer = end_with_parent(), answers()            # in the module
answer(seconds=run(int(next_line())))

A child imports nothing from the working folder, answers on its standard output, a JSON object a
line, says on standard error what is wrong, and ends with its parent, however that ends.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from seedmap import files

REFUSED = 2  # exit code of a child whose input is wrong
_LONGEST = 300  # characters of a reason


class ProcessFailed(RuntimeError):
    """A child has failed or died; the message is the reason, in one line."""


def command(module: str, arguments: Sequence[str]) -> list[str]:
    """Returns the command that runs a module, without the working folder among its paths."""
    return [sys.executable, "-P", "-m", module, *arguments]


def safe_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Copies an environment without the entries of PYTHONPATH that mean the working folder.

    Those are empty or relative ones; a `json.py` that lies there would be imported in place of
    Python's. Absolute ones stay, for packages of the user's.
    """
    safe = dict(environ)
    entries = safe.pop("PYTHONPATH", "").split(os.pathsep)
    absolute = [entry for entry in entries if os.path.isabs(entry)]
    return safe | ({"PYTHONPATH": os.pathsep.join(absolute)} if absolute else {})


class ChildProcess:
    """A process that runs a module of ours; `close` it.

    It is in a session of its own: Ctrl-C reaches the parent alone, which then closes it. Should the
    parent be killed, the child's standard input ends, and it with that (`end_with_parent`).
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        log: Path | None = None,
    ):
        """Starts it.

        Args:
            module: run as the main one.
            arguments: of its command line.
            environ: its environment, made safe by `safe_environment`.
            log: file for what it says on standard error; None: none that stays.
        """
        if log is None:
            self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115, see close
        else:
            files.make_folder(log.parent)
            files.announce("write", log)  # a stream, which cannot be a draft
            self._errors = log.open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            command(module, arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=safe_environment(environ),
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )

    def messages(self) -> Iterator[dict[str, Any]]:
        """Waits for its answers, one after the other, until it ends."""
        for line in self._process.stdout:
            if line.startswith("{") and line.endswith("\n"):
                yield json.loads(line)

    def answer(self) -> dict[str, Any]:
        """Waits for its next answer.

        Raises:
            ProcessFailed: it has ended without one.
        """
        for message in self.messages():
            return message
        raise ProcessFailed(self.reason())

    def send(self, line: str) -> None:
        """Sends it a line.

        Raises:
            ProcessFailed: it has ended.
        """
        try:
            print(line, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise ProcessFailed(self.reason()) from None

    def wait(self) -> int:
        """Waits for its end; returns its exit code, or minus the number of the signal."""
        return self._process.wait()

    def last_line(self) -> str:
        """Waits for its end; returns the line that says why, of what it wrote to standard error."""
        self.wait()
        self._errors.seek(0)
        return last_line(self._errors.read())

    def reason(self) -> str:
        """Waits for its end; returns why it ended, in one line."""
        return reason(self.wait(), self.last_line())

    def close(self) -> None:
        """Ends it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        with suppress(BrokenPipeError):  # what was sent last may be in the buffer
            self._process.stdin.close()
        self._errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def reason(code: int, line: str) -> str:
    """Says why a process ended, in one line.

    Args:
        code: what it returned; minus the number of the signal that ended it.
        line: the last of its output, by `last_line`.
    """
    line = line or "it wrote nothing"
    if code == -signal.SIGKILL:
        return f"killed (SIGKILL, as the system does where memory runs out): {line}"[:_LONGEST]
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{how}: {line}"[:_LONGEST]


# Lines of stack traces, of C++ and of Python, and what JAX adds to the latter.
_TRACE = re.compile(
    r"\s*(@ |PC: |\*\*\* |\[|---|For simplicity|#\d+ |Fatal Python|Thread 0x|File )"
)
_LOGGED = re.compile(r"[IWEF]\d{4} [\d:.]+ +\d+ \S+\] ")  # when and where in XLA, as it logs


def last_line(text: str) -> str:
    """Finds the line of what a process wrote that says why it ended; "" where it wrote nothing.

    That is the first fatal one of XLA's log (`F1121 18:00:33.3 17 file.cc:234] reason`, of which
    the reason is given), or else the last one that is not of a stack trace.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = [line for line in lines if line[0] == "F" and _LOGGED.match(line)]
    plain = [line for line in lines if not _TRACE.match(line)]
    return _LOGGED.sub("", (fatal[:1] or plain[-1:] or lines[-1:] or [""])[0])


def end_with_parent() -> Callable[[], str]:
    """Ends this process once its standard input ends, as it does when its parent closes it or dies.

    Returns:
        Waits for the next line of input.
    """
    lines: SimpleQueue[str] = SimpleQueue()

    def follow() -> None:
        # Unbuffered: the interpreter's exit would wait for the lock of `sys.stdin`.
        with open(0, "rb", buffering=0, closefd=False) as stream:
            for line in stream:
                lines.put(line.decode())
        os._exit(0)

    Thread(target=follow, daemon=True).start()
    return lines.get


def answers() -> Callable[..., None]:
    """Keeps standard output for answers: what else is printed goes to standard error.

    Returns:
        Writes its keyword arguments as an answer.
    """
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**content: Any) -> None:
        print(json.dumps(content), file=stream, flush=True)

    return answer
