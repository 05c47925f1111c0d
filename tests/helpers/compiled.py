"""What JAX compiles, read off its own log."""

import logging
from contextlib import contextmanager

import jax


class _Handler(logging.Handler):
    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        words = record.getMessage()
        if words.startswith("Compiling "):
            self.said.append(words.partition(" Argument mapping")[0])


@contextmanager
def compilations(*forgotten):
    """Yields a list that gets the name and arguments of every program compiled, in any thread.

    Args:
        *forgotten: jitted functions, to be compiled anew if they were before.
    """
    for function in forgotten:
        function.clear_cache()
    logger, handler = logging.getLogger("jax"), _Handler()
    before, heard = jax.config.jax_log_compiles, logger.propagate
    jax.config.update("jax_log_compiles", True)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler.said
    finally:
        logger.removeHandler(handler)
        logger.propagate = heard
        jax.config.update("jax_log_compiles", before)
