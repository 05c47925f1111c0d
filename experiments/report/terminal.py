"""Tables and notes as aligned text for the terminal."""

from collections.abc import Iterable, Mapping, Sequence


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of text, its columns one under the other."""
    lines = [list(header), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    joined = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "\n".join(joined)


def labelled(rows: Mapping[str, str]) -> str:
    """Returns a label and a value per line, the values one under the other."""
    width = max(map(len, rows))
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows.items())


def blocks(*texts: str, notes: Sequence[str] = ()) -> str:
    """Returns the texts one after the other, then a line for each note."""
    return "\n".join([*texts, *(f"note: {note}" for note in notes)])
