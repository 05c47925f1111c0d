"""Several devices and several hosts give each seed the run it has on one."""

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seedmap.trainer import train
from seedmap.trainer.storage import folder as store
from seedmap.trainer.storage.results import collect

HERE = Path(__file__).parent


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, HERE.parent / "helpers" / "several_devices.py", *map(str, arguments)],
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip()


@pytest.mark.parametrize(
    ("optimizer", "counts"),
    [
        ("adamw", "1 8"),  # what is resumed goes through 2 and 4 as well
        pytest.param("adamw", "1 2 4 8", marks=pytest.mark.slow),
        pytest.param("sgd", "1 2 4 8", marks=pytest.mark.slow),
    ],
)
def test_devices_and_resuming_on_others_change_no_bit(optimizer, counts, tmp_path):
    """15 seeds in 8 groups of 2 on several devices, with the program as it is optimised."""
    one_device, *others = counts.split()
    output(start("devices", optimizer, tmp_path, one_device, *others))
    with np.load(tmp_path / f"{one_device}.npz") as found:
        one = dict(found)
    assert len(one) > 18
    for other in (*others, "resumed"):
        with np.load(tmp_path / f"{other}.npz") as found:
            assert found.keys() == one.keys()
            for entry, expected in one.items():
                np.testing.assert_array_equal(found[entry], expected, err_msg=other)


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", [2, 4, 8])
def test_decompositions_of_many_groups_at_once_never_wait_for_each_other(num_devices):
    """All metrics by all methods at every step, a minute each; a hang ends in a timeout."""
    assert int(output(start("stress", num_devices, 60))) > 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.mark.slow  # two processes of the command are not: tests/experiments/commands
def test_two_hosts_train_their_shares_and_one_command_puts_them_together(tmp_path):
    from helpers.several_devices import OPTIMIZERS, SIZES, TASK

    port = free_port()
    hosts = [start("host", port, i, 2, tmp_path) for i in range(2)]
    shares = [output(host) for host in hosts]
    assert shares == ["[0, 1, 2, 3]", "[4, 5, 6]"]
    together = collect(tmp_path)
    alone = train(TASK, OPTIMIZERS["adamw"], range(7), seeds_at_once=2, **SIZES)
    assert together.dataset.identical(alone.dataset.assign_attrs(together.dataset.attrs))
    for ours, theirs in zip(
        together.params["params"].values(), alone.params["params"].values(), strict=True
    ):
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(ValueError, match="no part-0"):
        collect(tmp_path)
    with pytest.raises(ValueError, match="3 seeds cannot be shared by 4"):
        store.split(range(3), 0, 4)
    shares = [list(range(10))[store.split(range(10), i, 4)] for i in range(4)]
    assert shares == [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]]
