"""Text for a terminal: laid out to its width, and left alone in a pipe."""

import io
import sys

import pytest

from seedmap.experiments.report import terminal
from seedmap.text import DASH, fixed

HEADER, ROWS = ("run", "what was found"), [("a", "one fork"), ("b", "none, of 40 runs")]


@pytest.fixture
def width(monkeypatch):
    return lambda columns: monkeypatch.setattr(terminal, "columns", lambda: columns)


def test_in_a_pipe_nothing_is_wrapped(capsys):
    assert terminal.columns() is None
    assert (
        terminal.aligned(HEADER, ROWS)
        == "run  what was found\na    one fork\nb    none, of 40 runs"
    )
    assert terminal.labelled({"k": "word " * 60}).count("\n") == 0


def test_a_table_too_wide_has_a_block_a_row(width):
    width(30)
    assert "\n\n" not in terminal.aligned(HEADER, ROWS)
    width(16)
    assert terminal.aligned(HEADER, ROWS).split() == (
        "run a what was found one fork run b what was found none, of 40 runs".split()
    )
    first, second = terminal.aligned(HEADER, ROWS).split("\n\n")
    assert first.startswith("run             a\n")
    assert max(map(len, second.splitlines())) <= 20


def test_a_long_value_is_wrapped_below_itself(width):
    width(24)
    text = terminal.labelled({"states": "3, 2 transitions; 2 where half", "r": "1"})
    assert text.splitlines() == [
        "states  3, 2",
        "        transitions; 2",
        "        where half",
        "r       1",
    ]
    notes = terminal.blocks("x", notes=["the number of states is a resolution"])
    assert notes.splitlines() == [
        "x",
        "note: the number of",
        "      states is a",
        "      resolution",
    ]


def test_columns_stand_one_under_the_other():
    table = terminal.aligned(("a", "bcd"), [("12", "3"), ("4", "")])
    assert table == "a   bcd\n12  3\n4"
    assert terminal.labelled({"a": "1", "bcd": "2"}) == "a    1\nbcd  2"
    assert terminal.blocks("x", "", notes=["n"]) == "x\n\nnote: n"


def test_no_escape_sequence_reaches_the_terminal():
    shown = terminal.blocks(
        terminal.aligned(("run", "x"), [("\x1b[31mred", "1")]),
        terminal.labelled({"line\nend": "\u202e2"}),
        notes=["run \x07"],
    )
    assert all(line.isprintable() for line in shown.splitlines())
    assert shown.splitlines()[1:] == [
        r"\x1b[31mred  1",
        r"line\nend  \u202e2",
        r"note: run \x07",
    ]


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", b"R^2 -1 1-2 +/- 3 x \\u03b1"), ("latin-1", b"R\xb2 -1 1-2 \xb1 3 \xd7 \\u03b1")],
)
def test_plain_text_where_the_encoding_has_no_more(monkeypatch, encoding, expected):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding))
    terminal.plain_where_needed()
    shown = f"R\N{SUPERSCRIPT TWO} {fixed(-1, 0)} 1{DASH}2 \N{PLUS-MINUS SIGN} 3 "
    print(f"{shown}\N{MULTIPLICATION SIGN} \N{GREEK SMALL LETTER ALPHA}", end="", flush=True)
    assert content.getvalue() == expected
