"""What the command says of a wrong command line, and Ctrl-C while it is being imported."""

import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from helpers.command import seedmap
from seedmap.experiments.commands import help_text, parsing
from seedmap.experiments.commands.experiment_flags import TrainOptions, parse_experiment
from seedmap.experiments.commands.folder_options import FolderOptions

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


@pytest.mark.parametrize(
    ("width", "encoding"),
    [("40", "ascii"), pytest.param("200", "utf-8", marks=pytest.mark.slow)],
)
def test_the_line_is_the_same_in_every_terminal(capfd, monkeypatch, width, encoding):
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    words = [sys.executable, "-m", "seedmap", "run", "parities", "--covariance", "round"]
    assert subprocess.run(words, check=False).returncode == 2
    expected = (
        "seedmap: --covariance: 'round' is not one of 'diagonal', 'full', 'shared', 'spherical'; "
        "see `seedmap run parities --help`\n"
    )
    assert capfd.readouterr().err == expected


def test_words_of_tyro_that_are_not_known_still_make_one_line():
    box = "╭─ Conflict ─╮\n│ Arguments --a and │\n│ --b clash! │\n│ ───── │\n│ For help │\n╰──╯\n"
    assert parsing.one_line(box) == "Arguments --a and --b clash!"
    assert parsing.one_line(box.replace("--a", "\x1b[1;31m--a\x1b[0m")) == parsing.one_line(box)


@pytest.mark.parametrize("module", ["seedmap.experiments", "jax", "tyro"])
def test_ctrl_c_while_the_command_is_imported_leaves_quietly(module):
    script = f"""
import os, signal, sys
def interrupt(event, arguments):
    if event == "import" and arguments[0] == {module!r}:
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(interrupt)
from seedmap._command import main
sys.argv[1:] = ["run", "parities", "--bits", "many"]
main()
"""
    left = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (left.returncode, left.stdout, left.stderr) == (130, b"", b"seedmap: stopped\n")


def test_the_installed_command_is_the_door_that_can_be_interrupted():
    (entry,) = tomllib.loads(PYPROJECT.read_text())["project"]["scripts"].items()
    assert entry == ("seedmap", "seedmap._command:main")


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("batch_size is 0; it must be at least 1", "--batch-size is 0; it must be at least 1"),
        (
            "resume: the checkpoint is of another model",
            "--resume: the checkpoint is of another model",
        ),
        (
            "task: score must give one loss per example",
            "task: score must give one loss per example",
        ),
        ("seeds left alone are few", "seeds left alone are few"),
        ("no metric is in every run", "no metric is in every run"),
    ],
)
def test_a_parameter_is_shown_as_its_flag(message, line):
    assert parsing.by_its_flag(message) == line


def test_help_needs_neither_jax_nor_tyro():
    script = (
        "from seedmap.experiments.commands.main import usage; import sys; "
        "usage(); print(*sys.modules)"
    )
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, capture_output=True, check=True, text=True)
    assert not {"jax", "numpy", "tyro", "xarray"} & set(loaded.stdout.split())


def test_help_in_a_terminal_of_one_column_takes_no_longer(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "1")
    started = time.process_time()
    assert seedmap("fit", "--help") == 0
    assert time.process_time() - started < 10
    assert "--states" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("--sources init ulp", "--sources init,ulp"),
        ("--sources init,ulp --roots 1", "--sources init,ulp --roots 1"),
        ("--sources=init ulp", "--sources=init,ulp"),
        ("--states 2 4 6", "--states 2,4,6"),
        ("--states 1-8", "--states 1-8"),
        ("--vary init,order --seeds 3", "--vary init order --seeds 3"),
        ("--fork-steps=0,400", "--fork-steps 0 400"),
        ("--settings default flags:--xla_a=1,2", "--settings default flags:--xla_a=1,2"),
        ("runs,old --metrics a,b c --out x,y", "runs,old --metrics a,b c --out x,y"),
    ],
)
def test_lists_are_taken_with_spaces_and_with_commas(typed, taken):
    assert parsing.one_list_syntax(typed.split()) == taken.split()


@pytest.mark.parametrize(
    ("words", "where"),
    [(("fit", "x", "--out", ""), "after --out"), (("fit", "x", "--out="), "after --out")],
)
def test_an_empty_word_is_no_folder(words, where, capsys):
    """Of a variable of the shell that is not set; as a path it would be the working folder."""
    assert seedmap(*words) == 2
    said = capsys.readouterr().err
    assert said == f"seedmap: a word {where} is empty; give a value, or leave it out\n"


@pytest.mark.parametrize(
    ("line", "word", "flag"),
    [
        ("fit --overwritte x", "--overwritte", "--overwrite"),
        ("fit x --overwritte", "--overwritte", "--overwrite"),
        ("fit --stats=3 x", "--stats=3", "--states"),
        ("fit x --stats=3", "--stats=3", "--states"),
        ("fit x y --stats 3", "--stats", "--states"),
        ("fit --no-overwrite x", "--no-overwrite", "--overwrite"),
        ("fit --out --overwritte x", "--overwritte", "--overwrite"),
        ("fit x --cpu-device 1", "--cpu-device", "--cpu-devices"),
        ("fit x --timing", "--timing", "--timings"),
        ("overhead --networkss x", "--networkss", "--networks"),
        ("import checkpoints x --outt y", "--outt", "--out"),
        ("import checkpoints --outt=y x", "--outt=y", "--out"),
        ("noise backend parities --settngs default", "--settngs", "--settings"),
        ("run parities --preset=quick --epohcs 3", "--epohcs", "--epochs"),
    ],
)
def test_a_typo_is_named_whatever_else_is_wrong(line, word, flag, capsys):
    """Also where the word after it was meant for an argument that lacks, or it is taken for one."""
    assert seedmap(*line.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"seedmap: '{word}' is unknown (did you mean {flag}?); `seedmap ")
    assert said.count("\n") == 1


def test_a_word_that_is_no_flag_is_named_too(capsys):
    assert seedmap("fit", "x", "overwrite") == 2
    assert "'overwrite' is unknown (did you mean --overwrite?)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "batch_norm"),
    [
        ("cifar10 --no-batch-norm", False),
        ("cifar10 --no_batch_norm --preset cpu", False),
        ("cifar10-destabilised --batch-norm", True),
    ],
)
def test_what_is_on_is_turned_off_and_hyphens_may_be_underscores(line, batch_norm):
    _, options = parse_experiment(TrainOptions, "train", [*line.split(), "--out", "x"])
    assert options.training.batch_norm is batch_norm


def test_behind_two_hyphens_there_are_no_flags():
    assert parsing.parse(FolderOptions, "collect", ["--", "--run"]).folder == Path("--run")


def test_the_last_preset_that_is_named_counts(monkeypatch):
    """As for the parser: what is on in it has a flag that turns it off."""
    on, off = ({"training": {"batch_norm": value}} for value in ("True", "False"))
    flag = {"name": "batch_norm", "value": "", "default": "True", "positional": False}
    group = {"name": "training", "about": "", "flags": None}
    command = {"groups": [group], "of_preset": ["training"], "changed": {}}
    own = {"training": {"flags": [flag]}, "presets": {"on": on, "off": off}}
    table = {"commands": {"train": command}, "experiments": {"mine": own}}
    monkeypatch.setattr(help_text, "read_table", lambda: table)
    words = ["--preset", "on", "--preset=off"]
    assert help_text.flags_of("train mine", words)[0] == "--batch-norm"
    assert help_text.flags_of("train mine", words[2:] + words[:2])[0] == "--no-batch-norm"
