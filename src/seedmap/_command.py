"""The entry point of the `seedmap` command: Ctrl-C works while the rest is being imported.

`experiments.commands.main` handles Ctrl-C once it runs; until then nothing has begun, and
leaving at once is all there is to do.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def main() -> None:
    """Runs the command; leaves with 130 on Ctrl-C."""
    # SciPy's BLAS threads, which XLA's decompositions run on, would fight XLA's own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with leaving_at_once():
        from seedmap.experiments.commands.main import main as command
    command()


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Leaves with 130 and one line on Ctrl-C, while nothing but imports happens in the block.

    A handler rather than `except KeyboardInterrupt`: what is being imported may catch that.
    """
    before = signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stop(*_) -> None:
    print("seedmap: stopped", file=sys.stderr, flush=True)
    os._exit(130)
