"""Flags parsed by tyro, and what it says of wrong ones in one line instead of its box.

tyro has no public hook for errors, only the text it prints. That text is all that is read here, so
that wording this module does not know still comes out as one line.
"""

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import fields
from itertools import dropwhile, takewhile
from typing import Any

import tyro

from seedmap.errors import UserError, did_you_mean
from seedmap.experiments.commands.help_text import flags_of

_KNOWN = (  # what tyro and Python say, and what a person needs
    (r"Error parsing (\S+): invalid literal for int\(\) .*: (.*)", r"\1: \2 is not a whole number"),
    (r"Error parsing (\S+): could not convert string to float: (.*)", r"\1: \2 is not a number"),
    (
        r"Error parsing (\S+): Could not find valid parse for arguments: \[(.*)\]",
        r"\1: \2 is not a valid value",
    ),
    (
        r"Error parsing (\S+): no type matching .*FLOAT.* could be instantiated from \['(.*)'\]\.",
        r"\1: '\2' is not a number",
    ),
    (
        r"Error parsing (\S+): no type matching .*INT.* could be instantiated from \['(.*)'\]\.",
        r"\1: '\2' is not a whole number",
    ),
    (
        r"Error parsing (\S+): no type matching .* could be instantiated from \[(.*)\]\.",
        r"\1: \2 is not a valid value",
    ),
    (r"invalid choice (.*) for argument '(\S+)'\. .* \((.*)\)\.", r"\2: \1 is not one of \3"),
    (r"Missing value for argument '(\S+)'\. .*", r"\1 needs a value"),
)


# Lists are written with spaces in the documents. These flags are one text for tyro, joined here;
_JOINED = ("--sources", "--states")
# these take words of known sets, which hold no commas; names of a user's columns may.
_SPLIT = ("--vary", "--record", "--settings", "--networks", "--modes", "--fork-steps")
_SPLIT += ("--commit-steps",)


class UsageError(UserError):
    """A command line that cannot be understood."""


def parse(options: Any, command: str, argv: Sequence[str], **settings: Any) -> Any:
    """Parses the flags of a command into `options`.

    Args:
        options: A dataclass, as `tyro.cli` takes it.
        command: What follows `seedmap` on the command line, for messages.
        argv: The words after that.
        **settings: Passed on to `tyro.cli`.

    Raises:
        UsageError: A flag is unknown or lacking, or its value is of the wrong kind.
        SystemExit: With code 0, after --help.
    """
    _check_not_empty(argv)
    flags = flags_of(command, argv)
    for word in takewhile(lambda word: word != "--", argv):
        if word.startswith("--") and _plain_flag(word) not in flags:
            raise _unknown(word, flags, command)
    argv = one_list_syntax(argv)
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            parsed, unknown = tyro.cli(
                options, prog=f"seedmap {command}", args=argv, return_unknown_args=True, **settings
            )
    except SystemExit as leaving:
        if not leaving.code:
            raise
        raise UsageError(f"{one_line(errors.getvalue())}; see `seedmap {command} --help`") from None
    if unknown:
        raise _unknown(unknown[0], flags, command)
    return parsed


def one_list_syntax(argv: Sequence[str]) -> list[str]:
    """Returns a command line in which lists are as tyro takes them, by commas or by spaces.

    Example:
        >>> one_list_syntax(["--sources", "init", "ulp", "--vary", "init,order"])
        ['--sources', 'init,ulp', '--vary', 'init', 'order']
    """
    words: list[str] = []
    flag, count = "", 0  # the flag whose values these are, and how many there were
    for word in argv:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            flag, count = name.replace("_", "-"), int(bool(equals))
            if flag in _SPLIT and value and not value.startswith("flags:"):
                words += [name, *value.split(",")]
            else:
                words.append(word)
            continue
        count += 1
        if flag in _JOINED and count > 1 and not word.startswith("-"):
            words[-1] += f",{word}"
        elif flag in _SPLIT and not word.startswith("flags:"):
            words += word.split(",")
        else:
            words.append(word)
    return words


def _check_not_empty(argv: Sequence[str]) -> None:
    """Refuses empty words, such as of a variable of the shell that is not set.

    As a path they would mean the working folder.

    Raises:
        UsageError: one is empty.
    """
    for before, word in zip(("", *argv), argv, strict=False):
        if word == "" or re.fullmatch(r"--[a-z-]+=", word):
            flag = before if word == "" else word[:-1]
            after = f" after {flag}" if flag else ""
            raise UsageError(f"a word{after} is empty; give a value, or leave it out")


def _plain_flag(word: str) -> str:
    """A flag as the table has it: without its value, and with hyphens for underscores.

    Example:
        >>> _plain_flag("--fit_seed=3")
        '--fit-seed'
    """
    return word.partition("=")[0].replace("_", "-")


def _unknown(word: str, flags: Sequence[str], command: str) -> UsageError:
    """Says that a word is unknown, and the nearest flag."""
    hint = did_you_mean(_plain_flag(word), flags)
    return UsageError(f"{word!r} is unknown{hint}; `seedmap {command} --help-all` lists all flags")


def by_its_flag(message: str) -> str:
    """Replaces the parameter's name that begins a message by the flag of that name.

    `trainer` and `hmm` speak of parameters (`batch_size is 0; ...`), users of flags.
    """
    from seedmap.experiments.commands.experiment_flags import Session
    from seedmap.experiments.tasks.base import FitConfig, MapConfig, TrainingConfig

    kinds = (TrainingConfig, FitConfig, MapConfig, Session)
    flags = {field.name: field.name for kind in kinds for field in fields(kind)}
    # of `seedmap import`
    flags |= {"run": "run_column"} | {name: name for name in ("kind", "every", "converged")}
    match = re.match(r"([a-z_]+)(?=: | is | needs | must )", message)
    if match is None or match[1] not in flags:
        return message
    return "--" + flags[match[1]].replace("_", "-") + message[match.end() :]


def one_line(box: str) -> str:
    """Returns the text of tyro's error box above its first rule, in one line.

    Args:
        box: A title, lines and rules, in a frame where the terminal has the characters for it.
    """
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)  # without colours
    below_title = (line.strip("│ ") for line in plain.splitlines()[1:])
    lines = list(takewhile(_is_text, dropwhile(lambda line: not _is_text(line), below_title)))
    text = " ".join(lines)
    if text.startswith("Missing from"):
        lacking = [line for line in lines if re.fullmatch(r"--\S+ [A-Z]+|[A-Z]+", line)]
        return f"{' and '.join(lacking)} must be given"
    text = re.sub(r"\(([^()]*'None'[^()]*)\)", _without_none, text)
    for pattern, words in _KNOWN:
        if match := re.fullmatch(pattern, text):
            return match.expand(words)
    return text


def _without_none(choices: re.Match) -> str:
    """Choices in order, without that which is made by leaving the flag out."""
    return "(" + ", ".join(sorted({*choices[1].split(", ")} - {"'None'"})) + ")"


def _is_text(line: str) -> bool:
    return bool(line.strip("─-╰╯"))
