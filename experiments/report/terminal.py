"""Tables and notes as aligned text for the terminal.

What comes from a user's files, such as names of runs, is printable in them: no escape sequence
reaches the terminal. In a terminal lines are laid out to its width; in a pipe or a file they are as
long as they are. No colours are used.
"""

import codecs
import shutil
import sys
import textwrap
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
_FEWEST_COLUMNS = 20
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


def columns() -> int | None:
    """Returns the width of the terminal; None where the output goes into a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of text, its columns one under the other.

    One that is too wide for the terminal has a block a row, with a line for each column.
    """
    lines = [list(map(printable, line)) for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    joined = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    text, width = "\n".join(joined), columns()
    if width is None or max(map(len, text.splitlines())) <= width:
        return text
    named, *values = lines
    blocks = [labelled(dict(zip(named, line, strict=True))) for line in values]
    return "\n\n".join(blocks)


def labelled(rows: Mapping[str, str]) -> str:
    """Returns a label and a value per line, the values one under the other."""
    shown = {printable(label): printable(value) for label, value in rows.items()}
    width = max(map(len, shown))
    lines = (f"{label:<{width}}  {value}".rstrip() for label, value in shown.items())
    return "\n".join(_wrapped(line, width + 2) for line in lines)


def blocks(*texts: str, notes: Sequence[str] = ()) -> str:
    """Returns the texts one after the other, then a line for each note."""
    return "\n".join([*texts, *(_wrapped(f"note: {printable(note)}", 6) for note in notes)])


def _wrapped(line: str, indent: int) -> str:
    """Returns a line, broken at the terminal's width; what follows is indented."""
    width = columns()
    if width is None or len(line) <= width:
        return line
    hanging = " " * (indent if width >= 2 * indent else 2)
    return textwrap.fill(line, max(width, _FEWEST_COLUMNS), subsequent_indent=hanging)
