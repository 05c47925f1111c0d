"""Figures of a fitted HMM: pure functions from data to `matplotlib.figure.Figure`.

Use `save`, `png` or `svg` to write one. The same state has the same colour in all of them.
"""

from seedmap.hmm.figures.comparison import Experiment, plot_comparison, plot_shared_states
from seedmap.hmm.figures.convergence_times import plot_convergence
from seedmap.hmm.figures.findings import (
    plot_moves_first,
    plot_path_or_speed,
    plot_survival,
)
from seedmap.hmm.figures.forecast import plot_forecast_skill
from seedmap.hmm.figures.graph import plot_training_map
from seedmap.hmm.figures.metrics import plot_metric, plot_metrics
from seedmap.hmm.figures.runs import (
    evenly_spread,
    plot_losses,
    plot_state_raster,
)
from seedmap.hmm.figures.selection import plot_held_out, plot_model_selection, plot_sizes
from seedmap.hmm.figures.semantics import plot_coefficients, plot_dissimilarity
from seedmap.hmm.figures.style import png, save, state_colour, svg

__all__ = [
    "Experiment",
    "evenly_spread",
    "plot_coefficients",
    "plot_comparison",
    "plot_convergence",
    "plot_dissimilarity",
    "plot_forecast_skill",
    "plot_held_out",
    "plot_losses",
    "plot_metric",
    "plot_metrics",
    "plot_model_selection",
    "plot_moves_first",
    "plot_path_or_speed",
    "plot_shared_states",
    "plot_sizes",
    "plot_state_raster",
    "plot_survival",
    "plot_training_map",
    "png",
    "save",
    "state_colour",
    "svg",
]
