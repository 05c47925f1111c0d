"""How objects show themselves in a notebook: a headline, a picture, notes, a small table."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 8
MOST_NOTES = 6
_WIDTH = "max-width: 46rem"


def card(
    headline: str,
    figure: "Figure | None" = None,
    notes: Sequence[str] = (),
    header: Sequence[str] = (),
    rows: Iterable[Sequence[Any]] = (),
) -> str:
    """Returns the HTML of an object, about a screen of it.

    Args:
        headline: what it is, in a line.
        figure: its picture, on white.
        notes: what a reader should know; the first 6 are shown.
        header: of the table.
        rows: of the table; the first 8 are shown.
    """
    blocks = [f"<p><strong>{escape(headline)}</strong></p>"]
    if figure is not None:
        blocks.append(f'<div style="{_WIDTH}; background: #fff">{_picture(figure)}</div>')
    blocks += [_notes(notes), _table(header, list(rows))]
    return f'<div style="{_WIDTH}">' + "\n".join(filter(None, blocks)) + "</div>"


def _picture(figure: "Figure") -> str:
    from seedmap.hmm.figures import svg

    return svg(figure).replace("<svg", '<svg style="width: 100%; height: auto"', 1)


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    shown = [escape(note) for note in notes[:MOST_NOTES]]
    if len(notes) > MOST_NOTES:
        shown.append(f"and {len(notes) - MOST_NOTES} more: see <code>notes</code>")
    return "<ul>" + "".join(f"<li>{note}</li>" for note in shown) + "</ul>"


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(label)}</th>" for label in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in row) + "</tr>"
        for row in rows[:MOST_ROWS]
    )
    more = f"<p>and {len(rows) - MOST_ROWS} more</p>" if len(rows) > MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Any) -> str:
    if value is None or value != value:  # NaN differs from itself
        return "\N{EN DASH}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
