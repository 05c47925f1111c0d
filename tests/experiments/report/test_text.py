"""Numbers as people read them."""

import io
import sys

import pytest

from seedmap.experiments.noise.results import Estimate
from seedmap.experiments.report import terminal, text

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        *((0.0, 3, "0"), (0.5, 3, "0.500"), (-0.784, 3, f"{MINUS}0.784"), (None, 3, DASH)),
        *((1034.5, 3, "1034"), (1034.5, 4, "1034"), (100.0, 3, "100"), (18.0, 4, "18.00")),
        *((1e-9, 3, f"1.00e{MINUS}09"), (1.0, 2, "1.0"), (99.96, 3, "100")),
    ],
)
def test_numbers_have_their_significant_digits(value, digits, expected):
    assert text.number(value, digits) == expected


def test_an_interval_is_shown_where_its_ends_are_known_and_differ():
    assert text.interval(Estimate(0.031, 0.028, 0.034), 100.0, " %") == "3.10 % [2.80, 3.40]"
    assert text.interval(Estimate(0.0, 0.0, 0.0)) == "0"
    assert text.interval(Estimate(0.5, None, None)) == "0.500"
    assert text.interval(Estimate(None, None, None)) == text.interval(None) == DASH


def test_p_values_of_tables_and_of_sentences():
    assert [text.p_value(p) for p in (None, 0.0004, 0.02)] == [DASH, "<0.001", "0.020"]
    sentences = [text.p_equals(p) for p in (None, 3.21e-9, 0.02)]
    assert sentences == ["p is undefined", "p = 3.2e-09", "p = 0.02"]


def test_words_for_counts_times_and_lists():
    assert text.mean_and_sd(310.0, 42.0) == "310.0 ± 42.0"
    assert text.mean_and_sd(310.0, None) == "310.0"
    assert (text.time(12.4), text.time(float("inf"))) == ("12", "never")
    assert text.listed([2], "state") == "state 2"
    assert text.listed([2, 3, 4], "state") == "states 2, 3 and 4"
    assert (text.percent(0.4), text.percent(None)) == ("40.0 %", DASH)
    assert [text.cell(v) for v in (True, None, [1, 2.5], [], 1234.5, 0.12345)] == [
        *("yes", DASH, "1, 2.5", "none", "1234", "0.1235"),
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
    shown = f"R\N{SUPERSCRIPT TWO} {text.fixed(-1, 0)} 1{DASH}2 \N{PLUS-MINUS SIGN} 3 "
    print(f"{shown}\N{MULTIPLICATION SIGN} \N{GREEK SMALL LETTER ALPHA}", end="", flush=True)
    assert content.getvalue() == expected


def test_an_interval_that_leaves_nothing_out_is_not_determined():
    every = Estimate(0.4, 0.0, 1.0)
    assert text.interval(every, 100.0, " %", within=(0.0, 1.0)) == "not determined"
    assert text.interval(every, within=(0.0, 2.0)) == "0.400 [0, 1.00]"
    assert text.interval(every) == "0.400 [0, 1.00]"
    assert text.interval(Estimate(0.034, 4e-15, 3e11)) == "not determined"
    assert not text.says_nothing(Estimate(0.4, None, None), (0.0, 1.0))
    assert text.interval(Estimate(5.0, 0.0, None)) == "not determined"
