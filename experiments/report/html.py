"""The parts of an HTML page that opens anywhere: figures and scripts inlined, no network."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from seedmap.experiments.report.glossary import explained, glossary
from seedmap.files import write_text
from seedmap.hmm.figures import svg
from seedmap.text import cell

_DRAWN = re.compile(r"#(?:222222|6f6f6f|e6e6e6|fdfdfd)")
_FOLLOWS = {"#222222": "--ink", "#6f6f6f": "--grey", "#e6e6e6": "--pale", "#fdfdfd": "--paper"}
_HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)</h2>')


def write_page(
    path: Path,
    title: str,
    sections: Iterable[str],
    first: Iterable[str] = (),
    style: str = "",
    command: str | None = None,
) -> Path:
    """Writes a page of the given HTML parts, whole or not at all; empty parts are left out.

    Args:
        path: file to write.
        title: of the page.
        sections: of the page, under a table of their headings.
        first: what stands above that table.
        style: CSS of some part, beside that of every page.
        command: what made the page, to be copied.
    """
    write_text(path, page_text(title, sections, first, style, command))
    return path


def page_text(
    title: str,
    sections: Iterable[str],
    first: Iterable[str] = (),
    style: str = "",
    command: str | None = None,
) -> str:
    """Returns what `write_page` writes."""
    above, below = "\n".join(filter(None, first)), "\n".join(filter(None, sections))
    words = glossary(above + below)
    if words:
        below += "\n" + details("Glossary", words)
    made = [command_line(command)] if command else []
    body = [f"<h1>{escape(title)}</h1>", *made, above, contents(below), below]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_own_file('page.css')}{style}</style>\n</head>\n"
        "<body>\n<main>\n" + "\n".join(filter(None, body)) + "\n</main>\n"
        f"<script>{_own_file('page.js')}</script>\n</body>\n</html>\n"
    )


def _own_file(name: str) -> str:
    return (files("seedmap.experiments.report") / name).read_text(encoding="utf-8")


def contents(page: str) -> str:
    """Returns the table of a page's headings; nothing where there are fewer than three."""
    headings = _HEADING.findall(page)
    items = "".join(f'<li><a href="#{at}">{heading}</a></li>' for at, heading in headings)
    return f'<nav aria-label="Contents"><ol>{items}</ol></nav>' if len(headings) > 2 else ""


def heading(text: str) -> str:
    """Returns a heading of a part, which the table of contents names."""
    return f'<h2 id="part-{_slug(text)}">{escape(text)}</h2>'


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def command_line(command: str) -> str:
    """Returns a command with a button that copies it; lines break between words only."""
    button = '<button type="button" data-copy>Copy</button>'
    words = " ".join(f"<span>{escape(word)}</span>" for word in command.split(" "))
    return f'<div class="command"><code>{words}</code>{button}</div>'


def inline_svg(name: str, figure: Figure) -> str:
    """Returns a figure as SVG that is part of the page: its ink and paper are those of the page."""
    drawn = re.sub(r"<metadata>.*?</metadata>", "", svg(figure), flags=re.DOTALL)
    drawn = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{_slug(name)}-", drawn)  # unique in the page
    drawn = _DRAWN.sub(lambda match: f"var({_FOLLOWS[match[0]]}, {match[0]})", drawn)
    box = re.search(r'viewBox="[^"]*"', drawn)
    assert box is not None
    label = escape(name.replace("_", " "), quote=True)
    natural = f"--natural: {96 * figure.get_figwidth():.0f}px"
    start = f'<svg {box[0]} role="img" aria-label="{label}" style="{natural}">'
    return start + drawn[drawn.index(">") + 1 :]


def figure(name: str, drawn: Figure, caption: str) -> str:
    """Returns a figure with its caption and a button that saves it."""
    button = f'<button type="button" data-svg="{escape(name, quote=True)}">SVG</button>'
    return (
        f'<figure id="{escape(name)}">\n<div class="picture">{inline_svg(name, drawn)}</div>\n'
        f"<figcaption>{explained(caption)} {button}</figcaption>\n</figure>"
    )


def key_numbers(numbers: Iterable[tuple[str, str, str]]) -> str:
    """Returns numbers that stand out: label, value, and what it is beside or made of."""
    items = "\n".join(
        f"<div><dt>{explained(label)}</dt><dd>{escape(value)}"
        + (f"<small>{escape(note)}</small>" if note else "")
        + "</dd></div>"
        for label, value, note in numbers
    )
    return f'<dl class="numbers">\n{items}\n</dl>'


def notes(sentences: Sequence[str]) -> str:
    """Returns the notes as a list; nothing where there are none."""
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<aside>\n<ul>{items}</ul>\n</aside>"


def details(heading: str, content: str) -> str:
    """Returns a section that is shown on demand."""
    return f"<details>\n<summary>{escape(heading)}</summary>\n{content}\n</details>"


def same_as_figure(name: str, figure: str) -> str:
    """Returns a figure of what the page also shows to explore: folded where scripts run."""
    summary = f"{name.replace('_', ' ').capitalize()}, as a figure"
    return (
        f'<details class="static" open>\n<summary>{escape(summary)}</summary>\n{figure}\n</details>'
    )


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table; numbers are formatted, all text is escaped."""
    head = "".join(f"<th>{explained(label)}</th>" for label in header)
    body = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    if not body:
        return ""
    head = f"<thead><tr>{head}</tr></thead>\n" if header else ""
    return f'<div class="table"><table>\n{head}<tbody>\n{body}\n</tbody>\n</table></div>'


def _cell(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    start = '<td class="number">' if number else "<td>"
    return f"{start}{escape(cell(value))}</td>"


def key_values(pairs: Iterable[tuple[str, Any]]) -> str:
    """Returns a table of names and values."""
    return table((), [(key, value) for key, value in pairs])


def flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Returns leaves of nested mappings and lists, in full precision, under dotted names.

    A list of numbers or names is one leaf.
    """
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple) and _nested(value):
        items = enumerate(value)
    elif isinstance(value, list | tuple):
        return [(prefix, [_in_full(entry) for entry in value])]
    else:
        return [(prefix, _in_full(value))]
    leaves = [flatten(entry, f"{prefix}.{key}" if prefix else str(key)) for key, entry in items]
    return [leaf for group in leaves for leaf in group]


def _nested(values: Sequence[Any]) -> bool:
    return any(isinstance(value, Mapping | list | tuple) for value in values)


def _in_full(value: Any) -> Any:
    return repr(value) if isinstance(value, float) else value
