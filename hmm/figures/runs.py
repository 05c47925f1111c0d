"""Figures of the runs: the decoded states, the losses, the times of convergence."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hmm.figures.style import (
    GREY,
    INK,
    PALE,
    WIDTH,
    add_legend,
    name_ticks,
    say_nothing_to_show,
    set_log_scale,
    short_names,
    state_colormap,
    state_colour,
    state_handles,
    styled,
)


def by_convergence(convergence: np.ndarray) -> np.ndarray:
    """Indices of the runs from the first to converge to the last, then those that never do.

    Args:
        convergence: Step at which each run converges, float [run]; NaN if it never does.

    Returns:
        Indices, int [run]; ties and runs that never converge keep their order.
    """
    return np.argsort(convergence, kind="stable")  # NaN is sorted last


@styled
def plot_state_raster(
    paths: np.ndarray,
    steps: np.ndarray,
    convergence: np.ndarray,
    runs: Sequence[str],
    num_states: int,
    unit: str = "step",
) -> Figure:
    """Show the decoded states: a row per run, a column per checkpoint, colour = state.

    Rows are sorted by convergence, which a mark in each row shows; runs that never converge stand
    under a line.

    Args:
        paths: Decoded states, int [run, time]; -1 on padding, left blank.
        steps: When each checkpoint was taken, in `unit`, increasing, float [time].
        convergence: When each run converges, in `unit`, float [run]; NaN if it never does.
        runs: Names of the runs.
        num_states: Number of states of the HMM.
        unit: What steps are counted in.

    Returns:
        The figure.
    """
    order = by_convergence(convergence)
    figure = Figure(figsize=(WIDTH, min(4.5, 1.5 + 0.12 * len(order))), layout="constrained")
    ax = figure.add_subplot()
    colormap, norm = state_colormap(num_states)
    rows = np.arange(len(order) + 1) - 0.5
    states = np.ma.masked_less(paths[order], 0)
    ax.set_facecolor(PALE)
    ax.pcolormesh(_edges(steps), rows, states, cmap=colormap, norm=norm, linewidth=0)
    _mark_convergence(ax, convergence[order])
    ax.invert_yaxis()
    places, names, size = name_ticks([runs[i] for i in order])
    ax.set_yticks(places, names, fontsize=size)
    ax.tick_params(axis="y", length=1)
    ax.set(xlabel=unit, ylabel="run", title="Decoded state of every run, soonest to converge first")
    handles = state_handles(num_states)
    if np.isfinite(convergence).any():
        handles.append(Line2D([], [], linestyle="", label="converged", **_marker(7.0)))
    add_legend(figure, handles)
    return figure


def _edges(steps: np.ndarray) -> np.ndarray:
    """Edges of the columns: half way between checkpoints, float [time + 1]."""
    steps = np.asarray(steps, dtype=float)
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]])


def _marker(size: float) -> dict:
    return {
        "marker": "D",
        "markersize": 0.7 * size,
        "markerfacecolor": "white",
        "markeredgecolor": INK,
        "markeredgewidth": 0.7,
    }


def _mark_convergence(ax: Axes, convergence: np.ndarray) -> None:
    """Mark when each row converges, and draw a line over the rows that never do."""
    num_rows = len(convergence)
    num_converged = int(np.isfinite(convergence).sum())
    size = float(np.clip(200 / num_rows, 2.0, 7.0))
    rows = np.arange(num_converged)
    ax.plot(convergence[:num_converged], rows, linestyle="", clip_on=False, **_marker(size))
    if 0 < num_converged < num_rows:
        ax.axhline(num_converged - 0.5, color="white", linewidth=3)
        ax.axhline(num_converged - 0.5, color=INK, linewidth=1.2)
    if num_converged < num_rows:
        # From the axis upwards: lower down the last tick's label may stand.
        style = {"rotation": 270, "va": "bottom", "fontsize": 7, "color": INK}
        note = f"never ({num_rows - num_converged})"
        ax.text(1.01, 0.0, note, transform=ax.transAxes, **style)


@styled
def plot_losses(
    loss: Mapping[str, np.ndarray],
    accuracy: Mapping[str, np.ndarray],
    paths: np.ndarray,
    steps: np.ndarray,
    convergence: np.ndarray,
    runs: Sequence[str],
    num_states: int,
    unit: str = "step",
) -> Figure:
    """Show loss and accuracy of a few runs, coloured by state.

    The runs are the fastest, the median and the slowest to converge and the first that never does,
    as far as there are such. The last curve of each mapping is drawn thick, the others thin.

    Args:
        loss: Curves by name (as `train`, `eval`), each float [run, time].
        accuracy: The same for accuracy; empty if there is none.
        paths: Decoded states, int [run, time]; -1 on padding.
        steps: When each checkpoint was taken, in `unit`, float [time].
        convergence: When each run converges, in `unit`, float [run]; NaN if it never does.
        runs: Names of the runs.
        num_states: Number of states of the HMM.
        unit: What steps are counted in.

    Returns:
        The figure.
    """
    chosen = exemplary_runs(convergence)
    panels = {"loss": loss, "accuracy": accuracy} if accuracy else {"loss": loss}
    figure = Figure(figsize=(WIDTH, 0.9 + 1.8 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), len(chosen), sharex=True, sharey="row", squeeze=False)
    for row, (quantity, curves) in zip(axes, panels.items(), strict=True):
        row[0].set_ylabel(quantity)
        for ax, run in zip(row, chosen.values(), strict=True):
            for name, values in curves.items():
                thick = name == list(curves)[-1]
                _add_curve(ax, steps, values[run], paths[run], thick)
            ax.autoscale_view()
    shown = [values[run][paths[run] >= 0] for values in loss.values() for run in chosen.values()]
    set_log_scale(axes[0, 0], np.concatenate(shown))
    names = short_names(runs, 14)
    for ax, (role, run) in zip(axes[0], chosen.items(), strict=True):
        when = f" at {convergence[run]:g}" if np.isfinite(convergence[run]) else ""
        ax.set_title(f"{role}{when}\nrun {names[run]}", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel(unit)
    handles = state_handles(num_states) + _weight_handles(list(loss))
    add_legend(figure, handles)
    return figure


def exemplary_runs(convergence: np.ndarray) -> dict[str, int]:
    """The fastest, median and slowest run to converge and the first that never does.

    Args:
        convergence: When each run converges, float [run]; NaN if it never does.

    Returns:
        Indices by role, each run once; roles that no run fills are left out.
    """
    order = by_convergence(convergence)
    num_converged = int(np.isfinite(convergence).sum())
    converged = order[:num_converged]
    chosen = {}
    if num_converged:
        chosen["fastest"] = int(converged[0])
    if num_converged > 2:
        chosen["median"] = int(converged[(num_converged - 1) // 2])
    if num_converged > 1:
        chosen["slowest"] = int(converged[-1])
    if num_converged < len(order):
        chosen["never"] = int(order[num_converged])
    return chosen


def _add_curve(
    ax: Axes, steps: np.ndarray, values: np.ndarray, path: np.ndarray, thick: bool
) -> None:
    """Draw a curve as one piece per stay in a state; each piece reaches to the next one."""
    length = int((path >= 0).sum())
    points = np.column_stack([steps, values])[:length]
    starts = np.flatnonzero(np.diff(path[:length], prepend=-1))
    ends = [*starts[1:], length - 1]
    pieces = [points[start : end + 1] for start, end in zip(starts, ends, strict=True)]
    colours = [state_colour(int(path[start])) for start in starts]
    width = {"linewidths": 1.8, "alpha": 1.0} if thick else {"linewidths": 0.7, "alpha": 0.7}
    ax.add_collection(LineCollection(pieces, colors=colours, **width))


def _weight_handles(names: Sequence[str]) -> list[Line2D]:
    """Legend entries that tell the thin curves from the thick one."""
    widths = [0.7] * (len(names) - 1) + [1.8]
    return [
        Line2D([], [], color=GREY, linewidth=width, label=name)
        for name, width in zip(names, widths, strict=True)
    ]


@styled
def plot_convergence(convergence: np.ndarray, threshold: float, unit: str = "step") -> Figure:
    """Show how convergence times are spread, and say how many runs never converge.

    Args:
        convergence: When each run converges, in `unit`, float [run]; NaN if it never does.
        threshold: Evaluation accuracy above which a run has converged.
        unit: What convergence times are counted in.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(0.75 * WIDTH, 2.8), layout="constrained")
    ax = figure.add_subplot()
    times = convergence[np.isfinite(convergence)]
    num_never = len(convergence) - len(times)
    ax.set_title(f"First {unit} with evaluation accuracy above {threshold:g}")
    if not len(times):
        say_nothing_to_show(ax, f"none of {num_never} runs converges")
        return figure
    ax.hist(times, bins=min(20, max(5, len(times) // 2)), color=GREY, edgecolor="white")
    note = f"{num_never} of {len(convergence)} runs never converge" if num_never else "all converge"
    ax.set(xlabel=f"{unit} ({note})", ylabel="runs")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
