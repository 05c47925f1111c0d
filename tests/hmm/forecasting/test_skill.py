import doctest
import importlib
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.preprocessing import StandardScaler

from helpers.branching import CONFIG, branching
from helpers.figure_data import assert_legible, by_gid
from seedmap.hmm.figures.forecast import plot_forecast_skill
from seedmap.hmm.forecasting.forecaster import fit_forecaster, forecast
from seedmap.hmm.forecasting.skill import PENALTIES, Skill, SkillRow, forecast_skill, ridge, skill


@pytest.fixture(scope="module")
def data():
    return branching()


def best_ridge(features, outcome, new):
    """Prediction by scikit-learn, the penalty by refits without each run; and its place."""
    scaler = StandardScaler().fit(features)
    scaled, errors = scaler.transform(features), []
    for penalty in PENALTIES:
        predicted = cross_val_predict(Ridge(alpha=penalty), scaled, outcome, cv=LeaveOneOut())
        errors.append(((predicted - outcome) ** 2).sum())
    best = int(np.argmin(errors))
    return Ridge(alpha=PENALTIES[best]).fit(scaled, outcome).predict(scaler.transform(new)), best


def test_ridge_is_scikit_learns_with_the_best_left_out_penalty():
    rng = np.random.default_rng(0)
    places = []
    for _ in range(12):
        features = rng.normal(size=(7, 3)) * [1, 10, 100] + [0, 0, 1e3]
        outcome = features @ [1, 0.05, 0] + rng.normal(size=7)
        new = rng.normal(size=(5, 3)) * 10
        expected, place = best_ridge(features, outcome, new)
        np.testing.assert_allclose(ridge(features, outcome, new), expected, rtol=1e-8)
        places.append(place)
    assert len(set(places)) > 3


def test_ridge_leaves_out_what_does_not_vary_or_is_missing():
    rng = np.random.default_rng(1)
    features, outcome, new = rng.normal(size=(9, 2)), rng.normal(size=9), rng.normal(size=(4, 2))
    expected = ridge(features, outcome, new)
    holed = np.where(np.arange(9) == 3, np.nan, 1.0)
    found = ridge(
        np.column_stack([features, holed, np.full(9, 7.0)]),
        outcome,
        np.column_stack([new, np.ones(4), rng.normal(size=4)]),
    )
    np.testing.assert_allclose(found, expected)


def test_skill_and_its_standard_error():
    rng = np.random.default_rng(0)
    reference = rng.gamma(3, 10, 4000)
    errors = reference * rng.uniform(0.2, 1, 4000)
    found = skill(errors, reference)
    assert found.value == pytest.approx(1 - errors.mean() / reference.mean())
    draws = rng.integers(4000, size=(2000, 4000))
    spread = (1 - errors[draws].mean(axis=1) / reference[draws].mean(axis=1)).std()
    assert found.standard_error == pytest.approx(spread, rel=0.1)


@pytest.fixture(scope="module")
def rows(data):
    sequences, outcome, steps, _ = data
    return forecast_skill(sequences, outcome, steps, (25, 70, 240), folds=3, config=CONFIG)


@pytest.mark.slow
def test_skill_comes_with_the_fork(rows):
    before, after = rows  # at step 240 no run is left
    assert (before.upto, after.upto) == (25, 70)
    assert before.num_runs == after.num_runs == 34
    assert before.hmm.value < 0.2
    assert after.hmm.value > 0.6
    assert after.hmm.value > after.median.value + 4 * after.hmm.standard_error
    assert after.regression.value > 0.6
    assert after.width < before.width
    assert before.coverage == pytest.approx(0.8, abs=0.2)


@pytest.mark.slow
def test_skill_by_hand_from_forecasts(data, rows):
    sequences, outcome, steps, _ = data
    order = np.random.default_rng(0).permutation(36)
    errors, means, held = [], [], []
    for fold in range(3):
        left_out, train = np.sort(order[fold::3]), np.setdiff1d(np.arange(36), order[fold::3])
        made = fit_forecaster(sequences.select(train), outcome[train], steps, CONFIG)
        later = outcome[train][outcome[train] > 70]
        for run in left_out[outcome[left_out] > 70]:
            found = forecast(made, sequences.values[run, :14])
            errors.append(abs(min(found.convergence_median, steps[-1]) - outcome[run]))
            means.append(abs(later.mean() - outcome[run]))
            held.append(found.low <= outcome[run] <= found.high)
    assert rows[1].hmm.value == pytest.approx(1 - np.mean(errors) / np.mean(means), rel=1e-6)
    assert rows[1].coverage == np.mean(held)


def test_skill_never_reads_the_future(data, rows, monkeypatch):
    sequences, outcome, steps, _ = data
    made = fit_forecaster(sequences.select(range(24)), outcome[:24], steps, CONFIG)
    module = importlib.import_module(
        "seedmap.hmm.forecasting.skill"
    )  # `hmm.forecasting.skill` is the function
    monkeypatch.setattr(module, "fit_forecaster", lambda *_: made)
    changed = sequences.values.copy()
    changed[:, 14:] = 1e3 * np.random.default_rng(0).normal(size=changed[:, 14:].shape)
    changed = replace(sequences, values=changed)
    one, other = (
        forecast_skill(given, outcome, steps, (25, 70), folds=3, config=CONFIG)
        for given in (sequences, changed)
    )
    assert one == other


def test_steps_and_folds_that_cannot_be_used_are_refused(data):
    sequences, outcome, steps, _ = data
    with pytest.raises(ValueError, match="step 20 is before the first forecast, at checkpoint 5"):
        forecast_skill(sequences, outcome, steps, (20, 50), config=CONFIG)
    with pytest.raises(ValueError, match="folds must lie between 2 and 36 runs, not 1"):
        forecast_skill(sequences, outcome, steps, (50,), folds=1, config=CONFIG)


# Figure


def make_rows(num_rows=14):
    rng = np.random.default_rng(0)
    return [
        SkillRow(
            upto=25.0 * (i + 1),
            num_runs=40 - 2 * i,
            mean_error=80.0,
            hmm=Skill(0.05 * i, 0.05),
            regression=Skill(-3.0 if i == 9 else 0.04 * i, 0.1),
            median=Skill(0.05, 0.02),
            coverage=float(rng.uniform(0.7, 1)),
            level=0.8,
            width=100.0,
        )
        for i in range(num_rows)
    ]


@pytest.mark.parametrize("num_rows", [0, 1, 14])
def test_figure_is_legible(num_rows):
    assert_legible(plot_forecast_skill(make_rows(num_rows), "epoch"))


def test_figure_shows_the_rows():
    rows = make_rows()
    figure = plot_forecast_skill(rows, "epoch")
    for name in ("hmm", "regression", "median"):
        (line,) = by_gid(figure, name)
        np.testing.assert_array_equal(line.get_xdata(), [row.upto for row in rows])
        np.testing.assert_array_equal(line.get_ydata(), [getattr(row, name).value for row in rows])
    (points,) = by_gid(figure, "coverage")
    np.testing.assert_array_equal(points.get_ydata(), [row.coverage for row in rows])
    (band,) = (c for c in figure.axes[0].collections if isinstance(c, PolyCollection))
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    assert (low, high) == pytest.approx((-0.05, 0.7))
    assert figure.axes[0].get_ylim() == (-1, 1)
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels[:2] == ["25\n(40)", "75\n(36)"]


@pytest.mark.parametrize("module", ["causal", "absorbing", "skill"])
def test_examples(module):
    results = doctest.testmod(importlib.import_module(f"seedmap.hmm.forecasting.{module}"))
    assert results.attempted
    assert not results.failed
