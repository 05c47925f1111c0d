"""How many cores of a CPU this process may use, and on how many threads to compute."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax

FORCED_DEVICES = "xla_force_host_platform_device_count"
"""The flag in XLA_FLAGS that sets the number of CPU devices, as `jax_num_cpu_devices` does."""


def usable_cores() -> int:
    """Returns the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_on(device: "jax.Device") -> int:
    """Returns how many programs to run side by side on a device: 1, but on a CPU one a core.

    Where somebody has said how many CPU devices JAX is to have (`--cpu-devices`, `jax.config`,
    XLA_FLAGS), there are no more threads than these: a device stands for a core, and one for work
    on one core. Where nobody has, JAX has one device as well, which says nothing: a fit from
    Python then takes every core it may run on.
    """
    import jax

    if device.platform != "cpu":
        return 1
    config: Any = jax.config  # which has its settings as attributes that its type does not know
    requested = config.jax_num_cpu_devices > 0 or FORCED_DEVICES in os.environ.get("XLA_FLAGS", "")
    if not requested:
        return usable_cores()
    return min(len(jax.local_devices(backend="cpu")), usable_cores())
