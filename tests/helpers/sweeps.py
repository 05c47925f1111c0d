"""Sweeps of Gaussian HMMs over planted runs: with a weak prior, and with a cross-validated one."""

import jax
import numpy as np

from helpers.planted import planted
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.sweep import fit_sweep
from seedmap.hmm.sequences import from_arrays

SMALL = SweepConfig(states=(1, 2, 3, 4), restarts=2, iterations=20, prior="weak")
CONFIG = SweepConfig(states=(1, 2, 3, 4, 5), restarts=2, iterations=12)
HELD_OUT = [9, 10, 11]


def fit_small(sequences, config=SMALL, key=0, callback=None):
    """A sweep of 8 runs, of which the last 2 are held out."""
    train, validation = sequences.select(range(6)), sequences.select([6, 7])
    return fit_sweep(train, validation, config, jax.random.key(key), callback)


def collinear(lengths):
    """Planted runs, 3 metrics and 2 that almost follow from them, as arrays [time, metric]."""
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(3, 2))
    runs = planted(lengths)[0]
    values = [run[:length] for run, length in zip(runs.values, lengths, strict=True)]
    return [np.hstack([v, v @ mixing + 0.01 * rng.normal(size=(len(v), 2))]) for v in values]


def fit_held_out(values, config=CONFIG, callback=None):
    """A sweep of runs [time, metric] but `HELD_OUT`, its prior by cross-validation."""
    sequences = from_arrays(values)
    rest = [i for i in range(sequences.num_runs) if i not in HELD_OUT]
    held_out = sequences.select(HELD_OUT)
    return fit_sweep(sequences.select(rest), held_out, config, jax.random.key(0), callback)
