"""Data sets that break numerical code: no crash, no parameter that is not finite, no probability
outside [0, 1]. A few in the normal suite; all 1000 with `pytest -m slow`."""

import warnings
from dataclasses import replace

import jax
import numpy as np
import pytest

from seedmap.hmm.inference import filtered, log_likelihood, posterior, viterbi
from seedmap.hmm.parameters import COVARIANCES
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.sweep import fit_sweep
from seedmap.hmm.sequences import from_arrays, z_score

# Shapes are few, so that compilations are: longest run and number of states, 6 runs of 3 metrics
SHAPES = [(1, 1), (2, 4), (12, 3), (60, 4)]
LONG = (1000, 4)
FAULTS = [
    "constant column",
    "all constant",
    "constant in one run",
    "duplicated column",
    "column of sums",
    "outlier",
    "huge units",
    "tiny units",
    "identical runs",
    "two values",
    "drift",
    "short runs",
    "holes",
    "an empty column",
    "empty checkpoints",
]


def draw(seed, shape=None):
    """Sequences with some faults, a config, and a description."""
    rng = np.random.default_rng(seed)
    longest, num_states = shape or SHAPES[seed % len(SHAPES)]
    faults = list(rng.choice(FAULTS, rng.integers(1, 4), replace=False))
    states = rng.integers(0, 3, (6, longest)).cumsum(1) // 9 % 3
    values = 3.0 * states[:, :, None] + rng.normal(size=(6, longest, 3))
    lengths = np.full(6, longest)
    for fault in faults:
        values, lengths = spoil(fault, values, lengths, rng)
    config = SweepConfig(
        states=tuple(sorted({1, num_states})),
        restarts=2,
        iterations=8,
        covariance=COVARIANCES[seed // len(SHAPES) % 4],
        prior=["weak", "held-out"][seed // 16 % 2],
    )
    return from_arrays(values, lengths), config, f"seed {seed}: {', '.join(faults)}; {config}"


def spoil(fault, values, lengths, rng):
    """The values [run, time, metric] and lengths with one more fault."""
    time, metric = rng.integers(values.shape[1]), rng.integers(3)
    if fault == "constant column":
        values[:, :, metric] = rng.choice([0.0, 2.5, 1e6])
    if fault == "all constant":
        values[:] = 1.0
    if fault == "constant in one run":
        values[0] = 1e-3
    if fault == "duplicated column":
        values[:, :, 2] = values[:, :, 0]
    if fault == "column of sums":
        values[:, :, 2] = values[:, :, 0] + values[:, :, 1]
    if fault == "outlier":
        values[rng.integers(6), time, metric] = rng.choice([-1e6, 1e6])
    if fault == "huge units":
        values = values * 1e12
    if fault == "tiny units":
        values = values * 1e-12
    if fault == "identical runs":
        values = np.repeat(values[:1], 6, axis=0)
    if fault == "two values":
        values = (values > 1).astype(float)
    if fault == "drift":
        values = values + np.exp(np.linspace(0, 20, values.shape[1]))[:, None]
    if fault == "short runs":
        lengths = rng.integers(1, values.shape[1] + 1, 6)
        lengths[[0, 5]] = values.shape[1]  # or the padded shapes would differ
    if fault == "holes":
        values = np.where(rng.random(values.shape) < 0.3, np.nan, values)
    if fault == "an empty column":
        values[:, :, metric] = np.nan
    if fault == "empty checkpoints":
        values[rng.random(values.shape[:2]) < 0.2] = np.nan
    return values, lengths


def check(sequences, config):
    """Fits and decodes, raw and z-scored; asserts that everything is sound."""
    train, held_out = sequences.select(range(4)), sequences.select([4, 5])
    if max(config.states) > train.num_observations // 2:
        with pytest.raises(ValueError, match="more than the data allow"):
            fit_sweep(train, held_out, config, jax.random.key(0))
        allowed = tuple(k for k in config.states if k <= train.num_observations // 2)
        return check(sequences, replace(config, states=allowed)) if allowed else None
    sweep = fit_sweep(train, held_out, config, jax.random.key(0))
    for fit in sweep.fits:
        for field in fit.parameters:
            assert np.isfinite(field).all()
        for rows in (fit.parameters.initial, fit.parameters.transition):
            assert ((rows >= 0) & (rows <= 1)).all()
            np.testing.assert_allclose(rows.sum(-1), 1, atol=1e-9)
        assert fit.degenerate or np.isfinite(fit.penalised_log_likelihood)
    parameters = sweep.fits[-1].parameters
    np.linalg.cholesky(parameters.covariances)
    assert np.isfinite(log_likelihood(parameters, sequences)).all()
    for shares in (posterior(parameters, sequences), filtered(parameters, sequences)):
        assert ((shares >= 0) & (shares <= 1)).all()
        np.testing.assert_allclose(shares.sum(2), sequences.mask, atol=1e-4)
    paths = viterbi(parameters, sequences)
    assert ((paths >= 0) == sequences.mask).all()
    assert paths.max() < len(parameters.initial)
    return None


def scaled(sequences):
    """The z-scores, without the warning that names constant metrics."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return z_score(sequences)


def check_one(seed, shape=None):
    sequences, config, description = draw(seed, shape)
    print(f"seed {seed}: {description}")  # pytest shows it where the check fails
    check(sequences if seed % 3 else scaled(sequences), config)


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_breaks_a_fit(fault):
    rng = np.random.default_rng(1)
    values = 3.0 * rng.integers(0, 2, (6, 60, 1)) + rng.normal(size=(6, 60, 3))
    values, lengths = spoil(fault, values, np.full(6, 60), rng)
    config = SweepConfig(states=(1, 4), restarts=2, iterations=8)
    check(from_arrays(values, lengths), config)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 1000, 50))
def test_no_data_set_of_a_thousand_breaks_a_fit(start):
    for seed in range(start, start + 50):
        check_one(seed, LONG if seed % 25 == 24 else None)
