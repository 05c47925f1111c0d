"""`seedmap completion SHELL`: what completes commands, experiments, flags and choices.

The shell asks the command itself at every Tab, which takes a tenth of a second.
"""

from collections.abc import Sequence

from seedmap.errors import UserError
from seedmap.experiments import EXPERIMENTS
from seedmap.experiments.commands import COMMANDS, WITH_EXPERIMENT
from seedmap.experiments.commands.help_text import HELP_ALL, flag_of, groups_of, read_table

WORDS = "words"  # what the scripts ask with
SCRIPTS = {
    "bash": """\
_seedmap() {
  local IFS=$'\\n'
  COMPREPLY=($(seedmap completion words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _seedmap seedmap
""",
    "zsh": """\
_seedmap() {
  local -a found
  found=(${(f)"$(seedmap completion words "${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if (( $#found )); then compadd -a found; else _files; fi
}
compdef _seedmap seedmap
""",
    "fish": """\
function __seedmap
  seedmap completion words (commandline -opc)[2..] (commandline -ct) 2>/dev/null
end
complete -c seedmap -a '(__seedmap)'
""",
}


def completion_command(argv: Sequence[str]) -> None:
    """Runs `seedmap completion SHELL`."""
    if argv[:1] == [WORDS]:
        print(*candidates(argv[1:]), sep="\n")
    elif len(argv) == 1 and argv[0] in SCRIPTS:
        print(SCRIPTS[argv[0]], end="")
    else:
        raise UserError(f"name a shell: seedmap completion {'|'.join(SCRIPTS)}")


def candidates(words: Sequence[str]) -> list[str]:
    """Returns what the last word may become.

    Args:
        words: after `seedmap`; the last is the one being typed, "" where it has not begun.

    Returns:
        Words that begin with it; none where a path or a number is expected.
    """
    *before, last = words or [""]
    return [word for word in _expected(before, last) if word.startswith(last)]


def _expected(before: Sequence[str], last: str) -> list[str]:
    two = " ".join(before[:2])
    command = two if two in COMMANDS else " ".join(before[:1])
    if command not in COMMANDS:
        return [name for name in COMMANDS if " " not in name]
    if command == "completion":
        return list(SCRIPTS)
    after = before[len(command.split()) :]
    if command in WITH_EXPERIMENT and not after:
        return [*EXPERIMENTS, *_second_words(command)]
    experiment = after[0] if command in WITH_EXPERIMENT else None
    if experiment is not None and experiment not in EXPERIMENTS:
        return []
    if command not in read_table()["commands"]:
        return []
    groups = groups_of(command, experiment) or []
    flags = {flag_of(flag): flag for group in groups for flag in group["flags"]}
    if after and after[-1] in flags and flags[after[-1]]["value"]:
        return _choices(flags[after[-1]]["value"])
    if last.startswith("-"):
        return [flag for flag in flags if flag.startswith("--")] + ["--help", HELP_ALL]
    return [] if after else _second_words(command)


def _second_words(command: str) -> list[str]:
    return [name.split()[1] for name in COMMANDS if name.startswith(f"{command} ")]


def _choices(value: str) -> list[str]:
    return value[1:-1].split(",") if value.startswith("{") else []
