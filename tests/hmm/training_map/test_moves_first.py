import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from seedmap.errors import UserError
from seedmap.hmm.training_map.moves_first import change_point, median_interval, moves_first


def two_lines(times, values):
    """Residual sum of each cut by NumPy's own least squares, and of one line."""

    def left(t, y):
        return ((y - np.polyval(np.polyfit(t, y, 1), t)) ** 2).sum()

    cuts = range(4, len(times) - 3)
    return [left(times[:c], values[:c]) + left(times[c:], values[c:]) for c in cuts], left(
        times, values
    )


@pytest.mark.parametrize("seed", range(5))
def test_change_point_is_the_best_of_all_cuts(seed):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 100, 24))
    values = np.where(times < 40, 0.02 * times, 3 - 0.01 * times) + 0.2 * rng.normal(size=24)
    sums, line = two_lines(times, values)
    cut = 4 + int(np.argmin(sums))
    assert min(sums) < 0.5 * line
    assert change_point(times, values) == pytest.approx(times[cut - 1 : cut + 1].mean())


@given(st.floats(-1e3, 1e3), st.floats(0.1, 1e3), st.integers(5, 25))
def test_change_point_knows_no_units(shift, scale, cut):
    times = np.arange(30.0)
    values = np.where(times < cut, 0.0, 1.0)
    assert change_point(times, shift + scale * values) == cut - 0.5


def test_one_line_and_noise_do_not_turn():
    rng = np.random.default_rng(0)
    assert np.isnan(change_point(np.arange(30.0), 3 + 0.5 * np.arange(30.0)))
    assert np.isnan(change_point(np.arange(30.0), np.full(30, 7.0)))
    turns = [np.isfinite(change_point(np.arange(30.0), rng.normal(size=30))) for _ in range(200)]
    assert np.mean(turns) < 0.05


LEADS = np.array([40.0, 20.0, 0.0])


def planted(seed=0, num_runs=30, jitter=6.0):
    """Metrics a, b, c step, kink and rise at leads of 40, 20 and 0 before the event; d is noise."""
    rng = np.random.default_rng(seed)
    steps = 5.0 * np.arange(1, 61)
    event = rng.uniform(120, 220, num_runs)
    turn = event[:, None] - LEADS + jitter * rng.normal(size=(num_runs, 3))
    past = steps[None, :, None] - turn[:, None, :]
    values = np.stack(
        [
            np.where(past[..., 0] > 0, 1.0, 0.0),
            np.maximum(past[..., 1], 0) / 20,
            1 / (1 + np.exp(-past[..., 2] / 4)),
            np.zeros(past.shape[:2]),
        ],
        -1,
    )
    return values + 0.03 * rng.normal(size=values.shape), steps, event, turn


def test_the_order_and_the_leads_are_those_planted():
    values, steps, event, _ = planted()
    found = moves_first(values, steps, event, "abcd")
    assert [turn.metric for turn in found.turns] == ["a", "b", "c"]
    assert found.steady == ("d",)
    for turn, lead in zip(found.turns, LEADS, strict=True):
        assert turn.lead == pytest.approx(lead, abs=4)
        assert turn.low <= turn.lead <= turn.high
        assert (turn.runs, turn.share) == (30, 1.0)
    assert found.turns[0].first == 1.0
    assert found.turns[0].before_next == pytest.approx(2 * 0.5**29)  # one tie
    assert found.turns[2].before_next is None


def test_change_points_of_runs_are_those_planted():
    values, steps, event, turn = planted(1)
    leads = moves_first(values, steps, event, "abcd").leads
    assert np.abs(event - leads[:, 0] - turn[:, 0]).max() <= 5  # a record
    assert np.abs(event - leads[:, 2] - turn[:, 2]).mean() < 5


def test_metrics_that_turn_together_are_not_told_apart():
    tests = []
    for seed in range(30):
        values, steps, event, _ = planted(seed)
        rng = np.random.default_rng(seed)
        turn = event[:, None] - 20 + 8 * rng.normal(size=(len(event), 2))
        both = (steps[None, :, None] > turn[:, None]) + 0.03 * rng.normal(
            size=(*values.shape[:2], 2)
        )
        tests.append(moves_first(both, steps, event, "ab").turns[0].before_next)
    assert np.mean(np.array(tests) <= 0.05) <= 0.1


def test_runs_without_event_or_with_few_records_have_no_lead():
    values, steps, event, _ = planted()
    event = event.copy()
    event[0], values[1, 30:] = np.nan, np.nan
    event[1] = 290.0
    found = moves_first(values, steps, event, "abcd")
    assert found.runs == 28
    assert np.isnan(found.leads[:2]).all()
    with pytest.raises(UserError, match="0 runs have one with 8 records"):
        moves_first(values, steps, np.full(30, np.nan), "abcd")


def test_curves_are_aligned_at_the_event():
    values, steps, event, _ = planted(jitter=0.0)
    found = moves_first(values, steps, event, "abcd")
    jump = np.diff(found.curves[0]).argmax()
    assert found.offsets[jump + 1] == -LEADS[0] / 5


def test_median_interval_by_enumeration():
    """Of all 2^n ways in which n values lie below or above the median, at least 95 % hold it."""
    for number in (6, 9, 11):
        low, high = median_interval(np.arange(1.0, number + 1))
        below = np.array([sum(side) for side in itertools.product((0, 1), repeat=number)])
        held = ((below >= low) & (below <= high - 1)).mean()
        assert held >= 0.95
        assert held - 2 * stats.binom.pmf(low, number, 0.5) < 0.95
    assert median_interval(np.arange(5.0)) == (None, None)
