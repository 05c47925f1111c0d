import numpy as np
import pytest

from helpers.branching import SETTINGS, branching
from seedmap.errors import UserError
from seedmap.hmm import from_arrays
from seedmap.hmm.forecasting import fitting
from seedmap.hmm.forecasting.fitting import fit_forecaster


@pytest.fixture(scope="module")
def data():
    return branching()


def test_all_fits_are_one_batch_and_each_leaves_a_fold_out(data, monkeypatch):
    sequences, outcome, steps, _ = data
    batches, make = [], fitting.make_fits
    monkeypatch.setattr(
        fitting, "make_fits", lambda *given: batches.append(given[2]) or make(*given)
    )
    made = fit_forecaster(sequences, outcome, steps, SETTINGS)
    (jobs,) = batches
    weights = [np.ones(36), *(made.folds != fold for fold in range(3))]
    expected = [(k, row) for k, restarts in ((1, 1), (4, 2)) for row in weights
                for _ in range(restarts)]  # fmt: skip
    for job, (k, row) in zip(jobs, expected, strict=True):
        assert job.num_states == k
        np.testing.assert_array_equal(job.run_weights, row)
    assert sorted(np.bincount(made.folds[:2], minlength=3)) == [0, 1, 1]  # those never converging


def test_runs_that_end_or_converge_early(data):
    sequences, outcome, steps, _ = data
    lengths, outcome = sequences.lengths.copy(), outcome.copy()
    lengths[0] = 20
    outcome[2] = steps[0]  # converged at the first checkpoint: it is never at risk
    cut = from_arrays(sequences.values, lengths, metrics=sequences.metrics).select(range(25))
    found = fit_forecaster(cut, outcome[:25], steps, SETTINGS)
    assert len(found.arrivals) == found.beliefs.shape[1] == 24
    assert found.arrivals[0] == 20
    assert 0 in found.at_risk(19)
    assert 0 not in found.at_risk(20)
    np.testing.assert_array_equal(found.observed, ~np.isnan(outcome[[0, 1, *range(3, 25)]]))
    np.testing.assert_array_equal(steps[found.arrivals[2:]], outcome[3:25])


def test_what_comes_after_convergence_is_not_read(data):
    sequences, outcome, steps, _ = data
    after = steps >= np.where(np.isnan(outcome), np.inf, outcome)[:, None]
    values = np.where(after[:, :, None], 1e3, sequences.values)
    changed = from_arrays(values, metrics=sequences.metrics)
    one, other = (fit_forecaster(s, outcome, steps, SETTINGS) for s in (sequences, changed))
    np.testing.assert_array_equal(one.beliefs, other.beliefs)
    assert one.errors == other.errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcome": np.zeros(3)}, "need an outcome for each of 36 runs"),
        ({"steps": np.zeros(50)}, "steps must increase"),
        ({"outcome": np.full(36, np.nan)}, "0 training runs converge after the first checkpoint"),
        ({"outcome": np.full(36, 1e4)}, "run 0 converges at step 10000, after its last"),
    ],
)
def test_wrong_training_data_are_refused(data, change, message):
    sequences, outcome, steps, _ = data
    with pytest.raises(UserError, match=message):
        fit_forecaster(sequences, **({"outcome": outcome, "steps": steps} | change))
