"""Data of the forecast tests: runs that fork, one way short and the other long."""

import numpy as np

from seedmap.hmm import ForecastSettings, from_arrays

SETTINGS = ForecastSettings(states=(1, 4), restarts=2, iterations=25, folds=3)


def branching(num_runs=36, num_steps=50, seed=0, telling=True):
    """Runs that fork into a short and a long way to convergence; the first two never get there.

    Args:
        num_runs: number of runs.
        num_steps: number of checkpoints.
        seed: of all draws.
        telling: whether the metrics differ along the way; if not, they are noise.

    Returns:
        Raw metrics, step of convergence, step of each checkpoint, whether the way is the long one.
    """
    rng = np.random.default_rng(seed)
    fork, slow = rng.integers(8, 12, num_runs), rng.random(num_runs) < 0.5
    arrival = fork + np.where(slow, rng.integers(20, 26, num_runs), rng.integers(8, 12, num_runs))
    arrival[:2] = num_steps
    time = np.arange(num_steps)
    state = np.where(time < fork[:, None], 0, np.where(slow, 2, 1)[:, None])
    state = np.where(time >= arrival[:, None], 3, state)
    means = np.array([[0, 0, 0], [4, 0, 1], [0, 4, 1], [4, 4, 5.0]])
    values = telling * means[state] + 0.4 * rng.normal(size=(num_runs, num_steps, 3))
    steps = 5.0 * (time + 1)
    outcome = np.where(arrival < num_steps, steps[np.minimum(arrival, num_steps - 1)], np.nan)
    return from_arrays(values, metrics=["a", "b", "c"]), outcome, steps, slow
