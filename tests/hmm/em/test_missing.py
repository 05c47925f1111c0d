import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score

from helpers.em_fits import as_model, prior_of, start_of
from helpers.planted import planted
from seedmap.hmm.em.e_step import expectation
from seedmap.hmm.em.linalg import inverse_lower
from seedmap.hmm.em.loop import Progress, iterate
from seedmap.hmm.em.missing import (
    conditional_scatter,
    gather_missing,
    marginal_log_densities,
    projectors,
)
from seedmap.hmm.em.model import Layout
from seedmap.hmm.em.standardise import Scaling, as_data
from seedmap.hmm.inference import log_likelihood, posterior, viterbi
from seedmap.hmm.parameters import Parameters
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.criteria import select
from seedmap.hmm.selection.sweep import fit_sweep
from seedmap.hmm.sequences import from_arrays

UNIT = Scaling(np.zeros(3), np.ones(3))
statistics_of = jax.jit(expectation, static_argnums=0)  # one program, not one for each operation


def with_holes(share=0.2, seed=0):
    """The planted runs with values missing at random, and two checkpoints without any value."""
    sequences, states = planted()
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(sequences.values.shape) < share, np.nan, sequences.values)
    values[0, 3] = values[1, 40] = np.nan
    return from_arrays(values, sequences.lengths), states


def a_state(num_metrics=4, seed=0):
    """Mean, covariance and W of one state, nearly singular."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(num_metrics, num_metrics))
    root[:, -1] = root[:, 0] + 0.05 * root[:, -1]
    covariance = root @ root.T
    return rng.normal(size=num_metrics), covariance, np.linalg.inv(np.linalg.cholesky(covariance))


def gathered(rows):
    """Missing of rows [n, D], and the number of them that are real."""
    return gather_missing(rows[:, None], np.ones((len(rows), 1), bool))


ROWS = np.array(
    [[np.nan, 1, 2, 0.5], [1, np.nan, np.nan, -1], [np.nan] * 4, [0.2, np.nan, np.nan, 3]]
)


def test_densities_are_those_of_the_analytic_marginal():
    mean, covariance, inverse = a_state()
    found = jax.jit(marginal_log_densities)(
        jnp.asarray(inverse)[None], jnp.asarray(mean)[None], gathered(ROWS)
    )
    for row, log in zip(ROWS, found[:, 0], strict=False):
        known = ~np.isnan(row)
        expected = 0.0
        if known.any():
            block = covariance[np.ix_(known, known)]
            expected = multivariate_normal(mean[known], block).logpdf(row[known])
        np.testing.assert_allclose(log, expected, rtol=1e-4, atol=1e-4)


def test_sums_are_those_of_the_analytic_conditional():
    mean, covariance, inverse = a_state()
    weights = np.zeros((256, 1))
    weights[:4, 0] = [0.3, 1.0, 0.7, 0.2]
    first = np.zeros(4)
    second = np.zeros((4, 4))
    for row, weight in zip(ROWS, weights[:4, 0], strict=True):
        lost = np.isnan(row)
        there = ~lost
        gain = covariance[np.ix_(lost, there)] @ np.linalg.pinv(covariance[np.ix_(there, there)])
        full, spread = np.where(lost, mean, row), np.zeros((4, 4))
        full[lost] += gain @ (row - mean)[there]
        spread[np.ix_(lost, lost)] = (
            covariance[np.ix_(lost, lost)] - gain @ covariance[np.ix_(there, lost)]
        )
        whitened = inverse @ (full - mean)
        first += weight * whitened
        second += weight * (np.outer(whitened, whitened) + inverse @ spread @ inverse.T)
    found = jax.jit(conditional_scatter)(
        jnp.asarray(inverse)[None], jnp.asarray(mean)[None], gathered(ROWS), jnp.asarray(weights)
    )
    np.testing.assert_allclose(found[0][0], first, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found[1][0], second, rtol=1e-3, atol=1e-3)


def test_projectors_stay_projectors_where_metrics_are_nearly_collinear():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 3)) @ rng.normal(size=(3, 6)) + 1e-3 * rng.normal(size=(6, 6))
    factor = jnp.asarray(np.linalg.cholesky(root @ root.T), float)
    missing = rng.random((8, 6)) < 0.5
    found, _ = projectors(inverse_lower(factor[None]), jnp.asarray(missing))
    np.testing.assert_allclose(found[:, 0] @ found[:, 0], found[:, 0], atol=1e-4)
    np.testing.assert_allclose(jnp.trace(found[:, 0], axis1=1, axis2=2), missing.sum(1), atol=1e-4)


@pytest.mark.parametrize("covariance", ["full", "spherical"])
def test_em_never_lowers_the_penalised_likelihood(covariance):
    data = as_data([with_holes()[0].select(range(6))], UNIT)
    layout = Layout((2, 3), covariance)
    model = as_model(layout, [start_of(2, covariance), start_of(3, covariance, seed=1)])
    flags, objectives = jnp.zeros(2, bool), []
    progress = Progress(model, jnp.full(2, -jnp.inf, float), jnp.zeros(2, jnp.int32), flags, flags)
    for _ in range(15):
        progress = iterate(layout, data, jnp.ones((2, 6)), prior_of(2), -jnp.inf, progress, 1)
        objectives.append(np.asarray(progress.objective, np.float64))
    assert not progress.degenerate.any()
    rise = np.diff(objectives, axis=0) / np.abs(objectives[1:])
    assert rise.min() > -3e-6
    assert (np.subtract(objectives[-1], objectives[0]) > 50).all()


def test_the_em_likelihood_is_that_of_the_decoder():
    sequences = with_holes()[0].select(range(6))
    layout = Layout((2, 3), "full")
    starts = [start_of(2, "full"), start_of(3, "full", seed=1)]
    statistics = statistics_of(
        layout, as_model(layout, starts), as_data([sequences], UNIT), jnp.ones((2, 6))
    )
    for one, found in zip(starts, statistics.log_likelihood, strict=True):
        np.testing.assert_allclose(found, log_likelihood(Parameters(*one), sequences), rtol=1e-5)


def test_complete_data_and_a_checkpoint_without_values_agree():
    """A run with its last checkpoint missing is the run that ends before it."""
    complete = planted()[0].select(range(6))
    values = complete.values.copy()
    values[0, -1] = np.nan
    lengths = complete.lengths.copy()
    lengths[0] -= 1
    layout = Layout((2, 3), "full")
    model = as_model(layout, [start_of(2, "full"), start_of(3, "full", seed=1)])
    found = []
    for sequences in (from_arrays(values, complete.lengths), from_arrays(complete.values, lengths)):
        data = as_data([sequences], UNIT)
        found.append(statistics_of(layout, model, data, jnp.ones((2, 6))))
    assert as_data([complete], UNIT).missing is None
    np.testing.assert_allclose(found[0].log_likelihood, found[1].log_likelihood, rtol=1e-5)
    spare = [a - b for a, b in zip(found[0], found[1], strict=True)]
    # what the missing checkpoint adds: one checkpoint, y with mean 0 and covariance I
    np.testing.assert_allclose(spare[3][:2].sum(), 1.0, atol=1e-3)
    np.testing.assert_allclose(spare[4], 0.0, atol=1e-2)
    np.testing.assert_allclose(spare[5][:2].sum(0), np.eye(3), atol=1e-2)


def test_a_planted_hmm_is_found_and_decoded_through_the_holes():
    sequences, states = with_holes()
    config = SweepConfig(states=(1, 3), restarts=2, iterations=20)
    train, held_out = sequences.select(range(6)), sequences.select([6, 7])
    chosen = select(fit_sweep(train, held_out, config, jax.random.key(0)))
    assert chosen.num_states == 3
    paths = viterbi(chosen.parameters, sequences)
    decoded = np.concatenate([p[p >= 0] for p in paths])
    assert adjusted_rand_score(np.concatenate(states), decoded) > 0.9
    shares = posterior(chosen.parameters, sequences)
    assert ((shares >= 0) & (shares <= 1)).all()
    on_train = log_likelihood(chosen.parameters, train)
    np.testing.assert_allclose(chosen.train_run_log_likelihood, on_train, rtol=1e-4)
    truth = np.stack(
        [planted()[0].observations()[np.concatenate(states) == k].mean(0) for k in range(3)]
    )
    distance = np.linalg.norm(chosen.parameters.means[:, None] - truth, axis=2)
    assert distance.min(0).max() < 0.4
