"""Analysis of a run's fitted HMM, with the convergence of all its seeds."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from seedmap import hmm
from seedmap.experiments.runs.dataset import (
    convergence_times,
    last_values,
    seed_rows,
    time_unit,
)
from seedmap.experiments.tasks.base import MapConfig


@dataclass(frozen=True, eq=False)
class Analysis(hmm.Analysis):
    """`hmm.Analysis` of the runs that the HMM can use, with the convergence of all seeds.

    Attributes:
        convergence: float [seed], time of convergence of every seed, NaN where it never came.
        run_convergence: float [run], the same for the usable runs.
    """

    convergence: np.ndarray
    run_convergence: np.ndarray


def analyse(
    dataset: xr.Dataset,
    sequences: hmm.Sequences,
    parameters: hmm.Parameters,
    paths: np.ndarray,
    config: MapConfig,
    as_decoded: bool = False,
) -> Analysis:
    """Builds the map, the regression and the dissimilarities (Hu et al. 2023, section 3).

    Args:
        dataset: metrics and outcomes of all seeds.
        sequences: the z-scored metrics of the usable ones.
        parameters: the HMM, states in canonical order.
        paths: int [run, time], its decoding of the usable runs.
        config: what the regression explains, the threshold of convergence included.
        as_decoded: as of `hmm.build_map`, by the published method.

    Raises:
        UserError: the outcome is not recorded.
    """
    rows = seed_rows(dataset, sequences.runs)
    convergence = convergence_times(dataset, config.threshold)
    by_time = config.outcome == "convergence"
    outcome = convergence if by_time else last_values(dataset, config.outcome)
    capped = by_time and config.censored == "cap"
    analysis = hmm.analyse(
        parameters,
        sequences,
        paths,
        outcome[rows],
        converged=np.isfinite(convergence[rows]) if by_time else None,
        complete=dataset.diverged.values[rows] < 0,
        cap=float(dataset[time_unit(dataset)].values[-1]) if capped else None,
        as_decoded=as_decoded,
    )
    return Analysis(**vars(analysis), convergence=convergence, run_convergence=convergence[rows])
