"""The help of a command, from the table of flags (`flag_table`), laid out for the terminal.

Nothing heavy is imported: help takes a tenth of a second.
"""

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from seedmap.experiments import EXPERIMENTS
from seedmap.experiments.commands import COMMANDS, WITH_EXPERIMENT
from seedmap.experiments.processes.cores import FLAG as CPU_DEVICES

TABLE = Path(__file__).with_name("flags.json")
HELP = ("-h", "--help")
HELP_ALL = "--help-all"
TIMINGS = "--timings"
_FEW = 16  # flags, of which all are shown
_FEWEST_COLUMNS, _MOST_COLUMNS = 40, 100
_ABOUT = 26  # column in which the text of a flag begins
_EVERYWHERE = f"With every command: {CPU_DEVICES} N, {TIMINGS} (see `seedmap --help`)."


@cache
def read_table() -> dict[str, Any]:
    """Returns the table of flags, as `flag_table.table` makes it."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def help_of(command: str, words: Sequence[str], width: int | None = None) -> str | None:
    """Returns the help of a command; None where an experiment or preset is not known.

    Args:
        command: its name.
        words: what follows the name, `--help` or `--help-all` among it.
        width: columns; by default the terminal's.
    """
    columns = shutil.get_terminal_size().columns if width is None else width
    columns = min(max(columns, _FEWEST_COLUMNS), _MOST_COLUMNS)
    if command not in read_table()["commands"]:
        return "\n".join(_head(command, None, columns)) + "\n"
    experiment = None
    if command in WITH_EXPERIMENT and words and not words[0].startswith("-"):
        experiment = words[0]
        if experiment not in EXPERIMENTS:
            return None
    lines = list(_head(command, experiment, columns))
    if command in WITH_EXPERIMENT and experiment is None:
        return "\n".join([*lines, *_experiments(command, columns)]) + "\n"
    groups = groups_of(command, experiment, _preset(words))
    if groups is None:
        return None
    return "\n".join([*lines, *_flags(command, experiment, groups, words, columns)]) + "\n"


def groups_of(
    command: str, experiment: str | None = None, preset: str | None = None
) -> list[dict[str, Any]] | None:
    """Returns the groups of flags of a command, their defaults filled in.

    Args:
        command: its name.
        experiment: of a command with one.
        preset: whose defaults; by default the experiment's first.

    Returns:
        Groups {`name`, `about`, `flags`}; None where the experiment has no such preset.
    """
    entry = read_table()["commands"][command]
    if experiment is None:
        return entry["groups"]
    own = read_table()["experiments"][experiment]
    preset = preset or next(iter(own["presets"]))
    if preset not in own["presets"]:
        return None
    groups = []
    for group in entry["groups"]:
        group = {**group, **(own["training"] if group["flags"] is None else {})}
        defaults = {}
        if group["name"] in entry["of_preset"]:
            defaults = own["presets"][preset][group["name"]] | entry["changed"]
        defaults["preset"] = preset
        flags = [
            {**flag, "default": defaults.get(flag["name"], flag["default"])}
            for flag in group["flags"]
        ]
        for flag in flags:
            if flag["name"] == "preset":
                flag["value"] = "{" + ",".join(own["presets"]) + "}"
        groups.append({**group, "flags": flags})
    return groups


def flag_of(flag: dict[str, Any]) -> str:
    """Returns a flag as it is typed; what is on is turned off by `--no-...`."""
    if flag["positional"]:
        return flag["value"]
    off = "no-" if flag["value"] == "" and flag["default"] == "True" else ""
    return f"--{off}{flag['name'].replace('_', '-')}"


def flags_of(command: str, words: Sequence[str]) -> list[str]:
    """Returns the flags that a command line may have, those of every command among them.

    Args:
        command: its name, and the experiment's where it has one.
        words: what follows; of its preset, what is on is turned off and the other way round.
    """
    name, _, experiment = (command, "", None) if command in COMMANDS else command.rpartition(" ")
    groups = groups_of(name, experiment, _preset(words)) or []
    flags = (flag for group in groups for flag in group["flags"] if not flag["positional"])
    return [*map(flag_of, flags), *HELP, HELP_ALL, CPU_DEVICES, TIMINGS]


def _preset(words: Sequence[str]) -> str | None:
    """The preset that is named, the last one where several are."""
    named = None
    for word, after in zip(words, (*words, "")[1:], strict=True):
        if word == "--preset":
            named = after
        elif word.startswith("--preset="):
            named = word.partition("=")[2]
    return named


def _head(command: str, experiment: str | None, columns: int) -> Iterator[str]:
    """Yields how the command is called, what it does, and examples."""
    entry = COMMANDS[command]
    called = f"seedmap {command} {experiment or entry.arguments}".rstrip()
    yield f"usage: {called} [FLAGS]"
    yield ""
    about = entry.summary[0].upper() + entry.summary[1:] + "."
    if experiment is not None:
        about += f" {EXPERIMENTS[experiment].description}"
    yield from textwrap.wrap(about, columns)
    yield ""
    yield "examples:"
    examples = [f"seedmap {command} {example}" for example in entry.examples]
    if experiment is not None:
        first = next(iter(EXPERIMENTS))
        examples = [example.replace(first, experiment) for example in examples]
    yield from (f"  {example}" for example in examples)


def _experiments(command: str, columns: int) -> Iterator[str]:
    """Yields the experiments that a command takes."""
    yield ""
    yield "experiments:"
    presets = {name: own["presets"] for name, own in read_table()["experiments"].items()}
    for name, entry in EXPERIMENTS.items():
        about = f"{entry.description} Presets: {', '.join(presets[name])}."
        yield from _row(name, about, columns)
    yield ""
    yield from textwrap.wrap(
        f"`seedmap {command} EXPERIMENT --help` lists the flags with their defaults.", columns
    )
    others = [name for name in COMMANDS if name.startswith(f"{command} ")]
    if others:
        yield from textwrap.wrap(f"See also: {', '.join(f'seedmap {o}' for o in others)}.", columns)


def _flags(command, experiment, groups, words, columns) -> Iterator[str]:
    """Yields the flags: all where they are few or asked for, else the basic ones."""
    count = sum(len(group["flags"]) for group in groups)
    everything = HELP_ALL in words or count <= _FEW
    for group in groups:
        flags = [flag for flag in group["flags"] if everything or flag["basic"]]
        if flags:
            yield ""
            title = f"{group['name']}:"
            if everything and group["about"]:
                title += f" {group['about']}"
            yield from textwrap.wrap(title, columns)
        for flag in flags:
            value = "" if flag["positional"] else f" {flag['value']}".rstrip()
            yield from _row(flag_of(flag) + value, about_of(flag), columns)
    if command == "import":
        yield ""
        yield "kinds, told by looking or by --kind:"
        for name, summary in read_table()["kinds"].items():
            yield from _row(name, summary, columns)
    yield ""
    if not everything:
        called = f"seedmap {command} {experiment or ''}".rstrip()
        yield from textwrap.wrap(f"`{called} {HELP_ALL}` lists all {count} flags.", columns)
    yield from textwrap.wrap(_EVERYWHERE, columns)


def about_of(flag: dict[str, Any]) -> str:
    """Returns what a flag is for, with its default."""
    about = flag["about"]
    if flag["required"] and not flag["positional"]:
        return f"{about} Required."
    if flag["value"] == "" or flag["default"] is None:
        return about
    return f"{about} (default: {flag['default']})"


def _row(name: str, about: str, columns: int) -> Iterator[str]:
    """Yields a name with its text beside it; below it where the terminal is narrow."""
    at = _ABOUT if columns >= 2 * _ABOUT else 6
    text = textwrap.wrap(about, columns - at) or [""]
    if len(name) + 4 <= at:
        yield f"  {name}".ljust(at) + text[0]
        text = text[1:]
    else:
        yield from textwrap.wrap(name, columns, initial_indent="  ", subsequent_indent="    ")
    yield from (" " * at + line for line in text)
