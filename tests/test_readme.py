"""What the README and the documentation show runs, and what they name is there."""

import re
from pathlib import Path

import numpy as np
import pytest

from seedmap.experiments.commands import WITH_EXPERIMENT, main as cli
from seedmap.experiments.commands.help_text import flag_of, groups_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OWN_TASK = (ROOT / "docs" / "howto" / "own_task.md").read_text()
SET_UP = (
    "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e . && "
    ".venv/bin/seedmap run parities",
    "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e '.[test]' && "
    ".venv/bin/python -m pytest",
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_facade_in_the_readme_finds_two_states():
    (facade,) = blocks(README)
    names = {}
    exec(facade, names)
    assert names["m"].num_states == 2
    assert (names["m"].paths == (np.arange(30) >= names["turns"][:, None])).all()


def test_the_python_examples_run_and_learn(capsys, tmp_path, monkeypatch):
    """In one session, as a reader would: each goes on from the one before."""
    monkeypatch.chdir(tmp_path)
    first, second, third = blocks(OWN_TASK)
    names = {}
    assert len(first.strip().splitlines()) <= 42
    exec(first, names)
    dataset = names["run"].dataset
    assert dict(dataset.sizes) == {"seed": 8, "step": 20}
    assert dataset.eval_accuracy[:, -1].mean() > 0.8 > dataset.eval_accuracy[:, 0].mean()
    assert "code_sparsity" in capsys.readouterr().out
    exec(second, names)
    dataset = names["run"].dataset
    assert dataset.learning_rate.values.tolist() == [0.03] * 4 + [0.3] * 4
    assert dataset.eval_accuracy[4:, -1].mean() > 0.8
    assert (dataset.top_gradient > 0).all()
    assert (tmp_path / "my-training" / "part-0" / "records.bin").exists()
    capsys.readouterr()
    exec(third, names)
    assert "CONTROL Estimate(value=0.0" in capsys.readouterr().out
    assert names["study"].predictions.correct.mean() > 0.8


@pytest.mark.parametrize("command", SET_UP)
def test_the_commands_to_set_up_stand_to_the_letter(command):
    assert f"```bash\n{command}\n```" in README


@pytest.mark.parametrize("command", ["train", "collect", "fit", "map", "report", "run"])
def test_every_command_is_named(command):
    assert command in cli.COMMANDS
    assert f"seedmap {command} " in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page):
    """Commands and their flags, experiments, and files that are linked."""
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    for code in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for words in re.findall(r"(?:^|&& )seedmap ([^#&\n|>]+)", code, re.MULTILINE):
            check_command(words.replace("\\", "").split())


def check_command(words):
    name = cli.command_name(words)
    assert name in cli.COMMANDS, words
    after = words[len(name.split()) :]
    if "--help" in after or name == "completion":
        return
    experiment = after[0] if name in WITH_EXPERIMENT else None
    flags = {flag_of(flag) for group in groups_of(name, experiment) for flag in group["flags"]}
    for word in after:
        if word.startswith("--"):
            assert word.partition("=")[0] in flags, (words, word)
