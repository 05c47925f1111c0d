"""CPU devices of a command: one a core, unless a flag or the environment says otherwise."""

import os
import subprocess
import sys

import jax
import pytest

from helpers.command import seedmap
from seedmap.cores import usable_cores
from seedmap.errors import UserError
from seedmap.experiments.processes import cores


@pytest.mark.parametrize(
    ("argv", "rest", "count"),
    [
        (["run", "parities", "--seeds", "5"], ["run", "parities", "--seeds", "5"], None),
        (["run", "--cpu-devices", "3", "parities"], ["run", "parities"], 3),
        (["fit", "x", "--cpu-devices=1"], ["fit", "x"], 1),
    ],
)
def test_the_flag_is_taken_out_of_any_command(argv, rest, count):
    assert cores.take_flag(argv) == (rest, count)


@pytest.mark.parametrize(
    "words", [("--cpu-devices", "0"), ("--cpu-devices", "all"), ("--cpu-devices",)]
)
def test_wrong_numbers_are_refused_in_one_line(capsys, words):
    assert seedmap("fit", "nowhere", *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("seedmap: --cpu-devices is ")
    assert said.count("\n") == 1


@pytest.fixture
def asked(monkeypatch):
    """Updates of JAX's configuration, none of which happens; nothing in the environment."""
    found = []
    monkeypatch.setattr(jax.config, "update", lambda *pair: found.append(pair))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    return found


def test_the_environment_is_respected(asked, monkeypatch):
    """`JAX_NUM_CPU_DEVICES` is set for all tests."""
    cores.use_cores()
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    cores.use_cores()
    assert not asked
    with pytest.raises(UserError, match="--cpu-devices is 2, and XLA_FLAGS names a number too"):
        cores.use_cores(2)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    cores.use_cores(2)
    assert asked == [("jax_num_cpu_devices", 2)]


def test_a_backend_that_runs_is_left_alone():
    jax.devices()
    cores.use_cores()
    if jax.local_device_count() != 7:
        with pytest.raises(UserError, match="--cpu-devices: JAX has started in this process"):
            cores.use_cores(7)


def test_by_default_there_is_a_device_for_every_core():
    clean = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    code = (
        "from seedmap.experiments.processes.cores import use_cores; use_cores(); "
        "import jax; print(jax.local_device_count())"
    )
    found = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True)
    assert (found.stdout.strip(), found.stderr) == (str(usable_cores()), "")


def test_lanes_are_devices_but_no_more_than_cores(monkeypatch):
    for devices, usable, lanes in ((1, 8, 1), (4, 8, 4), (8, 2, 2)):
        monkeypatch.setattr(jax, "local_devices", lambda backend, n=devices: [backend] * n)
        monkeypatch.setattr(cores, "usable_cores", lambda n=usable: n)
        assert cores.num_lanes() == lanes
