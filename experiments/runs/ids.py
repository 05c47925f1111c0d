"""Ids of a run's training, fit and map: what its files carry, and whether they are the same.

    training_id    config.json, metrics.nc, checkpoint/ (with the checksum of its arrays); of a
                   study also predictions.npz, barriers.nc, noise.json and its map/
    fit_id         config.json, hmm.json, hmm.npz, sweep.json, stability.json, maps.nc, `state` in
                   metrics.nc
    map_id         summary.json, report.html, forecast.json, baselines.json; it follows from the fit
                   and the question in config.json

A training of a former version carries no id in any file and is read as it is; what it would carry
follows from its content. A fit or a map without an id is made anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import xarray as xr

from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.tasks.base import FitConfig
from seedmap.hmm.parameters import Parameters
from seedmap.identity import Mark, check_marks, identify

TRAINING, FIT = "training_id", "fit_id"  # fields of config.json, attributes in metrics.nc
_OF_THE_MACHINE = ("seeds_at_once", "data_dir")


def training_id(config: Mapping[str, Any], dataset: xr.Dataset) -> str:
    """Returns the id of a training: of its settings, its metrics and its outcomes."""
    hyperparameters, noise = config.get("hyperparameters", {}), config.get("noise", {})
    settings = {
        "experiment": config.get("experiment"),
        "hyperparameters": {k: v for k, v in hyperparameters.items() if k not in _OF_THE_MACHINE},
        "threshold": config.get("threshold"),
        "noise": {k: v for k, v in noise.items() if k != "notes"},  # which are for readers
    }
    names = [str(name) for name in dataset.variables if name != "state"]
    return identify(settings, {name: dataset[name].values for name in names})


def stamped(config: Mapping[str, Any], dataset: xr.Dataset) -> tuple[dict[str, Any], xr.Dataset]:
    """Returns `config.json` and the dataset of a new training with its id in both."""
    made = training_id(config, dataset)
    return {**config, TRAINING: made}, dataset.assign_attrs({TRAINING: made})


def check_training(
    folder: Path, config: Mapping[str, Any], dataset: xr.Dataset, others: Sequence[Mark] = ()
) -> str:
    """Returns the id of the training in a folder.

    Args:
        folder: of the run.
        config: content of `config.json`.
        dataset: of `metrics.nc`.
        others: further files that must be of it.

    Raises:
        UserError: the files are not of one training; the message names two of them.
    """
    marks = [
        Mark(folder / run_folder.CONFIG, config.get(TRAINING)),
        Mark(folder / run_folder.METRICS, dataset.attrs.get(TRAINING)),
        *others,
    ]
    check_marks(
        "trainings",
        marks,
        "put the file back that was replaced, or make the run anew with the command that made it "
        "and --overwrite",
    )
    return training_id(config, dataset) if marks[0].id is None else marks[0].id


def fit_id(training: str, settings: FitConfig, parameters: Parameters) -> str:
    """Returns the id of a fit: of its training, its settings and its HMM."""
    return identify({TRAINING: training, "fit": asdict(settings)}, parameters._asdict())


def fit_again(folder: Path) -> str:
    """Returns the command that mends a fit whose files cannot be used."""
    return f"fit again with `seedmap fit {folder} --overwrite`"


def check_fit(folder: Path, config: Mapping[str, Any], others: Sequence[Mark]) -> None:
    """Refuses files that are not of the fit that `config.json` names.

    Raises:
        UserError: the message names both files.
    """
    first = Mark(folder / run_folder.CONFIG, config[FIT])
    check_marks("fits", [first, *others], fit_again(folder))


def map_id(config: Mapping[str, Any]) -> str | None:
    """Returns the id of the map in a folder: of its fit and what it was asked; None without one.

    Args:
        config: content of `config.json`.
    """
    if "map" not in config or FIT not in config:
        return None
    return identify({FIT: config[FIT], "map": config["map"]})


def without_map(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of `config.json` without what the map was asked: a new fit has none."""
    return {name: value for name, value in config.items() if name != "map"}


def check_map(folder: Path, config: Mapping[str, Any], summary_id: str | None) -> None:
    """Refuses a `summary.json` that is of another map than `config.json`.

    Raises:
        UserError: the message names both files.
    """
    marks = [
        Mark(folder / run_folder.CONFIG, map_id(config)),
        Mark(folder / run_folder.SUMMARY, summary_id),
    ]
    check_marks("maps", marks, f"map again with `seedmap map {folder}`")
