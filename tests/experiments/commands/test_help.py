"""Help and completion, from a table of flags that is held equal to what tyro parses."""

import os
import re
import resource
import subprocess
import sys
from contextlib import suppress

import pytest

from helpers.command import seedmap
from seedmap.experiments import EXPERIMENTS, load_experiment
from seedmap.experiments.commands import COMMANDS, WITH_EXPERIMENT, flag_table
from seedmap.experiments.commands.completion import SCRIPTS, candidates
from seedmap.experiments.commands.experiment_flags import parse_experiment
from seedmap.experiments.commands.help_text import HELP_ALL, TABLE, help_of, read_table
from seedmap.experiments.commands.parsing import parse


def test_the_table_is_that_of_the_dataclasses():
    made = "python -m seedmap.experiments.commands.flag_table"
    assert TABLE.read_text(encoding="utf-8") == flag_table.table_text(), f"make it anew: {made}"


def flags_in(text):
    return set(re.findall(r"^[│ ]*(--[a-z][a-z0-9-]*)", text, re.MULTILINE)) - {"--help"}


@pytest.mark.parametrize("command", sorted(flag_table.OPTIONS.keys() - set(WITH_EXPERIMENT)))
def test_every_flag_that_is_parsed_has_its_help(command, capsys):
    with suppress(SystemExit):
        parse(flag_table.OPTIONS[command], command, ["--help"])
    assert flags_in(help_of(command, [HELP_ALL], 100)) == flags_in(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("command", "experiment"),
    [(command, "parities") for command in WITH_EXPERIMENT]
    + [("run", "cifar10-destabilised"), ("train", "mlm")],
)
def test_every_flag_of_an_experiment_has_its_help(command, experiment, capsys):
    groups = flag_table.OF_PRESET.get(command, ("training",))
    changed = flag_table.CHANGED.get(command, {})
    words = [experiment, "--help", "--preset", "quick"]
    with suppress(SystemExit):
        parse_experiment(flag_table.OPTIONS[command], command, words, groups, **changed)
    by_tyro = capsys.readouterr().out
    shown = help_of(command, [*words, HELP_ALL], 100)
    assert flags_in(shown) == flags_in(by_tyro)
    tall = re.sub(r"[│ \n]+", " ", by_tyro)
    seeds = load_experiment(experiment).presets["quick"].training.seeds
    assert f"(default: {seeds})" in shown
    assert f"(default: {seeds})" in tall


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_begins_with_a_sentence_and_examples(command):
    lines = help_of(command, ["--help"], 100).splitlines()
    assert lines[0].startswith(f"usage: seedmap {command}")
    assert COMMANDS[command].summary[1:] in " ".join(lines[2:4])
    examples = [line for line in lines if line.startswith(f"  seedmap {command} ")]
    assert len(examples) >= (1 if COMMANDS[command].arguments == "DIR" else 2)


@pytest.mark.parametrize("command", WITH_EXPERIMENT)
def test_without_an_experiment_the_experiments_are_listed(command, capsys):
    assert seedmap(*command.split(), "--help") == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in EXPERIMENTS)


@pytest.mark.parametrize("width", [1, 42, 100, 400])
def test_a_help_fits_the_terminal(width):
    for command in COMMANDS:
        words = ["parities"] if command in WITH_EXPERIMENT else []
        text = help_of(command, [*words, HELP_ALL], width)
        flags = [line for line in text.splitlines() if not line.startswith("  seedmap ")]
        assert max(map(len, flags[1:])) <= max(min(width, 100), 40)


def processor_seconds(words):
    """User and system time of a process of its own, as `time` has it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def test_help_is_quick():
    """The least of a few: on a busy machine the same work takes up to twice its time."""
    words = [sys.executable, "-m", "seedmap", "run", "parities", "--help"]
    assert min(processor_seconds(words) for _ in range(5)) < 0.4


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from seedmap.experiments.commands.main import main; "
        "main(['run', 'parities', '--help']); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert "seedmap.experiments.commands.help_text" in loaded
    assert not {"jax", "numpy", "tyro", "xarray", "rich"} & set(loaded)


def test_an_unknown_preset_is_refused_in_the_help_too(capsys):
    assert seedmap("run", "parities", "--help", "--preset", "huge") == 2
    assert "--preset 'huge' is unknown; parities has: paper, quick" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("co", ["collect", "compare", "completion"]),
        ("noise pari", ["parities"]),
        (
            "noise c",
            [
                "cifar10",
                "cifar10-destabilised",
                "cifar100",
                "cifar100-destabilised",
                "celeba",
                "compare",
            ],
        ),
        ("run parities --pres", ["--preset"]),
        ("run parities --preset ", ["paper", "quick"]),
        ("run parities --overw", ["--overwrite"]),
        ("run parities --seeds ", []),
        ("fit runs/mine --emission a", ["autoregressive"]),
        ("import ", ["checkpoints", "metrics"]),
        ("run nothing --s", []),
        ("completion f", ["fish"]),
        ("map runs", []),
    ],
)
def test_a_word_is_completed(typed, completed):
    assert candidates(typed.split(" ")) == completed


@pytest.mark.parametrize("shell", SCRIPTS)
def test_completion_is_printed_for_a_shell(shell, capsys):
    assert seedmap("completion", shell) == 0
    assert "seedmap completion words" in capsys.readouterr().out
    assert seedmap("completion", "tcsh") == 2


def test_bash_completes(tmp_path, capsys):
    assert seedmap("completion", "bash") == 0
    script = capsys.readouterr().out
    (tmp_path / "seedmap").write_text(f'#!/bin/sh\nexec {sys.executable} -m seedmap "$@"\n')
    (tmp_path / "seedmap").chmod(0o755)
    asked = 'COMP_WORDS=(seedmap run parities --preset ""); COMP_CWORD=4; _seedmap; '
    asked += 'echo "${COMPREPLY[@]}"'
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script + asked],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "paper quick\n"


def test_the_table_names_what_logs_are_read():
    assert "tensorboard" in read_table()["kinds"]


def test_a_reader_that_leaves_early_is_no_error():
    """As `seedmap --help | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "seedmap", "--help"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
