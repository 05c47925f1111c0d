"""The map of maps: what several mapped runs found, a row each, beside the rows of paper A."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.analysis import Analysis
from seedmap.experiments.runs.fit_and_map import read_mapped
from seedmap.experiments.tasks.base import FitConfig, MapConfig
from seedmap.hmm.io import SavedHMM

GROUNDS = ("index", "discrete", "means")


class PaperRow(NamedTuple):
    """A row of paper A's tables (arXiv 2308.09543; 40 seeds; MultiBERTs: 5).

    Attributes:
        states: number of states chosen.
        r2: of the regression; None where it was not made.
        pvalue: of it, as printed.
        dissimilarity: by the index of states.
        forks: whether runs fork.
    """

    states: int
    r2: float | None
    pvalue: str | None
    dissimilarity: float | None
    forks: bool


PAPER = {  # by the names of our experiments
    "parities": PaperRow(6, 0.961, "<0.001", 0.183, True),
    "modular": PaperRow(6, 0.977, "<0.001", 0.496, True),
    "modular-stabilised": PaperRow(3, 0.514, "<0.001", 0.038, False),
    "mnist": PaperRow(6, 0.049, "0.61", 0.063, False),
    "cifar100": PaperRow(5, 0.094, "0.47", 0.028, False),
    "cifar100-destabilised": PaperRow(5, 0.905, "<0.001", 0.806, True),
    "mlm": PaperRow(5, None, None, None, True),
}


PAPERS_OWN = {  # hyperparameters by which a run is of the paper's network, task and data
    "mnist": {"model": "mlp", "data": "mnist"},
    "cifar100": {"data": "cifar"},
    "cifar100-destabilised": {"data": "cifar"},
    "modular": {"operation": "add"},
    "modular-stabilised": {"operation": "add"},
}


def paper_row(config: Mapping[str, Any]) -> PaperRow | None:
    """The paper's row of a run's experiment.

    Args:
        config: the run's `config.json`.

    Returns:
        None where the run was imported, or is of another network, task or data than the paper's.
    """
    name, used = config["experiment"], config.get("hyperparameters", {})
    own = PAPERS_OWN.get(name, {})
    if "imported_from" in config or any(used.get(key, own[key]) != own[key] for key in own):
        return None
    return PAPER.get(name)


class MappedRun(NamedTuple):
    """A mapped run, as read from its folder.

    Attributes:
        name: what the comparison calls it.
        folder: where it is.
        config: its `config.json`.
        summary: its `summary.json`.
        dataset: its metrics and outcomes.
        question: what its map was asked.
        saved: its HMM.
        analysis: what that says.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    dataset: xr.Dataset
    question: MapConfig
    saved: SavedHMM
    analysis: Analysis

    @property
    def fit(self) -> FitConfig:
        """How it was fitted."""
        return FitConfig(**self.config["fit"])


def read_runs(folders: Sequence[Path]) -> list[MappedRun]:
    """Reads mapped runs, at least two different ones.

    Raises:
        UserError: there are fewer than two, one comes twice, or is not fitted or not mapped; the
            message says which command to run first.
    """
    names = run_names(folders)
    return [_read_run(name, folder) for name, folder in zip(names, folders, strict=True)]


def run_names(folders: Sequence[Path]) -> list[str]:
    """Names of folders to compare, with as much of their paths as tells them apart.

    Raises:
        UserError: there are fewer than two, or one comes twice.
    """
    if len(folders) < 2:
        raise UserError(f"a comparison needs at least two runs; got {len(folders)}: name another")
    for i, folder in enumerate(folders):
        for other in folders[:i]:
            if other.resolve() == folder.resolve():
                raise UserError(f"{folder} comes twice; name each run once")
    full = [str(folder.resolve()) for folder in folders]
    shared = os.path.commonpath([str(Path(path).parent) for path in full])
    last = [Path(path).name for path in full]
    if len(set(last)) == len(last):
        return last
    return [Path(path).relative_to(shared).as_posix() for path in full]


def _read_run(name: str, folder: Path) -> MappedRun:
    dataset = run_folder.read_dataset(folder)
    if "state" not in dataset:
        raise UserError(f"{folder} is not fitted; make it so with `seedmap fit {folder}`")
    fields = (
        *("num_seeds", "num_converged", "num_diverged", "convergence", "regression"),
        *("dissimilarity", "num_states", "forking", "detours"),
    )
    summary = run_folder.read_json(folder, run_folder.SUMMARY, f"map {folder}", fields)
    mapped = read_mapped(folder)
    fitted = mapped.fitted
    return MappedRun(
        name,
        folder,
        fitted.config,
        summary,
        fitted.dataset,
        mapped.question,
        fitted.saved,
        mapped.analysis,
    )


def row_of(run: MappedRun) -> dict[str, Any]:
    """What a run found, by its summary, and what paper A found of the same experiment.

    Returns:
        The columns of `compare.csv`, with `dissimilarity` {ground: value} and `paper` (None for
        an experiment that is not the paper's).
    """
    summary, paper = run.summary, paper_row(run.config)
    convergence, regression = summary["convergence"], summary["regression"]
    return {
        "run": run.name,
        "experiment": run.config["experiment"],
        "seeds": summary["num_seeds"],
        "converged": summary["num_converged"],
        "diverged": summary["num_diverged"],
        "checkpoints": run.dataset.sizes["step"],
        "num_metrics": len(run.saved.metrics),
        "states": summary["num_states"],
        "outcome": regression["outcome"],
        "r2": regression["r2"],
        "f_pvalue": regression["f_pvalue"],
        "leave_one_out_r2": regression["leave_one_out_r2"],
        "dissimilarity": {ground: summary["dissimilarity"][ground] for ground in GROUNDS},
        "forks": summary["forking"],
        "detours": summary["detours"],
        "convergence_mean": convergence["mean"],
        "convergence_std": convergence["std"],
        "unit": convergence["unit"],
        "threshold": convergence["threshold"],
        "paper": None if paper is None else paper._asdict(),
    }


def notes_of(runs: Sequence[MappedRun]) -> list[str]:
    """What runs differ in, as far as it bears on a comparison."""
    rows = [row_of(run) for run in runs]
    lengths = {row["run"]: row["checkpoints"] for row in rows}
    units = {row["run"]: row["unit"] for row in rows}
    metrics = {run.name: ", ".join(sorted(run.saved.metrics)) for run in runs}
    outcomes = {row["run"]: row["outcome"] for row in rows}
    said = [
        (lengths, "the number of checkpoints", "z-scores and shares are over each run's own"),
        (units, "the unit of time", "times of convergence cannot be set side by side"),
        (outcomes, "the outcome explained", "R² is of different things"),
    ]
    found = [
        f"runs differ in {what} ({_each(values)}): {so}"
        for values, what, so in said
        if len(set(values.values())) > 1
    ]
    if len(set(metrics.values())) > 1:
        counts = {run.name: len(run.saved.metrics) for run in runs}
        found.append(
            f"runs differ in the metrics that their HMMs see ({_each(counts)} of them): "
            "dissimilarities by means are in different spaces"
        )
    if any(row["paper"] for row in rows):
        found.append(
            "paper A's rows are of its own settings (40 seeds, prior near maximum likelihood); see "
            "each run's configuration for what differs"
        )
    return found


def _each(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
