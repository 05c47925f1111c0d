"""Fits use the cores that this process may run on, and no more than JAX was given devices."""

import os
import subprocess
import sys

import pytest

UNSET = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
OF_6_CORES = """
import jax
from seedmap import cores
from seedmap.experiments.processes.cores import use_cores
cores.usable_cores = lambda: 6
{first}
print(cores.threads_on(jax.devices("cpu")[0]))
"""
OF_ONE_CORE = """
import os, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
import seedmap as sm
rng = np.random.default_rng(0)
runs = sm.from_arrays(rng.normal(size=(8, 30, 2)).cumsum(1))
most = [0]
class Counted(threading.Thread):
    def start(self):
        most[0] += "ThreadPool" in self.name
        super().start()
threading.Thread = Counted
sm.fit_map(runs, states=(1, 2), restarts=2, resamples=0)
print(most[0])
"""


def printed(code, **variables):
    """What a process of its own prints; nothing is said of CPU devices but by `variables`."""
    clean = {name: value for name, value in os.environ.items() if name not in UNSET}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=clean | variables, capture_output=True, text=True)
    assert found.stderr == ""
    return int(found.stdout)


@pytest.mark.parametrize(
    ("first", "variables", "threads"),
    [
        ("", {}, 6),  # from Python, nothing said: JAX's one device is no wish for one thread
        ("use_cores(1)", {}, 1),  # --cpu-devices 1
        ("use_cores(8)", {}, 6),
        ("jax.config.update('jax_num_cpu_devices', 2)", {}, 2),
        ("", {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}, 1),
    ],
)
def test_threads_are_cores_and_at_most_the_devices_that_were_asked_for(first, variables, threads):
    assert printed(OF_6_CORES.format(first=first), **variables) == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="as `taskset`, of Linux")
def test_a_fit_on_one_core_starts_no_pool_of_threads():
    assert printed(OF_ONE_CORE) == 0
