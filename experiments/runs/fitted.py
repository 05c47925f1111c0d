"""A run folder as read: its metrics and configuration, and its HMM where it has one."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from seedmap import hmm
from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder, ids
from seedmap.experiments.runs.dataset import raw_sequences, seed_rows, time_unit
from seedmap.experiments.runs.engines import AnySweep, GaussianSweep, Made
from seedmap.experiments.runs.netcdf import read_netcdf
from seedmap.experiments.runs.read_result import read_result
from seedmap.experiments.runs.robustness import FitStability
from seedmap.hmm.autoregressive.map_sweep import MapSweep, load_map_sweep
from seedmap.hmm.io import SavedHMM, load_hmm
from seedmap.hmm.reading import in_units_of
from seedmap.hmm.sweep_io import load_sweep
from seedmap.identity import Mark
from seedmap.results import to_json

Read = TypeVar("Read")
_CONFIG_TYPES: dict[str, tuple[type, ...]] = {
    "threshold": (float, int),
    "wall_seconds": (dict,),
    "fit": (dict,),
    "map": (dict,),
}


@dataclass(frozen=True, eq=False)
class Fitted(Made):
    """A run whose HMM is fitted, as its folder holds it.

    Attributes:
        folder: of the run.
        config: content of `config.json`.
        dataset: metrics, outcomes and decoded states of all seeds.
        published: the HMM by the published method; None where methods are not compared.
    """

    folder: Path
    config: dict[str, Any]
    dataset: xr.Dataset
    published: SavedHMM | None

    @property
    def odd(self) -> tuple[str, ...]:
        """Names of the seeds that fit no state well and are left off the map."""
        return tuple(self.sweep.odd_runs) if isinstance(self.sweep, MapSweep) else ()

    @property
    def on_the_map(self) -> np.ndarray:
        """Indices of the others, int [index]."""
        return np.flatnonzero(~np.isin(self.sequences.runs, self.odd))

    @property
    def raw(self) -> hmm.Sequences:
        """Metrics as recorded, of the same seeds, metrics and records as `sequences`."""
        return quietly(raw_sequences, self.dataset, self.saved.metrics)

    @property
    def steps(self) -> np.ndarray:
        """Float [time], when records were made, in `time_unit` of the dataset."""
        times = self.dataset[time_unit(self.dataset)].values.astype(float)
        return times[: self.sequences.values.shape[1]]


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
    """The number of the criterion of convergence: the map's, else that of the training."""
    asked = config["map"]["threshold"] if "map" in config else None
    return config["threshold"] if asked is None else asked


def changed_config(
    config: dict[str, Any], changes: dict[str, Any], seconds: dict[str, float]
) -> dict[str, Any]:
    """Returns the content of `config.json` with fields and times added."""
    times = {"wall_seconds": config["wall_seconds"] | seconds}
    return to_json(config | changes | times)


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
    mend = ids.fit_again(folder)
    saved = load_hmm(folder, mend)
    path, of = folder / run_folder.SWEEP, Mark(folder / run_folder.CONFIG, config[ids.FIT])
    sweep: AnySweep
    if saved.model is None:
        sweep = GaussianSweep(*load_sweep(path, of, mend))
    else:
        sweep = load_map_sweep(path, of, mend)
    again = f"fit {folder} --overwrite"
    stability = read_result(FitStability, folder, run_folder.STABILITY, again)
    published, published_path = None, folder / run_folder.PUBLISHED / "hmm.json"
    if config["fit"].get("compare_methods"):
        published = load_hmm(folder / run_folder.PUBLISHED, mend)
    maps = None
    if saved.model is not None:
        maps = read_netcdf(folder, run_folder.MAPS, again)
    ids.check_fit(
        folder,
        config,
        [
            Mark(folder / "hmm.json", saved.fit_id),
            Mark(folder / run_folder.METRICS, dataset.state.attrs.get(ids.FIT)),
            Mark(folder / run_folder.STABILITY, stability.fit_id),
            *([] if published is None else [Mark(published_path, published.fit_id)]),
            *([] if maps is None else [Mark(folder / run_folder.MAPS, maps.attrs.get(ids.FIT))]),
        ],
    )
    sequences = in_units_of(saved, quietly(raw_sequences, dataset, saved.metrics))
    rows, steps = seed_rows(dataset, sequences.runs), sequences.values.shape[1]
    paths = dataset.state.values[rows, :steps]
    decodings, agreement = _read_maps(folder, rows, steps, maps)
    return Fitted(
        sequences=sequences,
        paths=paths,
        saved=saved,
        sweep=sweep,
        stability=stability,
        decodings=decodings,
        agreement=agreement,
        notes=tuple(config["fit_notes"]),
        folder=folder,
        config=config,
        dataset=dataset,
        published=published,
    )


def _read_maps(
    folder: Path, rows: list[int], steps: int, maps: xr.Dataset | None
) -> tuple[dict[int, np.ndarray], np.ndarray | None]:
    """Returns the paths at every number of states, and the agreement of the refits."""
    if maps is None:
        return {}, None
    try:
        each = zip(maps.num_states.values, maps.state.values, strict=True)
        decodings = {int(k): paths[rows, :steps].astype(np.int32) for k, paths in each}
        return decodings, maps.agreement.values[rows, :steps].astype(float)
    except (AttributeError, IndexError, TypeError) as error:
        raise UserError(
            f"{folder / run_folder.MAPS} is not what a fit writes ({error}); "
            f"{ids.fit_again(folder)}"
        ) from None


def quietly(read: Callable[..., Read], *arguments: Any) -> Read:
    """Reads without the warnings that the fit has given of the same data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return read(*arguments)
