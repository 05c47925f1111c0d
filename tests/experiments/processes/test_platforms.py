"""Compilers without their devices, in the environment of ordinary commands."""

import os
import sys

import pytest

from seedmap.experiments.processes import platforms

KERNELS = "jax_cuda12_plugin"


@pytest.mark.parametrize(
    ("installed", "devices", "given", "then", "blocked"),
    [
        ((), (), "", "", False),
        (("libtpu", "jax_plugins.xla_cuda12"), (), "", "cpu", True),
        (("libtpu", "jax_plugins.xla_cuda12"), ("/dev/nvidia[0-9]*",), "", "cuda,cpu", False),
        (("libtpu",), ("/dev/accel*",), "", "", False),
        (("jax_plugins.xla_cuda12",), (), "cpu", "cpu", True),
        (("libtpu",), (), "tpu", "tpu", False),
    ],
)
def test_only_devices_that_are_there_are_started(
    installed, devices, given, then, blocked, monkeypatch
):
    monkeypatch.setattr(platforms, "is_installed", lambda module: module in installed)
    monkeypatch.setattr(platforms.glob, "glob", lambda pattern: [pattern] * (pattern in devices))
    monkeypatch.setenv("JAX_PLATFORMS", given)
    monkeypatch.setattr(sys, "modules", {k: v for k, v in sys.modules.items() if k != KERNELS})
    platforms.leave_out_absent_devices()
    assert os.environ["JAX_PLATFORMS"] == then
    assert (KERNELS in sys.modules) == blocked
