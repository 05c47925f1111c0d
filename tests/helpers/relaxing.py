"""Planted runs that relax towards one place after another, at speeds of their own."""

import numpy as np


def relaxing_runs(num_runs=20, num_steps=80, num_phases=3, seed=0, odd=0, gap=2.5):
    """Metrics [run, time, 14] of runs that pass through the same places, and their phases.

    Places lie `gap` apart in 4 dimensions; a run goes to each by a share of 0.12 to 0.3 a record,
    with lasting offsets of 0.35, noise of 0.05, and a speed within a factor of 2.8; 14 collinear
    metrics show it. The last `odd` runs go to places of their own.
    """
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(num_phases, 4))
    places = np.cumsum(gap * places / np.linalg.norm(places, axis=1, keepdims=True), 0)
    metrics = rng.normal(size=(4, 14))
    values, states = np.zeros((num_runs, num_steps, 14)), np.zeros((num_runs, num_steps), int)
    for run in range(num_runs):
        goals = places + rng.normal(0, 0.35, 4)
        if run >= num_runs - odd:
            goals = places + rng.normal(0, 3.0, places.shape)
        dwell = rng.uniform(0.6, 1.4, num_phases) * rng.uniform(0.6, 1.7)
        ends = np.round(num_steps * 0.8 * dwell.cumsum() / num_phases).astype(int)
        rates = rng.uniform(0.12, 0.3, num_phases)
        x = goals[0].copy()
        for t in range(num_steps):
            k = states[run, t] = min((t >= ends).sum(), num_phases - 1)
            x = x + rates[k] * (goals[k] - x) + rng.normal(0, 0.05, 4)
            values[run, t] = x @ metrics + rng.normal(0, 0.02, 14)
    return values, states
