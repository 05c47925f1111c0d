"""A run folder as `Runs`."""

import os
from pathlib import Path

from seedmap.experiments.runs.dataset import dataset_runs
from seedmap.experiments.runs.fitted import read_run, threshold_of
from seedmap.runs import Runs


def load(path: str | os.PathLike[str], *, threshold: float | None = None) -> Runs:
    """Returns the runs of a folder that `seedmap train` or `seedmap import` has made.

    Args:
        path: the run folder.
        threshold: evaluation accuracy above which a run has converged; by default the folder's
            own.

    Returns:
        The metrics of Hu et al. (2023) that were recorded, one run per seed.

    Raises:
        UserError: the folder is no run, or a file of it is damaged or of another training.
    """
    dataset, config = read_run(Path(path))
    return dataset_runs(dataset, threshold=threshold_of(config) if threshold is None else threshold)
