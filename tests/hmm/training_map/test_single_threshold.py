import numpy as np
import pytest

from seedmap.errors import UserError
from seedmap.hmm.training_map.single_threshold import best_threshold


def runs(seed=0, num_runs=12, num_records=50):
    """Metric `b` falls below 0 at a time of each run's own; `a` and `c` are noise."""
    rng = np.random.default_rng(seed)
    times = rng.integers(5, 45, num_runs)
    values = rng.normal(size=(num_runs, num_records, 3))
    values[..., 1] = np.where(np.arange(num_records) < times[:, None], 1, -1)
    values[..., 1] += 0.1 * rng.normal(size=values.shape[:2])
    return values, times.astype(float)


def test_a_metric_that_falls_at_convergence_explains_it_all():
    values, times = runs()
    found = best_threshold(values, times, "abc")
    assert found.metric == "b"
    assert -1 < found.threshold < 1
    assert found.r2 == pytest.approx(1, abs=0.01)
    assert found.left_out_r2 == pytest.approx(1, abs=0.01)


def test_the_best_of_all_by_brute_force():
    rng = np.random.default_rng(1)
    values, times = rng.normal(size=(9, 20, 2)).cumsum(1), rng.normal(size=9)
    values[2, 15:] = np.nan
    best = 0.0
    for metric in range(2):
        for level in np.arange(1, 40) / 40:
            threshold = np.nanquantile(values[..., metric], level)
            shares = [np.mean(run[~np.isnan(run)] < threshold) for run in values[..., metric]]
            if np.ptp(shares) > 0:
                best = max(best, np.corrcoef(shares, times)[0, 1] ** 2)
    assert best_threshold(values, times, "ab").r2 == pytest.approx(best)


def test_runs_left_out_one_by_one():
    rng = np.random.default_rng(3)
    values, times = rng.normal(size=(14, 20, 3)).cumsum(1), rng.normal(size=14)
    times[:12] = np.sort(times[:12])
    shares = np.stack(
        [
            (values[..., metric] < np.quantile(values[..., metric], level)).mean(1)
            for metric in range(3)
            for level in np.arange(1, 40) / 40
        ]
    )
    errors = []
    for run in range(14):
        others = np.delete(np.arange(14), run)
        fits = [
            np.polyfit(column[others], times[others], 1)
            for column in shares
            if np.ptp(column[others])
        ]
        left = [column for column in shares if np.ptp(column[others])]
        residuals = [
            np.square(times[others] - np.polyval(fit, column[others])).sum()
            for fit, column in zip(fits, left, strict=True)
        ]
        best = int(np.argmin(residuals))
        errors.append(times[run] - np.polyval(fits[best], left[best][run]))
    expected = 1 - np.square(errors).sum() / np.square(times - times.mean()).sum()
    assert best_threshold(values, times, "abc").left_out_r2 == pytest.approx(expected)


def test_noise_explains_nothing_of_runs_left_out():
    rng = np.random.default_rng(2)
    found = [
        best_threshold(rng.normal(size=(30, 20, 4)), rng.normal(size=30), "abcd") for _ in range(10)
    ]
    assert np.mean([f.r2 for f in found]) > 0.1  # the best of 156 on the runs it was found with
    assert np.mean([f.left_out_r2 for f in found]) < 0.05


def test_runs_without_outcome_have_no_part():
    values, times = runs()
    values[0], times[0] = 99.0, np.nan
    assert best_threshold(values, times, "abc").runs == 11
    with pytest.raises(UserError, match="at least 4 runs; got 3"):
        best_threshold(values[:4], times[:4], "abc")
