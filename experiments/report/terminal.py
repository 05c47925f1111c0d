"""Tables and notes as aligned text for the terminal.

What comes from a user's files, such as names of runs, is printable in them: no escape sequence
reaches the terminal.
"""

import codecs
import sys
from collections.abc import Iterable, Mapping, Sequence

from seedmap.errors import printable

_PLAIN = str.maketrans(
    {
        "\N{SUPERSCRIPT TWO}": "^2",
        "\N{PLUS-MINUS SIGN}": "+/-",
        "\N{MULTIPLICATION SIGN}": "x",
        **dict.fromkeys(("\N{MINUS SIGN}", "\N{EN DASH}", "\N{EM DASH}"), "-"),
    }
)
_HANDLER = "seedmap.plain"


def plain_where_needed() -> None:
    """Has standard output write plain text for the characters that its encoding lacks."""
    codecs.register_error(_HANDLER, _plain)
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # a stream of another kind has none
    if reconfigure is not None:
        reconfigure(errors=_HANDLER)


def _plain(error: UnicodeError) -> tuple[str, int]:
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode(), error.end


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of text, its columns one under the other."""
    lines = [list(map(printable, line)) for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    joined = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "\n".join(joined)


def labelled(rows: Mapping[str, str]) -> str:
    """Returns a label and a value per line, the values one under the other."""
    shown = {printable(label): printable(value) for label, value in rows.items()}
    width = max(map(len, shown))
    return "\n".join(f"{label:<{width}}  {value}" for label, value in shown.items())


def blocks(*texts: str, notes: Sequence[str] = ()) -> str:
    """Returns the texts one after the other, then a line for each note."""
    return "\n".join([*texts, *(f"note: {printable(note)}" for note in notes)])
