"""Compiled programs kept on disk, so that a second start of the same experiment is quick."""

import os
from pathlib import Path

import jax


def keep_compiled_programs() -> None:
    """Turns JAX's persistent compilation cache on, in the user's cache folder, for all programs.

    A folder that is set already (JAX_COMPILATION_CACHE_DIR, or `jax.config`) is left as it is;
    where none can be made there is no cache.
    """
    if jax.config.jax_compilation_cache_dir:
        return
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "seedmap" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
