"""The parts of an HTML page that opens anywhere: figures inlined, no script, no network."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from seedmap.errors import UserError
from seedmap.experiments.report.text import cell
from seedmap.files import write_text
from seedmap.hmm.figures import png

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
figcaption { color: #444; font-size: .95rem; max-width: 46rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd;
  vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
aside { border-left: 4px solid #d55e00; background: #fdf3ec; padding: .2rem 1rem; }
summary { cursor: pointer; margin: .5rem 0; }
"""


def write_page(path: Path, title: str, parts: Iterable[str]) -> Path:
    """Writes a page of the given HTML parts, whole or not at all; empty parts are left out."""
    write_text(path, _page(title, parts))
    return path


def _page(title: str, parts: Iterable[str]) -> str:
    title = escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n" + "\n".join(filter(None, parts)) + "\n</main>\n</body>\n</html>\n"
    )


def image_source(name: str, figure: Figure | str | Path) -> str:
    """Returns the figure's PNG as a data URI.

    Raises:
        UserError: a figure's file is missing.
    """
    if isinstance(figure, Figure):
        content = png(figure)
    elif Path(figure).is_file():
        content = Path(figure).read_bytes()
    else:
        raise UserError(f"figure {name}: there is no file {figure}; draw it again")
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def figure(name: str, source: str, caption: str) -> str:
    """Returns an image with its caption."""
    label = escape(name.replace("_", " "))
    return (
        f'<figure id="{escape(name)}">\n<img src="{source}" alt="{label}">\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>"
    )


def notes(sentences: Sequence[str]) -> str:
    """Returns the notes as a list; nothing where there are none."""
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<aside>\n<ul>{items}</ul>\n</aside>"


def details(heading: str, content: str) -> str:
    """Returns a section that is shown on demand."""
    return f"<details>\n<summary>{escape(heading)}</summary>\n{content}\n</details>"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table; numbers are formatted, all text is escaped."""
    head = "".join(f"<th>{escape(label)}</th>" for label in header)
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
