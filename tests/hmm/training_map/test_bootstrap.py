from dataclasses import replace

import jax
import numpy as np
import pytest

from seedmap.hmm import Parameters, SweepConfig, fit_sweep, from_arrays, posterior, viterbi
from seedmap.hmm.em.standardise import scaling_of
from seedmap.hmm.selection.criteria import best_restarts
from seedmap.hmm.training_map.bootstrap import bootstrap_map, refit, resample_counts
from seedmap.hmm.training_map.stability import adjusted_rand_index

MEANS = np.array([[0.0, 0, 0], [9, 0, 2], [0, 9, -2]])
COVARIANCES = ("full", "diagonal", "spherical", "shared")
CONFIG = SweepConfig(states=(3,), restarts=2, iterations=60, prior="weak", tolerance=1e-7)


def spread(covariance):
    """Scale of each metric: one for all where that is what the covariance type assumes."""
    return np.array([1.0, 1, 1 if covariance == "spherical" else 50])


def start(covariance):
    """A model with the right means, twice too wide."""
    scale, uniform = spread(covariance), np.full((4, 3), 1 / 3)
    wide = np.stack([np.diag(4 * scale**2)] * 3)
    return Parameters(uniform[0], uniform[1:], MEANS * scale, wide)


def separated(through=(0, 1, 2, 4, 5, 7, 8), num_runs=12, covariance="full"):
    """Runs 0, 1, 2 through three states far apart, or 0, 2 without the middle one; their states."""
    rng = np.random.default_rng(0)
    paths = np.zeros((num_runs, 30), int)
    for run in range(num_runs):
        first, second = rng.integers(6, 10), rng.integers(15, 20)
        paths[run, first:second] = 1 if run in through else 2
        paths[run, second:] = 2
    values = spread(covariance) * (MEANS[paths] + rng.normal(size=(num_runs, 30, 3)))
    return from_arrays(values), paths


def fitted(sequences, num_train=9, **changes):
    """A sweep on the first runs, its best fit, and that fit's decoding of all runs."""
    config, runs = replace(CONFIG, **changes), np.arange(sequences.num_runs)
    parts = sequences.select(runs[:num_train]), sequences.select(runs[num_train:])
    sweep = fit_sweep(*parts, config, jax.random.key(0))
    (chosen,) = best_restarts(sweep).values()
    return sweep, chosen, viterbi(chosen.parameters, sequences)


@pytest.mark.slow
def test_where_states_are_far_apart_every_refit_draws_the_same_map():
    sequences, truth = separated()
    sweep, chosen, paths = fitted(sequences)
    found = bootstrap_map(sweep, chosen, sequences, truth)
    assert (found.num_resamples, found.num_degenerate) == (20, 0)
    np.testing.assert_array_equal(found.adjusted_rand, np.ones(20))
    np.testing.assert_array_equal(found.edges, [[0, 1, 1], [0, 0, 1], [0, 0, 0]])
    assert (bootstrap_map(sweep, chosen, sequences, paths).adjusted_rand == 1).all()


@pytest.mark.slow
def test_where_states_overlap_refits_differ_and_the_seed_alone_decides_how():
    rng = np.random.default_rng(0)
    sequences = from_arrays(rng.normal(size=(12, 30, 3)))
    sweep, chosen, paths = fitted(sequences)
    one, again = (bootstrap_map(sweep, chosen, sequences, paths, 8, seed=3) for _ in range(2))
    other = bootstrap_map(sweep, chosen, sequences, paths, 8, seed=4)
    assert len(one.adjusted_rand) == 8 - one.num_degenerate > 1
    assert one.adjusted_rand.min() < 0.9
    np.testing.assert_array_equal(one.adjusted_rand, again.adjusted_rand)
    np.testing.assert_array_equal(one.edges, again.edges)
    assert one.adjusted_rand.tolist() != other.adjusted_rand.tolist()


def test_resamples_draw_as_many_runs_as_there_are_each_equally_often():
    counts = resample_counts(7, 4000, seed=1)
    assert counts.shape == (4000, 7)
    assert (counts.sum(1) == 7).all()
    np.testing.assert_allclose(counts.mean(0), 1, atol=0.05)
    np.testing.assert_allclose(counts.var(0), 1 - 1 / 7, atol=0.1)  # multinomial
    np.testing.assert_array_equal(resample_counts(7, 5, seed=1), counts[:5])
    with pytest.raises(ValueError, match="num_resamples must be at least 1; got 0"):
        resample_counts(7, 0)


@pytest.mark.parametrize(
    ("covariance", "holes"), [*((name, False) for name in COVARIANCES), ("full", True)]
)
def test_with_every_run_once_a_converged_fit_stays_what_it_is(covariance, holes):
    sequences, truth = separated(covariance=covariance)
    if holes:
        values = sequences.values.copy()
        values[np.random.default_rng(1).random(values.shape) < 0.1] = np.nan
        sequences = replace(sequences, values=values)
    config, once = replace(CONFIG, covariance=covariance), np.ones((1, 12))
    (chosen,) = refit(sequences, start(covariance), 0.1, config, once)
    (again,) = refit(sequences, chosen, 0.1, config, once)
    assert adjusted_rand_index(viterbi(again, sequences), viterbi(chosen, sequences)) == 1
    assert adjusted_rand_index(viterbi(chosen, sequences), truth) > (0.95 if holes else 0.999)
    for new, old, before in zip(again, chosen, start(covariance), strict=True):
        np.testing.assert_allclose(new, old, rtol=0.005, atol=0.005 * np.abs(old).max())
        assert np.abs(old - before).max() > 0.02 * np.abs(old).max()  # EM has moved


def weighted_update(sequences, parameters, weights, covariance, prior_scale):
    """Initial probabilities, means and covariances after one EM iteration, in float64."""
    share = posterior(parameters, sequences) * weights[:, None, None]
    initial = share[:, 0].sum(0) + 0.01
    share, values = share[sequences.mask], sequences.observations()
    std = scaling_of(sequences, covariance).std
    means = share.T @ values / share.sum(0)[:, None]
    residuals = (values - means[:, None]) / std
    scatter = np.einsum("nk,kni,knj->kij", share, residuals, residuals)
    count = share.sum(0)[:, None, None]
    if covariance == "shared":
        scatter, count = np.broadcast_to(scatter.sum(0), scatter.shape), count.sum()
    if covariance == "diagonal":
        scatter = scatter * np.eye(3)
    if covariance == "spherical":
        scatter = scatter.trace(axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)
    covariances = (scatter + prior_scale * np.eye(3)) / count * np.outer(std, std)
    return initial / initial.sum(), means, covariances


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_refit_is_em_with_the_fits_prior_on_runs_counted_as_drawn(covariance):
    rng = np.random.default_rng(0)
    sequences = from_arrays(
        rng.normal(size=(9, 30, 3)) * 5 * spread(covariance), lengths=[30] * 8 + [17]
    )
    weights = resample_counts(9, 2).astype(float)
    once = SweepConfig(iterations=1, covariance=covariance)
    refits = refit(sequences, start(covariance), 5.0, once, weights)
    for found, row in zip(refits, weights, strict=True):
        expected = weighted_update(sequences, start(covariance), row, covariance, 5.0)
        parts = (found.initial, found.means, found.covariances)
        for new, old in zip(parts, expected, strict=True):
            np.testing.assert_allclose(new, old, rtol=2e-3, atol=2e-4 * np.abs(old).max())


def test_refits_that_lose_a_state_break_down_and_are_counted():
    sequences, _ = separated(through=(4,))
    sweep, chosen, paths = fitted(sequences)
    found = bootstrap_map(sweep, chosen, sequences, paths)
    lost = (resample_counts(9, 20)[:, 4] == 0).sum()
    assert 0 < lost < 20
    assert found.num_degenerate == lost
    assert len(found.adjusted_rand) == 20 - lost


def test_without_any_refit_there_are_no_edges(monkeypatch):
    sequences, _ = separated(through=(4,))
    given = fitted(sequences)
    monkeypatch.setattr(
        "seedmap.hmm.training_map.bootstrap.resample_counts", lambda *_: 1 - np.eye(9)[[4]]
    )
    found = bootstrap_map(*given[:2], sequences, given[2], 1)
    assert (found.num_degenerate, found.adjusted_rand.size, found.edges) == (1, 0, None)


def test_sequences_without_a_training_run_are_refused():
    sequences, _ = separated()
    sweep, chosen, paths = fitted(sequences)
    with pytest.raises(ValueError, match="training run '0' is not among the sequences"):
        bootstrap_map(sweep, chosen, sequences.select(range(1, 12)), paths[1:])
