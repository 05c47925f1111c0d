import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dynamax.hidden_markov_model import hmm_two_filter_smoother

from helpers.em_fits import as_data, as_model, prior_of, start_of
from helpers.planted import LENGTHS, planted
from seedmap.hmm.em import loop
from seedmap.hmm.em.candidates import restart_keys, start
from seedmap.hmm.em.e_step import expectation
from seedmap.hmm.em.linalg import cholesky, inverse_lower
from seedmap.hmm.em.loop import Progress, iterate
from seedmap.hmm.em.messages import forward_backward
from seedmap.hmm.em.model import Data, Layout, Prior
from seedmap.hmm.parameters import COVARIANCES
from seedmap.hmm.sequences import from_arrays


def test_cholesky_and_inverse_against_numpy():
    roots = np.random.default_rng(0).normal(size=(4, 5, 5))
    matrices = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(5)
    factors = cholesky(jnp.asarray(matrices))
    np.testing.assert_allclose(factors, np.linalg.cholesky(matrices), rtol=1e-4, atol=1e-5)
    inverses = np.linalg.inv(np.asarray(factors, np.float64))
    np.testing.assert_allclose(inverse_lower(factors), inverses, rtol=1e-4, atol=1e-4)


def test_cholesky_of_an_indefinite_matrix_is_not_a_number():
    assert np.isnan(np.asarray(cholesky(jnp.array([[1.0, 2.0], [2.0, 1.0]])))).any()


def test_messages_against_dynamax():
    rng = np.random.default_rng(0)
    lengths = [12, 7]
    mask = np.arange(12)[:, None] < np.array(lengths)
    initial = rng.dirichlet(np.ones(3), 2)
    transition = rng.dirichlet(np.ones(3), (2, 3))
    logs = np.where(mask[:, None, None], rng.normal(0, 3, (12, 2, 3, 2)), 0.0)
    logs -= logs.max(2, keepdims=True)
    weights = np.array([[1.0, 0.5], [0.0, 2.0]])
    inputs = (initial, transition, np.exp(logs), mask, weights)
    messages = jax.jit(forward_backward)(*map(jnp.asarray, inputs))
    for i in range(2):
        counts = np.zeros((3, 3))
        for run, length in enumerate(lengths):
            alone = hmm_two_filter_smoother(
                jnp.asarray(initial[i]),
                jnp.asarray(transition[i]),
                jnp.asarray(logs[:length, i, :, run]),
            )
            smoothed, weight = messages.smoothed[:, i, :, run], weights[i, run]
            expected = weight * alone.smoothed_probs
            np.testing.assert_allclose(smoothed[:length], expected, atol=2e-6)
            assert not np.asarray(smoothed[length:]).any()
            total = np.log(messages.normalisers[:length, i, run]).sum()
            np.testing.assert_allclose(total, alone.marginal_loglik, rtol=1e-5)
            counts += weight * alone.trans_probs
        np.testing.assert_allclose(messages.transitions[i], counts, atol=1e-5)


def test_padding_changes_no_statistic():
    sequences = planted()[0].select(range(6))
    layout = Layout((2, 3), "full")
    model = as_model(layout, [start_of(2, "full"), start_of(3, "full", seed=1)])
    statistics = jax.jit(expectation, static_argnums=0)
    short, long = (
        statistics(layout, model, as_data(sequences, extra), jnp.ones((2, 6))) for extra in (0, 126)
    )
    for a, b in zip(short, long, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-4)


def collinear():
    """Runs whose 5 metrics are mixtures of 3, up to 1e-3 of noise: covariances almost singular."""
    sequences, rng = planted()[0], np.random.default_rng(1)
    values = sequences.observations() @ rng.normal(size=(3, 5))
    values = (values - values.mean(0)) / values.std(0) + 1e-3 * rng.normal(size=values.shape)
    return from_arrays(np.split(values, np.cumsum(LENGTHS)[:-1]))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_em_never_lowers_the_penalised_likelihood(covariance):
    data = as_data(collinear().select(range(6)))
    layout = Layout((1, 2, 4), covariance)
    starts = [start_of(k, covariance, 5, seed=k) for k in layout.num_states]
    for _, _, means, _ in starts:
        means[:] = collinear().values[0, :: 60 // len(means)][: len(means)]  # far from empty
    model = as_model(layout, starts)
    flags = jnp.zeros(3, bool)
    progress = Progress(model, jnp.full(3, -jnp.inf, float), jnp.zeros(3, jnp.int32), flags, flags)
    objectives = []
    for _ in range(25):  # at a tolerance under which no fit converges
        progress = iterate(layout, data, jnp.ones((3, 6)), prior_of(3), -jnp.inf, progress, 1)
        objectives.append(np.asarray(progress.objective, np.float64))
    assert not progress.degenerate.any()
    assert (progress.iterations == 25).all()
    rise = np.diff(objectives, axis=0) / np.abs(objectives[1:])
    assert rise.min() > -3e-6  # float32 sums
    assert (np.subtract(objectives[-1], objectives[0]) > 100).all()


# --- starting points ---


def start_means(data, num_states, restart, keys=range(20), candidate=0):
    """Starting means [key, K, D] of one kind of start, and rows [key, 1 + K, Kmax]."""
    layout = Layout(tuple(num_states for _ in keys), "full")
    every = jnp.concatenate(
        [restart_keys(jax.random.key(k), [(num_states, restart)]) for k in keys]
    )
    factor = np.eye(data.values.shape[2])
    weights = jnp.ones((len(keys), data.mask.shape[1]))
    restarts = np.full(len(keys), restart)
    model = start(layout, data, weights, every, restarts, factor, candidate)
    rows = np.concatenate([model.initial[:, None], model.transition], 1)
    return np.asarray(model.means).reshape(len(keys), num_states, -1), rows


@pytest.mark.parametrize(("restart", "least"), [(0, 1.0), (1, 0.85)])
def test_k_means_starts_find_separate_clusters(restart, least):
    rng = np.random.default_rng(0)
    centres = 20 * np.stack(np.meshgrid([1, 2, 3], [1, 2]), -1).reshape(6, 2)
    values = centres[rng.integers(0, 6, (40, 3))] + rng.normal(size=(40, 3, 2))
    mask = np.arange(40)[:, None] < np.array([40, 40, 25])
    data = Data(jnp.asarray(np.where(mask[..., None], values, 0.0), float), jnp.asarray(mask))
    means, rows = start_means(data, 6, restart)
    distance = np.linalg.norm(means[:, :, None] - centres, axis=-1)
    found = distance.min(1).max(1) < 1.5
    assert found.mean() >= least  # restart 0 is the best of 10 k-means
    np.testing.assert_allclose(rows.sum(-1), 1, atol=1e-5)
    if restart == 0:
        np.testing.assert_allclose(rows, 1 / 6, rtol=1e-6)
    else:
        assert rows.std() > 0.1


def test_other_starts_cut_every_run_into_segments():
    # 300 runs of 10 checkpoints, padded to 40; the only metric is time as a share of the run
    mask = np.broadcast_to(np.arange(40)[:, None] < 10, (40, 300))
    values = np.where(mask, np.arange(40)[:, None] / 10, 0.0)[:, :, None]
    data = Data(jnp.asarray(values, float), jnp.asarray(mask))
    means, rows = start_means(data, 2, restart=1, keys=range(3), candidate=1)
    early, late = means[:, 0, 0], means[:, 1, 0]
    assert (early < late).all()
    share = (values[mask].mean() - late) / (early - late)  # of the checkpoints before the cut
    np.testing.assert_allclose(share, 0.55, atol=0.05)
    np.testing.assert_array_equal(rows, 0.5)
    assert len(set(early)) == 3


def test_float64_starts_from_the_same_draws_as_float32():
    data = as_data(planted()[0].select(range(6)))
    kinds = [(0, 0), (1, 0), (1, 1)]  # restart and candidate
    narrow = [start_means(data, 3, restart, range(2), number) for restart, number in kinds]
    jax.config.update("jax_enable_x64", True)
    try:
        wide_data = Data(jnp.asarray(np.asarray(data.values), jnp.float64), data.mask)
        wide = [start_means(wide_data, 3, restart, range(2), number) for restart, number in kinds]
    finally:
        jax.config.update("jax_enable_x64", False)
    for (means, rows), (wide_means, wide_rows) in zip(narrow, wide, strict=True):
        assert wide_means.dtype == np.float64
        np.testing.assert_allclose(means, wide_means, atol=1e-4)
        np.testing.assert_allclose(rows, wide_rows, atol=1e-6)


# --- stopping ---


@pytest.mark.parametrize("fault", ["half a checkpoint", "empty state", "overflow"])
def test_a_degenerate_fit_stops_at_its_last_good_parameters_and_spares_the_others(fault):
    data = as_data(planted()[0].select(range(6)))
    layout = Layout((2, 2), "full")
    bad = start_of(2, "full", seed=1)
    if fault == "half a checkpoint":
        bad[2][:], bad[3][:] = [[0, 0, 0], [4, 4, 4]], [20 * np.eye(3), np.eye(3)]
    if fault == "empty state":
        bad[2][1] = 1e3
    if fault == "overflow":
        bad[3][1] = 1e-38 * np.eye(3)
    model = as_model(layout, [start_of(2, "full"), bad])
    flags = jnp.zeros(2, bool)
    progress = Progress(model, jnp.full(2, -jnp.inf, float), jnp.zeros(2, jnp.int32), flags, flags)
    after = iterate(layout, data, jnp.ones((2, 6)), prior_of(2), 1e-6, progress, 5)
    assert after.degenerate.tolist() == [False, True]
    assert after.iterations.tolist() == [5, 0]
    for old, new in zip(model, after.model, strict=True):
        half = slice(2, 4) if len(old) == 4 else slice(1, 2)
        np.testing.assert_array_equal(old[half], new[half])
        assert np.isfinite(np.asarray(new)).all()


def test_a_run_of_weight_0_has_no_part_in_a_fit():
    sequences, layout = planted()[0], Layout((2, 3), "full")
    values = jnp.asarray(np.pad(sequences.values.transpose(1, 0, 2), ((0, 4), (0, 0), (0, 0))))
    mask = jnp.asarray(np.pad(sequences.mask.T, ((0, 4), (0, 0))))
    prior = Prior(jnp.full(2, 1e-2), jnp.asarray(1e-2))
    six = jnp.arange(8) < 6
    keys = restart_keys(jax.random.key(0), [(2, 0), (3, 1)])
    found = []
    for shown, weights in ((mask, 1.0 * six), (mask & six, jnp.ones(8))):
        data = Data(jnp.where(shown[:, :, None], values, 0.0), shown)
        weights = jnp.broadcast_to(weights, (2, 8))
        model = start(layout, data, weights, keys, np.array([0, 1]), np.eye(3))
        found.append(loop.run(layout, data, weights, prior, 1e-6, model, 8, lambda done: None))
    for a, b in zip(found[0].model, found[1].model, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4)
    np.testing.assert_allclose(found[0].objective, found[1].objective, rtol=1e-5)
