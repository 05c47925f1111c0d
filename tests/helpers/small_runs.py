"""Small runs, fitted and mapped, without any training."""

import numpy as np
import pandas as pd

from helpers.command import seedmap
from seedmap.experiments.runs.import_metrics import import_frame

FITTING = (
    "--states 2-3 --restarts 2 --iterations 8 --covariance diagonal --prior weak --resamples 0"
).split()
METRICS = ("l1", "l2", "trace")


def make_run(folder, seed, length, unit="step", metrics=METRICS, name="mine"):
    """Runs that go through three stages at times of their own, fitted and mapped."""
    rng = np.random.default_rng(seed)
    frames = {}
    for run in range(10):
        second = rng.integers(length // 5, length // 3)
        third = second + rng.integers(length // 5, length // 2)
        stage = (np.arange(length) >= second).astype(int) + (np.arange(length) >= third)
        signal = np.array([[0.0, 0, 0], [3, 0, 1], [3, 3, 0]])[stage]
        frame = pd.DataFrame(signal + 0.3 * rng.normal(size=signal.shape), columns=metrics)
        frame[unit] = 10 * np.arange(1, length + 1)
        frame["eval_accuracy"] = 0.5 + 0.23 * stage
        frames[str(run)] = frame
    import_frame(frames, folder, metrics=metrics, name=name)
    assert seedmap("fit", folder, "--metrics", *metrics, *FITTING) == 0
    assert seedmap("map", folder) == 0
    return folder
