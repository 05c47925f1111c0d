"""The figures of a run's report, drawn from the same analysis as its tables."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from seedmap.experiments.runs.analysis import Analysis
from seedmap.experiments.runs.dataset import seed_rows, time_unit
from seedmap.experiments.runs.fit_and_map import Fitted, Mapped
from seedmap.hmm import figures
from seedmap.hmm.training_map.dissimilarity import pairwise_dissimilarity


def make_figures(mapped: Mapped) -> dict[str, Figure]:
    """Returns all figures of a mapped run, by name."""
    fitted, question, analysis = mapped.fitted, mapped.question, mapped.analysis
    dataset = fitted.dataset
    unit = time_unit(dataset)
    by_time = question.outcome == "convergence"
    measure = f"{unit}s later than the mean run" if by_time else f"{question.outcome} over the mean"
    runs, regression = analysis.sequences.runs, analysis.regression
    drawn = {
        "training_map": figures.plot_training_map(analysis.training_map, analysis.detours),
        "convergence": _convergence_figure(dataset, analysis, question.threshold),
        "coefficients": figures.plot_coefficients(regression, analysis.detours, measure),
        "dissimilarity": figures.plot_dissimilarity(
            pairwise_dissimilarity(analysis.bag, "discrete"), runs
        ),
    }
    return drawn | _figures_over_time(dataset, analysis) | _selection_figures(fitted, analysis)


def _convergence_figure(dataset: xr.Dataset, analysis: Analysis, threshold: float) -> Figure:
    diverged = (dataset.diverged.values >= 0) & np.isnan(analysis.convergence)
    times = dataset[time_unit(dataset)].values.astype(float)
    return figures.plot_convergence(
        analysis.convergence,
        threshold,
        time_unit(dataset),
        num_diverged=int(diverged.sum()),
        resolution=float(np.median(np.diff(times))),
    )


def _figures_over_time(dataset: xr.Dataset, analysis: Analysis) -> dict[str, Figure]:
    """Draws the state raster, and the losses of a few runs where losses were recorded."""
    runs, paths = analysis.sequences.runs, analysis.paths
    usable = dataset.isel(seed=seed_rows(dataset, runs), step=slice(paths.shape[1]))
    unit = time_unit(dataset)
    when = (usable[unit].values.astype(float), analysis.run_convergence, runs)
    rest = (analysis.training_map.num_states, unit, usable.diverged.values >= 0)
    curves = {
        kind: {
            split: usable[f"{split}_{kind}"].values
            for split in ("train", "eval")
            if f"{split}_{kind}" in usable
        }
        for kind in ("loss", "accuracy")
    }
    drawn = {"state_raster": figures.plot_state_raster(paths, *when, *rest)}
    if curves["loss"]:  # runs trained elsewhere may come without
        drawn["losses"] = figures.plot_losses(
            curves["loss"], curves["accuracy"], paths, *when, *rest
        )
    return drawn


def _selection_figures(fitted: Fitted, analysis: Analysis) -> dict[str, Figure]:
    sweep, chosen = fitted.sweep, fitted.chosen
    lengths = dict(zip(analysis.sequences.runs, analysis.sequences.lengths, strict=True))
    criterion = fitted.config["fit"]["criterion"]
    return {
        "model_selection": figures.plot_model_selection(sweep, chosen.num_states, criterion),
        "held_out": figures.plot_held_out(
            chosen.validation_run_log_likelihood,
            np.array([lengths[name] for name in sweep.validation_runs]),
            sweep.validation_runs,
        ),
    }
