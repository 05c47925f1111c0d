"""The `seedmap` command: runs a subcommand and reports wrong input in one line."""

import _thread
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module

from seedmap import timings
from seedmap._command import leaving_at_once
from seedmap.errors import UserError, did_you_mean, printable
from seedmap.experiments import EXPERIMENTS
from seedmap.experiments.commands import COMMANDS
from seedmap.experiments.commands.help_text import HELP, HELP_ALL, TIMINGS, help_of
from seedmap.experiments.processes.cores import take_flag, use_cores
from seedmap.experiments.processes.platforms import leave_out_absent_devices
from seedmap.experiments.report.terminal import plain_where_needed

_FORMAT = warnings.formatwarning
_LONGEST = 2000  # characters of a message
_FEWEST_COLUMNS = 40  # a help text in fewer takes minutes to lay out

USAGE = """\
usage: seedmap COMMAND ...

Train many seeds at once, record metrics of their weights, fit an HMM, measure randomness.

commands:
{commands}

experiments:
{experiments}

`seedmap COMMAND --help` and `seedmap run EXPERIMENT --help` list the flags with their defaults,
`--help-all` every one. With every command goes `--cpu-devices N`, the cores of a CPU to train on:
by default all; 1 for one. It changes the time alone. And `--timings`: where the time went, at the
end, and in `config.json`.
"""


def usage() -> str:
    """Returns the text of `seedmap --help`."""
    commands = [f"  {f'{name} {c.arguments}':<24} {c.summary}" for name, c in COMMANDS.items()]
    experiments = [f"  {name:<24} {entry.description}" for name, entry in EXPERIMENTS.items()]
    return USAGE.format(commands="\n".join(commands), experiments="\n".join(experiments))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line; exits with 2 and one line on wrong input."""
    guarded(_command, list(sys.argv[1:] if argv is None else argv))


def _command(argv: Sequence[str]) -> None:
    if argv[:1] == ["--version"]:
        from importlib.metadata import version

        print(f"seedmap {version('seedmap')}", flush=True)
        sys.exit(0)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage(), end="", flush=True)
        sys.exit(0 if argv else 2)
    argv, cpu_devices = take_flag(argv)
    with_timings = TIMINGS in argv
    argv = [word for word in argv if word != TIMINGS]
    if not argv:
        raise UserError(f"name a command: {', '.join(COMMANDS)}")
    name = command_name(argv)
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        raise UserError(f"unknown command {name!r}{hint}; commands are: {', '.join(COMMANDS)}")
    command, words = COMMANDS[name], argv[len(name.split()) :]
    if {*HELP, HELP_ALL} & set(words) and (text := help_of(name, words)) is not None:
        print(text, end="", flush=True)
        return
    leave_out_absent_devices()
    if command.computes:
        from seedmap.experiments.commands.devices import check_flags

        check_flags(os.environ.get("XLA_FLAGS", ""))
    # for what tyro says of a wrong command line
    os.environ["COLUMNS"] = str(max(_FEWEST_COLUMNS, shutil.get_terminal_size().columns))
    with leaving_at_once():
        if command.computes:
            _prepare_jax(cpu_devices)
        module = import_module(f"seedmap.experiments.commands.{command.module}")
    if with_timings:
        timings.start()
    getattr(module, command.function)(words)
    if spent := timings.measured():
        from seedmap.experiments.runs.folder import keep_timings

        try:
            keep_timings(spent)
        except UserError as error:  # the results stand: another command has the folder by now
            print(f"note: config.json has no timings: {error}", file=sys.stderr)
        print(timings.table(timings.measured()), file=sys.stderr)


def command_name(argv: Sequence[str]) -> str:
    """Returns the command that a command line begins with: one or two words."""
    two = " ".join(argv[:2])
    return two if two in COMMANDS else argv[0]


def _prepare_jax(cpu_devices: int | None) -> None:
    """Says how many CPU devices there are to be, and keeps compiled programs."""
    from seedmap.experiments.processes.compile_cache import keep_compiled_programs

    use_cores(cpu_devices)
    keep_compiled_programs()


def guarded(command: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    """Runs a command; exits with 2 and one line on wrong input, with 130 and one on Ctrl-C."""
    unraisable, sys.unraisablehook = sys.unraisablehook, _raise_again
    try:
        warnings.formatwarning = _plain
        plain_where_needed()
        command(argv)
    except UserError as error:
        from seedmap.experiments.commands.parsing import by_its_flag

        _refuse(by_its_flag(str(error)))
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        what = "" if error.filename is None else f" {error.filename}"
        _refuse(f"cannot write or read{what}: {reason}")
    except KeyboardInterrupt as stop:
        print(f"seedmap: stopped{stop}", file=sys.stderr, flush=True)
        os._exit(130)  # a thread that still compiles would crash the interpreter's own exit
    # Broad on purpose: without a device JAX raises anything; a bug keeps its traceback.
    except Exception:
        from seedmap.experiments.commands.devices import no_device

        why = no_device()
        if why is None:
            raise
        _refuse(why)
    finally:
        warnings.formatwarning = _FORMAT
        sys.unraisablehook = unraisable


def _raise_again(lost: "sys.UnraisableHookArgs") -> None:
    """Raises a Ctrl-C again that came where Python drops what is raised.

    That is in destructors and in callbacks of the garbage collector, of which JAX has one. Here it
    would be dropped as well; so it comes a moment later.
    """
    if isinstance(lost.exc_value, KeyboardInterrupt):
        threading.Timer(0.01, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(lost)


def _refuse(message: str) -> None:
    """Prints a message in one line, its middle left out where it is very long; exits with 2."""
    line = printable(" ".join(message.splitlines()))
    half = _LONGEST // 2
    if len(line) > _LONGEST:
        line = f"{line[:half]} ... {line[-half:]}"
    print(f"seedmap: {line}", file=sys.stderr)
    sys.exit(2)


def _plain(message, category, filename, lineno, line=None) -> str:
    """Formats a warning as one line, without file and line number."""
    if issubclass(category, UserWarning):
        return f"seedmap: warning: {printable(str(message))[:_LONGEST]}\n"
    return _FORMAT(message, category, filename, lineno, line)
