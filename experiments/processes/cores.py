"""A device for every core of a CPU: training then keeps all of them busy.

XLA leaves all cores but one idle in the loops of a small network's training. Groups of replicas are
trained on as many threads as JAX has CPU devices (`trainer.placement`), whose number can be set
before JAX's backend starts and not after.
"""

import os
from collections.abc import Sequence

from seedmap.cores import FORCED_DEVICES, usable_cores
from seedmap.errors import UserError

FLAG = "--cpu-devices"


def take_flag(argv: Sequence[str]) -> tuple[list[str], int | None]:
    """Takes `--cpu-devices N` out of a command line; None where it is not there.

    Raises:
        UserError: N is not a whole number above 0.
    """
    words = [argument for word in argv for argument in _parts(word)]
    if FLAG not in words:
        return list(argv), None
    at = words.index(FLAG)
    text = words[at + 1] if at + 1 < len(words) else ""
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{FLAG} is {text or 'without a number'}; give a whole number, 1 or more")
    return words[:at] + words[at + 2 :], int(text)


def _parts(word: str) -> list[str]:
    name, equals, value = word.partition("=")
    return [name, value] if name == FLAG and equals else [word]


def use_cores(count: int | None = None) -> None:
    """Has JAX make CPU devices: `count`, else one a core that this process may run on.

    What the environment says of their number (XLA_FLAGS, JAX_NUM_CPU_DEVICES, `jax.config`) is left
    as it is where no count is given, and so is a backend that has started.

    Raises:
        UserError: a count is given, and XLA_FLAGS has another.
    """
    import jax

    by_xla = FORCED_DEVICES in os.environ.get("XLA_FLAGS", "")
    if by_xla and count is not None:
        raise UserError(f"{FLAG} is {count}, and XLA_FLAGS names a number too: keep one of them")
    if by_xla or (count is None and jax.config.jax_num_cpu_devices > 0):
        return
    try:
        jax.config.update("jax_num_cpu_devices", count or usable_cores())
    except RuntimeError:  # the backend has started: a command in a process of someone else's
        if count is not None:
            raise UserError(f"{FLAG}: JAX has started in this process; set it before") from None


def num_lanes() -> int:
    """Returns how many pieces of work to do side by side: JAX's CPU devices, at most the cores."""
    import jax

    return min(len(jax.local_devices(backend="cpu")), usable_cores())
