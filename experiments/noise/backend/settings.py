"""The same replica trained in processes of its own, under one setting of the tools after another.

Every process starts from the same keys with all sources held, so that whatever parts two of them is
the tools' own: kernels that do not add up in one order, or another program that rounds otherwise.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from seedmap.experiments.commands.parsing import UsageError

COPIES = 4  # side by side in `vmapped`, one after the other in `one-at-a-time`
LOGS = "logs"
FLAGS = "flags:"
REFUSED = 2  # exit code of a child whose input is wrong


@dataclass(frozen=True)
class Setting:
    """How a process is to compute.

    Attributes:
        name: on the command line, and of its folders.
        what: in a few words.
        flags: added to the XLA_FLAGS of this process.
        variables: further variables of the environment.
        copies: of the replica in one process.
        at_once: how many of them are vmapped together.
    """

    name: str
    what: str
    flags: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    copies: int = 1
    at_once: int = 1


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("default", "as it comes"),
        Setting(
            "deterministic",
            "GPU kernels that add up in one order, chosen without timing them",
            ("--xla_gpu_deterministic_ops=true",),
        ),
        Setting(
            "exclude-nondeterministic",
            "operations without a deterministic GPU kernel are refused",
            ("--xla_gpu_exclude_nondeterministic_ops=true",),
        ),
        # XLA's client sizes its threads by NPROC, else by the cores it may run on. On jaxlib 0.10.2
        # large reductions then add up in other pieces, products and convolutions do not;
        # --xla_cpu_multi_thread_eigen=false moved no bit of any of them.
        Setting("one-thread", "XLA's threads on a CPU limited to one", (), (("NPROC", "1"),)),
        Setting(
            "unoptimised",
            "compiled without LLVM's optimisations",
            ("--xla_backend_optimization_level=0",),
        ),
        Setting("vmapped", f"{COPIES} copies side by side in one program", (), (), COPIES, COPIES),
        Setting("one-at-a-time", f"{COPIES} copies, one after the other", (), (), COPIES, 1),
    )
}


def parse_setting(text: str) -> Setting:
    """A setting by its name, or one of XLA flags: "flags:--xla_a=1 --xla_b=2".

    Raises:
        UsageError: there is no such setting, or its flags are none of XLA's.
    """
    if text in SETTINGS:
        return SETTINGS[text]
    flags = tuple(text.removeprefix(FLAGS).split())
    if not text.startswith(FLAGS) or not flags:
        raise UsageError(
            f"--settings: {text!r} is unknown; choose from {', '.join(SETTINGS)}, or "
            f"{FLAGS}--xla_..."
        )
    wrong = [flag for flag in flags if not re.fullmatch(r"--xla_\w+(=\S+)?", flag)]
    if wrong:
        raise UsageError(f"--settings {text!r}: {wrong[0]!r} is no flag of XLA, --xla_NAME=VALUE")
    name = "flags" + re.sub(r"[^\w.]+", "-", " ".join(flags)).replace("-xla_", "-")
    return Setting(name, " ".join(flags), flags)


def parse_settings(texts: Sequence[str]) -> list[Setting]:
    """Settings from the command line, each named once.

    Raises:
        UsageError: there is none, or one is unknown or stands twice.
    """
    if not texts:
        raise UsageError(f"--settings needs a value: some of {', '.join(SETTINGS)}, or {FLAGS}...")
    settings = [parse_setting(text) for text in texts]
    names = [setting.name for setting in settings]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"--settings: {twice[0]} stands twice; name each setting once")
    return settings


class Child(NamedTuple):
    """One process.

    Attributes:
        setting: how it computes.
        replica: its number among those of the setting.
        folder: the study it writes, a subfolder of the whole's.
    """

    setting: Setting
    replica: int
    folder: Path


def children_of(settings: Sequence[Setting], replicas: int, folder: Path) -> list[Child]:
    """All processes, the settings taking turns so that none has the machine at its calmest."""
    return [
        Child(setting, replica, folder / f"{setting.name}-{replica}")
        for replica in range(replicas)
        for setting in settings
    ]


def is_trained(folder: Path) -> bool:
    """Whether a child has come to its end there."""
    from seedmap.experiments.runs.folder import CONFIG, PREDICTIONS, TRAINING

    made = all((folder / name).is_file() for name in (CONFIG, PREDICTIONS))
    return made and not (folder / TRAINING).exists()


def environment_of(setting: Setting) -> dict[str, str]:
    """The environment of a child: this one's, with the setting's flags and variables.

    Each process compiles its own program, so that what is chosen in doing so is chosen anew.
    """
    flags = [os.environ.get("XLA_FLAGS", ""), *setting.flags]
    return {
        **os.environ,
        **({"XLA_FLAGS": " ".join(flags).strip()} if any(flags) else {}),
        **dict(setting.variables),
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }


def command_of(child: Child, argv: Sequence[str]) -> list[str]:
    """The command that starts a child."""
    module = "seedmap.experiments.noise.backend.child"
    return [sys.executable, "-m", module, child.setting.name, str(child.folder), *argv]


def run_child(
    child: Child, argv: Sequence[str], on_message: Callable[[dict], None] | None = None
) -> str | None:
    """Runs one process to its end; it does not outlive this call.

    Args:
        child: which.
        argv: the command line of `seedmap noise backend`, which the child reads as well.
        on_message: called at each of the child's records: "step" (done), "steps" (in all) and
            "seconds" (since compilation).

    Returns:
        None where it has trained, else why it has not, in one line.

    Raises:
        UserError: the child refuses its input.
    """
    log = child.folder.parent / LOGS / f"{child.folder.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command_of(child, argv),
            env=environment_of(child.setting),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            for line in process.stdout:
                if on_message is not None and line.startswith("{"):
                    on_message(json.loads(line))
        except BaseException:  # Ctrl-C, say
            process.kill()
            raise
        code = process.wait()
    if code == 0:
        return None
    said = last_line(log.read_text(encoding="utf-8", errors="replace"))
    if code == REFUSED:
        raise UsageError(said.removeprefix("seedmap: "))
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{said} ({how})" if said else f"it said nothing ({how})"


# Lines of stack traces, of C++ and of Python, and what JAX adds to the latter.
_TRACE = re.compile(
    r"\s*(@ |PC: |\*\*\* |\[|---|For simplicity|#\d+ |Fatal Python|Thread 0x|File )"
)


_LOGGED = re.compile(r"[IWEF]\d{4} [\d:.]+ +\d+ \S+\] ")  # when and where in XLA, as it logs


def last_line(text: str) -> str:
    """The last line of what a process said that is not of a stack trace; "" where there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _LOGGED.sub(
        "", ([line for line in lines if not _TRACE.match(line)] or lines or [""])[-1]
    )
