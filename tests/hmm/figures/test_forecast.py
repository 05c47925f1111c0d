import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from helpers.figure_data import assert_legible, by_gid
from seedmap.hmm.figures.forecast import plot_forecast_skill
from seedmap.hmm.forecasting.skill import Comparison, SkillRow
from seedmap.hmm.training_map.survival import Interval

FORECASTS = ("hmm", "regression", "time")


def around(value, half=0.05):
    return Interval(value, value - half, value + half)


def make_rows(num_rows=14):
    rng = np.random.default_rng(0)

    def comparison():
        return Comparison(*(around(float(value)) for value in rng.uniform(0.1, 0.6, 5)))

    return [
        SkillRow(
            upto=25.0 * (i + 1),
            num_runs=40 - 2 * i,
            num_converging=38 - 2 * i,
            brier=comparison(),
            concordance=comparison(),
            coverage=around(float(rng.uniform(0.7, 0.9))),
            level=0.8,
            width=100.0,
        )
        for i in range(num_rows)
    ]


@pytest.mark.parametrize("num_rows", [0, 1, 14])
def test_figure_is_legible(num_rows):
    assert_legible(plot_forecast_skill(make_rows(num_rows), "epoch"))


def test_figure_shows_the_rows():
    rows = make_rows()
    figure = plot_forecast_skill(rows, "epoch")
    for axes, score in zip(figure.axes, ("brier", "concordance"), strict=False):
        for name in FORECASTS:
            (line,) = by_gid(figure, f"{score} {name}")
            values = [getattr(getattr(row, score), name).value for row in rows]
            np.testing.assert_array_equal(line.get_xdata(), [row.upto for row in rows])
            np.testing.assert_array_equal(line.get_ydata(), values)
        (band,) = (c for c in axes.collections if isinstance(c, PolyCollection))
        heights = band.get_paths()[0].vertices[:, 1]
        own = [getattr(row, score).hmm for row in rows]
        assert heights.min() == pytest.approx(min(i.low for i in own))
        assert heights.max() == pytest.approx(max(i.high for i in own))
    (points,) = by_gid(figure, "coverage")
    np.testing.assert_array_equal(points.get_ydata(), [row.coverage.value for row in rows])
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels[:2] == ["25\n(40)", "125\n(32)"]
