"""The steps of a run after training (`experiments.runs.train`), each a function of a run folder.

fit_run(folder, FitConfig())               # hmm.npz, hmm.json, sweep.json, `state`
map_run(folder)                            # summary.json
report_run(folder)                         # figures/, report.html
"""

from seedmap.errors import UserError
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from seedmap import hmm
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.analysis import (Analysis, analyse, check_usable, metric_sequences, seed_rows, time_unit)
from seedmap.experiments.runs.summary import RunSummary, Seconds, Stability, read_summary, summarise
from seedmap.results import from_json, to_json
from seedmap.experiments.tasks.base import (FitConfig, MapConfig)
from seedmap.experiments.report.run import (write_report)
from seedmap.experiments.runs.robustness import (fit_both_priors, prior_row, refit_stability, restart_stability, stability)
from seedmap.experiments.runs.settings import (check_threshold, sweep_config)
from seedmap.hmm import figures
from seedmap.hmm.training_map.dissimilarity import (pairwise_dissimilarity)
from seedmap.hmm.io import (SavedHMM, load_hmm, save_hmm)
from seedmap.hmm.sweep_io import (load_sweep, save_sweep)

Z_SCORE = {"first": 1000, "per": "run"}


def read_config(folder: Path, *fields: str) -> dict[str, Any]:
    """`config.json` of a run, with the fields that training writes and the given ones.

    Raises:
        UserError: the file is missing, is not JSON or lacks a field.
    """
    trained = run_folder.read_json(
        folder, run_folder.CONFIG, "train", ("experiment", "threshold", "wall_seconds")
    )
    return trained | run_folder.read_json(folder, run_folder.CONFIG, f"fit {folder}", fields)


def _update_config(folder: Path, changes: dict[str, Any], seconds: dict[str, float]) -> None:
    config = read_config(folder) | changes
    config["wall_seconds"] = config["wall_seconds"] | seconds
    run_folder.write_json(folder / run_folder.CONFIG, config)


def fit_run(
    folder: Path, config: FitConfig, callback: Callable[[int, int], None] | None = None
) -> None:
    """Fits the sweep to a run's metrics and decodes every run.

    Writes `sweep.json`, `hmm.npz`, `hmm.json` and the variable `state` of `metrics.nc`.

    Args:
        folder: a run folder with metrics.
        config: how to fit.
        callback: called with (EM iterations done, in all), first before compilation.

    Raises:
        UserError: the folder has no metrics, a setting is out of range, or the data allow no fit.
    """
    started = time.perf_counter()
    settings = sweep_config(config)
    dataset = run_folder.read_dataset(folder)
    read_config(folder)
    check_usable(dataset)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        sequences = metric_sequences(dataset, config.metrics)
        sweep, other = fit_both_priors(sequences, settings, config, callback)
        chosen = hmm.select(sweep, config.criterion, config.one_standard_error)
        hmm.dominant_validation_runs(sweep)
    notes = [str(w.message) for w in caught if w.category is UserWarning]
    if chosen.num_states == max(settings.states) > min(settings.states):
        notes.append(f"the most states tried, {chosen.num_states}, were chosen: try more")
    paths = hmm.viterbi(chosen.parameters, sequences)
    order = hmm.canonical_order(paths, chosen.num_states)
    parameters, paths = hmm.permute(chosen.parameters, order), hmm.relabel(paths, order)
    save_sweep(folder / run_folder.SWEEP, sweep, chosen)
    save_hmm(
        folder,
        SavedHMM(
            parameters=parameters,
            metrics=sequences.metrics,
            covariance=settings.covariance,
            z_score=Z_SCORE,
            train_runs=sweep.train_runs,
            validation_runs=sweep.validation_runs,
            config=asdict(settings),
            selection=hmm.selection_table(sweep),
        ),
    )
    priors = [
        prior_row(sweep, chosen, config.criterion, sequences, paths),
        prior_row(other, hmm.select(other), None, sequences, paths),
    ]
    found = restart_stability(sweep, chosen, sequences, paths)
    found |= {"refits": refit_stability(sweep, chosen, sequences, paths, config), "priors": priors}
    run_folder.write_json(folder / run_folder.STABILITY, found)
    run_folder.clear(folder, run_folder.FROM_MAP)
    run_folder.write_dataset(folder, _with_states(dataset, sequences, paths))
    seconds = {"fit": time.perf_counter() - started}
    _update_config(folder, {"fit": asdict(config), "fit_notes": notes}, seconds)


def _with_states(dataset, sequences: hmm.Sequences, paths: np.ndarray):
    """The dataset with the decoded state of every seed and step, -1 where there is none."""
    state = np.full((dataset.sizes["seed"], dataset.sizes["step"]), -1, dtype=np.int32)
    state[seed_rows(dataset, sequences.runs), : paths.shape[1]] = paths
    attributes = {"long_name": "decoded HMM state (Viterbi), -1 where there is none"}
    return dataset.assign(state=(("seed", "step"), state, attributes))


def load_analysis(folder: Path, asked: MapConfig | None):
    """A fitted run folder and what it says: dataset, config, question, HMM, analysis.

    Without a question, the one that the last `map_run` recorded.
    """
    dataset = run_folder.read_dataset(folder)
    if "state" not in dataset:
        raise UserError(f"{folder} holds no fitted HMM; make one with `seedmap fit {folder}`")
    config = read_config(folder, "fit", "fit_notes")
    saved = load_hmm(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the fit has told of them
        sequences = metric_sequences(dataset, saved.metrics)
    rows = seed_rows(dataset, sequences.runs)
    paths = dataset.state.values[rows, : sequences.values.shape[1]]
    question = _question(asked, config)
    analysis = analyse(dataset, sequences, saved.parameters, paths, question)
    return dataset, config, question, saved, analysis


def _question(asked: MapConfig | None, config: dict[str, Any]) -> MapConfig:
    if asked is None:
        return MapConfig(**config["map"])
    if asked.threshold is None:
        return replace(asked, threshold=config["threshold"])
    return asked


def map_run(folder: Path, asked: MapConfig | None = None) -> RunSummary:
    """Builds the training map of a fitted run and writes `summary.json`.

    Args:
        folder: a run folder with a fitted HMM.
        asked: what to ask of it; by default convergence time at the experiment's threshold.

    Returns:
        The summary (the README describes its fields).

    Raises:
        UserError: the folder is not a run, or is not fitted yet.
    """
    started = time.perf_counter()
    check_threshold(asked.threshold if asked is not None else None)
    loaded = load_analysis(folder, asked if asked is not None else MapConfig())
    dataset, config, question, saved, analysis = loaded
    sweep, chosen = load_sweep(folder / run_folder.SWEEP)
    lengths = dict(zip(analysis.sequences.runs, analysis.sequences.lengths, strict=True))
    scores = zip(sweep.validation_runs, chosen.validation_run_log_likelihood, strict=True)
    held_out = {run: score / lengths[run] for run, score in scores}
    summary = summarise(dataset, analysis, saved.selection, question, config["fit_notes"], held_out)
    found = run_folder.read_json(
        folder,
        run_folder.STABILITY,
        f"fit {folder}",
        ("adjusted_rand", "edges", "refits", "priors"),
    )
    robustness = from_json(Stability, to_json(stability(analysis, found)))
    _update_config(folder, {"map": asdict(question)}, {"analyse": time.perf_counter() - started})
    seconds = read_config(folder)["wall_seconds"]
    names = ("compile", "train", "fit", "analyse")
    summary = replace(
        summary,
        stability=robustness,
        seconds=Seconds(**{name: seconds.get(name) for name in names}),
    )
    run_folder.clear(folder, run_folder.FROM_MAP)
    run_folder.write_json(folder / run_folder.SUMMARY, to_json(summary))
    return summary


def make_figures(folder: Path) -> dict[str, Figure]:
    """All figures of a fitted run, by name."""
    dataset, config, question, _, analysis = load_analysis(folder, None)
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
    return (
        drawn
        | _figures_over_time(dataset, analysis)
        | _selection_figures(folder, analysis, config["fit"]["criterion"])
    )


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
    """State raster, and the losses of a few runs where losses were recorded."""
    runs, paths = analysis.sequences.runs, analysis.paths
    usable = dataset.isel(seed=seed_rows(dataset, runs), step=slice(paths.shape[1]))
    unit = time_unit(dataset)
    when = (usable[unit].values.astype(float), analysis.run_convergence, runs)
    rest = (analysis.training_map.num_states, unit, usable.diverged.values >= 0)
    curves = {
        kind: {
            part: usable[f"{part}_{kind}"].values
            for part in ("train", "eval")
            if f"{part}_{kind}" in usable
        }
        for kind in ("loss", "accuracy")
    }
    drawn = {"state_raster": figures.plot_state_raster(paths, *when, *rest)}
    if curves["loss"]:  # runs trained elsewhere may come without
        drawn["losses"] = figures.plot_losses(
            curves["loss"], curves["accuracy"], paths, *when, *rest
        )
    return drawn


def _selection_figures(
    folder: Path, analysis: Analysis, criterion: str | None
) -> dict[str, Figure]:
    sweep, chosen = load_sweep(folder / run_folder.SWEEP)
    lengths = dict(zip(analysis.sequences.runs, analysis.sequences.lengths, strict=True))
    return {
        "model_selection": figures.plot_model_selection(sweep, chosen.num_states, criterion),
        "held_out": figures.plot_held_out(
            chosen.validation_run_log_likelihood,
            np.array([lengths[name] for name in sweep.validation_runs]),
            sweep.validation_runs,
        ),
    }


def report_run(folder: Path) -> Path:
    """Draws every figure and writes `report.html`; returns its path.

    Raises:
        UserError: the folder is not a run, or has no map yet.
    """
    started = time.perf_counter()
    summary = read_summary(folder)
    read_config(folder, "map")
    drawn = make_figures(folder)
    paths = {
        name: figures.save(figure, folder / run_folder.FIGURES / f"{name}.png")
        for name, figure in drawn.items()
    }
    config = read_config(folder)
    report = write_report(
        folder / run_folder.REPORT,
        f"Training map of {config['experiment']}",
        summary,
        config,
        paths,
        summary.notes,
    )
    _update_config(folder, {}, {"report": time.perf_counter() - started})
    return report
