"""Numbers as people read them."""

import pytest

from seedmap import text
from seedmap.experiments.noise.results import Estimate

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
    assert (text.whole_percent(0.031), text.whole_percent(1.0)) == ("3 %", "100 %")
    assert (text.duration(119.6), text.duration(120), text.duration(3630)) == (
        *("120 s", "2 min", "60 min"),
    )
    assert text.changes([("l2", 0.5), ("trace", -1.2345)]) == "l2 +0.5; trace -1.23"
    assert [text.cell(v) for v in (True, None, [1, 2.5], [], 1234.5, 0.12345)] == [
        *("yes", DASH, "1, 2.5", "none", "1234", "0.1235"),
    ]


def test_an_interval_that_leaves_nothing_out_is_not_determined():
    every = Estimate(0.4, 0.0, 1.0)
    assert text.interval(every, 100.0, " %", within=(0.0, 1.0)) == "not determined"
    assert text.interval(every, within=(0.0, 2.0)) == "0.400 [0, 1.00]"
    assert text.interval(every) == "0.400 [0, 1.00]"
    assert text.interval(Estimate(0.034, 4e-15, 3e11)) == "not determined"
    assert not text.says_nothing(Estimate(0.4, None, None), (0.0, 1.0))
    assert text.interval(Estimate(5.0, 0.0, None)) == "not determined"
