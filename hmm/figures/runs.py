"""Figures of the runs: the decoded states and the losses."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from seedmap.hmm.figures.style import (
    GREY,
    INK,
    PALE,
    PAPER,
    WIDTH,
    Drawing,
    add_legend,
    drawn,
    figure_of,
    name_ticks,
    on_axes,
    set_log_scale,
    short_names,
    state_colormap,
    state_colour,
    state_handles,
    styled,
    text_colour,
)


def evenly_spread(num_runs: int) -> np.ndarray:
    """Indices int [run] of the runs that a figure with a row for each shows: all, or 300 of them.

    More rows than a figure has dots cannot be told apart.
    """
    return np.unique(np.linspace(0, num_runs - 1, min(num_runs, _MOST_ROWS)).round().astype(int))


def by_convergence(convergence: np.ndarray) -> np.ndarray:
    """Indices of the runs from the first to converge to the last, then those that never do.

    Args:
        convergence: Step at which each run converges, float [run]; NaN if it never does.

    Returns:
        Indices, int [run]; ties and runs that never converge keep their order.
    """
    return np.argsort(convergence, kind="stable")  # NaN is sorted last


def cut_short(paths: np.ndarray) -> np.ndarray:
    """Which runs have no record up to the last checkpoint, bool [run]; padding is -1."""
    return paths[:, -1] < 0


def unconverged(num_never: int, num_diverged: int) -> str:
    """`2 never converge, 1 diverged`, as far as there are such; empty if there are none."""
    never = f"{num_never} never converge{'s' * (num_never == 1)}"
    counts = [never] * (num_never > 0) + [f"{num_diverged} diverged"] * (num_diverged > 0)
    return ", ".join(counts)


@styled
def plot_state_raster(
    paths: np.ndarray,
    steps: np.ndarray,
    convergence: np.ndarray | None,
    runs: Sequence[str],
    num_states: int,
    unit: str = "step",
    diverged: np.ndarray | None = None,
    agreement: np.ndarray | None = None,
    names: Mapping[int, str] = MappingProxyType({}),
    ax: Axes | None = None,
) -> Figure | Axes:
    """Show the decoded states: a row per run, a column per checkpoint, colour = state.

    Of more than 300 runs so many are shown, evenly spread over that order. Long stays have their
    number written in some of the rows. Rows are sorted by convergence, which
    a mark in each row shows. Under a line stand runs that never converge, under one more those of
    them that diverged.

    Args:
        paths: Decoded states, int [run, time]; -1 on padding, shown grey.
        steps: When each checkpoint was taken, in `unit`, increasing, float [time].
        convergence: When each run converges, in `unit`, float [run]; NaN if it never does. None
            where that is not recorded.
        runs: Names of the runs.
        num_states: Number of states of the HMM.
        unit: What steps are counted in.
        diverged: Which runs diverged, bool [run]. Default: those whose path is padded.
        agreement: Share of refits to resampled runs that agree with each state, float [run, time];
            the lower, the paler. Default: not shown.
        names: of states that have one, by their number.
        ax: axes to draw on. Default: a new figure.

    Returns:
        `ax`, or the figure.
    """
    diverged = cut_short(paths) if diverged is None else np.asarray(diverged, dtype=bool)
    recorded, convergence = convergence is not None, _times(convergence, len(paths))
    order = np.lexsort((convergence, diverged & np.isnan(convergence)))  # stable, NaN last
    order = order[evenly_spread(len(order))]
    given, ax = ax, on_axes(ax, WIDTH, min(4.5, 1.5 + 0.12 * len(order)))
    colormap, norm = state_colormap(num_states)
    rows = np.arange(len(order) + 1) - 0.5
    states = np.ma.masked_less(paths[order], 0)
    ax.set_facecolor(PALE)
    ax.pcolormesh(_edges(steps), rows, states, cmap=colormap, norm=norm, **_FLAT)
    if agreement is not None:
        doubt = np.ma.masked_invalid(1 - np.where(paths[order] < 0, np.nan, agreement[order]))
        veil = LinearSegmentedColormap.from_list("veil", [(1, 1, 1, 0), (1, 1, 1, 0.85)])
        ax.pcolormesh(_edges(steps), rows, doubt, cmap=veil, vmin=0, vmax=1, **_FLAT)
    _number_stays(ax, paths[order], _edges(steps))
    _mark_convergence(ax, convergence[order])
    _divide_groups(ax, convergence[order], diverged[order])
    ax.invert_yaxis()
    ticks, labels, size = name_ticks([runs[i] for i in order])
    ax.set_yticks(ticks, labels, fontsize=size)
    ax.tick_params(axis="y", length=1)
    title = _raster_title(convergence if recorded else None, diverged, len(order))
    ax.set(xlabel=unit, ylabel="run", title=title)
    handles = state_handles(num_states, names) + _padding_handles(paths, diverged)
    if np.isfinite(convergence).any():
        handles.append(Line2D([], [], linestyle="", label="converged", **_marker(7.0)))
    if given is None:
        add_legend(figure_of(ax), handles)
    else:
        ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1))
    return drawn(ax, given)


_MOST_ROWS = 300
_FLAT: dict[str, Any] = {"linewidth": 0, "rasterized": True}
_MOST_NUMBERED = 14  # rows whose stays have their number written in
_LONG_STAY = 0.05  # share of the width below which there is no room for it


def _number_stays(ax: Axes, paths: np.ndarray, edges: np.ndarray) -> None:
    """Write the number of the state in the long stays of some rows."""
    style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 5.5}
    for row in range(0, len(paths), -(-len(paths) // _MOST_NUMBERED)):
        path = paths[row][paths[row] >= 0]
        starts = np.flatnonzero(np.diff(path, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(path)], strict=True):
            if edges[end] - edges[start] < _LONG_STAY * (edges[-1] - edges[0]):
                continue
            state = int(path[start])
            chip: dict[str, Any] = {
                "boxstyle": "round,pad=0.15",
                "facecolor": state_colour(state),
                "lw": 0,
            }
            middle = (edges[start] + edges[end]) / 2
            style |= {"color": text_colour(state_colour(state)), "bbox": chip}
            ax.text(middle, row, str(state), gid="stay", **style)


def _group_sizes(convergence: np.ndarray, diverged: np.ndarray) -> tuple[int, int, int]:
    """How many runs converge, never do though they last, and diverge before they could."""
    never = np.isnan(convergence)
    converge, last, diverge = ~never, never & ~diverged, never & diverged
    return int(converge.sum()), int(last.sum()), int(diverge.sum())


def _times(convergence: np.ndarray | None, num_runs: int) -> np.ndarray:
    """Times of convergence; NaN, as of runs that never do, where they are not recorded."""
    return np.full(num_runs, np.nan) if convergence is None else convergence


def _raster_title(convergence: np.ndarray | None, diverged: np.ndarray, num_shown: int) -> str:
    all_shown = num_shown == len(diverged)
    of_all = "" if all_shown else f" of {num_shown} of {len(diverged)} runs"
    if convergence is None:
        note = f": {diverged.sum()} diverged" if diverged.any() else ""
        return f"Decoded states{of_all or ' of all runs'}{note}"
    num_converged, *others = _group_sizes(convergence, diverged)
    note = unconverged(*others)
    if not num_converged:
        return f"Decoded states{of_all or ' of all runs'}: {note}"
    under = f"; under the line: {note}" if note else ""
    return f"Decoded states{of_all}, soonest to converge first{under}"


def _divide_groups(ax: Axes, convergence: np.ndarray, diverged: np.ndarray) -> None:
    """Draw a line between runs that converge, that never do and that diverged."""
    ends = np.cumsum(_group_sizes(convergence, diverged))
    for end in sorted({int(end) for end in ends[:2]} - {0, len(convergence)}):
        ax.axhline(end - 0.5, color=PAPER, linewidth=3)
        ax.axhline(end - 0.5, color=INK, linewidth=1.2, gid="group")


def _padding_handles(paths: np.ndarray, diverged: np.ndarray) -> list[Line2D]:
    """The legend entry of padding, if there is any, by why it is there."""
    padded = cut_short(paths)
    why = {"diverged": padded & diverged, "ended early": padded & ~diverged}
    reasons = [reason for reason, runs in why.items() if runs.any()]
    style: dict[str, Any] = {"marker": "s", "linestyle": "", "color": PALE}
    return [Line2D([], [], label=" or ".join(reasons), **style)] if reasons else []


def _edges(steps: np.ndarray) -> np.ndarray:
    """Edges of the columns: half way between checkpoints, float [time + 1]."""
    steps = np.asarray(steps, dtype=float)
    if len(steps) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]])


def _marker(size: float) -> dict[str, Any]:
    return {
        "marker": "D",
        "markersize": 0.7 * size,
        "markerfacecolor": PAPER,
        "markeredgecolor": INK,
        "markeredgewidth": 0.7,
    }


def _mark_convergence(ax: Axes, convergence: np.ndarray) -> None:
    """Mark when each row converges."""
    rows = np.flatnonzero(np.isfinite(convergence))
    size = float(np.clip(200 / len(convergence), 2.0, 7.0))
    if len(rows):  # an empty line that is not clipped would get room in the layout
        ax.plot(convergence[rows], rows, linestyle="", clip_on=False, **_marker(size))


@styled
def plot_losses(
    loss: Mapping[str, np.ndarray],
    accuracy: Mapping[str, np.ndarray],
    paths: np.ndarray,
    steps: np.ndarray,
    convergence: np.ndarray | None,
    runs: Sequence[str],
    num_states: int,
    unit: str = "step",
    diverged: np.ndarray | None = None,
) -> Figure:
    """Show loss and accuracy of a few runs, coloured by state.

    The runs are those of `exemplary_runs`. The last curve of each mapping is drawn thick, the
    others thin.

    Args:
        loss: Curves by name (as `train`, `eval`), each float [run, time].
        accuracy: The same for accuracy; empty if there is none.
        paths: Decoded states, int [run, time]; -1 on padding.
        steps: When each checkpoint was taken, in `unit`, float [time].
        convergence: When each run converges, in `unit`, float [run]; NaN if it never does. None
            where that is not recorded: the first run, one in the middle and the last are shown.
        runs: Names of the runs.
        num_states: Number of states of the HMM.
        unit: What steps are counted in.
        diverged: Which runs diverged, bool [run]. Default: those whose path is padded.

    Returns:
        The figure.
    """
    diverged = cut_short(paths) if diverged is None else np.asarray(diverged, dtype=bool)
    chosen = _spread(len(runs))
    if convergence is not None:
        chosen = exemplary_runs(convergence, diverged)
    convergence = _times(convergence, len(runs))
    panels = {"loss": loss, "accuracy": accuracy} if accuracy else {"loss": loss}
    figure = Drawing(figsize=(WIDTH, 0.9 + 1.8 * len(panels)), layout="constrained")
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
        if role == "diverged":
            when = f" after {steps[(paths[run] >= 0).sum() - 1]:g}"
        ax.set_title(f"{role}{when}\nrun {names[run]}", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel(unit)
    handles = state_handles(num_states) + _weight_handles(list(loss))
    add_legend(figure, handles)
    return figure


def _spread(num_runs: int) -> dict[str, int]:
    """The first run, the one in the middle and the last, each once."""
    if num_runs < 3:
        return dict(zip(("first", "last"), range(num_runs), strict=False))
    return {"first": 0, "middle": num_runs // 2, "last": num_runs - 1}


def exemplary_runs(convergence: np.ndarray, diverged: np.ndarray) -> dict[str, int]:
    """The fastest, median and slowest run to converge and the first that never does.

    Only where all that never converge diverged, the first of these stands for them.

    Args:
        convergence: When each run converges, float [run]; NaN if it never does.
        diverged: Which runs diverged, bool [run].

    Returns:
        Indices by role (`fastest`, `median`, `slowest`, `never` or `diverged`), each run once;
        roles that no run fills are left out.
    """
    converged = by_convergence(convergence)[: np.isfinite(convergence).sum()]
    others = np.flatnonzero(np.isnan(convergence))
    lasting = others[~diverged[others]]
    chosen = {}
    if len(converged):
        chosen["fastest"] = int(converged[0])
    if len(converged) > 2:
        chosen["median"] = int(converged[(len(converged) - 1) // 2])
    if len(converged) > 1:
        chosen["slowest"] = int(converged[-1])
    if len(lasting):
        chosen["never"] = int(lasting[0])
    elif len(others):
        chosen["diverged"] = int(others[0])
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
    ax.add_collection(LineCollection(pieces, colors=colours, linewidths=1.8 if thick else 0.7))
    if thick:
        _number_pieces(ax, pieces, path[starts])


def _number_pieces(ax: Axes, pieces: Sequence[np.ndarray], states: np.ndarray) -> None:
    """Write each piece's state above its middle, where it is long enough."""
    span = pieces[-1][-1, 0] - pieces[0][0, 0]
    for piece, state in zip(pieces, states, strict=True):
        if piece[-1, 0] - piece[0, 0] > _LONG_STAY * span:
            x, y = piece[len(piece) // 2]
            where: dict[str, Any] = {"xytext": (0, 2), "textcoords": "offset points"}
            ax.annotate(str(state), (x, y), ha="center", fontsize=5.5, gid="piece", **where)


def _weight_handles(names: Sequence[str]) -> list[Line2D]:
    """Legend entries that tell the thin curves from the thick one."""
    widths = [0.7] * (len(names) - 1) + [1.8]
    return [
        Line2D([], [], color=GREY, linewidth=width, label=name)
        for name, width in zip(names, widths, strict=True)
    ]
