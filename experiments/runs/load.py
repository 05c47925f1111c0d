"""A run folder, or one that is recorded to, as `Runs`."""

import os
from pathlib import Path

from seedmap.experiments.runs.dataset import dataset_runs
from seedmap.experiments.runs.fitted import read_run, threshold_of
from seedmap.experiments.runs.folder import METRICS
from seedmap.hmm.readers.kinds.recorded import RECORDED, is_recorded
from seedmap.logs import read
from seedmap.runs import Runs


def load(path: str | os.PathLike[str], *, threshold: float | None = None) -> Runs:
    """Returns the runs of a folder that `seedmap train` or `seedmap import` has made.

    Of a folder that `seedmap.Recorder` writes to it returns the runs as they were last fitted, and
    before that as they are recorded; `seedmap.read` always takes these as they are now.

    Args:
        path: the run folder.
        threshold: evaluation accuracy above which a run has converged; by default the folder's
            own.

    Returns:
        The metrics of Hu et al. (2023) that were recorded, one run per seed.

    Raises:
        UserError: the folder is no run, or a file of it is damaged or of another training.
    """
    if not (Path(path) / METRICS).is_file() and is_recorded(Path(path)):
        return read(path, kind=RECORDED.name, threshold=threshold)
    dataset, config = read_run(Path(path))
    return dataset_runs(dataset, threshold=threshold_of(config) if threshold is None else threshold)
