"""The strength of the prior by cross-validation, where one held-out run is like no other."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from helpers.planted import planted
from helpers.sweeps import CONFIG, fit_held_out
from seedmap.hmm.selection.config import PRIORS
from seedmap.hmm.selection.criteria import dominant_validation_runs, select, selection_table
from seedmap.hmm.selection.cross_validation import robust, robust_error
from seedmap.hmm.sweep_io import load_sweep, save_sweep


@pytest.mark.slow
def test_one_odd_run_decides_the_total_and_not_the_choice(with_outlier):
    sweep, _ = with_outlier
    chosen = select(sweep)
    assert chosen.num_states == 3
    by_run = chosen.validation_run_log_likelihood / 80
    train = chosen.train_run_log_likelihood / 80
    assert by_run[2] < -1000
    assert chosen.validation_log_likelihood / 240 < -300
    assert abs(chosen.robust_log_likelihood / 240 - np.median(train)) < 1
    assert np.median(train) > 1
    assert chosen.prior_scale <= 0.1  # the mean would have taken the largest
    with pytest.warns(UserWarning, match="goes by the median run, as the total rests on 1 of 3"):
        assert dominant_validation_runs(sweep) == ("11",)


@pytest.mark.slow
def test_progress_counts_every_pass_from_the_first_call(with_outlier):
    calls, total = with_outlier[1], 12 * (len(PRIORS["held-out"]) + 1)
    assert (calls[0], calls[-1]) == ((0, total), (total, total))
    assert all(a <= b for (a, _), (b, _) in itertools.pairwise(calls))
    assert len(set(calls)) >= 12


def test_the_scale_is_the_one_under_which_the_median_run_left_out_is_most_likely(with_outlier):
    sweep, _ = with_outlier
    names = [(s.prior_scale, s.num_states) for s in sweep.cross_validation]
    assert names == list(itertools.product(PRIORS["held-out"], CONFIG.states))
    for one in sweep.fits:
        scores = {
            s.prior_scale: np.median(s.run_log_likelihood)
            for s in sweep.cross_validation
            if s.num_states == one.num_states
        }
        assert one.prior_scale == max(scores, key=scores.get)
    for score in sweep.cross_validation:
        assert score.run_log_likelihood.shape == (9,)
        assert np.isfinite(score.run_log_likelihood).all()


@pytest.mark.slow
def test_few_checkpoints_call_for_a_stronger_prior():
    rng = np.random.default_rng(2)
    values = [np.hstack([run, rng.normal(size=(8, 5))]) for run in planted([8] * 12)[0].values]
    strong = fit_held_out(values, replace(CONFIG, states=(2,))).fits[0]
    weak = fit_held_out(values, replace(CONFIG, states=(2,), prior="weak"))
    assert strong.prior_scale > 100 * weak.fits[0].prior_scale
    assert weak.cross_validation == ()
    assert strong.robust_log_likelihood > weak.fits[0].robust_log_likelihood


def test_robust_summaries_against_their_definitions():
    values = np.array([1.0, 2.0, 3.0, 4.0, -1000.0])
    assert robust(values) == 2.0
    np.testing.assert_allclose(robust_error(values), np.sqrt(np.pi / 2) * 1.4826 / np.sqrt(5))
    rng = np.random.default_rng(0)
    medians = np.median(rng.normal(size=(4000, 33)), axis=1)
    mean_error = np.mean([robust_error(x) for x in rng.normal(size=(500, 33))])
    np.testing.assert_allclose(mean_error, medians.std(), rtol=0.08)


def test_a_sweep_keeps_its_cross_validation_in_its_file(with_outlier, tmp_path):
    sweep, _ = with_outlier
    chosen = select(sweep)
    save_sweep(tmp_path / "sweep.json", sweep, chosen)
    loaded, same = load_sweep(tmp_path / "sweep.json")
    assert loaded.config == sweep.config
    assert same.prior_scale == chosen.prior_scale
    assert same.robust_log_likelihood == chosen.robust_log_likelihood
    for a, b in zip(sweep.cross_validation, loaded.cross_validation, strict=True):
        assert (a.num_states, a.prior_scale) == (b.num_states, b.prior_scale)
        np.testing.assert_array_equal(a.run_log_likelihood, b.run_log_likelihood)
    assert selection_table(loaded) == selection_table(sweep)
    assert select(loaded).num_states == 3
