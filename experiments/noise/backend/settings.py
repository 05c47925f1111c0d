"""The same replica trained in processes of its own, under one setting of the tools after another.

Every process starts from the same keys with all sources held, so that any difference between two of
them is the tools' own: kernels that do not add up in one order, or another program that rounds
otherwise.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seedmap.errors import UserError
from seedmap.experiments.processes.child import REFUSED, ChildProcess
from seedmap.experiments.processes.settings import FLAGS, environment, parse_flags, tools_of

COPIES = 4  # side by side in `vmapped`, one after the other in `one-at-a-time`
LOGS = "logs"
_MODULE = "seedmap.experiments.noise.backend.child"


@dataclass(frozen=True)
class Setting:
    """Compiler flags, threads and copies of a process.

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


def _setting(name: str, what: str, copies: int = 1, at_once: int = 1) -> Setting:
    tools = tools_of(name)
    return Setting(name, what, tools.flags, tools.variables, copies, at_once)


SETTINGS = {
    setting.name: setting
    for setting in (
        _setting("default", "as it comes"),
        _setting(
            "deterministic", "GPU kernels that add up in one order, chosen without timing them"
        ),
        _setting(
            "exclude-nondeterministic",
            "operations without a deterministic GPU kernel are refused",
        ),
        _setting("one-thread", "XLA's threads on a CPU limited to one"),
        _setting("unoptimised", "compiled without LLVM's optimisations"),
        _setting("vmapped", f"{COPIES} copies side by side in one program", COPIES, COPIES),
        _setting("one-at-a-time", f"{COPIES} copies, one after the other", COPIES, 1),
    )
}


def parse_setting(text: str) -> Setting:
    """Returns a setting by its name, or one of XLA flags: "flags:--xla_a=1 --xla_b=2".

    Raises:
        UserError: there is no such setting, or its flags are none of XLA's.
    """
    if text in SETTINGS:
        return SETTINGS[text]
    if not text.startswith(FLAGS):
        raise UserError(
            f"--settings: {text!r} is unknown; choose from {', '.join(SETTINGS)}, or "
            f"{FLAGS}--xla_..."
        )
    flags = parse_flags(text, "--settings").flags
    name = "flags" + re.sub(r"[^\w.]+", "-", " ".join(flags)).replace("-xla_", "-")
    return Setting(name, " ".join(flags), flags)


def parse_settings(texts: Sequence[str]) -> list[Setting]:
    """Parses settings of the command line, each named once.

    Raises:
        UserError: there is none, or one is unknown or stands twice.
    """
    if not texts:
        raise UserError(f"--settings needs a value: some of {', '.join(SETTINGS)}, or {FLAGS}...")
    settings = [parse_setting(text) for text in texts]
    names = [setting.name for setting in settings]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"--settings: {twice[0]} stands twice; name each setting once")
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
    """Lists all processes; settings take turns so that none has the machine at its calmest."""
    return [
        Child(setting, replica, folder / f"{setting.name}-{replica}")
        for replica in range(replicas)
        for setting in settings
    ]


def is_trained(folder: Path) -> bool:
    """Tells whether a child has come to its end in the folder."""
    from seedmap.experiments.runs.folder import CONFIG, PREDICTIONS, TRAINING

    made = all((folder / name).is_file() for name in (CONFIG, PREDICTIONS))
    return made and not (folder / TRAINING).exists()


def environment_of(setting: Setting) -> dict[str, str]:
    """Makes the environment of a child: this one's, with the setting's flags and variables.

    Each process compiles its own program, so that what is chosen in doing so is chosen anew.
    """
    added = environment(setting.flags, setting.variables)
    return {**added, "JAX_ENABLE_COMPILATION_CACHE": "false"}


def run_child(
    child: Child,
    argv: Sequence[str],
    on_message: Callable[[dict[str, Any]], None] | None = None,
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
    arguments = [child.setting.name, str(child.folder), *argv]
    log = child.folder.parent / LOGS / f"{child.folder.name}.log"
    with ChildProcess(_MODULE, arguments, environment_of(child.setting), log) as process:
        for message in process.messages():
            if on_message is not None:
                on_message(message)
        code = process.wait()
        if code == 0:
            return None
        if code == REFUSED:
            raise UserError(process.last_line().removeprefix("seedmap: "))
        return process.reason()
