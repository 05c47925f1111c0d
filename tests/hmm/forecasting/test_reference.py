import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut
from sklearn.preprocessing import StandardScaler

from seedmap.hmm.forecasting.reference import PENALTIES, by_regression, ridge


def best_ridge(features, outcome, new, weights):
    """Prediction by scikit-learn, the penalty by refits without each run; its place and errors."""
    weights = weights / weights.mean()
    scaler = StandardScaler().fit(features, sample_weight=weights)
    scaled, errors = scaler.transform(features), []
    for penalty in PENALTIES:
        left_out = np.empty(len(outcome))
        for fit, (run,) in LeaveOneOut().split(scaled):
            model = Ridge(alpha=penalty).fit(scaled[fit], outcome[fit], weights[fit])
            left_out[run] = outcome[run] - model.predict(scaled[[run]])[0]
        errors.append(left_out)
    best = int(np.argmin([weights @ error**2 for error in errors]))
    model = Ridge(alpha=PENALTIES[best]).fit(scaled, outcome, weights)
    return model.predict(scaler.transform(new)), errors[best], best


def test_ridge_is_scikit_learns_with_the_best_left_out_penalty():
    rng = np.random.default_rng(0)
    places = []
    for trial in range(12):
        features = rng.normal(size=(7, 3)) * [1, 10, 100] + [0, 0, 1e3]
        outcome = features @ [1, 0.05, 0] + rng.normal(size=7)
        new = rng.normal(size=(5, 3)) * 10
        weights = rng.uniform(0.5, 2, 7) if trial % 2 else np.ones(7)
        expected, residuals, place = best_ridge(features, outcome, new, weights)
        found = ridge(features, outcome, new, weights)
        np.testing.assert_allclose(found.predictions, expected, rtol=1e-8)
        np.testing.assert_allclose(found.residuals, residuals, rtol=1e-6, atol=1e-8)
        places.append(place)
    assert len(set(places)) > 3


def test_ridge_leaves_out_what_does_not_vary_or_is_missing():
    rng = np.random.default_rng(1)
    features, outcome, new = rng.normal(size=(9, 2)), rng.normal(size=9), rng.normal(size=(4, 2))
    expected = ridge(features, outcome, new, np.ones(9)).predictions
    holed = np.where(np.arange(9) == 3, np.nan, 1.0)
    found = ridge(
        np.column_stack([features, holed, np.full(9, 7.0)]),
        outcome,
        np.column_stack([new, np.ones(4), rng.normal(size=4)]),
        np.ones(9),
    )
    np.testing.assert_allclose(found.predictions, expected)


def test_the_regression_spreads_its_left_out_residuals_around_its_prediction():
    rng = np.random.default_rng(2)
    metrics, steps, index = rng.normal(size=(12, 1)), 10.0 * np.arange(1, 31), 4
    outcome = steps[index] + 60 * np.exp(0.5 * metrics[:, 0] + 0.2 * rng.normal(size=12))
    outcome[:3] = np.nan
    arrivals = np.where(np.isnan(outcome), 30, np.searchsorted(steps, outcome))
    new = np.array([[-1.0], [1.0]])
    found = by_regression(metrics, outcome, arrivals, new, steps, index)
    fitted = ridge(metrics[3:], np.log(outcome[3:] - steps[index]), new, np.ones(9))
    draws = steps[index] + np.exp(fitted.predictions[:, None] + fitted.residuals)
    expected = 0.75 * (draws[:, :, None] <= steps[index:]).mean(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found[0, 10] > found[1, 10]
    assert found.max() == pytest.approx(0.75)
