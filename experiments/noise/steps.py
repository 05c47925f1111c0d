"""The steps of a study after its training, each a function of its folder.

measure_study(folder, "own", fit, asked)      # noise.json, map/
report_study(folder)                          # figures/, report.html
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from seedmap.errors import UserError
from seedmap.experiments.noise.folder import load_study
from seedmap.experiments.noise.map_paths import (
    Paths,
    fit_own_map,
    map_of,
    paths_by_variant,
    read_paths,
)
from seedmap.experiments.noise.report.figures import make_figures
from seedmap.experiments.noise.report.page import write_noise_report
from seedmap.experiments.noise.summary import findings, is_sampled, parted_note, without_ends
from seedmap.experiments.report.figures import make_figures as make_map_figures
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.fit_and_map import read_config, read_mapped
from seedmap.experiments.tasks.base import FitConfig, MapConfig
from seedmap.hmm import figures

OWN_MAP, NO_MAP = "own", "none"
_MAP_FIGURES = ("training_map", "coefficients")


def measure_study(
    folder: Path,
    map_from: str,
    fit: FitConfig,
    asked: MapConfig,
    callback: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Takes all measures of a trained study and writes `noise.json`.

    Args:
        folder: of the study.
        map_from: training map to read the replicas with: "own" fits one to them, "none" leaves it
            out, else a run folder with a map of the same experiment.
        fit: how to fit an own map.
        asked: what to ask of it.
        callback: called with (EM iterations done, in all).

    Returns:
        The content of `noise.json` (the README describes its fields).

    Raises:
        UserError: the folder holds no study, or the map is of another experiment.
    """
    study, config = load_study(folder), read_config(folder)
    content = {"experiment": config["experiment"], **findings(study), "map": None}
    content["unused"] = [
        name for name in config["noise"]["asked"] if name not in content["sources"]
    ]
    try:
        paths = _paths(folder, map_from, study, fit, asked, callback)
    except UserError as error:  # too few replicas left, or too little that varies, for a fit
        if map_from != OWN_MAP:
            raise
        content["notes"].append(f"no training map of these replicas: {error}")
        paths = None
    run_folder.clear(folder, (run_folder.NOISE, run_folder.REPORT, run_folder.FIGURES))
    if paths is not None:
        threshold = config["threshold"]
        found = paths_by_variant(paths, study.dataset, study.variants, threshold)
        for variant, entry in zip(study.variants, content["variants"], strict=True):
            paths_of = found[variant.name]
            entry["paths"] = paths_of if is_sampled(variant) else without_ends(paths_of)
        run = run_folder.NOISE_MAP if map_from == OWN_MAP else str(Path(map_from).absolute())
        content["map"] = map_of(paths.summary, run)
        run_folder.write_dataset(folder, _with_states(study.dataset, paths))
    parted = parted_note(content["control"])
    if parted is not None:
        content["notes"].insert(0, parted)
    run_folder.write_json(folder / run_folder.NOISE, content)
    return run_folder.json_ready(content)


def _paths(folder, map_from, study, fit, asked, callback) -> Paths | None:
    if map_from == NO_MAP:
        return None
    run = Path(map_from)
    if map_from == OWN_MAP:
        run = fit_own_map(folder, study.variants, fit, asked, callback)
    return read_paths(study.dataset, read_config(folder)["experiment"], run)


def _with_states(dataset: xr.Dataset, paths: Paths) -> xr.Dataset:
    """The records with the decoded state of every replica and step, -1 where there is none."""
    state = np.full((dataset.sizes["seed"], dataset.sizes["step"]), -1, np.int32)
    state[:, : paths.state.shape[1]] = paths.state
    attributes = {"long_name": "decoded HMM state (Viterbi), -1 where there is none"}
    return dataset.assign(state=(("seed", "step"), state, attributes))


def report_study(folder: Path) -> Path:
    """Draws every figure of a study and writes `report.html`; returns its path.

    Raises:
        UserError: the folder holds no study, or has no `noise.json` yet.
    """
    found = run_folder.read_json(folder, run_folder.NOISE, "noise EXPERIMENT", ("variants",))
    config, study = read_config(folder), load_study(folder)
    state = study.dataset.state.values if found["map"] is not None else None
    drawn = make_figures(found, study.dataset, state, study.barriers)
    for name, figure in drawn.items():
        figures.save(figure, folder / run_folder.FIGURES / f"{name}.png")
    return write_noise_report(
        folder, found, drawn, config, _map_figures(folder, found), found["notes"]
    )


def _map_figures(folder: Path, found: dict[str, Any]) -> dict[str, Figure]:
    """The training map that the replicas were read with; nothing where its run has gone."""
    if found["map"] is None:
        return {}
    run = folder / found["map"]["run"]  # an absolute path stays what it is
    if not (run / run_folder.SUMMARY).is_file():
        return {}
    drawn = make_map_figures(read_mapped(run))
    return {name: drawn[name] for name in _MAP_FIGURES}
