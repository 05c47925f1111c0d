"""Data of the HMM tests: a planted HMM whose states are known."""

import numpy as np

from seedmap.hmm.sequences import from_arrays

LENGTHS = [60, 41, 60, 33, 52, 60, 60, 47]


def planted(lengths=LENGTHS, seed=0):
    """Runs of a sticky 3-state HMM with full covariances over 3 metrics, and their states."""
    rng = np.random.default_rng(seed)
    means = np.array([[-4.0, 0, 1], [0, 4, -1], [4, 0, 0]])
    roots = rng.normal(size=(3, 3, 3)) * 0.7
    runs, states = [], []
    for length in lengths:
        path = np.zeros(length, int)
        for t in range(1, length):
            path[t] = path[t - 1] if rng.random() < 0.9 else rng.integers(3)
        noise = np.einsum("tij,tj->ti", roots[path], rng.normal(size=(length, 3)))
        runs.append(means[path] + noise)
        states.append(path)
    return from_arrays(runs), states
