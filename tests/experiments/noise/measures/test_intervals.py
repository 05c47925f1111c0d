"""Intervals over replicas against loops over resamples, SciPy, enumeration, and their coverage."""

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from seedmap.experiments import noise

RNG = np.random.default_rng(0)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws():
    """Whichever tests run before."""
    RNG.bit_generator.state = START


def draws(replicas, resamples, seed=0):
    """The resamples of the module as lists of replicas."""
    shares = np.full(replicas, 1 / replicas)
    counts = np.random.default_rng(seed).multinomial(replicas, shares, resamples)
    return [np.repeat(np.arange(replicas), count) for count in counts]


def symmetric(replicas, low=0.1):
    upper = np.triu(RNG.uniform(low, 1, (replicas, replicas)), 1)
    return upper + upper.T


def pairs_of(draw):
    """Pairs of a resample that are of two replicas, not of one with itself."""
    return [(i, j) for i, j in itertools.permutations(draw, 2) if i != j]


def pair_means(m_RxR, resamples, seed=0):
    """Mean over distinct pairs of each resample that has any."""
    found = map(pairs_of, draws(len(m_RxR), resamples, seed))
    return np.array([np.mean([m_RxR[pair] for pair in pairs]) for pairs in found if pairs])


def reach(replicas, confidence=0.95):
    """Student's quantile, and what undoes the bootstrap's shortfall."""
    quantile = stats.t.ppf((1 + confidence) / 2, replicas - 1)
    return quantile * np.sqrt(replicas / (replicas - 1))


def test_mean_interval_is_that_of_a_loop_over_resamples():
    x = RNG.normal(3, size=7)
    means = [x[draw].mean() for draw in draws(7, 300, seed=4)]
    found = noise.mean_interval(x, resamples=300, confidence=0.9, seed=4)
    half = reach(7, 0.9) * np.std(means)
    np.testing.assert_allclose(found, [x.mean(), x.mean() - half, x.mean() + half], rtol=1e-12)


def test_mean_interval_of_many_resamples_is_students():
    x = RNG.normal(size=9)
    expected = stats.ttest_1samp(x, 0).confidence_interval()
    np.testing.assert_allclose(noise.mean_interval(x, 200_000)[1:], expected, atol=0.01)
    two = np.array([0.2, 0.5])  # resamples of two: their variance is exactly half
    expected = stats.ttest_1samp(two, 0).confidence_interval()
    np.testing.assert_allclose(noise.mean_interval(two, 200_000)[1:], expected, rtol=0.02)


def test_sd_interval_is_that_of_a_loop_over_resamples_and_pairs():
    x = RNG.normal(size=6)
    variances = pair_means((x[:, None] - x) ** 2 / 2, 200)
    half = reach(6) * np.std(np.log(np.sqrt(variances)))
    sd = np.std(x, ddof=1)
    expected = [sd, sd * np.exp(-half), sd * np.exp(half)]
    np.testing.assert_allclose(noise.sd_interval(x, resamples=200), expected, rtol=1e-10)


def test_resamples_without_spread_count_by_the_first_order_error():
    x = np.array([0.0] * 5 + [1.0])
    variances = pair_means((x[:, None] - x) ** 2 / 2, 500)
    assert (variances == 0).mean() > 0.2
    half = reach(6) * np.std(variances / np.var(x, ddof=1)) / 2
    assert half > reach(6) * np.std(np.log(np.sqrt(variances[variances > 0])))
    found = noise.sd_interval(x, resamples=500)
    np.testing.assert_allclose(found.high / found.value, np.exp(half), rtol=1e-10)


def test_error_of_the_sd_is_scipys():
    x = RNG.normal(size=10)
    found = noise.sd_error(x, resamples=20_000)
    sd = partial(np.std, ddof=1)
    expected = stats.bootstrap((x,), sd, n_resamples=20_000, rng=1, method="percentile")
    np.testing.assert_allclose(found, expected.standard_error, rtol=0.03)
    resampled = [np.std(x[draw], ddof=1) for draw in draws(10, 50, seed=3)]
    expected = np.std(resampled, ddof=1)
    np.testing.assert_allclose(noise.sd_error(x, 50, seed=3), expected, rtol=1e-12)


def test_pair_interval_is_that_of_a_loop_over_resamples_and_pairs():
    m = symmetric(6, low=-1)
    means = pair_means(m, 200, seed=2)
    value, half = m.sum() / 30, reach(6) * np.std(means)
    found = noise.pair_interval(m + np.diag([9.0, np.nan, 0, 0, 0, 0]), resamples=200, seed=2)
    np.testing.assert_allclose(found, [value, value - half, value + half], rtol=1e-12)


def test_pair_interval_leaves_out_copies_of_a_replica():
    """With copies counted as pairs at 0 every resample would lie below the estimate."""
    m = np.full((5, 5), 0.3) + symmetric(5) / 1e6
    found = noise.pair_interval(m)
    assert 0.2999 < found.low < found.value < found.high < 0.3001


def test_pair_interval_of_all_resamples_of_three():
    m = symmetric(3)
    means = []
    for draw in itertools.product(range(3), repeat=3):
        pairs = pairs_of(draw)
        if pairs:
            means.append(np.mean([m[pair] for pair in pairs]))
    found = noise.pair_interval(m, resamples=400_000)
    np.testing.assert_allclose(found.high - found.value, reach(3) * np.std(means), rtol=0.01)


def test_ratios_are_those_of_a_loop_over_resamples_of_both():
    x, y = RNG.normal(size=6), RNG.normal(size=8)
    log_errors = [
        np.sqrt(len(z) / (len(z) - 1))
        * np.std(np.log(np.sqrt(pair_means((z[:, None] - z) ** 2 / 2, 200))))
        for z in (x, y)
    ]
    half = stats.t.ppf(0.975, 5) * np.hypot(*log_errors)
    ratio = np.std(x, ddof=1) / np.std(y, ddof=1)
    expected = np.array([ratio, ratio * np.exp(-half), ratio * np.exp(half)])
    np.testing.assert_allclose(noise.ratio_of_sd(x, y, resamples=200), expected, rtol=1e-10)
    found = noise.ratio_of_variance(x, y, resamples=200)
    np.testing.assert_allclose(found, expected**2, rtol=1e-10)
    upside_down = noise.ratio_of_sd(y, x, resamples=200)
    np.testing.assert_allclose(upside_down, 1 / expected[[0, 2, 1]], rtol=1e-10)


def test_ratio_within_resamples_both_by_the_same_replicas():
    y = RNG.normal(size=7)
    x = y + RNG.normal(size=7)
    squares = [(z[:, None] - z) ** 2 / 2 for z in (x, y)]
    variances = np.array([pair_means(square, 200) for square in squares])
    log_ratio, off = (
        np.log(variances[0] / variances[1]) / 2,
        variances / np.var([x, y], 1, ddof=1)[:, None],
    )
    half = reach(7) * max(np.std(log_ratio), np.std(off[0] - off[1]) / 2)
    ratio = np.std(x, ddof=1) / np.std(y, ddof=1)
    expected = [ratio, ratio * np.exp(-half), ratio * np.exp(half)]
    np.testing.assert_allclose(noise.ratio_within(x, y, resamples=200), expected, rtol=1e-10)
    # A ratio that is the same in every resample is known exactly.
    np.testing.assert_allclose(noise.ratio_within(3 * y + 1, y), [3, 3, 3], rtol=1e-10)
    assert noise.ratio_within(np.ones(7), y) == (0, 0, 0)
    assert np.isnan(noise.ratio_within(y, np.ones(7))).all()
    assert np.isnan(noise.ratio_within(x[:2], y[:2])[1:]).all()
    with pytest.raises(ValueError, match="7 values over 6"):
        noise.ratio_within(x, y[:6])


def test_ratio_of_pairs_is_that_of_a_loop_over_resamples_of_both():
    m, n = symmetric(5), symmetric(4)
    errors = [
        np.sqrt(len(z) / (len(z) - 1))
        * max(np.std(np.log(found)), np.std(found) / (z.sum() / (len(z) * (len(z) - 1))))
        for z in (m, n)
        for found in [pair_means(z, 100)]
    ]
    half = stats.t.ppf(0.975, 3) * np.hypot(*errors)
    ratio = (m.sum() / 20) / (n.sum() / 12)
    expected = [ratio, ratio * np.exp(-half), ratio * np.exp(half)]
    np.testing.assert_allclose(noise.ratio_of_pairs(m, n, resamples=100), expected, rtol=1e-10)


@given(st.integers(2, 12), st.floats(-1e3, 1e3))
def test_replicas_that_are_alike_have_an_interval_of_no_width(replicas, value):
    x, zero = np.full(replicas, value), np.zeros((replicas, replicas))
    varied = np.arange(5.0)
    assert noise.mean_interval(x, 50) == (value,) * 3
    assert noise.sd_interval(x, 50) == (0.0,) * 3
    assert noise.sd_error(x, 50) == 0.0
    assert noise.pair_interval(zero, 50) == (0.0,) * 3
    assert noise.ratio_of_sd(x, varied, 50) == (0.0,) * 3
    assert noise.ratio_of_pairs(zero, np.ones((3, 3)), 50) == (0.0,) * 3
    assert np.isnan(noise.ratio_of_sd(varied, x, 50)).all()
    assert np.isnan(noise.ratio_of_variance(x, x, 50)).all()
    if replicas > 2:
        assert noise.pair_interval(zero + value, 50) == (value,) * 3


def test_two_replicas_have_a_mean_with_an_interval_and_the_rest_without():
    two, m = np.array([0.2, 0.5]), np.array([[0, 0.1], [0.1, 0]])
    assert np.isfinite(noise.mean_interval(two)).all()
    for found, value in (
        (noise.sd_interval(two), np.std(two, ddof=1)),
        (noise.pair_interval(m), 0.1),
        (noise.ratio_of_sd(two, np.arange(5.0)), np.std(two, ddof=1) / np.std(range(5), ddof=1)),
        (noise.ratio_of_pairs(np.ones((4, 4)), m), 10.0),
    ):
        np.testing.assert_allclose(found, [value, np.nan, np.nan])
    assert np.isfinite(noise.sd_error(two))
    assert np.isfinite(noise.sd_interval(np.array([0.2, 0.5, 0.6]))).all()


@given(
    hnp.arrays(np.float64, st.integers(3, 8), elements=st.sampled_from([0.0, 0.1, 0.2, 0.9])),
    st.floats(0.01, 100),
)
def test_intervals_hold_their_estimate_and_scale_with_it(x, scale):
    for interval in (noise.mean_interval, noise.sd_interval):
        found = np.array(interval(x, 50))
        assert found[1] <= found[0] <= found[2]
        np.testing.assert_allclose(interval(scale * x, 50), scale * found, rtol=1e-6, atol=1e-9)


def test_what_cannot_be_resampled_is_refused():
    with pytest.raises(ValueError, match="replica 1 is not finite; leave it out"):
        noise.mean_interval(np.array([1.0, np.nan, 2.0]))
    with pytest.raises(ValueError, match="replica 2 is not finite; leave it out"):
        noise.ratio_of_sd(np.arange(3.0), np.array([1.0, 2.0, np.inf]))
    bad = symmetric(4)
    bad[2, 3] = bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="replica 2 are not finite; leave it out"):
        noise.pair_interval(bad)
    with pytest.raises(ValueError, match="symmetric"):
        noise.pair_interval(np.triu(np.ones((3, 3))))
    with pytest.raises(ValueError, match="square"):
        noise.pair_interval(np.ones((3, 2)))
    with pytest.raises(ValueError, match="at or above 0"):
        noise.ratio_of_pairs(-symmetric(3), symmetric(3))
    with pytest.raises(ValueError, match="one number a replica"):
        noise.sd_interval(np.ones((3, 2)))
    with pytest.raises(ValueError, match="at least 2 replicas"):
        noise.sd_interval(np.ones(1))
    with pytest.raises(ValueError, match="confidence"):
        noise.pair_interval(symmetric(3), confidence=95)
    with pytest.raises(ValueError, match="at least 2 resamples"):
        noise.sd_error(np.ones(3), resamples=1)


# Coverage

VALUES = {  # how to draw, mean, SD
    "normal": (RNG.normal, 0.0, 1.0),
    "gamma": (partial(RNG.gamma, 4.0), 4.0, 2.0),
    "student": (partial(RNG.standard_t, 5), 0.0, np.sqrt(5 / 3)),
    "rounded": (lambda size: np.round(2 * RNG.normal(size=size)), 0.0, np.sqrt(4 + 1 / 12)),
    "exponential": (RNG.exponential, 1.0, 1.0),
}


def coverage(interval, draw, truth, trials, resamples):
    """Share of the trials whose interval holds the truth."""
    found = np.array([interval(*draw(), resamples=resamples) for _ in range(trials)])
    return np.mean((found[:, 1] <= truth) & (truth <= found[:, 2]))


def coverages(values, replicas, trials, resamples):
    """Of mean, SD and the ratio of two SDs."""
    draw, mean, sd = values

    def one():
        return (draw(size=replicas),)

    return (
        coverage(noise.mean_interval, one, mean, trials, resamples),
        coverage(noise.sd_interval, one, sd, trials, resamples),
        coverage(noise.ratio_of_sd, lambda: one() + one(), 1.0, trials, resamples),
    )


def churn_coverage(spread, trials, resamples, replicas=10, points=300, classes=5):
    """Of the mean churn of replicas whose logits' scale varies by exp(spread · normal)."""
    logits_NxC = 2 * RNG.normal(size=(points, classes))

    def predictions(count):
        scale = np.exp(spread * RNG.normal(size=(count, 1, 1)))
        return np.argmax(scale * logits_NxC + RNG.gumbel(size=(count, points, classes)), axis=-1)

    many = predictions(4000)
    share_NxC = np.mean(many[..., None] == np.arange(classes), axis=0)
    truth = np.mean(1 - np.sum(share_NxC**2, axis=1)) * 4000 / 3999
    return coverage(
        noise.pair_interval, lambda: (noise.churn(predictions(replicas)),), truth, trials, resamples
    )


def test_intervals_hold_the_truth():
    """95 % wanted; 300 trials have a standard error of 1.3 %."""
    for found in coverages(VALUES["normal"], 10, trials=300, resamples=200):
        assert 0.90 < found < 0.99
    assert 0.88 < churn_coverage(0.3, trials=300, resamples=200) < 0.99


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [5, 10])
@pytest.mark.parametrize("name", VALUES)
def test_coverage(name, replicas):
    """Measures the table of `experiments.noise.measures.intervals`; -s shows it."""
    found = coverages(VALUES[name], replicas, trials=2000, resamples=1000)
    print(f"\n{name}, R = {replicas}: mean, SD, ratio", *np.round(found, 3))
    low = {"exponential": (0.86, 0.80, 0.89)}.get(name, (0.91, 0.88, 0.92))
    assert (np.array(found) > low).all()


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_coverage_of_churn(spread):
    found = churn_coverage(spread, trials=1000, resamples=1000)
    print(f"\nchurn, spread {spread}, R = 10: {found:.3f}")
    assert found > 0.88
