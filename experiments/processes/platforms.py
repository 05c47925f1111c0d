"""Compilers of devices that are not there, installed for `seedmap plan`, left alone by the rest.

JAX takes each for a device: it tries to start it, and prints a page of why it cannot.
"""

import glob
import os
import sys
from importlib.util import find_spec

_DEVICES = {  # JAX's platform to the module that it is installed with, and its devices' files
    "cuda": ("jax_plugins.xla_cuda12", ("/dev/nvidia[0-9]*", "/dev/dxg", "/proc/driver/nvidia")),
    "tpu": ("libtpu", ("/dev/accel*", "/dev/vfio/[0-9]*")),
}


def leave_out_absent_devices() -> None:
    """Has JAX use the devices there are, where a compiler is installed whose device is not.

    Where nothing is left out, and where JAX_PLATFORMS says what to use, that stays as it is.
    """
    installed = [name for name, (module, _) in _DEVICES.items() if is_installed(module)]
    usable = [name for name in installed if any(map(glob.glob, _DEVICES[name][1]))]
    if usable != installed and not os.environ.get("JAX_PLATFORMS"):
        os.environ["JAX_PLATFORMS"] = ",".join([*usable, "cpu"])
    if "cuda" in installed and "cuda" not in usable:
        # jaxlib imports its kernels whatever the platform, and they print that no driver is there.
        sys.modules.setdefault("jax_cuda12_plugin", None)  # type: ignore[arg-type]


def is_installed(module: str) -> bool:
    """Tells whether a module could be imported; a package that it is in is."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
