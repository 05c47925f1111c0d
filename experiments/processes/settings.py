"""Compiler flags and threads of a process by name, one table for both studies.

`seedmap noise backend` asks what these settings change in the numbers, `seedmap overhead` what they
cost in time.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from seedmap.errors import UserError

FLAGS = "flags:"  # of a name: what follows are XLA's flags


@dataclass(frozen=True)
class Tools:
    """Environment and configuration set for a process before it starts.

    Attributes:
        flags: added to its XLA_FLAGS.
        variables: further variables of its environment, names and values.
    """

    flags: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


def _precision(name: str) -> Tools:
    return Tools(variables=(("JAX_DEFAULT_MATMUL_PRECISION", name),))


DEFAULT = Tools()
TOOLS = {
    # GPU kernels that add up in one order, chosen without timing them, or serial ones instead.
    "deterministic": Tools(("--xla_gpu_deterministic_ops=true",)),
    # Operations without a deterministic GPU kernel are refused.
    "exclude-nondeterministic": Tools(("--xla_gpu_exclude_nondeterministic_ops=true",)),
    # XLA's client sizes its threads by NPROC, else by the cores it may run on. On jaxlib 0.10.2
    # large reductions then add up in other pieces, products and convolutions do not;
    # --xla_cpu_multi_thread_eigen=false is accepted, but moved no bit of any of them, and as many
    # threads compute.
    "one-thread": Tools(variables=(("NPROC", "1"),)),
    # Compiled without LLVM's optimisations.
    "unoptimised": Tools(("--xla_backend_optimization_level=0",)),
    # On GPU JAX's precision "bfloat16" is XLA's default, which is TensorFloat-32 there: bfloat16
    # has to be asked for by the type of the numbers. On TPU there is no TensorFloat-32.
    "tf32": _precision("tensorfloat32"),
    "float32-highest": _precision("float32"),
}


def tools_of(name: str) -> Tools:
    """Returns the flags and variables of a setting; those of the default where it has none."""
    return TOOLS.get(name, DEFAULT)


def parse_flags(text: str, parameter: str) -> Tools:
    """Parses "flags:--xla_a=1 --xla_b=2".

    Args:
        text: begins with `FLAGS`.
        parameter: that it is the value of, for the message.

    Raises:
        UserError: what follows is no flag of XLA, or nothing follows.
    """
    flags = tuple(text.removeprefix(FLAGS).split())
    wrong = [flag for flag in flags if not re.fullmatch(r"--xla_\w+(=\S+)?", flag)]
    if wrong or not flags:
        raise UserError(
            f"{parameter}: {text!r} has {wrong[0] if wrong else 'nothing'!r} for a flag of XLA's; "
            f"write {FLAGS}--xla_name=value"
        )
    return Tools(flags)


def environment(flags: Sequence[str], variables: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Makes the environment of a process: this one's, with flags and variables added."""
    joined = " ".join(filter(None, [os.environ.get("XLA_FLAGS", ""), *flags]))
    return {**os.environ, **({"XLA_FLAGS": joined} if joined else {}), **dict(variables)}
