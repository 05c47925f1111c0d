"""The baselines and ablations of paper A beside the HMM of a run, and the honest early test."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments import run_folder
from experiments.experiment import FitConfig
from experiments.forecasting import load_raw
from experiments.pipeline import read_config
from experiments.settings import sweep_config
from hmm.baselines import compare_baselines

EARLY = (0.1, 0.25, 0.5)  # shares of the converging runs that have converged by the early times


def baselines_run(folder: Path) -> list[dict[str, Any]]:
    """Compares what explains convergence time; writes `baselines.json` and adds to the summary.

    The rows: the HMM on all metrics, k-means, an HMM on `l2` alone, HMMs on the most important
    metrics (paper A, section 5), and the HMM's bag of states over the checkpoints up to a time by
    which 10, 25 and 50 % of the converging runs have converged, for the runs that converge later:
    these cannot read the outcome back from when a state was entered.

    Returns:
        The rows of `hmm.baselines.compare_baselines`.

    Raises:
        ValueError: the folder is no fitted run, or none of its seeds converges.
    """
    config = read_config(folder, "fit")
    sequences, convergence, steps = load_raw(folder)
    times = convergence[np.isfinite(convergence)]
    if not len(times):
        raise ValueError(f"{folder}: no seed converges, so there is no time to explain")
    upto = sorted({float(steps[steps <= t][-1]) for t in np.quantile(times, EARLY)})
    settings = sweep_config(FitConfig(**config["fit"]))
    rows = compare_baselines(
        sequences, convergence, steps, settings, seed=config["fit"]["fit_seed"], upto=upto
    )
    run_folder.write_json(folder / run_folder.BASELINES, rows)
    _add_to_summary(folder, upto, rows)
    return rows


def _add_to_summary(folder: Path, upto: list[float], rows: list[dict[str, Any]]) -> None:
    """Puts the early rows into the run's summary, if it has one, for the report to show."""
    if not (folder / run_folder.SUMMARY).is_file():
        return
    summary = run_folder.read_json(folder, run_folder.SUMMARY, f"map {folder}", ("regression",))
    early = [row for row in rows if row["name"].startswith("up to")]
    summary["regression"]["early"] = [
        {"upto": time} | row for time, row in zip(upto, early, strict=True)
    ]
    run_folder.write_json(folder / run_folder.SUMMARY, summary)
