"""Text for a terminal: laid out to its width, and left alone in a pipe."""

import pytest

from seedmap.experiments.report import terminal

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
