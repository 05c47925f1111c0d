"""What a run folder says of the program that made it."""

import shlex

import pytest

from seedmap.experiments.runs import folder


@pytest.mark.parametrize("program", ["/opt/bin/seedmap", "/opt/lib/seedmap/__main__.py"])
def test_the_command_can_be_typed_again(program, monkeypatch):
    arguments = ["run", "parities", "--out", "my runs/$1"]
    monkeypatch.setattr("sys.argv", [program, *arguments])
    assert shlex.split(folder.command()["command"]) == ["seedmap", *arguments]


def test_of_another_program_no_command_is_named(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/opt/lib/pytest/__main__.py", "-x"])
    assert folder.command() == {}
