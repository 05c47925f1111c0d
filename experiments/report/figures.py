"""The figures of a run's report, drawn from the same analysis as its tables."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from seedmap.experiments.report import captions
from seedmap.experiments.runs.analysis import Analysis
from seedmap.experiments.runs.dataset import seed_rows, time_unit
from seedmap.experiments.runs.engines import GaussianSweep
from seedmap.experiments.runs.findings import Findings
from seedmap.experiments.runs.fit_and_map import Mapped, findings_of
from seedmap.experiments.runs.fitted import Fitted
from seedmap.experiments.runs.methods import published_analysis
from seedmap.experiments.runs.summary import RunSummary
from seedmap.hmm import figures
from seedmap.hmm.autoregressive.map_sweep import MapSweep
from seedmap.hmm.training_map.dissimilarity import pairwise_dissimilarity


def make_figures(mapped: Mapped) -> dict[str, Figure]:
    """Returns all figures of a mapped run, by name."""
    fitted, question, analysis = mapped.fitted, mapped.question, mapped.analysis
    dataset = fitted.dataset
    unit = time_unit(dataset)
    by_time = question.outcome == "convergence"
    measure = f"{unit}s later than the mean run" if by_time else f"{question.outcome} over the mean"
    regression = analysis.regression
    summary, detours = mapped.summary, mapped.summary.detours_on_map
    to_draw = mapped.drawn
    drawn = {
        "training_map": figures.plot_training_map(
            to_draw.training_map,
            to_draw.detours,
            _claim(summary),
            to_draw.heading,
            branches=to_draw.branches,
        ),
        "dissimilarity": _dissimilarity_figure(analysis),
    }
    if summary.has_convergence:
        criterion = captions.criterion(summary)
        drawn["convergence"] = _convergence_figure(dataset, analysis, criterion)
    if not summary.explains_nothing:
        drawn["coefficients"] = figures.plot_coefficients(regression, detours, measure)
    drawn |= _figures_over_time(mapped) | _selection_figures(fitted, summary)
    if fitted.published is not None:
        theirs = published_analysis(fitted, question)
        drawn["published_map"] = figures.plot_training_map(
            theirs.training_map, theirs.detours, heading="Map by the method of Hu et al. (2023)"
        )
    return drawn | _findings_figures(findings_of(mapped))


def _dissimilarity_figure(analysis: Analysis) -> Figure:
    """Draws the matrix of all runs, or of as many as can be told apart, evenly spread."""
    runs = analysis.sequences.runs
    rows = figures.evenly_spread(len(runs))
    matrix = pairwise_dissimilarity(analysis.bag[rows], "discrete")
    return figures.plot_dissimilarity(matrix, [runs[row] for row in rows], drawn_from=len(runs))


def _claim(summary: RunSummary) -> str | None:
    """What was found of forks, without what would have been found; None of a Gaussian HMM."""
    return None if summary.resolution is None else summary.headline.partition(" (")[0]


def _convergence_figure(dataset: xr.Dataset, analysis: Analysis, criterion: str) -> Figure:
    diverged = (dataset.diverged.values >= 0) & np.isnan(analysis.convergence)
    times = dataset[time_unit(dataset)].values.astype(float)
    return figures.plot_convergence(
        analysis.convergence,
        criterion,
        time_unit(dataset),
        num_diverged=int(diverged.sum()),
        resolution=float(np.median(np.diff(times))),
    )


def _figures_over_time(mapped: Mapped) -> dict[str, Figure]:
    """Draws the state raster, and the losses of a few runs where losses were recorded."""
    fitted, analysis = mapped.fitted, mapped.analysis
    dataset = fitted.dataset
    convergence = analysis.run_convergence if mapped.summary.has_convergence else None
    runs, paths = analysis.sequences.runs, analysis.paths
    usable = dataset.isel(seed=seed_rows(dataset, runs), step=slice(paths.shape[1]))
    unit = time_unit(dataset)
    when = (usable[unit].values.astype(float), convergence, runs)
    rest = (analysis.training_map.num_states, unit, usable.diverged.values >= 0)
    curves = {
        kind: {
            split: usable[f"{split}_{kind}"].values
            for split in ("train", "eval")
            if f"{split}_{kind}" in usable
        }
        for kind in ("loss", "accuracy")
    }
    agreement = None if fitted.agreement is None else fitted.agreement[fitted.on_the_map]
    drawn = {"state_raster": figures.plot_state_raster(paths, *when, *rest, agreement)}
    if curves["loss"]:  # runs trained elsewhere may come without
        drawn["losses"] = figures.plot_losses(
            curves["loss"], curves["accuracy"], paths, *when, *rest
        )
    return drawn


def _selection_figures(fitted: Fitted, summary: RunSummary) -> dict[str, Figure]:
    sweep, saved = fitted.sweep, fitted.saved
    if isinstance(sweep, MapSweep):
        drawn = {"model_selection": figures.plot_sizes(sweep.sizes, sweep.num_states)}
    else:
        criterion = fitted.config["fit"]["criterion"]
        drawn = {"model_selection": _gaussian_selection(sweep, criterion)}
    scores = summary.held_out_log_likelihood
    if scores:
        each = np.array([scores[name] for name in saved.validation_runs], float)
        drawn["held_out"] = figures.plot_held_out(each, saved.validation_runs)
    return drawn


def _gaussian_selection(sweep: GaussianSweep, criterion: str | None) -> Figure:
    return figures.plot_model_selection(sweep.sweep, sweep.chosen.num_states, criterion)


def _findings_figures(findings: Findings) -> dict[str, Figure]:
    """Draws what the runs say beyond their states, as far as they allow it."""
    drawn = {}
    if findings.curves:
        drawn["survival"] = figures.plot_survival(findings.curves, findings.end, findings.unit)
    if findings.path_or_speed:
        drawn["path_or_speed"] = figures.plot_path_or_speed(findings.path_or_speed)
    if findings.moves_first and findings.moves_first.turns:
        drawn["moves_first"] = figures.plot_moves_first(
            findings.moves_first, "convergence", findings.unit
        )
    return drawn
