"""Pages of sections: a heading, figures with captions, tables; notes first, all numbers last.

The HTML of each piece is that of `experiments.report.html`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Generic, TypeVar

from matplotlib.figure import Figure

from seedmap.experiments.report import html
from seedmap.results import to_json

Subject = TypeVar("Subject")
Drawn = Mapping[str, Figure]
"""Figures by name."""


@dataclass(frozen=True)
class Section(Generic[Subject]):
    """A part of a page.

    Attributes:
        heading: its heading.
        figures: names of its figures, each with the function that writes its caption from what the
            page is about.
        tables: functions from what the page is about to HTML.
    """

    heading: str
    figures: Mapping[str, Callable[[Subject], str]]
    tables: tuple[Callable[[Subject], str], ...] = ()


def render(
    section: Section[Subject],
    subject: Subject,
    drawn: Drawn,
    folded: Collection[str] = (),
    lead: str = "",
) -> str:
    """Returns the HTML of a section: the figures that were drawn, then the tables.

    Figures whose names are in `folded`, which the page shows to explore as well, are folded where
    scripts run; `lead` is HTML that stands before them.
    """
    pieces = [lead]
    for name, caption in section.figures.items():
        if name in drawn:
            figure = html.figure(name, drawn[name], caption(subject))
            pieces.append(html.same_as_figure(name, figure) if name in folded else figure)
    return titled(section.heading, *pieces, *(table(subject) for table in section.tables))


def further_figures(sections: Iterable[Section], drawn: Drawn) -> str:
    """Returns the HTML of the figures that no section names, without captions."""
    known = {name for section in sections for name in section.figures}
    pieces = [html.figure(name, drawn[name], "") for name in drawn if name not in known]
    return titled("Further figures", *pieces)


def titled(heading: str, *pieces: str) -> str:
    """Returns pieces of HTML under a heading; nothing where all are empty."""
    pieces = tuple(filter(None, pieces))
    return "\n".join([html.heading(heading), *pieces]) if pieces else ""


def paragraph(sentences: str) -> str:
    """Returns a paragraph of text."""
    return f"<p>{escape(sentences)}</p>"


def bullets(sentences: Sequence[str]) -> str:
    """Returns a list of sentences; nothing where there are none."""
    items = "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>\n{items}\n</ul>" if sentences else ""


def numbers(content: Any) -> str:
    """Returns every leaf of a result or a mapping under its dotted name, in full precision."""
    return html.key_values(html.flatten(to_json(content)))


def all_numbers(content: Any, heading: str = "All numbers") -> str:
    """Returns what `numbers` does, shown on demand."""
    return html.details(heading, numbers(content))
