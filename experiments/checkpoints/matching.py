"""Which of some regular expressions is the first to be found in each name, within a time limit.

Those of a user's rule file may backtrack without end ("(a+)+$"), and Python's matcher cannot be
stopped from another thread. They are searched for in a process of their own, which the system ends
after some seconds of computing, also where its parent is gone. That keeps all of Python's syntax
and needs no other library, as a matcher without backtracking would.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache

from seedmap.errors import UserError
from seedmap.experiments.processes.child import command, last_line, reason, safe_environment

SECONDS = 5  # of computing that all the names of a checkpoint may take


def first_found(
    rules: Sequence[tuple[str, int | None]], tensors: Sequence[tuple[str, int]]
) -> list[int | None]:
    """Finds the rule that covers each tensor.

    Args:
        rules: regular expression, and the number of axes it is for; None: any.
        tensors: name and number of axes.

    Returns:
        For each tensor the index of the first rule for its number of axes that is found anywhere
        in its name; None where there is none.
    """
    searches = [(re.compile(pattern).search, ndim) for pattern, ndim in rules]
    return [
        next(
            (i for i, (search, of) in enumerate(searches) if of in (None, ndim) and search(name)),
            None,
        )
        for name, ndim in tensors
    ]


@lru_cache(maxsize=1)  # the checkpoints of a run have the same names
def first_found_in_time(
    rules: tuple[tuple[str, int | None], ...], tensors: tuple[tuple[str, int], ...]
) -> list[int | None]:
    """Returns what `first_found` does, computed by a process that ends after `SECONDS`.

    Raises:
        UserError: it took longer.
    """
    child = subprocess.run(
        command(__name__, [str(SECONDS)]),
        input=json.dumps([rules, tensors]),
        env=safe_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode == -signal.SIGXCPU:
        raise UserError(
            f"--rules: searching {len(tensors)} names for {len(rules)} expressions takes over "
            f"{SECONDS} seconds; write them without repeats in repeats such as (a+)+"
        )
    if child.returncode:
        raise UserError(f"--rules: the search {reason(child.returncode, last_line(child.stderr))}")
    return json.loads(child.stdout)


def main() -> None:
    """Reads rules and tensors from standard input, and writes what is found."""
    seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    print(json.dumps(first_found(*json.load(sys.stdin))))


if __name__ == "__main__":
    main()
