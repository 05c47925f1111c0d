"""The entry point of the `seedmap` command: Ctrl-C works while the rest is being imported.

`experiments.commands.main` handles Ctrl-C once it runs; until then nothing has begun, and
leaving at once is all there is to do.
"""

import os
import signal
import sys


def main() -> None:
    """Runs the command; leaves with 130 on Ctrl-C."""
    # SciPy's BLAS threads, which XLA's decompositions run on, would fight XLA's own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A handler rather than `except KeyboardInterrupt`: what is being imported may catch that.
    before = signal.signal(signal.SIGINT, _stop)
    from seedmap.experiments.commands.main import main as command

    signal.signal(signal.SIGINT, before)
    command()


def _stop(*_) -> None:
    print("seedmap: stopped", file=sys.stderr, flush=True)
    os._exit(130)
