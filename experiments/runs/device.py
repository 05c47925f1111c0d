"""The device of a computation, as result files name it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """Platform and devices that JAX computes on.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        kind: of the device, as JAX calls it.
        count: devices that JAX sees.
        cpu_cores: of the machine; None where that is not known.
    """

    platform: str
    kind: str
    count: int
    cpu_cores: int | None


@dataclass(frozen=True)
class TrainingDevice(Device):
    """Devices of a training, as its `config.json` has them.

    Attributes:
        usable_cores: cores the process may run on, which decide XLA's threads on a CPU.
        processes: that trained together.
        devices_used: by all of them.
    """

    usable_cores: int | None
    processes: int
    devices_used: int
