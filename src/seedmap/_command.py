"""The entry point of the `seedmap` command: Ctrl-C works while the rest is being imported.

`experiments.commands.main` handles Ctrl-C once it runs; until then nothing has begun, and
leaving at once is all there is to do.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def main() -> None:
    """Runs the command; leaves with 130 on Ctrl-C."""
    succeeded = threading.Event()
    atexit.register(_leave, succeeded)  # registered first, it runs last
    # SciPy's BLAS threads, which XLA's decompositions run on, would fight XLA's own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with leaving_at_once():
        from seedmap.experiments.commands.main import main as command
    command()
    succeeded.set()


def _leave(succeeded: threading.Event) -> None:
    """Ends a process that is done with all else.

    Python would take every module and array apart first: a second for JAX and Matplotlib, a tenth
    of `seedmap report`.
    """
    if not succeeded.is_set():
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # the reader has gone: Python's own exit says so
        return
    os._exit(0)


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
