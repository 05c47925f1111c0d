"""Paths of replicas through the training map, by the source that varies.

The training map of Hu et al. (2023) is read by replicas that differ, as in Zhuang et al. (2022), in
one source of noise alone. How much of the difference of paths is a source's own, with its interval,
is in `noise.components` (`path`, `branch`).
"""

from collections.abc import Callable, Container
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from seedmap.errors import UserError
from seedmap.experiments.noise.estimates import estimate
from seedmap.experiments.noise.measures.intervals import pair_interval, sd_interval
from seedmap.experiments.noise.results import (
    DetourTime,
    MapSummary,
    PathConvergence,
    PathDissimilarity,
    PathSummary,
)
from seedmap.experiments.noise.variants import CONTROL, Variant, rows_by_root, rows_of
from seedmap.experiments.runs import folder as run_folder, ids
from seedmap.experiments.runs.dataset import (
    convergence_times,
    raw_sequences,
    seed_rows,
    time_unit,
)
from seedmap.experiments.runs.fit_and_map import fit_run, map_run
from seedmap.experiments.runs.fitted import quietly, read_config, read_run
from seedmap.experiments.runs.import_metrics import NewRun
from seedmap.experiments.runs.summary import RunSummary, read_summary
from seedmap.experiments.tasks.base import FitConfig, MapConfig
from seedmap.hmm.io import SavedHMM, load_hmm
from seedmap.hmm.reading import read_runs
from seedmap.hmm.training_map.dissimilarity import pairwise_dissimilarity
from seedmap.hmm.training_map.drawn import states_of_branches
from seedmap.hmm.training_map.regression import bag_of_states
from seedmap.identity import Mark
from seedmap.trainer.metrics.replica_distance import DISTANCES

GROUNDS = ("index", "discrete", "means")


class Paths(NamedTuple):
    """A study's replicas on a training map.

    Attributes:
        state: int32 [replica, record], decoded states, -1 where there is none.
        means: float [state, metric], emission means of the HMM.
        summary: `summary.json` of the run whose map it is.
    """

    state: np.ndarray
    means: np.ndarray
    summary: RunSummary


def fit_own_map(
    folder: Path,
    target: Path,
    variants: list[Variant],
    fit: FitConfig,
    asked: MapConfig,
    callback: Callable[[int, int], None] | None = None,
    roots: int = 1,
) -> None:
    """Fits an HMM to a study's own replicas, in a run folder like any other.

    Copies of a root's replica 0 have no part in it: those of CONTROL, and the first of every
    variant.

    Args:
        folder: of the study.
        target: the run folder, made here.
        variants: as in its `config.json`.
        fit: how to fit.
        asked: what to ask of the map.
        callback: as of `fit_run`.
        roots: of the study.

    Raises:
        UserError: the replicas allow no fit.
    """
    rows = rows_by_root(variants, roots)
    kept = [
        row
        for root in range(roots)
        for name, own in rows.items()
        for row in (own[root][:1] if name == CONTROL else own[root][1:])
    ]
    study, config = read_run(folder)
    dataset = study.isel(seed=kept).drop_vars(DISTANCES, errors="ignore")
    map_run(fit_run(target, fit, callback, NewRun(config, dataset)), asked)


def read_map(experiment: str, run: Path) -> tuple[RunSummary, SavedHMM]:
    """Reads `summary.json` of a run with a training map, and its HMM.

    Args:
        experiment: what it must have trained.
        run: its folder.

    Raises:
        UserError: the run has no map, or is of another experiment, or its map is not of its HMM.
    """
    summary = read_summary(run)
    config = read_config(run, "fit", "map", ids.FIT)
    if config["experiment"] != experiment:
        raise UserError(
            f"--map: {run} is a run of {config['experiment']}, the study is of {experiment}; name "
            "a run of the same experiment"
        )
    saved = load_hmm(run, ids.fit_again(run))
    ids.check_fit(run, config, [Mark(run / "hmm.json", saved.fit_id)])
    ids.check_map(run, config, summary.map_id)
    if summary.num_states != len(saved.parameters.means):
        raise UserError(
            f"{run / run_folder.SUMMARY} is not of the HMM beside it; make it anew with `seedmap "
            f"map {run}`"
        )
    return summary, saved


def check_metrics(run: Path, saved: SavedHMM, recorded: Container[str]) -> None:
    """Raises UserError where the HMM of a run needs what a study does not record."""
    missing = [metric for metric in saved.metrics if metric not in recorded]
    if missing:
        raise UserError(
            f"--map: {run} needs {missing[0]}, which the study does not --record; name another "
            "run, own or none"
        )


def read_paths(dataset: xr.Dataset, experiment: str, run: Path) -> Paths:
    """Decodes all replicas of a study with the HMM of a run, its parameters unchanged.

    Args:
        dataset: records of the study.
        experiment: what it trained.
        run: run folder with a training map of the same experiment.

    Raises:
        UserError: the run has no map, is of another experiment, or recorded other metrics.
    """
    summary, saved = read_map(experiment, run)
    check_metrics(run, saved, dataset)
    read = read_runs(saved, quietly(raw_sequences, dataset, saved.metrics))
    state = np.full((dataset.sizes["seed"], read.paths.shape[1]), -1, np.int32)
    state[seed_rows(dataset, read.sequences.runs)] = read.paths
    return Paths(state, np.asarray(saved.parameters.means), summary)


def branches_on_map(summary: RunSummary) -> list[int]:
    """Returns the states of the map of the chosen number of states that are named branches."""
    return list(states_of_branches(summary.branches, summary.num_states)[0])


def branch_notes(summary: RunSummary) -> list[str]:
    """Returns what is to be said of a map whose named branches are at another number of states."""
    drawn = summary.num_states_drawn
    if drawn == summary.num_states:
        return []
    return [
        f"the map has a named branch among {drawn} states, and none among {summary.num_states}, "
        f"which replicas are read with: to tell the branch they take, fit the map's run again with "
        f"`seedmap fit RUN --states {drawn} --out OTHER`, `seedmap map OTHER`, and give --map OTHER"
    ]


def paths_by_variant(
    paths: Paths, dataset: xr.Dataset, variants: list[Variant], threshold: float
) -> dict[str, PathSummary]:
    """Summarises how differently the replicas of each variant pass through the map.

    Args:
        paths: of all replicas.
        dataset: records of the study.
        variants: as in its `config.json`.
        threshold: evaluation accuracy above which a replica has converged.

    Returns:
        By variant; dissimilarities are the mean over pairs of the Wasserstein distance of the
        replicas' shares of time in the states.
    """
    usable = (dataset.diverged.values < 0) & (paths.state[:, 0] >= 0)
    times, unit = convergence_times(dataset, threshold), time_unit(dataset)
    between = np.diff(dataset[unit].values.astype(float), prepend=0.0)
    detours = paths.summary.detours_on_map
    summaries = {}
    for name, rows in rows_of(variants).items():
        used = rows[usable[rows]]
        states = paths.state[used]
        summaries[name] = PathSummary(
            dissimilarity=_dissimilarity(states, paths.means) if len(used) > 1 else None,
            distinct=len({_sequence(row) for row in states}),
            detour_rate=_detour_rate(states, detours),
            detour_time=_detour_time(states, detours, between),
            convergence=_convergence(times[used], unit),
        )
    return summaries


def _convergence(times: np.ndarray, unit: str) -> PathConvergence:
    converged = times[np.isfinite(times)]
    return PathConvergence(
        num=len(converged),
        mean=float(converged.mean()) if len(converged) else None,
        sd=estimate(sd_interval(converged)) if len(converged) > 1 else None,
        unit=unit,
    )


def _dissimilarity(states: np.ndarray, means: np.ndarray) -> PathDissimilarity:
    bag = bag_of_states(states, len(means))
    matrices = {
        ground: pairwise_dissimilarity(bag, ground, means if ground == "means" else None)
        for ground in GROUNDS
    }
    return PathDissimilarity(
        **{ground: estimate(pair_interval(matrix)) for ground, matrix in matrices.items()}
    )


def _sequence(states: np.ndarray) -> tuple[int, ...]:
    """Returns the states of a run in their order, each stay as one."""
    known = states[states >= 0]
    return tuple(known[np.flatnonzero(np.diff(known, prepend=-1))].tolist())


def _detour_rate(states: np.ndarray, detours: list[int]) -> float | None:
    if not detours or not len(states):
        return None
    return float(np.isin(states, detours).any(axis=1).mean())


def _detour_time(states: np.ndarray, detours: list[int], between: np.ndarray) -> DetourTime | None:
    """Returns the time spent in detour states; a record counts the time since the last."""
    if not detours or not len(states):
        return None
    times = np.isin(states, detours) @ between[: states.shape[1]]
    sd = estimate(sd_interval(times)) if len(times) > 1 else None
    return DetourTime(float(times.mean()), sd)


def map_of(summary: RunSummary, run: str) -> MapSummary:
    """Returns what `noise.json` says of the map itself."""
    return MapSummary(
        run=run,
        num_states=summary.num_states,
        detours=summary.detours,
        r2=summary.regression.r2,
        forking=summary.forking,
        map_id=summary.map_id,
    )
