"""Devices that are not there and unknown flags of XLA's, each told in one line.

Nothing here starts JAX's devices before a command does: one that computes nothing needs none, and
`--distributed` has to be first.
"""

import os
import subprocess
import sys
from functools import lru_cache

from seedmap.errors import UserError
from seedmap.experiments.processes.child import last_line, safe_environment

_PARSE = "from jaxlib import xla_client; xla_client.CompileOptions()"


@lru_cache
def check_flags(flags: str) -> None:
    """Raises UserError where XLA refuses its flags, which it does by ending the process.

    So a process tries it that does nothing else.

    Args:
        flags: of the environment; nothing is done where there are none.
    """
    if not flags.strip():
        return
    tried = subprocess.run(
        [sys.executable, "-P", "-c", _PARSE],
        env=safe_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode and "XLA_FLAGS" in tried.stderr:  # no other trouble is looked for here
        raise UserError(
            f"XLA refuses XLA_FLAGS={flags!r}: {last_line(tried.stderr)}; correct or unset it"
        )


def no_device() -> str | None:
    """Returns why JAX has no device to compute on; None where it has."""
    import jax

    try:
        jax.devices()
    # Broad on purpose: JAX asserts, where it was asked for a platform that is not there.
    except Exception as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = " ".join(str(error).split())[:300]
        return (
            f"JAX finds no device{f' for JAX_PLATFORMS={asked}' if asked else ''}"
            f"{f' ({reason})' if reason else ''}; unset JAX_PLATFORMS, or set it to cpu"
        )
    return None
