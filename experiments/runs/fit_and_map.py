"""The steps of a run between training (`runs.train`) and its report (`runs.report`).

fitted = fit_run(folder, FitConfig())      # hmm.npz, hmm.json, sweep.json, stability.json, `state`
mapped = map_run(fitted)                   # summary.json

Each step hands on what it has made, so that one command reads and computes everything once;
`read_fitted` and `read_mapped` begin from the files of an earlier command.
"""

import time
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from seedmap import files, hmm
from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs import ids, session
from seedmap.experiments.runs.analysis import Analysis, analyse
from seedmap.experiments.runs.dataset import (
    check_usable,
    dataset_runs,
    metric_sequences,
    seed_rows,
)
from seedmap.experiments.runs.import_metrics import NewRun
from seedmap.experiments.runs.read_result import read_result
from seedmap.experiments.runs.robustness import (
    FitStability,
    fit_priors,
    fit_stability,
    pass_callbacks,
    stability,
)
from seedmap.experiments.runs.settings import check_threshold, sweep_config
from seedmap.experiments.runs.summary import (
    RunSummary,
    Seconds,
    read_summary,
    summarise,
)
from seedmap.experiments.tasks.base import FitConfig, MapConfig
from seedmap.fitting import Fit
from seedmap.hmm.io import SavedHMM, load_hmm, save_hmm
from seedmap.hmm.sweep_io import load_sweep, save_sweep
from seedmap.identity import Mark
from seedmap.results import to_json
from seedmap.transaction import claim, transaction

_CONFIG_TYPES: dict[str, tuple[type, ...]] = {
    "threshold": (float, int),
    "wall_seconds": (dict,),
    "fit": (dict,),
    "map": (dict,),
}
Z_SCORE = {"first": 1000, "per": "run"}


@dataclass(frozen=True, eq=False)
class Fitted:
    """A run whose HMM is fitted, as its folder holds it.

    Attributes:
        folder: of the run.
        config: content of `config.json`.
        dataset: metrics, outcomes and decoded states of all seeds.
        sequences: z-scored metrics [run, time, metric] of the seeds the HMM can use.
        paths: int32 [run, time], decoded states, -1 past a run's end.
        saved: the HMM, states in canonical order.
        sweep: scores of all fits.
        chosen: the fit that was chosen among them.
        stability: content of `stability.json`.
    """

    folder: Path
    config: dict[str, Any]
    dataset: xr.Dataset
    sequences: hmm.Sequences
    paths: np.ndarray
    saved: SavedHMM
    sweep: hmm.Sweep
    chosen: hmm.Fit
    stability: FitStability


@dataclass(frozen=True, eq=False)
class Mapped:
    """A fitted run and its training map.

    Attributes:
        fitted: the run.
        question: what the map was asked, the threshold filled in.
        analysis: what the HMM says about the runs.
        summary: content of `summary.json`.
    """

    fitted: Fitted
    question: MapConfig
    analysis: Analysis
    summary: RunSummary


def read_config(folder: Path, *fields: str) -> dict[str, Any]:
    """Reads `config.json` of a run, with the fields that training writes and the given ones.

    Raises:
        UserError: the file is missing, is not JSON or lacks a field.
    """
    content = run_folder.read_json(
        folder, run_folder.CONFIG, "train", ("experiment", "threshold", "wall_seconds")
    )
    wrong = [
        name
        for name, kinds in _CONFIG_TYPES.items()
        if name in content and not isinstance(content[name], kinds)
    ]
    if wrong:
        raise UserError(
            f"{folder / run_folder.CONFIG}: {wrong[0]!r} is {content[wrong[0]]!r}; restore the file"
        )
    lacking = [name for name in fields if name not in content]
    if lacking:
        raise UserError(
            f"{folder / run_folder.CONFIG} has no {lacking[0]!r}; make it anew with `seedmap fit "
            f"{folder} --overwrite`"
        )
    return content


def read_run(folder: Path) -> tuple[xr.Dataset, dict[str, Any]]:
    """Reads `metrics.nc` and `config.json` of a run, both with the id of the training.

    Raises:
        UserError: one is missing or damaged, or they are not of one training.
    """
    dataset = run_folder.read_dataset(folder)
    config = read_config(folder)
    training = {ids.TRAINING: ids.check_training(folder, config, dataset)}
    return dataset.assign_attrs(training), config | training


def threshold_of(config: Mapping[str, Any]) -> float:
    """The accuracy of convergence: what the map was asked, else what the run was trained with."""
    asked = config["map"]["threshold"] if "map" in config else None
    return config["threshold"] if asked is None else asked


def changed_config(
    config: dict[str, Any], changes: dict[str, Any], seconds: dict[str, float]
) -> dict[str, Any]:
    """Returns the content of `config.json` with fields and times added."""
    times = {"wall_seconds": config["wall_seconds"] | seconds}
    return to_json(config | changes | times)


def copy_of(source: Path) -> NewRun:
    """Reads the metrics and the configuration of a run, to fit them anew elsewhere.

    Raises:
        UserError: the source is not a run, or its files are not of one training.
    """
    dataset, config = read_run(source)
    return NewRun(config, dataset.drop_vars("state", errors="ignore"))


def fit_run(
    folder: Path,
    config: FitConfig,
    callback: Callable[[int, int], None] | None = None,
    new: NewRun | None = None,
) -> Fitted:
    """Fits the sweep to a run's metrics and decodes every run.

    Writes `sweep.json`, `hmm.npz`, `hmm.json`, `stability.json` and the variable `state` of
    `metrics.nc`; the map of a former fit goes.

    Args:
        folder: a run folder with metrics.
        config: how to fit.
        callback: called with (EM iterations done, in all), first before compilation.
        new: a run to fit, which replaces all that is in the folder; None: the one that is there.

    Raises:
        UserError: the folder has no metrics, a setting is out of range, or the data allow no fit.
    """
    started = time.perf_counter()
    sweep_config(config)  # refuses wrong settings before the folder is read
    with session.in_place(folder, "fit") if new is None else claim(folder, "fit"):
        dataset, trained = read_run(folder) if new is None else (new.dataset, new.config)
        check_usable(dataset)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            runs = dataset_runs(dataset, config.metrics)
        callbacks = pass_callbacks(config, callback)
        fitted, other = fit_priors(runs, config, callbacks)
        notes = [str(w.message) for w in caught if w.category is UserWarning] + list(fitted.notes)
        fit_id = ids.fit_id(trained[ids.TRAINING], config, fitted.parameters)
        agreement = fit_stability(fitted, other, config, callbacks, fit_id)
        changes = {"fit": asdict(config), "fit_notes": notes, ids.FIT: fit_id}
        changed = changed_config(trained, changes, {"fit": time.perf_counter() - started})
        result = Fitted(
            folder,
            changed,
            _with_states(dataset, fitted.sequences, fitted.paths, fit_id),
            fitted.sequences,
            fitted.paths,
            _saved(fitted, fit_id),
            fitted.sweep,
            fitted.chosen,
            agreement,
        )
        _write_fit(result, run_folder.FROM_MAP if new is None else run_folder.OWN)
        return result


def _saved(fitted: Fit, fit_id: str) -> SavedHMM:
    """Returns the HMM of a fit as it is saved."""
    return SavedHMM(
        parameters=fitted.parameters,
        metrics=fitted.sequences.metrics,
        covariance=fitted.sweep.config.covariance,
        z_score=Z_SCORE,
        train_runs=fitted.sweep.train_runs,
        validation_runs=fitted.sweep.validation_runs,
        config=asdict(fitted.sweep.config),
        selection=fitted.candidates,
        fit_id=fit_id,
    )


def _write_fit(fitted: Fitted, replaces: Collection[str]) -> None:
    """Writes a fitted run, in place of the named files of its folder."""
    with transaction(fitted.folder, replaces, "fit") as draft:
        save_sweep(draft / run_folder.SWEEP, fitted.sweep, fitted.chosen, fitted.saved.fit_id)
        save_hmm(draft, fitted.saved)
        files.write_json(draft / run_folder.STABILITY, fitted.stability)
        run_folder.write_dataset(draft, fitted.dataset)
        files.write_json(draft / run_folder.CONFIG, fitted.config)


def _with_states(
    dataset: xr.Dataset, sequences: hmm.Sequences, paths: np.ndarray, fit_id: str
) -> xr.Dataset:
    """Returns the dataset with the decoded state of every seed and step, -1 without one."""
    state = np.full((dataset.sizes["seed"], dataset.sizes["step"]), -1, dtype=np.int32)
    state[seed_rows(dataset, sequences.runs), : paths.shape[1]] = paths
    name = "decoded HMM state (Viterbi), -1 where there is none"
    attributes = {"long_name": name, ids.FIT: fit_id}
    return dataset.assign(state=(("seed", "step"), state, attributes))


def read_fitted(folder: Path) -> Fitted:
    """Reads a run that an earlier command has fitted.

    Raises:
        UserError: the folder is not a run, is not fitted yet, or its files are not of one fit.
    """
    dataset = run_folder.read_dataset(folder)
    if "state" not in dataset:
        raise UserError(f"{folder} holds no fitted HMM; make one with `seedmap fit {folder}`")
    config = read_config(folder, "fit", "fit_notes", ids.FIT)
    ids.check_training(folder, config, dataset)
    saved = load_hmm(folder)
    sweep, chosen = load_sweep(
        folder / run_folder.SWEEP, Mark(folder / run_folder.CONFIG, config[ids.FIT])
    )
    agreement = read_result(FitStability, folder, run_folder.STABILITY, f"fit {folder} --overwrite")
    ids.check_fit(
        folder,
        config,
        [
            Mark(folder / "hmm.json", saved.fit_id),
            Mark(folder / run_folder.METRICS, dataset.state.attrs.get(ids.FIT)),
            Mark(folder / run_folder.STABILITY, agreement.fit_id),
        ],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the fit has warned of them
        sequences = metric_sequences(dataset, saved.metrics)
    rows = seed_rows(dataset, sequences.runs)
    paths = dataset.state.values[rows, : sequences.values.shape[1]]
    return Fitted(folder, config, dataset, sequences, paths, saved, sweep, chosen, agreement)


def analyse_fitted(fitted: Fitted, question: MapConfig) -> Analysis:
    """Analyses the runs by the HMM of a fitted run."""
    return analyse(
        fitted.dataset, fitted.sequences, fitted.saved.parameters, fitted.paths, question
    )


def map_run(fitted: Fitted, asked: MapConfig | None = None) -> Mapped:
    """Builds the training map of a fitted run and writes `summary.json`.

    Args:
        fitted: the run.
        asked: what to ask of it; by default convergence time at the experiment's threshold.

    Raises:
        UserError: the threshold is out of range, or the outcome is not recorded.
    """
    started = time.perf_counter()
    asked = MapConfig() if asked is None else asked
    check_threshold(asked.threshold)
    folder, config = fitted.folder, fitted.config
    question = asked
    if asked.threshold is None:
        question = replace(asked, threshold=config["threshold"])
    analysis = analyse_fitted(fitted, question)
    lengths = dict(zip(fitted.sequences.runs, fitted.sequences.lengths, strict=True))
    scores = zip(
        fitted.sweep.validation_runs, fitted.chosen.validation_run_log_likelihood, strict=True
    )
    held_out = {run: score / lengths[run] for run, score in scores}
    summary = summarise(
        fitted.dataset, analysis, fitted.saved.selection, question, config["fit_notes"], held_out
    )
    robustness = stability(analysis, fitted.stability)
    seconds = {"analyse": time.perf_counter() - started}
    config = changed_config(config, {"map": asdict(question)}, seconds)
    times = {name: config["wall_seconds"].get(name) for name in Seconds.__dataclass_fields__}
    summary = replace(
        summary, stability=robustness, seconds=Seconds(**times), map_id=ids.map_id(config)
    )
    with transaction(folder, run_folder.FROM_MAP, "map") as draft:
        files.write_json(draft / run_folder.CONFIG, config)
        files.write_json(draft / run_folder.SUMMARY, to_json(summary))
    return Mapped(replace(fitted, config=config), question, analysis, summary)


def read_mapped(folder: Path) -> Mapped:
    """Reads a run that an earlier command has mapped; the analysis is done again.

    Raises:
        UserError: the folder is not a run, has no map yet, or its files are not of one map.
    """
    summary = read_summary(folder)
    fitted = read_fitted(folder)
    ids.check_map(folder, fitted.config, summary.map_id)
    question = MapConfig(**fitted.config["map"])
    return Mapped(fitted, question, analyse_fitted(fitted, question), summary)
