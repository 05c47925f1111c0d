"""Kills at a chosen operation of the one writer, replayed in one process."""

import errno
import os
from contextlib import contextmanager
from itertools import count

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
def killed_when(condition):
    """Kills the block before the first operation of which kind and path fulfil a condition.

    No operation is done after it, not even to tidy up.
    """
    dead = False

    def hook(kind, path):
        nonlocal dead
        dead = dead or condition(kind, path)
        if dead:
            raise Killed

    with files.observe(hook):
        yield


def killed_before(number):
    """Kills the block before its operation of this number, from 0."""
    numbers = count()
    return killed_when(lambda kind, path: next(numbers) == number)


@contextmanager
def refused_at(number):
    """Has the disk, full, refuse the operation of this number, from 0; gives a list of its path."""
    numbers, refused = count(), []

    def hook(kind, path):
        if next(numbers) == number:
            refused.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with files.observe(hook):
        yield refused
