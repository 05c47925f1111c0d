"""Modes: ways to run the same training step whose times are compared."""

from collections.abc import Sequence
from dataclasses import dataclass

from seedmap.errors import UserError

FLAGS = "flags:"  # of a mode: what follows are XLA's flags
PLATFORMS = ("cpu", "gpu", "tpu")
DEFAULT = "default"


@dataclass(frozen=True)
class Mode:
    """A way to run a training step.

    Attributes:
        name: as on the command line.
        about: what it is, a sentence for the report.
        xla_flags: added to XLA_FLAGS of its process.
        environment: variables of its process, names and values.
        bfloat16: whether weights and images are rounded to bfloat16 for the forward and backward
            pass; the optimiser's weights stay float32.
        vmapped: whether many seeds train side by side in one program.
        platforms: where it can run.
        idle: where it runs and changes nothing, so that its ratio shows what the measurement
            scatters.
    """

    name: str
    about: str
    xla_flags: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    bfloat16: bool = False
    vmapped: bool = False
    platforms: tuple[str, ...] = PLATFORMS
    idle: tuple[str, ...] = ()


def _precision(name: str) -> tuple[tuple[str, str], ...]:
    return (("JAX_DEFAULT_MATMUL_PRECISION", name),)


# On GPU JAX's precision "bfloat16" is XLA's default, which is TensorFloat-32 there: bfloat16 has to
# be asked for by the type of the numbers. On TPU there is no TensorFloat-32.
MODES = {
    mode.name: mode
    for mode in (
        Mode(DEFAULT, "As JAX does it unasked."),
        Mode(
            "deterministic",
            "--xla_gpu_deterministic_ops: deterministic kernels, or serial ones in their place.",
            xla_flags=("--xla_gpu_deterministic_ops=true",),
            idle=("cpu", "tpu"),
        ),
        Mode(
            "exclude-nondeterministic",
            "--xla_gpu_exclude_nondeterministic_ops: deterministic kernels, or refusal.",
            xla_flags=("--xla_gpu_exclude_nondeterministic_ops=true",),
            idle=("cpu", "tpu"),
        ),
        Mode(
            # XLA's own --xla_cpu_multi_thread_eigen is accepted, but jaxlib 0.10.2 computes on as
            # many threads with it; the size of the pool is read from this variable.
            "one-thread",
            "One thread for XLA:CPU to compute on: sums in one order on every machine.",
            environment=(("NPROC", "1"),),
            platforms=("cpu",),
        ),
        Mode(
            "tf32",
            "Products of float32 in TensorFloat-32; the default already where the GPU has it.",
            environment=_precision("tensorfloat32"),
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
            environment=_precision("float32"),
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
    """Names of the modes that are compared on a platform unless others are asked for."""
    return _USUAL[platform]


def find_modes(names: Sequence[str]) -> tuple[Mode, ...]:
    """The modes of the given names, each once; the default, which is what ratios are over, first.

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
    flags = tuple(name.removeprefix(FLAGS).split())
    wrong = [flag for flag in flags if not flag.startswith("--xla_")]
    if wrong or not flags:
        raise UserError(
            f"--modes: {name!r} has {wrong[0] if wrong else 'nothing'!r} for a flag of XLA's; "
            f"write {FLAGS}--xla_name=value"
        )
    return Mode(name, "As given.", xla_flags=flags)


def note_of(mode: Mode, platform: str) -> str | None:
    """What a reader must know of a mode on a platform, if anything."""
    if platform in mode.idle:
        return (
            f"{mode.name}: the flag is for GPUs; on {platform.upper()} it is accepted and changes "
            "nothing, so this ratio compares a program with itself and shows how far the "
            "measurement scatters."
        )
    return None
