import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from seedmap.errors import UserError
from seedmap.hmm.training_map.survival import (
    censored_times,
    hazard_by_state,
    kaplan_meier,
    log_rank,
    restricted_difference,
    restricted_mean,
    survival_by_group,
)

TIMES = np.array([1.0, 2, 2, 3, 4, 5])  # by hand: events 1, 2, 4; censored 2, 3, 5
OBSERVED = np.array([True, True, False, False, True, False])


def drawn(seed, num_runs=60):
    """Whole times, so that there are ties, a third of them censored; two groups."""
    rng = np.random.default_rng(seed)
    times = rng.geometric(0.1, num_runs).astype(float)
    return times, rng.random(num_runs) < 0.67, rng.random(num_runs) < 0.4


def test_kaplan_meier_by_hand():
    curve = kaplan_meier(TIMES, OBSERVED)
    assert curve.times.tolist() == [1, 2, 4]
    assert curve.at_risk.tolist() == [6, 5, 2]
    assert curve.survival == pytest.approx([5 / 6, 4 / 6, 2 / 6])
    assert (curve.num_runs, curve.num_converged) == (6, 3)


def test_greenwood_intervals_by_hand():
    """Of log(-log S): variance sum d / (n (n - d)) / log(S)^2."""
    curve = kaplan_meier(TIMES, OBSERVED)
    survival = 2 / 3
    error = np.sqrt(1 / (6 * 5) + 1 / (5 * 4)) / abs(np.log(survival))
    ends = survival ** np.exp(1.959964 * error * np.array([1, -1]))
    assert (curve.low[1], curve.high[1]) == pytest.approx(tuple(ends), rel=1e-6)


def test_nobody_converges():
    curve = kaplan_meier(TIMES, np.zeros(6, bool))
    assert len(curve.times) == 0
    assert curve.num_converged == 0


def test_restricted_mean_by_hand():
    """Area 1 + 5/6 + 2 x 2/3 + 1/3 up to 5; variance of its three parts."""
    mean = restricted_mean(TIMES, OBSERVED, 5.0)
    assert mean.value == pytest.approx(1 + 5 / 6 + 4 / 3 + 1 / 3)
    rest = np.array([2.5, 5 / 3, 1 / 3])
    variance = (rest**2 / np.array([6 * 5, 5 * 4, 2 * 1])).sum()
    assert mean.high - mean.value == pytest.approx(1.959964 * np.sqrt(variance))


def test_without_censoring_the_restricted_mean_is_the_mean():
    times = np.random.default_rng(0).exponential(3.0, 50)
    mean = restricted_mean(times, np.ones(50, bool), times.max())
    assert mean.value == pytest.approx(times.mean())
    assert mean.high - mean.value == pytest.approx(1.959964 * times.std() / np.sqrt(50))


def test_restricted_difference_holds_the_truth_in_95_percent():
    """Exponential times of mean m have restricted mean m (1 - exp(-horizon / m))."""
    rng, held, horizon = np.random.default_rng(1), 0, 2.9
    truth = 3 * (1 - np.exp(-horizon / 3)) - 2 * (1 - np.exp(-horizon / 2))
    group = np.arange(80) < 40
    for _ in range(300):
        event, limit = rng.exponential(np.where(group, 3.0, 2.0)), rng.uniform(3, 9, 80)
        found = restricted_difference(np.minimum(event, limit), event <= limit, group, horizon)
        held += found.low <= truth <= found.high
    assert 0.92 <= held / 300 <= 0.98


@pytest.mark.parametrize("seed", range(4))
def test_log_rank_is_that_of_scipy(seed):
    times, observed, group = drawn(seed)
    samples = [
        stats.CensoredData(uncensored=times[g & observed], right=times[g & ~observed])
        for g in (group, ~group)
    ]
    expected = stats.logrank(*samples).statistic
    assert -log_rank(times, observed, group) == pytest.approx(expected)
    both = log_rank(times, observed, np.stack([group, ~group]))
    assert both[0] == pytest.approx(-both[1])


@pytest.mark.filterwarnings("ignore:Starting with pandas version 4")  # of how lifelines sums
@pytest.mark.parametrize("seed", range(2))
def test_curves_means_and_log_rank_are_those_of_lifelines(seed):
    lifelines = pytest.importorskip("lifelines")
    statistics = pytest.importorskip("lifelines.statistics")
    times, observed, group = drawn(seed)
    theirs = lifelines.KaplanMeierFitter().fit(times, observed)
    curve, horizon = kaplan_meier(times, observed), float(np.quantile(times, 0.8))
    np.testing.assert_array_equal(curve.at_risk, theirs.event_table.at_risk.loc[curve.times])
    np.testing.assert_allclose(curve.survival, theirs.predict(curve.times), rtol=1e-12)
    ends = theirs.confidence_interval_survival_function_.loc[curve.times].values
    inside = (curve.survival > 0) & (curve.survival < 1)  # of the log of -log
    ours = np.stack([curve.low, curve.high], 1)
    np.testing.assert_allclose(ours[inside], ends[inside], rtol=1e-6)
    area = lifelines.utils.restricted_mean_survival_time(theirs, horizon)
    assert restricted_mean(times, observed, horizon).value == pytest.approx(area)
    test = statistics.logrank_test(times[group], times[~group], observed[group], observed[~group])
    assert log_rank(times, observed, group) ** 2 == pytest.approx(test.test_statistic)
    assert survival_by_group(times, observed, group).pvalue == pytest.approx(test.p_value)


def test_hazard_by_hand():
    """Two runs of 4 records at steps 10 to 40; one converges at 35, the other never."""
    states = np.array([[0, 0, 1, 1], [0, 1, 1, 1]])
    hazards = hazard_by_state(np.eye(2)[states], np.array([10, 20, 30, 40]), np.array([35, np.nan]))
    assert [(h.records, h.events, h.hazard.value) for h in hazards] == [(3, 0, 0), (3, 1, 1 / 3)]
    assert hazards[0].hazard.high == pytest.approx(1 - 0.025 ** (1 / 3))


def test_a_run_that_converges_at_a_record_is_not_at_risk_there():
    beliefs, steps = np.ones((2, 4, 1)), np.array([10, 20, 30, 40])
    (hazard,) = hazard_by_state(beliefs, steps, np.array([30.0, np.nan]))
    assert (hazard.records, hazard.events) == (5, 1)


def test_hazard_is_that_of_a_clustered_logistic_regression():
    """With states that are certain the model is saturated; its sandwich errors are ours."""
    rng = np.random.default_rng(3)
    states = np.sort(rng.integers(0, 3, (30, 25)), axis=1)
    lengths = rng.integers(5, 26, 30)
    beliefs = np.where(np.arange(25)[:, None] < lengths[:, None, None], np.eye(3)[states], np.nan)
    convergence = np.where(rng.random(30) < 0.7, rng.uniform(1, 25, 30), np.nan)
    rows, outcome, clusters = [], [], []
    for run in range(30):
        for t in range(lengths[run] - 1):
            if not t >= convergence[run]:
                rows.append(np.eye(3)[states[run, t]])
                outcome.append(convergence[run] <= t + 1)
                clusters.append(run)
    fitted = sm.GLM(np.array(outcome, float), np.array(rows), sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": np.array(clusters), "use_correction": False}
    )
    for k, found in enumerate(hazard_by_state(beliefs, np.arange(25), convergence)):
        in_state = np.array(rows)[:, k] > 0
        assert found.events == np.array(outcome)[in_state].sum()
        runs = len({c for c, inside in zip(clusters, in_state, strict=True) if inside})
        logit = np.log(found.hazard.value / (1 - found.hazard.value))
        assert logit == pytest.approx(fitted.params[k])
        spread = np.log(found.hazard.high / (1 - found.hazard.high)) - logit
        expected = 1.959964 * fitted.bse[k] * np.sqrt(runs / (runs - 1))
        assert spread == pytest.approx(expected, rel=1e-4)


def test_censored_times_and_wrong_input():
    times, observed = censored_times(np.array([3.0, np.nan]), np.array([9.0, 9.0]))
    assert times.tolist() == [3, 9]
    assert observed.tolist() == [True, False]
    with pytest.raises(UserError, match="times must be finite"):
        kaplan_meier(np.array([np.nan]), np.array([True]))
    with pytest.raises(UserError, match="beyond the last censored run"):
        restricted_mean(TIMES, OBSERVED, 6.0)
    with pytest.raises(UserError, match="group must hold some"):
        restricted_difference(TIMES, OBSERVED, np.ones(6, bool))


def test_two_groups_are_compared_as_scipy_does():
    times, observed, group = drawn(9)
    found = survival_by_group(times, observed, group)
    samples = [
        stats.CensoredData(uncensored=times[g & observed], right=times[g & ~observed])
        for g in (group, ~group)
    ]
    assert found.pvalue == pytest.approx(stats.logrank(*samples).pvalue)
    assert found.group.num_runs + found.others.num_runs == len(times)
    assert found.later.low < found.later.value < found.later.high
