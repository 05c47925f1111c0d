import numpy as np
import pytest

from helpers.figure_data import LONG_NAMES, assert_legible
from seedmap.hmm import figures
from seedmap.hmm.training_map.moves_first import MovesFirst, Turn
from seedmap.hmm.training_map.path_or_speed import PathOrSpeed
from seedmap.hmm.training_map.survival import kaplan_meier

SPEED = PathOrSpeed(0.7, 0.6, 0.8, 0.3, 0.85, 0.4, 0.01, 40)


def test_survival_curves_are_steps_that_hold_to_the_end():
    times = np.array([10.0, 20, 20, 50])
    curves = {
        "visitors": kaplan_meier(times, np.array([True, True, False, False])),
        "nobody converges": kaplan_meier(times, np.zeros(4, bool)),
    }
    figure = figures.plot_survival(curves, 50.0, "epoch")
    first, second = figure.axes[0].lines
    assert first.get_xdata().tolist() == [0, 10, 20, 50]
    assert first.get_ydata() == pytest.approx([1, 0.75, 0.5, 0.5])
    assert second.get_ydata().tolist() == [1, 1]
    assert_legible(figure)


def test_path_or_speed_is_one_bar():
    figure = figures.plot_path_or_speed(SPEED)
    timing, place = figure.axes[0].patches[:2]
    widths = (timing.get_width(), place.get_x(), place.get_width())
    assert widths == pytest.approx((0.7, 0.7, 0.3))
    assert_legible(figure)


def found(names):
    turns = tuple(
        Turn(name, 9.0 - i, 8.0 - i, 10.0, 30, 1.0, 0.5, 0.01) for i, name in enumerate(names)
    )
    curves = np.vstack([np.linspace(-1, i, 30) for i in range(len(names) + 1)])
    leads = np.zeros((40, len(names) + 1))
    offsets = np.arange(-20.0, 10.0)
    return MovesFirst(turns, ("flat",), offsets, curves, leads, (*names, "flat"), 38)


@pytest.mark.parametrize("names", [LONG_NAMES, tuple(f"metric {i}" for i in range(20)), ()])
def test_what_moves_first_has_the_earliest_on_top(names):
    figure = figures.plot_moves_first(found(names), "convergence", "epoch")
    right = figure.axes[1]
    labels = [label.get_text() for label in right.get_yticklabels()]
    assert len(labels) == min(len(names), 14)
    if names:
        assert right.transData.transform((0, 0))[1] > right.transData.transform((0, 1))[1]
        assert right.transData.transform((9, 0))[0] < right.transData.transform((0, 0))[0]
    assert_legible(figure)


def test_a_lead_without_interval_is_a_point():
    few = found(("a",))
    turn = Turn("a", 3.0, None, None, 4, 0.6, 0.5, None)
    figure = figures.plot_moves_first(
        MovesFirst((turn,), (), few.offsets, few.curves, few.leads, few.metrics, 6), "state 2"
    )
    assert figure.axes[1].lines[0].get_xdata()[0] == 3.0
