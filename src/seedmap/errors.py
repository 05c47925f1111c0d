"""The one error for wrong input: its message says what, where, and how to mend it."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input of the user's.

    The command prints the message as one line and exits with 2; every other exception is a bug and
    keeps its traceback.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns " (did you mean NEAREST?)", or "" where nothing known is near.

    Example:
        >>> did_you_mean("paritis", ["parities", "modular"])
        ' (did you mean parities?)'
    """
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""
