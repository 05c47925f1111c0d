import numpy as np
import pytest

from seedmap.errors import UserError
from seedmap.hmm.features import apply_scale, fit_scale, leak
from seedmap.hmm.sequences import from_arrays, z_score


def collinear(num_runs=12, num_steps=30, seed=0):
    """Runs of 6 metrics that are linear in 3 hidden walks, and units of their own."""
    rng = np.random.default_rng(seed)
    walks = rng.normal(size=(num_runs, num_steps, 3)).cumsum(1)
    mixed = walks @ rng.normal(size=(3, 6)) + rng.normal(0, 0.05, (num_runs, num_steps, 6))
    return mixed * [1e-3, 1, 1e4, 1, 1, 1] + [5, 0, -1e6, 0, 0, 0]


def test_components_are_uncorrelated_with_variance_1_and_hold_the_share_asked_for():
    values = collinear()
    scale = fit_scale(from_arrays(values))
    x = apply_scale(scale, from_arrays(values)).x.reshape(-1, scale.num_components)
    np.testing.assert_allclose(np.cov(x.T, bias=True), np.eye(scale.num_components), atol=1e-9)
    z = values.reshape(-1, 6)
    shares = np.linalg.eigvalsh(np.corrcoef(z.T))[::-1].cumsum() / 6
    assert shares[scale.num_components - 1] >= 0.97 > shares[scale.num_components - 2]


def test_the_scale_of_the_training_runs_is_applied_unchanged():
    """A run is the same alone, cut short, in other units' company: no record sees a later one."""
    values = collinear()
    scale = fit_scale(from_arrays(values[:8]))
    whole = apply_scale(scale, from_arrays(values)).x
    cut = apply_scale(scale, from_arrays(values[9:10, :7])).x
    np.testing.assert_array_equal(cut[0], whole[9, :7])
    expected = (values[9] - scale.mean) / scale.std @ scale.loadings
    np.testing.assert_allclose(whole[9], expected, rtol=1e-12)


def test_units_and_padding_do_not_matter():
    values = collinear()
    lengths = np.r_[np.full(11, 30), 4]
    plain = from_arrays(values, lengths)
    moved = from_arrays(values * [2, 3, 1e-4, 1, 1, 1] - 7, lengths)
    first, second = (apply_scale(fit_scale(runs), runs) for runs in (plain, moved))
    np.testing.assert_allclose(np.abs(first.x), np.abs(second.x), atol=1e-6)
    assert not first.x[11, 4:].any()
    assert (first.present == first.mask).all()
    assert not first.imputed.any()


def test_a_missing_metric_is_its_conditional_mean_and_marked():
    values = collinear()
    holes = values.copy()
    holes[0, 3, [1, 4]] = np.nan
    holes[2, 5] = np.nan
    scale = fit_scale(from_arrays(values))
    features = apply_scale(scale, from_arrays(holes))
    z = ((values - scale.mean) / scale.std).reshape(-1, 6)
    covariance = np.cov(z.T, bias=True)
    there, absent = [0, 2, 3, 5], [1, 4]
    record = ((values[0, 3] - scale.mean) / scale.std).copy()
    weights = np.linalg.lstsq(covariance[np.ix_(there, there)], covariance[np.ix_(there, absent)])
    record[absent] = record[there] @ weights[0]
    np.testing.assert_allclose(features.x[0, 3], record @ scale.loadings, atol=0.05)
    assert features.imputed.sum() == 1
    assert features.imputed[0, 3]
    assert not features.present[2, 5]
    assert not features.x[2, 5].any()
    assert features.present.sum() == 12 * 30 - 1


def test_moments_come_from_what_is_there():
    values = collinear()
    values[np.random.default_rng(1).random(values.shape) < 0.1] = np.nan
    scale = fit_scale(from_arrays(values))
    np.testing.assert_allclose(scale.mean, np.nanmean(values, (0, 1)), rtol=1e-9)
    np.testing.assert_allclose(scale.std, np.nanstd(values, (0, 1)), rtol=1e-9)


def test_a_metric_constant_but_for_rounding_has_no_part():
    values = collinear()
    constant = 12.53 + 1e-6 * np.random.default_rng(0).normal(size=(12, 30, 1))
    runs = from_arrays(np.concatenate([values, constant], -1))
    scale = fit_scale(runs)
    expected = fit_scale(from_arrays(values))
    np.testing.assert_allclose(np.abs(scale.loadings[:6]), np.abs(expected.loadings), atol=1e-9)
    assert np.abs(scale.loadings[6]).max() < 1e-9
    assert scale.std[6] == 1
    with pytest.raises(UserError, match="every metric is constant"):
        fit_scale(from_arrays(np.ones((5, 4, 2))))


def test_other_metrics_are_refused():
    scale = fit_scale(from_arrays(collinear(), metrics=list("abcdef")))
    with pytest.raises(UserError, match=r"fitted to a, b, .*; the runs have a, c, b"):
        apply_scale(scale, from_arrays(collinear(), metrics=list("acbdef")))


def test_leak_is_leave_one_out_and_finds_what_a_z_score_within_runs_gives_away():
    rng = np.random.default_rng(0)
    times = rng.uniform(40, 90, 40)
    clock = np.arange(100)[None, :, None]
    values = 1 / (1 + np.exp(-(clock - times[:, None, None]) / 4)) * [1, 2, -1]
    values = values + rng.normal(0, 0.01, values.shape)
    runs = from_arrays(values)
    common = apply_scale(fit_scale(runs), runs).x[:, 0]
    alone = z_score(runs).values[:, 0, : common.shape[1]]
    found = leak(common, values[:, 0], times)
    given_away = leak(alone, values[:, 0], times)
    assert found.excess < 0.05
    assert given_away.excess > 0.8
    logs = np.log(times)
    predicted = []
    for run in range(40):
        others = np.arange(40) != run
        design = np.column_stack([np.ones(40), alone])
        weights = np.linalg.lstsq(design[others], logs[others])[0]
        mean = logs[others].mean()
        predicted.append((logs[run] - design[run] @ weights, logs[run] - mean))
    errors, spread = np.array(predicted).T
    np.testing.assert_allclose(given_away.scaled, 1 - (errors**2).sum() / (spread**2).sum())
    assert leak(common, values[:, 0], np.full(40, np.nan)) is None


def test_metrics_that_are_constant_but_for_rounding_are_named():
    noise = np.random.default_rng(0).normal(size=(6, 40, 2))
    values = np.stack([noise[..., 0], 12.53 + 1e-6 * noise[..., 1]], -1)
    assert fit_scale(from_arrays(values, metrics=["a", "b"])).constant == ("b",)
