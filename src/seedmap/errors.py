"""The one error for wrong input: its message says what, where, and how to mend it."""

import difflib
from collections.abc import Iterable
from itertools import islice

_MOST_COMPARED, _LONGEST_COMPARED = 1000, 100


class UserError(ValueError):
    """Wrong input of the user's.

    The command prints the message as one line and exits with 2; every other exception is a bug and
    keeps its traceback.
    """


def printable(text: str) -> str:
    r"""Returns text with an escape for every character that is not to be printed.

    Control characters and line ends, the escape sequences of terminals among them, NUL, surrogates
    and marks of direction.

    Example:
        >>> print(printable("red: \x1b[31m"))
        red: \x1b[31m
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def nearest(name: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Returns up to `most` of the known names, the nearest first.

    Only the first 1000 and none of over 100 characters are looked at, which bounds the time.
    """
    short = (other for other in islice(known, _MOST_COMPARED) if len(other) <= _LONGEST_COMPARED)
    return difflib.get_close_matches(name[:_LONGEST_COMPARED], list(short), most, cutoff)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns " (did you mean NEAREST?)", or "" where nothing known is near.

    Example:
        >>> did_you_mean("paritis", ["parities", "modular"])
        ' (did you mean parities?)'
    """
    near = nearest(name, known)
    return f" (did you mean {near[0]}?)" if near else ""
