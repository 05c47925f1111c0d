"""Figures of runs: state raster, losses, histogram of convergence."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_hex

from helpers.figure_data import assert_legible, by_gid, make_runs
from seedmap.hmm import figures
from seedmap.hmm.figures.runs import by_convergence, exemplary_runs

SAID = "eval_accuracy above 0.9"


def test_raster_holds_the_paths_in_order_of_convergence():
    paths, steps, convergence, runs = make_runs()
    paths[5, 40:] = -1
    figure = figures.plot_state_raster(paths, steps, convergence, runs, 8, "epoch")
    order = np.lexsort((np.arange(40), np.nan_to_num(convergence, nan=np.inf)))
    (mesh,) = figure.findobj(QuadMesh)
    np.testing.assert_array_equal(mesh.get_array().filled(-1), paths[order])
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == [runs[i] for i in order]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.sort(convergence)[:38])
    (line,) = by_gid(figure, "group")
    assert line.get_ydata()[0] == 37.5  # over the two that never converge
    assert ax.get_xlabel() == "epoch"


def raster(convergence, cut, diverged=None):
    """Raster of runs named a, b, ... with the runs `cut` padded half way."""
    paths, steps, _, _ = make_runs(num_runs=len(convergence), num_states=2)
    paths[cut, 30:] = -1
    names = "abcdefgh"[: len(convergence)]
    convergence = np.array(convergence, dtype=float)
    figure = figures.plot_state_raster(paths, steps, convergence, names, 2, "epoch", diverged)
    ax = figure.axes[0]
    rows = "".join(label.get_text() for label in ax.get_yticklabels())
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    lines = [line.get_ydata()[0] for line in by_gid(figure, "group")]
    assert_legible(figure)
    return rows, ax.get_title("left"), lines, legend[2:], figure


def test_raster_tells_runs_that_diverged_from_those_that_never_converge():
    nan = np.nan
    rows, title, lines, legend, _ = raster([nan, 50, nan, nan, 20], cut=[0, 4])
    assert rows == "ebcda"  # e converged before it diverged
    assert title.endswith("soonest to converge first; under the line: 2 never converge, 1 diverged")
    assert lines == [1.5, 3.5]
    assert legend == ["diverged", "converged"]
    rows, title, lines, legend, _ = raster([nan, nan, nan], cut=[0])
    assert (rows, lines, legend) == ("bca", [1.5], ["diverged"])
    assert title == "Decoded states of all runs: 2 never converge, 1 diverged"
    _, title, lines, legend, _ = raster([10, 20], cut=[])
    assert title == "Decoded states, soonest to converge first"
    assert (lines, legend) == ([], ["converged"])


def test_raster_of_many_runs_shows_some_of_every_kind_and_says_so():
    rng = np.random.default_rng(0)
    convergence = np.where(np.arange(900) % 9 == 0, np.nan, rng.uniform(1, 50, 900))
    paths, steps = rng.integers(0, 2, (900, 60)), np.arange(60.0)
    names = [str(run) for run in range(900)]
    figure = figures.plot_state_raster(paths, steps, convergence, names, 2)
    order = by_convergence(convergence)[figures.evenly_spread(900)]
    (mesh,) = figure.findobj(QuadMesh)
    np.testing.assert_array_equal(mesh.get_array(), paths[order])
    assert order[0] == np.nanargmin(convergence)
    assert len(order) == 300
    (line,) = by_gid(figure, "group")
    assert line.get_ydata()[0] == np.isfinite(convergence[order]).sum() - 0.5
    assert figure.axes[0].get_title("left") == (
        "Decoded states of 300 of 900 runs, soonest to converge first; under the line: "
        "100 never converge"
    )


def test_raster_takes_a_shorter_run_for_diverged_only_if_it_is():
    nan = np.nan
    rows, title, _, legend, _ = raster([nan, nan], [0, 1], np.array([True, False]))
    assert (rows, legend) == ("ba", ["diverged or ended early"])
    assert title == "Decoded states of all runs: 1 never converges, 1 diverged"
    *_, legend, _ = raster([nan, 10], [0, 1], np.array([False, False]))
    assert legend == ["ended early", "converged"]


def test_raster_wastes_no_room_where_no_run_converges():
    figure = raster([np.nan] * 4, cut=[0])[-1]
    label = figure.axes[0].xaxis.label.get_window_extent()
    gap = label.y0 - figure.legends[0].get_window_extent().y1
    assert 0 < gap < 0.25 * figure.dpi


def test_where_convergence_is_not_recorded_no_run_is_said_to_lack_it():
    paths, steps = np.array([[0, 1, 1], [0, 0, 1], [0, 1, -1]]), np.array([0.0, 10, 20])
    raster = figures.plot_state_raster(paths, steps, None, ["a", "b", "c"], 2)
    assert raster.axes[0].get_title(loc="left") == "Decoded states of all runs: 1 diverged"
    assert [tick.get_text() for tick in raster.axes[0].get_yticklabels()] == ["a", "b", "c"]
    curves = {"train": np.ones((3, 3))}
    for names, titles in (
        ("abc", ["first\nrun a", "middle\nrun b", "last\nrun c"]),
        ("ab", ["first\nrun a", "last\nrun b"]),
        ("a", ["first\nrun a"]),
    ):
        n = len(names)
        drawn = figures.plot_losses(
            {"train": curves["train"][:n]}, {}, paths[:n], steps, None, [*names], 2
        )
        assert [ax.get_title(loc="left") for ax in drawn.axes] == titles


def test_raster_columns_reach_half_way_between_steps():
    paths = np.array([[0, 1, 1]])
    figure = figures.plot_state_raster(paths, [0, 10, 40], np.array([10.0]), ["a"], 2)
    (mesh,) = figure.findobj(QuadMesh)
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], [-5, 5, 25, 55])


def test_exemplary_runs():
    nan, lasts = np.nan, np.zeros(5, dtype=bool)
    assert exemplary_runs(np.array([30.0, nan, 10.0, 20.0, nan]), lasts) == {
        "fastest": 2,
        "median": 3,
        "slowest": 0,
        "never": 1,
    }
    assert exemplary_runs(np.array([30.0, 10.0]), lasts[:2]) == {"fastest": 1, "slowest": 0}
    assert exemplary_runs(np.array([nan]), lasts[:1]) == {"never": 0}
    assert by_convergence(np.array([nan, 2.0, nan, 2.0])).tolist() == [1, 3, 0, 2]


def test_a_diverged_run_is_the_example_only_where_no_other_is_left():
    convergence = np.array([np.nan, 10.0, np.nan, np.nan])
    diverged = np.array([True, True, False, False])
    assert exemplary_runs(convergence, diverged) == {"fastest": 1, "never": 2}
    assert exemplary_runs(convergence[:2], diverged[:2]) == {"fastest": 1, "diverged": 0}


def test_losses_say_when_the_example_diverged():
    paths = np.array([[0, 0, -1, -1], [0, 0, 0, 0]])
    loss = np.array([[2.0, 3.0, np.nan, np.nan], [2.0, 2.0, 2.0, 2.0]])
    steps, never = np.arange(4) * 10.0, np.full(2, np.nan)
    arguments = ({"eval": loss}, {}, paths, steps, never, ["a", "b"], 1)
    titles = [ax.get_title("left") for ax in figures.plot_losses(*arguments).axes]
    assert titles == ["never\nrun b"]
    only = ({"eval": loss[:1]}, {}, paths[:1], steps, never[:1], ["a"], 1)
    titles = [ax.get_title("left") for ax in figures.plot_losses(*only).axes]
    assert titles == ["diverged after 10\nrun a"]
    lasts = np.zeros(2, dtype=bool)
    titles = [ax.get_title("left") for ax in figures.plot_losses(*arguments, diverged=lasts).axes]
    assert titles == ["never\nrun a"]


def test_loss_curves_are_whole_and_coloured_by_state():
    paths = np.array([[0, 0, 1, 1, 0, -1]])
    steps = np.arange(6) * 10.0
    loss = np.array([[8.0, 4.0, 2.0, 1.0, 0.5, 0.0]])
    figure = figures.plot_losses({"eval": loss}, {}, paths, steps, np.array([30.0]), ["a"], 2)
    (curve,) = figure.findobj(LineCollection)
    pieces = [piece.tolist() for piece in curve.get_segments()]
    assert pieces == [[[0, 8], [10, 4], [20, 2]], [[20, 2], [30, 1], [40, 0.5]], [[40, 0.5]]]
    assert [to_hex(c) for c in curve.get_colors()] == [figures.state_colour(k) for k in (0, 1, 0)]
    assert figure.axes[0].get_yscale() == "log"


@pytest.mark.parametrize("loss", [[1.0, 0.1, 0.0], [1.0, -2.0, 100.0], [1.0, 1.1, 1.2]])
def test_loss_axis_is_linear_without_positive_values_over_a_decade(loss):
    paths, steps = np.zeros((1, 3), int), np.arange(3.0)
    figure = figures.plot_losses(
        {"eval": np.array([loss])}, {}, paths, steps, np.array([np.nan]), ["a"], 1
    )
    assert figure.axes[0].get_yscale() == "linear"


def test_histogram_counts_all_that_converge_and_names_the_rest():
    _, _, convergence, _ = make_runs()
    ax = figures.plot_convergence(convergence, SAID, "epoch").axes[0]
    assert sum(bar.get_height() for bar in ax.patches) == 38
    assert ax.get_xlabel() == "epoch (of 40 runs 2 never converge)"
    assert ax.get_title("left") == f"First epoch with {SAID}"
    empty = figures.plot_convergence(np.full(3, np.nan), SAID).axes[0]
    assert [text.get_text() for text in empty.texts] == ["none of 3 runs converges"]


def test_histogram_tells_diverged_runs_from_those_that_never_converge():
    times = np.array([5.0, np.nan, np.nan, np.nan])
    labels = [
        figures.plot_convergence(times, SAID, "epoch", num_diverged=n).axes[0].get_xlabel()
        for n in (1, 2, 3)
    ]
    assert labels == [
        "epoch (of 4 runs 2 never converge, 1 diverged)",
        "epoch (of 4 runs 1 never converges, 2 diverged)",
        "epoch (of 4 runs 3 diverged)",
    ]
    empty = figures.plot_convergence(np.full(3, np.nan), SAID, num_diverged=2).axes[0]
    assert [text.get_text() for text in empty.texts] == ["none of 3 runs converges, 2 diverged"]
    with pytest.raises(ValueError, match="num_diverged is 4, but only 3 runs never converge"):
        figures.plot_convergence(times, SAID, num_diverged=4)


@pytest.mark.parametrize(
    ("times", "resolution", "edges"),
    [
        ([75, 575, 100, 240, 240], 5, np.arange(0, 701, 100)),
        ([10, 20, 30], 10, [10, 20, 30, 40]),
        ([15], 5, [15, 20]),
        ([12, 31, 44], 4, [8, 16, 24, 32, 40, 48]),
    ],
)
def test_bins_of_the_histogram_follow_the_record_grid(times, resolution, edges):
    times = np.array([*times, np.nan], dtype=float)
    ax = figures.plot_convergence(times, SAID, resolution=resolution).axes[0]
    expected = np.histogram(times[:-1], edges)[0]
    filled = [(bar.get_x(), bar.get_height()) for bar in ax.patches if bar.get_height()]
    assert filled == [(e, n) for e, n in zip(edges[:-1], expected, strict=True) if n]
    assert all(bar.get_x() % resolution == 0 for bar in ax.patches)
