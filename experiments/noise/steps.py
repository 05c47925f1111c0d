"""The steps of a study after its training, each a function of its folder.

measure_study(folder, "own", fit, asked)      # noise.json, map/
report_study(folder)                          # figures/, report.html
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.noise.components import commitment_of, components_of
from seedmap.experiments.noise.convergence import convergence_of, groups_of
from seedmap.experiments.noise.folder import load_study
from seedmap.experiments.noise.map_paths import (
    Paths,
    branch_notes,
    branches_on_map,
    fit_own_map,
    map_of,
    paths_by_variant,
    read_paths,
)
from seedmap.experiments.noise.pooled import pooled_paths
from seedmap.experiments.noise.report.figures import make_figures
from seedmap.experiments.noise.report.page import write_noise_report
from seedmap.experiments.noise.results import Control, PathSummary, StudySummary, without_ends
from seedmap.experiments.noise.study import StudyResult, study_of_root
from seedmap.experiments.noise.summary import summarise_study
from seedmap.experiments.noise.variants import is_sampled, num_rows
from seedmap.experiments.report.figures import make_figures as make_map_figures
from seedmap.experiments.report.out_folder import save_figures
from seedmap.experiments.runs import folder as run_folder, ids
from seedmap.experiments.runs.fit_and_map import read_mapped
from seedmap.experiments.runs.fitted import read_config
from seedmap.experiments.runs.read_result import read_result
from seedmap.experiments.tasks.base import FitConfig, MapConfig
from seedmap.identity import Mark, check_marks
from seedmap.results import to_json
from seedmap.transaction import transaction

OWN_MAP, NO_MAP = "own", "none"
MAP_ID = "map_id"  # attribute of a study's `state`
_MAP_FIGURES = ("training_map", "coefficients")


def measure_study(
    folder: Path,
    map_from: str,
    fit: FitConfig,
    asked: MapConfig,
    callback: Callable[[int, int], None] | None = None,
) -> StudySummary:
    """Takes all measures of a trained study and writes `noise.json`.

    Args:
        folder: of the study.
        map_from: training map to read the replicas with: "own" fits one to them, "none" leaves it
            out, else a run folder with a map of the same experiment.
        fit: how to fit an own map.
        asked: what to ask of it.
        callback: called with (EM iterations done, in all).

    Returns:
        The content of `noise.json`.

    Raises:
        UserError: the folder holds no study, or the map is of another experiment.
    """
    study, config = load_study(folder), read_config(folder)
    threshold = config["threshold"]
    summary = replace(summarise_study(study, threshold), experiment=config["experiment"])
    unused = [name for name in config["noise"]["asked"] if name not in summary.sources]
    notes = summary.notes
    replaces = {run_folder.NOISE, run_folder.REPORT, run_folder.FIGURES}
    replaces |= {run_folder.NOISE_MAP} if map_from == OWN_MAP else set()
    with transaction(folder, replaces, "noise") as draft:
        try:
            paths = _paths(folder, draft, map_from, study, fit, asked, callback)
        except UserError as error:  # too few replicas left, or too little that varies, for a fit
            if map_from != OWN_MAP:
                raise
            notes = [*notes, f"no training map of these replicas: {error}"]
            paths = None
        if paths is not None:
            run = run_folder.NOISE_MAP if map_from == OWN_MAP else str(Path(map_from).absolute())
            summary = _with_paths(summary, study, paths, threshold, run)
            notes = [*notes, *branch_notes(paths.summary)]
            run_folder.write_dataset(draft, _with_states(study.dataset, paths))
        parted = parted_note(summary.control)
        notes = notes if parted is None else [parted, *notes]
        summary = replace(summary, notes=notes, unused=unused)
        files.write_json(draft / run_folder.NOISE, to_json(summary))
    return summary


def parted_note(control: Control) -> str | None:
    """Returns the finding that CONTROL is not exactly zero, in words; None where it is."""
    if control.exact is not False:
        return None
    when = control.first_apart
    first = f"first after step {when}" if when is not None else "in what they predict"
    return (
        f"CONTROL is not zero: {control.replicas} replicas in which nothing varies differ, "
        f"{first}; the program itself computes equal replicas differently here, and every other "
        "variant includes that; --seeds-at-once 1 trains them one by one"
    )


def _with_paths(
    summary: StudySummary, study: StudyResult, paths: Paths, threshold: float, run: str
) -> StudySummary:
    """Adds what the replicas' paths through a map say, and the map itself, by its run."""
    of_roots = [_paths_of_root(study, paths, threshold, i) for i in range(study.roots)]
    variants = [
        replace(entry, paths=pooled_paths([of_root[entry.name] for of_root in of_roots]))
        for entry in summary.variants
    ]
    convergence = convergence_of(study.dataset, threshold)
    branches = branches_on_map(paths.summary)
    on_map = (paths.state, paths.summary.num_states, branches)
    return replace(
        summary,
        variants=variants,
        components=components_of(study, convergence, *on_map),
        commitment=commitment_of(study, convergence, *on_map),
        groups=groups_of(study.variants, study.roots, convergence, paths.state, branches),
        map=map_of(paths.summary, run),
    )


def _paths_of_root(
    study: StudyResult, paths: Paths, threshold: float, number: int
) -> dict[str, PathSummary]:
    """Summarises the paths of one root's replicas, by variant."""
    size = num_rows(study.variants)
    own = paths._replace(state=paths.state[number * size : (number + 1) * size])
    dataset = study_of_root(study, number).dataset
    summaries = paths_by_variant(own, dataset, study.variants, threshold)
    return {
        v.name: summaries[v.name] if is_sampled(v) else without_ends(summaries[v.name])
        for v in study.variants
    }


def _paths(folder, draft, map_from, study, fit, asked, callback) -> Paths | None:
    if map_from == NO_MAP:
        return None
    run = Path(map_from)
    if map_from == OWN_MAP:
        run = draft / run_folder.NOISE_MAP
        fit_own_map(folder, run, study.variants, fit, asked, callback, study.roots)
    return read_paths(study.dataset, read_config(folder)["experiment"], run)


def _with_states(dataset: xr.Dataset, paths: Paths) -> xr.Dataset:
    """Returns the records with the decoded state of every replica and step, -1 without one."""
    state = np.full((dataset.sizes["seed"], dataset.sizes["step"]), -1, np.int32)
    state[:, : paths.state.shape[1]] = paths.state
    name = "decoded HMM state (Viterbi), -1 where there is none"
    attributes = {"long_name": name, MAP_ID: paths.summary.map_id or ""}
    return dataset.assign(state=(("seed", "step"), state, attributes))


def report_study(folder: Path) -> Path:
    """Draws every figure of a study and writes `report.html`; returns its path.

    Raises:
        UserError: the folder holds no study, has no `noise.json` yet, or it is of another study or
            map.
    """
    summary = read_result(StudySummary, folder, run_folder.NOISE, "noise EXPERIMENT")
    config, study = read_config(folder), load_study(folder)
    _check_measured(folder, summary, study)
    state = study.dataset.state.values if summary.map is not None else None
    convergence = convergence_of(study.dataset, config["threshold"])
    drawn = make_figures(summary, study.dataset, state, study.barriers, convergence)
    of_map = _map_figures(folder, summary)
    with transaction(folder, (), "noise") as draft:
        save_figures(draft, drawn)
        write_noise_report(draft, summary, drawn, config, of_map, summary.notes)
    return folder / run_folder.REPORT


def _check_measured(folder: Path, summary: StudySummary, study: StudyResult) -> None:
    """Refuses a `noise.json` that was not measured on this study, or by another map."""
    measured, metrics = folder / run_folder.NOISE, folder / run_folder.METRICS
    marks = [Mark(measured, summary.training_id)]
    marks.append(Mark(metrics, study.dataset.attrs.get(ids.TRAINING)))
    check_marks("trainings", marks, _measure_again(folder))
    if summary.map is not None:
        attributes = study.dataset.state.attrs if "state" in study.dataset else {}
        marks = [Mark(measured, summary.map.map_id), Mark(metrics, attributes.get(MAP_ID))]
        check_marks("maps", marks, _measure_again(folder))


def _measure_again(folder: Path) -> str:
    return f"measure again with `seedmap noise EXPERIMENT --resume --out {folder}`"


def _map_figures(folder: Path, summary: StudySummary) -> dict[str, Figure]:
    """Draws the training map the replicas were read with; nothing if its run is gone."""
    if summary.map is None:
        return {}
    run = folder / summary.map.run  # an absolute path stays what it is
    if not (run / run_folder.SUMMARY).is_file():
        return {}
    mapped = read_mapped(run)
    marks = [
        Mark(folder / run_folder.NOISE, summary.map.map_id),
        Mark(run / run_folder.SUMMARY, mapped.summary.map_id),
    ]
    check_marks("maps", marks, _measure_again(folder))
    drawn = make_map_figures(mapped)
    return {name: drawn[name] for name in _MAP_FIGURES}
