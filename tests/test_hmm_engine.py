import itertools
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dynamax.hidden_markov_model import hmm_two_filter_smoother
from hmmlearn.hmm import GaussianHMM
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from hmm.em import (
    Data,
    Layout,
    Model,
    Prior,
    Progress,
    expectation,
    iterate,
    log_prior,
    maximisation,
)
from hmm.inference import log_likelihood, viterbi
from hmm.initialise import restart_keys, start, starting_factor
from hmm.linalg import cholesky, inverse_lower
from hmm.messages import forward_backward
from hmm.parameters import COVARIANCES
from hmm.selection import best_restarts, dominant_validation_runs, select, selection_table
from hmm.sequences import from_arrays
from hmm.sweep import Sweep, SweepConfig, fit_sweep

PEER = {"full": "full", "diagonal": "diag", "spherical": "spherical", "shared": "tied"}
LENGTHS = [60, 41, 60, 33, 52, 60, 60, 47]
SMALL = SweepConfig(states=(1, 2, 3, 4), restarts=2, iterations=20)


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


def fit(sequences, config=SMALL, key=0, callback=None):
    train, validation = sequences.select(range(6)), sequences.select([6, 7])
    return fit_sweep(train, validation, config, jax.random.key(key), callback)


@pytest.fixture(scope="module")
def sweep():
    return fit(planted()[0])


def assert_sound(parameters):
    for field in parameters:
        assert np.isfinite(field).all()
    for rows in (parameters.initial, parameters.transition):
        assert (rows >= 0).all()
        np.testing.assert_allclose(rows.sum(-1), 1, atol=1e-9)
    assert (np.linalg.eigvalsh(parameters.covariances) > 0).all()


# --- building blocks ---


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
    messages = forward_backward(*map(jnp.asarray, (initial, transition, np.exp(logs), mask)))
    for i in range(2):
        counts = np.zeros((3, 3))
        for run, length in enumerate(lengths):
            alone = hmm_two_filter_smoother(
                jnp.asarray(initial[i]),
                jnp.asarray(transition[i]),
                jnp.asarray(logs[:length, i, :, run]),
            )
            smoothed = messages.smoothed[:, i, :, run]
            np.testing.assert_allclose(smoothed[:length], alone.smoothed_probs, atol=2e-6)
            assert not np.asarray(smoothed[length:]).any()
            total = np.log(messages.normalisers[:length, i, run]).sum()
            np.testing.assert_allclose(total, alone.marginal_loglik, rtol=1e-5)
            counts += alone.trans_probs
        np.testing.assert_allclose(messages.transitions[i], counts, atol=1e-5)


def start_of(num_states, covariance, num_metrics=3, seed=0):
    """One fit's starting parameters, as numpy arrays, of the given covariance type."""
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(num_states, num_metrics, num_metrics))
    covariances = roots @ roots.transpose(0, 2, 1) + np.eye(num_metrics)
    if covariance == "shared":
        covariances[:] = covariances[0]
    if covariance == "diagonal":
        covariances *= np.eye(num_metrics)
    if covariance == "spherical":
        covariances = covariances[:, :1, :1] * np.eye(num_metrics)
    initial, transition = (rng.dirichlet(np.ones(num_states), n) for n in (1, num_states))
    return initial[0], transition, rng.normal(0, 2, (num_states, num_metrics)), covariances


def as_model(layout, starts):
    """The `Model` of several starts."""
    size = max(layout.num_states)
    initial = np.zeros((len(starts), size))
    transition = np.full((len(starts), size, size), 0.0)
    for i, (first, rows, _, _) in enumerate(starts):
        k = len(first)
        initial[i, :k], transition[i, :, :k], transition[i, :k, :k] = first, 1 / k, rows
    means = np.concatenate([start[2] for start in starts])
    factors = np.linalg.cholesky(np.concatenate([start[3] for start in starts]))
    return Model(*(jnp.asarray(x, float) for x in (initial, transition, means, factors)))


def as_data(sequences, extra=0):
    """Training data for the engine, with `extra` padded steps (here a chunk is 6 x 42 or less)."""
    steps = -(-(sequences.values.shape[1] + extra) // 42) * 42
    pad = steps - sequences.values.shape[1]
    values = np.pad(sequences.values, ((0, 0), (0, pad), (0, 0)))
    mask = np.pad(sequences.mask, ((0, 0), (0, pad)))
    return Data(jnp.asarray(values.transpose(1, 0, 2), float), jnp.asarray(mask.T))


def set_covariances(peer, covariance, covariances):
    peer.covars_ = {
        "full": covariances,
        "diagonal": covariances.diagonal(axis1=1, axis2=2),
        "spherical": covariances[:, 0, 0],
        "shared": covariances[0],
    }[covariance]


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_one_em_step_against_hmmlearn(covariance):
    sequences = planted()[0].select(range(6))
    layout = Layout((2, 3), covariance)
    starts = [start_of(2, covariance), start_of(3, covariance, seed=1)]
    model, prior = as_model(layout, starts), Prior(0.5, 0.2)
    statistics = expectation(layout, model, as_data(sequences))
    new = jax.tree.map(np.asarray, maximisation(layout, model, statistics, prior))
    for i, (initial, transition, means, covariances) in enumerate(starts):
        scatter = 0.5 * np.eye(3) if covariance in ("full", "shared") else 0.5
        peer = GaussianHMM(
            len(initial),
            PEER[covariance],
            n_iter=1,
            init_params="",
            startprob_prior=1.2,
            transmat_prior=1.2,
            covars_prior=scatter,
        )
        peer.startprob_, peer.transmat_, peer.means_ = initial, transition, means
        set_covariances(peer, covariance, covariances)
        values = sequences.observations()
        total = peer.score(values, sequences.lengths)
        np.testing.assert_allclose(statistics.log_likelihood[i].sum(), total, rtol=1e-5)
        peer.fit(values, sequences.lengths)
        k, mine = len(initial), layout.fit == i
        np.testing.assert_allclose(new.initial[i, :k], peer.startprob_, atol=1e-5)
        np.testing.assert_allclose(new.transition[i, :k, :k], peer.transmat_, atol=1e-5)
        np.testing.assert_allclose(new.means[mine], peer.means_, atol=2e-4)
        found = new.factors[mine] @ new.factors[mine].transpose(0, 2, 1)
        # hmmlearn repeats a spherical covariance once for each metric
        repeat = 3 if covariance == "spherical" else 1
        expected = np.broadcast_to(peer.covars_, (repeat * k, 3, 3))[::repeat]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_log_prior_against_its_formula(covariance):
    layout = Layout((2, 3), covariance)
    starts = [start_of(2, covariance), start_of(3, covariance, seed=1)]
    found = log_prior(layout, as_model(layout, starts), Prior(0.5, 0.2))
    for i, (initial, transition, _, covariances) in enumerate(starts):
        if covariance == "shared":
            covariances = covariances[:1]
        traces = np.trace(0.5 * np.linalg.inv(covariances), axis1=1, axis2=2)
        expected = 0.2 * (np.log(initial).sum() + np.log(transition).sum()) - traces.sum() / 2
        np.testing.assert_allclose(found[i], expected, rtol=1e-4)


def test_padding_changes_no_statistic():
    sequences = planted()[0].select(range(6))
    layout = Layout((2, 3), "full")
    model = as_model(layout, [start_of(2, "full"), start_of(3, "full", seed=1)])
    short, long = (expectation(layout, model, as_data(sequences, extra)) for extra in (0, 126))
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
    progress = Progress(model, jnp.full(3, -jnp.inf), jnp.zeros(3, jnp.int32), flags, flags)
    objectives = []
    for _ in range(25):
        prior = Prior(jnp.asarray(1e-4), jnp.asarray(1e-2))
        progress = iterate(layout, data, prior, -jnp.inf, progress, 1)  # never converged
        objectives.append(np.asarray(progress.objective, np.float64))
    assert not progress.degenerate.any()
    assert (progress.iterations == 25).all()
    rise = np.diff(objectives, axis=0) / np.abs(objectives[1:])
    assert rise.min() > -3e-6  # float32 sums
    assert (np.subtract(objectives[-1], objectives[0]) > 100).all()


# --- starting points ---


def start_means(data, num_states, restart, keys=range(20)):
    """Starting means [key, K, D] of one kind of restart, and rows [key, 1 + K, Kmax]."""
    layout = Layout(tuple(num_states for _ in keys), "full")
    every = jnp.concatenate(
        [restart_keys(jax.random.key(k), [(num_states, restart)]) for k in keys]
    )
    factor = np.eye(data.values.shape[2])
    model = start(layout, data, every, [restart] * len(keys), factor)
    rows = np.concatenate([model.initial[:, None], model.transition], 1)
    return np.asarray(model.means).reshape(len(keys), num_states, -1), rows


def test_even_restarts_find_separate_clusters():
    rng = np.random.default_rng(0)
    centres = 20 * np.stack(np.meshgrid([1, 2, 3], [1, 2]), -1).reshape(6, 2)
    values = centres[rng.integers(0, 6, (40, 3))] + rng.normal(size=(40, 3, 2))
    mask = np.arange(40)[:, None] < np.array([40, 40, 25])
    data = Data(jnp.asarray(np.where(mask[..., None], values, 0.0), float), jnp.asarray(mask))
    means, rows = start_means(data, 6, restart=0)
    distance = np.linalg.norm(means[:, :, None] - centres, axis=-1)
    found = distance.min(1).max(1) < 1.5
    assert found.mean() >= 0.85
    np.testing.assert_allclose(rows.sum(-1), 1, atol=1e-5)
    assert rows.std() > 0.1


def test_odd_restarts_cut_every_run_into_segments():
    # 300 runs of 10 checkpoints, padded to 40; the only metric is time as a share of the run
    mask = np.broadcast_to(np.arange(40)[:, None] < 10, (40, 300))
    values = np.where(mask, np.arange(40)[:, None] / 10, 0.0)[:, :, None]
    data = Data(jnp.asarray(values, float), jnp.asarray(mask))
    means, rows = start_means(data, 2, restart=1, keys=range(3))
    early, late = means[:, 0, 0], means[:, 1, 0]
    assert (early < late).all()
    share = (values[mask].mean() - late) / (early - late)  # of the checkpoints before the cut
    np.testing.assert_allclose(share, 0.55, atol=0.05)
    np.testing.assert_array_equal(rows, 0.5)
    assert len(set(early)) == 3


def test_the_starting_covariance_is_that_of_the_data_plus_the_floor():
    values = planted()[0].observations()
    full = np.cov(values.T, bias=True)
    expected = {
        "full": full,
        "shared": full,
        "diagonal": np.diag(np.diag(full)),
        "spherical": np.trace(full) / 3 * np.eye(3),
    }
    for covariance, matrix in expected.items():
        factor = starting_factor(values, covariance)
        np.testing.assert_allclose(factor @ factor.T, matrix + 1e-3 * np.eye(3), rtol=1e-9)


# --- the sweep ---


def test_a_planted_hmm_is_found_up_to_relabelling(sweep):
    sequences, states = planted()
    chosen = select(sweep)
    assert chosen.num_states == 3
    assert not chosen.degenerate
    paths = viterbi(chosen.parameters, sequences)
    decoded = np.concatenate([p[p >= 0] for p in paths])
    truth = np.concatenate(states)
    assert adjusted_rand_score(truth, decoded) > 0.97
    label = np.array([np.bincount(decoded[truth == k]).argmax() for k in range(3)])
    assert sorted(label) == [0, 1, 2]
    values = sequences.select(range(6)).observations()
    truth = np.concatenate(states[:6])
    for state in range(3):
        mine = values[truth == state]
        found = chosen.parameters.covariances[label[state]]
        np.testing.assert_allclose(chosen.parameters.means[label[state]], mine.mean(0), atol=0.1)
        np.testing.assert_allclose(found, np.cov(mine.T, bias=True), atol=0.2)
    transition = chosen.parameters.transition[np.ix_(label, label)]
    np.testing.assert_allclose(transition, 0.9 * np.eye(3) + 0.1 / 3, atol=0.08)


def test_log_likelihoods_and_criteria_follow_from_the_parameters(sweep):
    train, validation = planted()[0].select(range(6)), planted()[0].select([6, 7])
    for one in sweep.fits:
        on_train = log_likelihood(one.parameters, train)
        on_validation = log_likelihood(one.parameters, validation)
        np.testing.assert_allclose(one.train_run_log_likelihood, on_train, rtol=1e-5)
        np.testing.assert_allclose(one.validation_run_log_likelihood, on_validation, rtol=1e-5)
        total = one.validation_log_likelihood
        assert one.train_log_likelihood == one.train_run_log_likelihood.sum()
        assert total == one.validation_run_log_likelihood.sum()
        np.testing.assert_allclose(one.aic, -2 * total + 2 * one.num_parameters)
        np.testing.assert_allclose(one.bic, -2 * total + one.num_parameters * np.log(107))
        assert_sound(one.parameters)
    assert (sweep.num_observations_train, sweep.num_observations_validation) == (306, 107)
    assert sweep.train_runs == ("0", "1", "2", "3", "4", "5")
    assert [(f.num_states, f.restart) for f in sweep.fits[:3]] == [(1, 0), (1, 1), (2, 0)]


def test_at_least_as_likely_as_hmmlearn(sweep):
    train = planted()[0].select(range(6))
    for k in SMALL.states:
        ours = max(f.train_log_likelihood for f in sweep.fits if f.num_states == k)
        scores = []
        for restart in range(2):
            peer = GaussianHMM(k, "full", n_iter=20, random_state=restart)
            with threadpool_limits(1):  # scikit-learn's threads and JAX's would fight
                peer.fit(train.observations(), train.lengths)
            scores.append(peer.score(train.observations(), train.lengths))
        assert ours > max(scores) - 0.02 * train.num_observations


def test_a_fit_stops_early_where_nothing_is_left_to_gain(sweep):
    longer = fit(planted()[0], replace(SMALL, iterations=60))
    early = [one for one in sweep.fits if one.converged]
    assert {1, 3} <= {one.num_states for one in early}
    for one, more in zip(sweep.fits, longer.fits, strict=True):
        assert one.iterations <= 20
        assert one.converged or one.iterations == 20
        if one.converged:
            np.testing.assert_array_equal(one.parameters.means, more.parameters.means)
        assert more.penalised_log_likelihood >= one.penalised_log_likelihood - 0.01


def test_a_fit_does_not_depend_on_the_rest_of_the_sweep(sweep):
    alone = fit(planted()[0], replace(SMALL, states=(2, 3)))
    for one in alone.fits:
        (same,) = (
            f for f in sweep.fits if (f.num_states, f.restart) == (one.num_states, one.restart)
        )
        np.testing.assert_allclose(one.parameters.means, same.parameters.means, atol=1e-3)
        np.testing.assert_allclose(one.train_log_likelihood, same.train_log_likelihood, rtol=1e-5)


def test_units_do_not_matter(sweep):
    sequences = planted()[0]
    factor, offset = np.array([1e-3, 1.0, 1e4]), np.array([5.0, -2e3, 1e6])
    moved = from_arrays(sequences.values * factor + offset, sequences.lengths)
    shift = np.log(factor).sum() * sweep.num_observations_train
    for a, b in zip(sweep.fits, fit(moved).fits, strict=True):
        np.testing.assert_allclose(b.train_log_likelihood + shift, a.train_log_likelihood, atol=0.1)
        np.testing.assert_allclose(
            (b.parameters.means - offset) / factor, a.parameters.means, atol=0.02
        )


def test_one_compilation_whatever_the_lengths_and_iterations(sweep):
    before = iterate._cache_size()
    shorter = [60, 30, 20, 60, 10, 5, 60, 60]
    calls = []
    fit(planted(shorter, seed=3)[0], replace(SMALL, iterations=7), 1, lambda *c: calls.append(c))
    assert iterate._cache_size() == before
    assert calls[-1] == (7, 7)
    assert all(a < b <= 7 for (a, _), (b, _) in itertools.pairwise(calls))


def test_the_same_key_gives_the_same_fits_and_another_key_other_ones(sweep):
    again, other = fit(planted()[0]), fit(planted()[0], key=1)
    for a, b in zip(sweep.fits, again.fits, strict=True):
        np.testing.assert_array_equal(a.parameters.means, b.parameters.means)
    last, differs = sweep.fits[-1].parameters.means, other.fits[-1].parameters.means
    assert not np.allclose(last, differs, atol=1e-3)


def adversarial(name):
    """Eight runs that numerical code dislikes."""
    sequences = planted()[0]
    values = sequences.values.copy()
    rng = np.random.default_rng(0)
    if name == "constant column":
        values[:, :, 1] = 2.5
    if name == "duplicated column":
        values[:, :, 2] = values[:, :, 0]
    if name == "outliers":
        values[2, 5] = 1e6
        values[6, 3, 1] = -1e6
    if name == "identical runs":
        values[:] = values[0]
    if name == "all constant":
        values[:] = 1.0
    if name == "two values":
        values[:] = rng.integers(0, 2, values.shape[:2])[:, :, None]
    if name == "few points":
        return from_arrays(values, [60, 1, 1, 1, 1, 1, 60, 1])
    return from_arrays(values, sequences.lengths)


@pytest.mark.parametrize(
    "name",
    [
        "constant column",
        "duplicated column",
        "outliers",
        "identical runs",
        "all constant",
        "two values",
        "few points",
    ],
)
def test_no_data_breaks_the_sweep(name):
    for one in fit(adversarial(name)).fits:
        assert_sound(one.parameters)
        assert one.degenerate or np.isfinite(one.train_log_likelihood)


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
    progress = Progress(model, jnp.full(2, -jnp.inf), jnp.zeros(2, jnp.int32), flags, flags)
    prior = Prior(jnp.asarray(1e-4), jnp.asarray(1e-2))
    after = iterate(layout, data, prior, 1e-6, progress, 5)
    assert after.degenerate.tolist() == [False, True]
    assert after.iterations.tolist() == [5, 0]
    for old, new in zip(model, after.model, strict=True):
        half = slice(2, 4) if len(old) == 4 else slice(1, 2)
        np.testing.assert_array_equal(old[half], new[half])
        assert np.isfinite(np.asarray(new)).all()


# --- selection ---


def made_up(sweep, **changes):
    """The sweep with other fits: changes[field] maps (num_states, restart) to a value."""
    fits = []
    for one in sweep.fits:
        own = {
            field: values[one.num_states, one.restart]
            for field, values in changes.items()
            if (one.num_states, one.restart) in values
        }
        fits.append(replace(one, **own))
    return Sweep(**{**vars(sweep), "fits": tuple(fits)})


def test_selection_takes_the_restart_by_training_and_the_states_by_held_out_bic(sweep):
    names = [(f.num_states, f.restart) for f in sweep.fits]
    trained = dict(zip(names, [1, 2, 3, 4, 6.0, 5, 8, 7], strict=True))
    bic = dict(zip(names, [50, 40, 0, 30, 20, 10, 60, 5], strict=True))
    made = made_up(sweep, penalised_log_likelihood=trained, bic=bic)
    assert {k: f.restart for k, f in best_restarts(made).items()} == {1: 1, 2: 1, 3: 0, 4: 0}
    assert (select(made).num_states, select(made).restart) == (3, 0)
    assert [row["bic"] for row in selection_table(made)] == [40, 30, 20, 60]
    assert [row["mean_bic"] for row in selection_table(made)] == [45, 15, 15, 32.5]


def test_degenerate_fits_are_left_out_and_counted(sweep):
    flags = {(3, 0): True, (3, 1): True, (4, 0): True}
    made = made_up(sweep, degenerate=flags)
    assert select(made).num_states != 3
    assert best_restarts(made)[4].restart == 1
    rows = selection_table(made)
    assert [row["num_degenerate"] for row in rows] == [0, 0, 2, 1]
    assert rows[2]["bic"] is None
    assert rows[3]["mean_bic"] == rows[3]["bic"]
    every = made_up(sweep, degenerate={(f.num_states, f.restart): True for f in sweep.fits})
    with pytest.raises(ValueError, match="every fit is degenerate"):
        select(every)


def test_select_refuses_an_unknown_criterion(sweep):
    with pytest.raises(ValueError, match=r"validation_bic, validation_aic.*got 'bic'"):
        select(sweep, "bic")


def test_a_run_that_decides_the_selection_is_named(sweep):
    by_run = {
        (f.num_states, f.restart): np.array([1.0 * f.num_states, 100.0 * f.num_states])
        for f in sweep.fits
    }
    made = made_up(sweep, validation_run_log_likelihood=by_run)
    with pytest.warns(UserWarning, match="1 of 2 validation runs: 7 hold 99%"):
        assert dominant_validation_runs(made) == ("7",)
    even = {name: np.array([values[0], values[0]]) for name, values in by_run.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dominant_validation_runs(made_up(sweep, validation_run_log_likelihood=even)) == ()


# --- bad input ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(states=()), "whole numbers from 1 up"),
        (dict(states=(0, 1)), "whole numbers from 1 up"),
        (dict(states=(2, 2)), "different whole numbers"),
        (dict(restarts=0), "restarts and iterations must be at least 1"),
        (dict(iterations=0), "restarts and iterations must be at least 1"),
        (dict(covariance="tied"), "full, diagonal, spherical, shared; got 'tied'"),
        (dict(prior="strong"), "prior must be one of weak"),
    ],
)
def test_a_bad_config_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SweepConfig(**settings)


def test_bad_data_is_refused():
    sequences, key = planted()[0], jax.random.key(0)
    train, validation = sequences.select(range(6)), sequences.select([6, 7])
    with pytest.raises(ValueError, match=r"at least 5 runs.*got 4"):
        fit_sweep(sequences.select(range(3)), sequences.select([7]), SMALL, key)
    with pytest.raises(ValueError, match="one training run and one validation run"):
        fit_sweep(train, sequences.select([]), SMALL, key)
    with pytest.raises(ValueError, match=r"200 states.*306 training checkpoints.*at most 153"):
        fit_sweep(train, validation, SweepConfig(states=(2, 200)), key)
    with pytest.raises(ValueError, match=r"metric_0, metric_1, metric_2 but.*a, b, c"):
        fit_sweep(train, replace(validation, metrics=("a", "b", "c")), SMALL, key)
    holes = validation.values.copy()
    holes[1, 5, 2] = np.nan
    with pytest.raises(ValueError, match=r"metric_2 of run 7 is missing.*checkpoint 5"):
        fit_sweep(train, replace(validation, values=holes), SMALL, key)
