"""Modes: ways to run the same training step whose times are compared."""

from collections.abc import Sequence
from dataclasses import dataclass

from seedmap.errors import UserError
from seedmap.experiments.processes.settings import (
    DEFAULT as UNCHANGED,
    FLAGS,
    TOOLS,
    Tools,
    parse_flags,
)

PLATFORMS = ("cpu", "gpu", "tpu")
DEFAULT = "default"


@dataclass(frozen=True)
class Mode:
    """A way to run a training step.

    Attributes:
        name: as on the command line.
        about: what it is, a sentence for the report.
        tools: flags and variables of its process.
        bfloat16: whether weights and images are rounded to bfloat16 for the forward and backward
            pass; the optimiser's weights stay float32.
        vmapped: whether many seeds train side by side in one program.
        platforms: where it can run.
        idle: where it runs and changes nothing, so that its ratio shows what the measurement
            scatters.
    """

    name: str
    about: str
    tools: Tools = UNCHANGED
    bfloat16: bool = False
    vmapped: bool = False
    platforms: tuple[str, ...] = PLATFORMS
    idle: tuple[str, ...] = ()


MODES = {
    mode.name: mode
    for mode in (
        Mode(DEFAULT, "As JAX does it unasked."),
        Mode(
            "deterministic",
            "--xla_gpu_deterministic_ops: deterministic kernels, or serial ones in their place.",
            tools=TOOLS["deterministic"],
            idle=("cpu", "tpu"),
        ),
        Mode(
            "exclude-nondeterministic",
            "--xla_gpu_exclude_nondeterministic_ops: deterministic kernels, or refusal.",
            tools=TOOLS["exclude-nondeterministic"],
            idle=("cpu", "tpu"),
        ),
        Mode(
            "one-thread",
            "One thread for XLA:CPU to compute on: sums in one order on every machine.",
            tools=TOOLS["one-thread"],
            platforms=("cpu",),
        ),
        Mode(
            "tf32",
            "Products of float32 in TensorFloat-32; the default already where the GPU has it.",
            tools=TOOLS["tf32"],
            platforms=("gpu",),
        ),
        Mode(
            "bfloat16",
            "Forward and backward pass in bfloat16, the optimiser's weights in float32.",
            bfloat16=True,
        ),
        Mode(
            "float32-highest",
            "Products of float32 in float32, no shorter inputs.",
            tools=TOOLS["float32-highest"],
            platforms=("gpu", "tpu"),
        ),
        Mode("vmapped", "Seeds side by side in one program; time per seed.", vmapped=True),
    )
}

_USUAL = {
    "cpu": (DEFAULT, "deterministic", "one-thread", "vmapped"),
    "gpu": tuple(name for name, mode in MODES.items() if "gpu" in mode.platforms),
    "tpu": (DEFAULT, "float32-highest", "bfloat16", "vmapped"),
}


def usual_modes(platform: str) -> tuple[str, ...]:
    """Names the modes that are compared on a platform unless others are asked for."""
    return _USUAL[platform]


def find_modes(names: Sequence[str]) -> tuple[Mode, ...]:
    """Finds the modes of the given names, each once, after the default, which ratios are over.

    Args:
        names: of `MODES`, or `flags:` and XLA's flags, separated by spaces.

    Raises:
        UserError: a name is unknown, or `flags:` is followed by something that is not a flag.
    """
    return tuple(map(_find, dict.fromkeys([DEFAULT, *names])))


def _find(name: str) -> Mode:
    if name in MODES:
        return MODES[name]
    if not name.startswith(FLAGS):
        known = ", ".join(MODES)
        raise UserError(f"--modes: unknown mode {name!r}; there are: {known}, {FLAGS}--xla_...")
    return Mode(name, "As given.", parse_flags(name, "--modes"))


def note_of(mode: Mode, platform: str) -> str | None:
    """Returns what a reader must know of a mode on a platform, if anything."""
    if platform in mode.idle:
        return (
            f"{mode.name}: the flag is for GPUs; on {platform.upper()} it is accepted and changes "
            "nothing, so this ratio compares a program with itself and shows how far the "
            "measurement scatters."
        )
    return None
