"""What the README shows runs, and what it names is there."""

import re
from pathlib import Path

import pytest

from experiments import cli

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_example_runs_and_learns(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.strip().splitlines()) <= 42
    names = {}
    exec(example, names)
    dataset = names["run"].dataset
    assert dict(dataset.sizes) == {"seed": 8, "step": 20}
    assert dataset.eval_accuracy[:, -1].mean() > 0.8 > dataset.eval_accuracy[:, 0].mean()
    assert "code_sparsity" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "fit", "map", "report", "run"])
def test_every_command_is_named(command):
    assert command in cli.COMMANDS
    assert f"seedmap {command} " in README
