"""What a plan is made for: `tpu:v5e:2x2`, `gpu:h100`, `cpu`, and how its compiler is reached."""

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import jax

from seedmap.errors import UserError, did_you_mean
from seedmap.experiments.plan.chips import CHIPS, Chip, card_text
from seedmap.experiments.processes.platforms import is_installed
from seedmap.limits import memory

_PTXAS = "nvidia.cuda_nvcc"
_GPU_PARTS = ("jax_plugins.xla_cuda12", _PTXAS)
_ON_A_TPU_HOST = {
    # The compiler alone: no question to a metadata server, no claim on a chip.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclass(frozen=True)
class Target:
    """Devices to compile for.

    Attributes:
        text: as it was asked for.
        chip: which.
        topology: of a TPU slice, such as "2x2"; "" elsewhere.
    """

    text: str
    chip: Chip
    topology: str = ""

    @property
    def memory(self) -> int:
        """Bytes of a device."""
        return self.chip.memory or memory()

    @property
    def lowering(self) -> str:
        """The platform as JAX's lowering names it."""
        return {"gpu": "cuda"}.get(self.chip.platform, self.chip.platform)


def parse_target(text: str) -> Target:
    """Parses `PLATFORM:CHIP`, of a TPU `tpu:CHIP:TOPOLOGY`, or `cpu`.

    Raises:
        UserError: the chip is unknown, or a TPU has no topology, or another has one.
    """
    platform, _, rest = text.partition(":")
    name, _, topology = rest.partition(":")
    key = f"{platform}:{name}".rstrip(":")
    if key not in CHIPS:
        raise UserError(
            f"--on {text}: no chip {key!r}{did_you_mean(key, CHIPS)}; known are "
            f"{', '.join(CHIPS)}, TPUs with a topology, such as tpu:v5e:2x2"
        )
    if platform == "tpu" and not topology:
        raise UserError(f"--on {text}: a TPU needs a topology, such as {text}:2x2")
    if platform != "tpu" and topology:
        raise UserError(f"--on {text}: only TPUs have a topology; write {key}")
    return Target(text, CHIPS[key], topology)


def check_extra(target: Target) -> None:
    """Raises UserError where the target's compiler is not installed."""
    platform = target.chip.platform
    needed = {"tpu": ("plan", ("libtpu",)), "gpu": ("plan-gpu", _GPU_PARTS)}.get(platform)
    if needed is not None and not all(map(is_installed, needed[1])):
        raise UserError(
            f"--on {target.text}: the compiler for {platform.upper()}s is not installed; install "
            f"it with: pip install 'seedmap[{needed[0]}]'"
        )


def environment(target: Target) -> dict[str, str]:
    """Returns the variables that the process which compiles for a target is to have.

    Its own computations are on the CPU, whatever devices there are.
    """
    variables = {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
    if target.chip.platform == "tpu":
        variables |= _ON_A_TPU_HOST
    if target.chip.platform == "gpu":
        tools = [str(Path(folder) / "bin") for folder in import_module(_PTXAS).__path__]
        variables["PATH"] = os.pathsep.join([*tools, os.environ.get("PATH", os.defpath)])
    return variables


def devices_of(target: Target) -> tuple[jax.Device, ...]:
    """Returns the devices to compile for, under the variables of `environment`.

    Raises:
        UserError: the compiler refuses the topology; the message has its words.
    """
    from jax.experimental import topologies

    chip = target.chip
    if chip.platform == "cpu":
        return tuple(jax.local_devices(backend="cpu")[:1])
    try:
        if chip.platform == "tpu":
            name = f"{chip.name}:{target.topology}"
            topology = topologies.get_topology_desc(platform="tpu", topology_name=name)
        else:
            topology = topologies.get_topology_desc(
                *("", "cuda"), topology="1x1x1", target_config=card_text(chip)
            )
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"--on {target.text}: the compiler refuses it: {words}") from None
    return tuple(topology.devices)
