"""EM in lanes: against an implementation in plain NumPy, and what must not matter."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import Phase, given, settings, strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal as normal

from helpers.relaxing import relaxing_runs
from seedmap.hmm.autoregressive import fits
from seedmap.hmm.autoregressive.em import advance, evaluate, settle, start
from seedmap.hmm.autoregressive.fits import Job, fits_of_states, make_fits, precision
from seedmap.hmm.autoregressive.model import Regularisation
from seedmap.hmm.autoregressive.records import records_of
from seedmap.hmm.autoregressive.starts import draw_labels, progress_along_the_way
from seedmap.hmm.features import apply_scale, fit_scale
from seedmap.hmm.sequences import from_arrays
from seedmap.hmm.training_map.stability import adjusted_rand_index

TAU = 0.4


def features_of(lengths=(40,) * 8, seed=0):
    sequences = from_arrays(relaxing_runs(len(lengths), 40, seed=seed)[0], lengths)
    features = apply_scale(fit_scale(sequences), sequences)
    return replace(features, x=features.x[:, :, :2])  # alike in size whatever the seed


def jobs_of(features, states=(3,), weights=None, iterations=30):
    shares = progress_along_the_way(features)
    weights = np.ones(features.num_runs) if weights is None else np.asarray(weights, float)
    return [Job(k, draw_labels(shares, k, (0,)), weights, TAU, iterations) for k in states]


def fits_of(features, jobs, wide=True, **settings):
    with precision(), jax.enable_x64(wide):
        return make_fits(records_of(features), features.mask, jobs, **settings)


def settled(features, jobs):
    with precision():
        return fits_of_states(records_of(features), features.mask, jobs)


# --- a second implementation: one fit, run by run, in log space ---


def log_densities(p, x):
    """[time, K], of the records from the second on, tau left out."""
    initial, _, to_next, noise, location, spread = p
    columns = []
    for k in range(len(initial)):
        mean = np.column_stack([np.ones(len(x) - 1), x[:-1]]) @ to_next[k]
        motion = normal.logpdf(x[1:] - mean, cov=noise[k])
        columns.append(motion + 0.2 * normal.logpdf(x[1:], location[k], spread[k]))
    return np.array(columns).T


def smooth(initial, transition, logs):
    """Log-likelihood, posteriors [time, K], expected transitions [K, K]."""
    steps, rows = len(logs), np.log(transition)
    ahead, back = np.empty_like(logs), np.zeros_like(logs)
    ahead[0] = np.log(initial) + logs[0]
    for t in range(1, steps):
        ahead[t] = logsumexp(ahead[t - 1][:, None] + rows, 0) + logs[t]
    for t in range(steps - 2, -1, -1):
        back[t] = logsumexp(rows + logs[t + 1] + back[t + 1], 1)
    total = logsumexp(ahead[-1])
    pairs = ahead[:-1, :, None] + rows + (logs + back)[1:, None] - total
    return total, np.exp(ahead + back - total), np.exp(logsumexp(pairs, 0))


def maximise(posteriors, runs):
    """Motion (to the next record), noise, location, spread of each state."""
    before, after = (np.concatenate([x[part] for x in runs]) for part in (np.s_[:-1], np.s_[1:]))
    inputs, size = np.column_stack([np.ones(len(before)), before]), before.shape[1]
    ridge = 0.01 * np.diag([1e-4] + [1.0] * size)
    out = []
    for w in posteriors.T:
        gram = (inputs.T * w) @ inputs + ridge
        towards = (inputs.T * w) @ after + 0.01 * np.eye(1 + size)[:, 1:]
        to_next = np.linalg.solve(gram, towards)
        residual = after - inputs @ to_next
        noise = (residual.T * w) @ residual / w.sum() + 1e-3 * np.eye(size)
        spread = np.cov(after.T, bias=True, aweights=w).reshape(size, size) + 1e-2 * np.eye(size)
        out.append((to_next, noise, w @ after / w.sum(), spread))
    return [list(each) for each in zip(*out, strict=True)]


def plain_em(runs, labels, weights, num_states, iterations):
    """Log-likelihoods [run], tempered, after EM from the given states."""
    initial = np.full(num_states, 1 / num_states)
    transition = 0.9 * np.eye(num_states) + 0.1 / num_states
    posteriors = [np.eye(num_states)[z[1 : len(x)]] for x, z in zip(runs, labels, strict=True)]
    emission = maximise(np.concatenate(weighted(weights, posteriors)), runs)
    for i in range(iterations):
        heat = 0.1 ** max(1 - i / 20, 0)
        logs = [heat * TAU * log_densities((initial, transition, *emission), x) for x in runs]
        each = [smooth(initial, transition, log) for log in logs]
        posteriors = weighted(weights, [posterior for _, posterior, _ in each])
        first = sum(posterior[0] for posterior in posteriors) + 0.01
        moves = sum(weighted(weights, [pairs for _, _, pairs in each])) + 0.01
        initial, transition = first / first.sum(), moves / moves.sum(1, keepdims=True)
        emission = maximise(np.concatenate(posteriors), runs)
    logs = [TAU * log_densities((initial, transition, *emission), x) for x in runs]
    return [smooth(initial, transition, log)[0] for log in logs]


def weighted(weights, arrays):
    return [weight * array for weight, array in zip(weights, arrays, strict=True)]


@pytest.mark.parametrize("iterations", [1, 22])
def test_em_against_plain_numpy(iterations):
    """Ragged runs and weights; one fit of 2 states beside one of 3."""
    features = features_of((40, 25, 40, 31, 40))
    weights = [1, 2, 0, 1, 0.5]
    jobs = jobs_of(features, (2, 3), weights, iterations)
    runs = [x[:length] for x, length in zip(features.x, features.lengths, strict=True)]
    for job, fit in zip(jobs, fits_of(features, jobs), strict=True):
        assert fit.iterations == iterations
        expected = plain_em(runs, job.labels, weights, job.num_states, iterations)
        np.testing.assert_allclose(fit.run_log_likelihood, expected, rtol=1e-8)


@settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 1000), weights=st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_em_never_lowers_likelihood_and_prior(seed, weights):
    """Without what is added to variances: that is a floor and no prior."""
    features = features_of(seed=seed)
    weights = np.array(weights) + (np.arange(8) < 3)
    free = Regularisation(ridge=1e-9, noise=1e-9, spread=1e-9, counts=0.5)
    jobs = [jobs_of(features, (2,), weights, iterations)[0] for iterations in range(21, 27)]
    totals = []
    for fit in fits_of(features, jobs, regularisation=free):
        logs = np.log(fit.parameters.initial).sum() + np.log(fit.parameters.transition).sum()
        totals.append(weights @ fit.run_log_likelihood + 0.5 * logs)
    assert np.diff(totals).min() > -1e-6
    assert np.ptp(totals) > 0


def test_a_fit_stops_by_itself_and_does_not_depend_on_its_neighbours():
    features = features_of()
    many = jobs_of(features, (1, 2, 3, 4) * 6, iterations=60)
    (alone,) = fits_of(features, many[2:3])
    beside = fits_of(features, many)
    assert 21 < alone.iterations < 60
    for index in range(2, 24, 4):
        np.testing.assert_allclose(
            beside[index].run_log_likelihood, alone.run_log_likelihood, rtol=1e-10
        )
        np.testing.assert_array_equal(beside[index].paths, alone.paths)


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    features = features_of()
    jobs, found = jobs_of(features, (1, 2, 3, 4, 5) * 3, iterations=25), []
    for threads in (1, 3):
        monkeypatch.setattr(fits, "num_threads", lambda records, n=threads: n)
        found.append(fits_of(features, jobs))
    for one, other in zip(*found, strict=True):
        for a, b in zip(jax.tree.leaves(vars(one)), jax.tree.leaves(vars(other)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_weight_2_is_a_run_twice_and_weight_0_a_run_left_out():
    features = features_of((40, 40, 33, 40, 40, 40))
    weights = [2, 1, 1, 0, 0, 1]
    (weighted,) = fits_of(features, jobs_of(features, weights=weights))
    rows = [0, 0, 1, 2, 5]
    repeated = type(features)(
        *(array[rows] for array in (features.x, features.lengths)),
        *(array[rows] for array in (features.present, features.imputed)),
        tuple("abcde"),
    )
    (plain,) = fits_of(repeated, jobs_of(repeated))
    np.testing.assert_allclose(
        weighted.run_log_likelihood[[0, 0, 1, 2, 5]], plain.run_log_likelihood, rtol=1e-8
    )
    np.testing.assert_allclose(weighted.score, plain.score, rtol=1e-10)


def test_planted_phases_are_found():
    values, states = relaxing_runs(20, 80, 3)
    sequences = from_arrays(values)
    features = apply_scale(fit_scale(sequences), sequences)
    (fit,) = fits_of(features, jobs_of(features))
    assert adjusted_rand_index(fit.paths, states) > 0.85


def test_float32_decodes_as_float64_does():
    features = features_of()
    jobs = jobs_of(features, (2, 3, 4, 5))
    for narrow, wide in zip(fits_of(features, jobs, False), fits_of(features, jobs), strict=True):
        assert (narrow.paths == wide.paths).mean() >= 0.99
        np.testing.assert_allclose(narrow.score, wide.score, atol=2e-3)


def test_like_data_and_any_number_of_fits_share_one_compilation():
    features, like = features_of(), features_of((38, 40, 35, 40, 40, 40, 30), seed=1)
    fits_of(features, jobs_of(features, (1, 10)))
    settled(features, jobs_of(features, (5,)))
    programs = (start, advance, evaluate, settle)
    before = [program._cache_size() for program in programs]
    fits_of(like, jobs_of(like, (8, 3, 5, 4) * 4, iterations=7))
    settled(like, jobs_of(like, (8, 3, 4)))
    assert [program._cache_size() for program in programs] == before
