"""What the README shows runs, and what it names is there."""

import re
from pathlib import Path

import numpy as np
import pytest

from seedmap.experiments.commands import main as cli

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_examples_run_and_learn(capsys, tmp_path, monkeypatch):
    """In one session, as a reader would: each goes on from the one before."""
    monkeypatch.chdir(tmp_path)
    facade, first, second, third = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(facade, names)
    assert names["m"].num_states == 2
    assert (names["m"].paths == (np.arange(30) >= names["turns"][:, None])).all()
    capsys.readouterr()
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


@pytest.mark.parametrize("command", ["train", "collect", "fit", "map", "report", "run"])
def test_every_command_is_named(command):
    assert command in cli.COMMANDS
    assert f"seedmap {command} " in README
