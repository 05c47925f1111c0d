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


def trained(folder, num_devices, size):
    """Records and parameters of 7 seeds, and the number of collective operations."""
    file = folder / f"{num_devices}-{size}.npz"
    collectives = int(output(start("one", num_devices, size, file)))
    with np.load(file) as found:
        return dict(found), collectives


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    """Results by group size."""
    return {size: trained(tmp_path_factory.mktemp("one"), 1, size)[0] for size in (1, 2)}


@pytest.mark.parametrize(
    ("num_devices", "size"),
    [
        pytest.param(2, 2, marks=pytest.mark.slow),
        pytest.param(4, 2, marks=pytest.mark.slow),
        pytest.param(8, 1, marks=pytest.mark.slow),
    ],
)
def test_devices_change_nothing_but_rounding(tmp_path, on_one_device, num_devices, size):
    """7 seeds, which no number of devices divides, in groups of equal size.

    XLA simplifies the program of one device otherwise than that of several. Under SGD parameters
    and losses still come out equal to the bit; Adam's power and division, and the metrics, may
    round otherwise. The bound is a hundred float32 roundings.
    """
    found, collectives = trained(tmp_path, num_devices, size)
    assert collectives == 0
    assert found.keys() == on_one_device[size].keys()
    for name, values in on_one_device[size].items():
        if name.startswith("sgd/[") or (name.endswith("_loss") and name.startswith("sgd")):
            np.testing.assert_array_equal(found[name], values, err_msg=name)
        scale = np.abs(values).max()
        np.testing.assert_allclose(found[name], values, atol=1e-5 * scale, err_msg=name)


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
