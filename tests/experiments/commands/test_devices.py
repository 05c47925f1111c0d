"""Devices and flags that are not there are told in one line; what computes nothing needs none."""

import os
import subprocess
import sys

import jax
import pytest

from helpers.command import seedmap
from seedmap.experiments.commands import devices, main as cli

QUICK = ["run", "parities", "--preset", "quick"]


def run(*arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "seedmap", *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_unknown_flag_of_xla_is_told_in_one_line(monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", "--xla_nosuch=1")
    assert seedmap("map", "nowhere") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("seedmap: XLA refuses XLA_FLAGS='--xla_nosuch=1': Unknown flag")
    devices.check_flags("")


def test_a_platform_that_is_not_there_is_told_in_one_line(tmp_path):
    done = run(*QUICK, "--out", str(tmp_path / "out"), JAX_PLATFORMS="cuda", XLA_FLAGS="")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("seedmap: JAX finds no device for JAX_PLATFORMS=cuda")
    assert not (tmp_path / "out").exists()


def test_what_computes_nothing_needs_no_device(monkeypatch, capsys):
    def fails():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", fails)
    assert devices.no_device().startswith("JAX finds no device")
    for arguments in (["compare", "--help"], ["fit", "--help"], ["--version"]):
        assert seedmap(*arguments) == 0
    assert seedmap("map", "nowhere") == 2
    assert "there is no folder nowhere" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(cli, "_command", lambda argv: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["map"])
