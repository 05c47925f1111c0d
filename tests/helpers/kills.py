"""Kills at a chosen operation of the one writer, replayed in one process."""

from contextlib import contextmanager

from seedmap import files


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and no operation is done after it."""


@contextmanager
def operations():
    """Gives a list that is filled with the kind and the path of every operation in the block."""
    seen = []
    with files.observe(lambda kind, path: seen.append((kind, path))):
        yield seen


@contextmanager
def killed_before(number):
    """Kills the block before its operation of this number, from 0, and so what tidies up after."""
    done = 0

    def hook(kind, path):
        nonlocal done
        if done >= number:
            raise Killed
        done += 1

    with files.observe(hook):
        yield
