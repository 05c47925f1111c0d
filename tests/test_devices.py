"""Several devices and several hosts give each seed the run it has on one."""

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainer import collect, store, train

HERE = Path(__file__).parent


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, HERE / "several_devices.py", *map(str, arguments)],
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.split(maxsplit=1)


@pytest.fixture(scope="module")
def on_one_device():
    """Digests of 7 seeds by group size."""
    return {size: output(start("one", 1, 7, size))[0] for size in (1, 2)}


@pytest.mark.parametrize(("num_devices", "size"), [(2, 2), (4, 2), (8, 1), (4, 1)])
def test_devices_change_nothing_to_the_bit_at_equal_group_size(on_one_device, num_devices, size):
    """7 seeds, which no number of devices divides."""
    digest, collectives = output(start("one", num_devices, 7, size))
    assert digest == on_one_device[size]
    assert int(collectives) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def test_two_hosts_train_their_shares_and_one_command_puts_them_together(tmp_path):
    from several_devices import OPTIMIZER, SIZES, TASK

    port = free_port()
    hosts = [start("host", port, i, 2, tmp_path) for i in range(2)]
    shares = [output(host)[1].strip() for host in hosts]
    assert shares == ["[0, 1, 2, 3]", "[4, 5, 6]"]
    together = collect(tmp_path)
    alone = train(TASK, OPTIMIZER, range(7), seeds_at_once=2, **SIZES)
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
