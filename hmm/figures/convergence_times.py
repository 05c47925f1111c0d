"""The figure of the times of convergence."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seedmap.errors import UserError
from seedmap.hmm.figures.runs import unconverged
from seedmap.hmm.figures.style import (
    GREY,
    PAPER,
    WIDTH,
    drawn,
    on_axes,
    say_nothing_to_show,
    styled,
)


@styled
def plot_convergence(
    convergence: np.ndarray,
    criterion: str,
    unit: str = "step",
    num_diverged: int = 0,
    resolution: float | None = None,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Show how convergence times are spread, and say how many runs never converge.

    Args:
        convergence: When each run converges, in `unit`, float [run]; NaN if it never does.
        criterion: What convergence is, such as "eval_accuracy above 0.9".
        unit: What convergence times are counted in.
        num_diverged: How many of the runs that never converge diverged.
        resolution: Spacing of records, in `unit`, of which the edges of the bins are multiples.
        ax: Axes to draw on. Default: a new figure.

    Returns:
        `ax`, or the figure.

    Raises:
        UserError: More runs diverged than never converge.
    """
    times = convergence[np.isfinite(convergence)]
    num_runs, num_never = len(convergence), len(convergence) - len(times) - num_diverged
    if num_never < 0:
        raise UserError(
            f"num_diverged is {num_diverged}, but only {num_never + num_diverged} runs never "
            "converge: leave out those that diverged after they had converged"
        )
    given, ax = ax, on_axes(ax, 0.75 * WIDTH, 2.8)
    ax.set_title(f"First {unit} with {criterion}")
    if not len(times):
        diverged = f", {num_diverged} diverged" if num_diverged else ""
        say_nothing_to_show(ax, f"none of {num_runs} runs converges{diverged}")
        return drawn(ax, given)
    ax.hist(times, bins=_bins(times, resolution), color=GREY, edgecolor=PAPER)
    others = unconverged(num_never, num_diverged)
    note = f"of {num_runs} runs {others}" if others else f"all {num_runs} runs converge"
    ax.set(xlabel=f"{unit} ({note})", ylabel="runs")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return drawn(ax, given)


def _bins(times: np.ndarray, resolution: float | None) -> int | list[float]:
    """Number of bins, or their edges: multiples of the resolution, spaced by a multiple of it."""
    count = min(20, max(5, len(times) // 2))
    if resolution is None:
        return count
    width = resolution * max(1.0, np.ceil(np.ptp(times) / (count * resolution)))
    return (width * np.arange(times.min() // width, times.max() // width + 2)).tolist()
