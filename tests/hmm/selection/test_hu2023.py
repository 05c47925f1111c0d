"""The published procedure against hmmlearn, NumPy and SciPy."""

import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from scipy import stats
from sklearn.cluster import KMeans

import seedmap as sm
from seedmap import hmm
from seedmap.errors import UserError
from seedmap.hmm.autoregressive.fits import precision
from seedmap.hmm.em.baum_welch import Gaussians, baum_welch, log_likelihoods
from seedmap.hmm.selection.hu2023 import (
    _best_centres,
    fit_hu2023,
    hu2023_split,
    select_hu2023,
    visit_correlations,
)

LENGTHS = np.array([30, 22, 30, 17, 30])
LIKE_THEIRS = {"covars_prior": 0.01, "covars_weight": 1, "tol": 0.01}


def make_runs(seed=0):
    """Five runs of unlike length through three places, z-scored."""
    rng = np.random.default_rng(seed)
    stage = (np.arange(30) >= 9).astype(int) + (np.arange(30) >= 16)
    means = np.array([[0.0, 0, 0], [2, 0, 1], [2, 3, 0]])[stage]
    values = [means[:n] + rng.normal(0, 0.4, (n, 3)) for n in LENGTHS]
    return hmm.z_score(hmm.from_arrays(values))


def start(num_states, seed):
    """Random parameters for hmmlearn and for us."""
    rng = np.random.default_rng(seed)
    spread = rng.normal(size=(num_states, 3, 3))
    return (
        rng.dirichlet(np.ones(num_states)),
        rng.dirichlet(np.ones(num_states), num_states),
        rng.normal(size=(num_states, 3)),
        np.eye(3) + 0.1 * spread @ spread.transpose(0, 2, 1),
    )


def pad(arrays, most):
    """The arrays of an HMM with states added that it does not have."""
    spare = [(0, most - len(arrays[0]))]
    return [
        np.pad(array, spare * axes + [(0, 0)] * (array.ndim - axes))
        for array, axes in zip(arrays, (1, 2, 1, 1), strict=True)
    ]


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_every_iteration_is_hmmlearns(covariance):
    """Parameters, log-likelihood before each update, and when it stops; fits of 2 and 3 states."""
    sequences, sizes = make_runs(), (2, 3)
    starts = [start(k, seed=k) for k in sizes]
    if covariance == "diagonal":
        starts = [(*rest, covariances * np.eye(3)) for *rest, covariances in starts]
    active = np.arange(3) < np.array(sizes)[:, None]
    stacked = Gaussians(*map(np.stack, zip(*(pad(each, 3) for each in starts), strict=True)))
    with precision():
        runs = (sequences.values.transpose(1, 0, 2), sequences.mask.T)
        made = baum_welch(*runs, active, stacked, 32, covariance == "diagonal")
        scores = np.asarray(log_likelihoods(*runs, active, made.model))
    for i, (k, begun) in enumerate(zip(sizes, starts, strict=True)):
        kind = {"full": "full", "diagonal": "diag"}[covariance]
        theirs = GaussianHMM(k, kind, n_iter=32, init_params="", **LIKE_THEIRS)
        theirs.startprob_, theirs.transmat_, theirs.means_ = begun[:3]
        full = begun[3]
        theirs.covars_ = np.diagonal(full, axis1=1, axis2=2) if kind == "diag" else full
        theirs.fit(sequences.observations(), LENGTHS)
        history = np.asarray(made.history[i])
        assert made.iterations[i] == len(theirs.monitor_.history) < 32
        np.testing.assert_allclose(
            history[~np.isnan(history)], theirs.monitor_.history, rtol=1e-9, atol=1e-7
        )
        for ours, expected in zip(
            made.model, ("startprob_", "transmat_", "means_", "covars_"), strict=True
        ):
            found = np.asarray(ours)[i][(slice(k),) * (2 if expected == "transmat_" else 1)]
            np.testing.assert_allclose(found, getattr(theirs, expected), rtol=1e-6, atol=1e-8)
        each = [theirs.score(run[:n]) for run, n in zip(sequences.values, LENGTHS, strict=True)]
        np.testing.assert_allclose(scores[i], each, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("num_runs", [5, 39, 40])
def test_the_split_is_that_of_a_shuffle_with_state_0(num_runs):
    train, held_out = hu2023_split(num_runs)
    order = np.random.RandomState(0).permutation(num_runs)
    assert len(held_out) == {5: 1, 39: 8, 40: 8}[num_runs]
    assert [*held_out, *train] == order.tolist()


def test_the_sweep_and_its_choice_are_by_held_out_averages():
    sequences = make_runs()
    train, held_out = sequences.select([0, 1, 2, 3]), sequences.select([4])
    config = hmm.SweepConfig((1, 2, 3), 3, 20)
    counted = []
    sweep = fit_hu2023(train, held_out, config, 1, lambda *at: counted.append(at))
    assert counted[0] == (0, 9)
    assert counted[-1] == (9, 9)
    assert [(f.num_states, f.restart) for f in sweep.fits] == [
        (k, r) for k in (1, 2, 3) for r in range(3)
    ]
    for fit in sweep.fits:
        p = fit.parameters
        theirs = GaussianHMM(fit.num_states, "full")
        theirs.startprob_, theirs.transmat_, theirs.means_, theirs.covars_ = p
        theirs.n_features = 3
        assert fit.validation_log_likelihood == pytest.approx(theirs.score(held_out.values[0]))
        assert fit.bic == pytest.approx(theirs.bic(held_out.values[0]))
        assert fit.aic == pytest.approx(theirs.aic(held_out.values[0]))
    bics = np.array([fit.bic for fit in sweep.fits]).reshape(3, 3)
    size = 1 + bics.mean(1).argmin()
    mine = [fit for fit in sweep.fits if fit.num_states == size]
    assert select_hu2023(sweep) is max(mine, key=lambda fit: fit.validation_log_likelihood)
    one = next(fit for fit in sweep.fits if fit.num_states == 1).parameters
    points = train.observations()
    np.testing.assert_allclose(one.means[0], points.mean(0), atol=1e-12)
    scatter = np.cov(points.T, bias=True) + 0.01 / len(points)  # added to every entry
    np.testing.assert_allclose(one.covariances[0], scatter, rtol=1e-9)


def test_a_run_that_is_alone_in_skipping_a_state_decides():
    """The published figures: 39 of 40 visit, r = 0.375, p = 0.017."""
    paths = np.zeros((40, 3), int)
    paths[1:, 1] = 1
    paths[:, 2] = 2
    times = np.random.default_rng(3).normal(size=40)
    times[0] -= 4
    (found,) = visit_correlations(paths, times, 3)
    assert (found.state, found.visitors, found.runs) == (1, 39, 40)
    r, pvalue = stats.pearsonr((paths == 1).any(1), times)
    assert (found.r, found.pvalue) == pytest.approx((r, pvalue))
    t = r * np.sqrt(38 / (1 - r**2))
    assert found.pvalue == pytest.approx(2 * stats.t.sf(abs(t), 38))
    published = 0.375 * np.sqrt(38 / (1 - 0.375**2))
    assert 2 * stats.t.sf(published, 38) == pytest.approx(0.017, abs=5e-4)


def test_what_hmmlearn_cannot_do_is_refused():
    sequences = make_runs()
    train, held_out = sequences.select([0, 1, 2, 3]), sequences.select([4])
    with pytest.raises(UserError, match="covariance full or diagonal; got 'shared'"):
        fit_hu2023(train, held_out, hmm.SweepConfig((1,), covariance="shared"))
    train.values[0, 0, 0] = np.nan
    with pytest.raises(UserError, match="cannot use missing values"):
        fit_hu2023(train, held_out, hmm.SweepConfig((1,)))
    train.values[0, 0, 0] = 0.0
    with pytest.raises(UserError, match="at most 49"):
        fit_hu2023(train, held_out, hmm.SweepConfig((50,)))


def test_the_map_of_the_method(tmp_path):
    """`sm.fit_map(method="hu2023")` is these steps, runs that never converge at the end."""
    rng = np.random.default_rng(0)
    turns = rng.integers(8, 20, 10)
    values = 3.0 * (np.arange(30) >= turns[:, None])[..., None] + rng.normal(0, 0.2, (10, 30, 2))
    times = np.where(np.arange(10) < 9, turns, np.nan)
    runs = sm.from_arrays(values, convergence=times)
    m = sm.fit_map(runs, method="hu2023", states=(1, 2), restarts=2, iterations=8, seed=3)
    z = hmm.z_score(runs.sequences)
    train, held_out = hu2023_split(10)
    parts = (z.select(np.sort(train)), z.select(np.sort(held_out)))
    config = hmm.SweepConfig((1, 2), 2, 8, prior="hmmlearn")
    chosen = select_hu2023(fit_hu2023(*parts, config, 3))
    np.testing.assert_array_equal(m.paths, hmm.decode(chosen.parameters, z).paths)
    bag = hmm.bag_of_states(m.paths, m.num_states)
    expected = hmm.regress(bag, times, cap=29.0)
    assert m.analysis.regression.r2 == expected.r2
    assert m.analysis.regression.num_censored == 1
    assert m.branches == ()
    assert any("two slips of arithmetic" in note for note in m.notes)
    for wrong, words in [
        ({"method": "hu2024"}, "method must be hu2023"),
        ({"method": "hu2023", "emission": "autoregressive"}, "emission is settled by"),
        ({"method": "hu2023", "scale": "common"}, "scale is settled by"),
        ({"method": "hu2023", "prior": "weak"}, "prior is settled by"),
        ({"method": "hu2023", "resamples": 3}, "resamples is settled by"),
    ]:
        with pytest.raises(UserError, match=words):
            sm.fit_map(runs, **wrong)


@pytest.mark.parametrize("seed", range(3))
def test_starts_are_as_good_as_the_k_means_that_hmmlearn_calls(seed):
    """Twelve clusters: a single seeding misses one in most draws."""
    rng = np.random.default_rng(seed)
    points = np.repeat(rng.normal(0, 4, (12, 3)), 20, 0) + rng.normal(0, 0.3, (240, 3))
    centres = _best_centres(points, 12, np.random.default_rng(seed))
    inertia = (np.square(points[:, None] - centres).sum(-1)).min(1).sum()
    theirs = KMeans(12, n_init=10, random_state=seed).fit(points)
    assert inertia == pytest.approx(theirs.inertia_, rel=1e-3)


def test_the_fit_of_the_method_is_that_of_its_map():
    values = np.repeat([[0.0, 1], [3, 0]], 8, 0) + np.random.default_rng(0).normal(
        0, 0.2, (6, 16, 2)
    )
    runs = sm.from_arrays(values)
    settings = {"states": (1, 2), "restarts": 2, "iterations": 5, "covariance": "diagonal"}
    fitted = sm.fit(runs, method="hu2023", **settings)
    mapped = sm.fit_map(runs, method="hu2023", **settings)
    assert fitted.criterion == mapped.fit.criterion == "mean_bic"
    np.testing.assert_array_equal(fitted.parameters.means, mapped.fit.parameters.means)
    np.testing.assert_array_equal(fitted.paths, mapped.paths)
    assert sm.fit(runs, method="hu2023", scale="run", **settings).num_states == fitted.num_states
    for name, value in [
        ("prior", "held-out"),
        ("scale", "common"),
        ("criterion", "validation_bic"),
        ("one_standard_error", True),
        ("validation_share", 0.2),
    ]:
        with pytest.raises(UserError, match=f"{name} is settled by method 'hu2023'"):
            sm.fit(runs, method="hu2023", **{name: value})
    with pytest.raises(UserError, match="method must be hu2023"):
        sm.fit(runs, method="hu")
