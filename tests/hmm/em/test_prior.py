import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM

from helpers.planted import planted
from seedmap.hmm.em.candidates import restart_keys, start
from seedmap.hmm.em.loop import run
from seedmap.hmm.em.model import Data, Layout, Prior
from seedmap.hmm.parameters import num_parameters
from seedmap.hmm.selection.config import PRIORS, SweepConfig
from seedmap.hmm.selection.criteria import (
    CRITERIA,
    best_restarts,
    dominant_validation_runs,
    select,
    selection_table,
)
from seedmap.hmm.selection.cross_validation import CrossValidation, robust, robust_error
from seedmap.hmm.selection.sweep import fit_sweep
from seedmap.hmm.sequences import from_arrays
from seedmap.hmm.sweep_io import load_sweep, save_sweep

CONFIG = SweepConfig(states=(1, 2, 3, 4, 5), restarts=2, iterations=12)
HELD_OUT = [9, 10, 11]


def collinear(lengths):
    """Planted runs, 3 metrics and 2 that almost follow from them, as arrays [time, metric]."""
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(3, 2))
    runs = planted(lengths)[0]
    values = [run[:length] for run, length in zip(runs.values, lengths, strict=True)]
    return [np.hstack([v, v @ mixing + 0.01 * rng.normal(size=(len(v), 2))]) for v in values]


def fit(values, config=CONFIG, callback=None):
    sequences = from_arrays(values)
    rest = [i for i in range(sequences.num_runs) if i not in HELD_OUT]
    held_out = sequences.select(HELD_OUT)
    return fit_sweep(sequences.select(rest), held_out, config, jax.random.key(0), callback)


@pytest.fixture(scope="module")
def with_outlier():
    """A sweep whose last held-out run breaks the collinearity of all others, and its callbacks."""
    values = collinear([80] * 12)
    values[-1][:, 3:] = values[-1][::-1, 3:]
    calls = []
    return fit(values, callback=lambda *call: calls.append(call)), calls


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
    strong = fit(values, replace(CONFIG, states=(2,))).fits[0]
    weak = fit(values, replace(CONFIG, states=(2,), prior="weak"))
    assert strong.prior_scale > 100 * weak.fits[0].prior_scale
    assert weak.cross_validation == ()
    assert strong.robust_log_likelihood > weak.fits[0].robust_log_likelihood


def test_a_run_of_weight_0_has_no_part_in_a_fit():
    sequences, layout = planted()[0], Layout((2, 3), "full")
    values = jnp.asarray(np.pad(sequences.values.transpose(1, 0, 2), ((0, 4), (0, 0), (0, 0))))
    mask = jnp.asarray(np.pad(sequences.mask.T, ((0, 4), (0, 0))))
    prior = Prior(jnp.full(2, 1e-2), jnp.asarray(1e-2))
    six = jnp.arange(8) < 6
    keys = restart_keys(jax.random.key(0), [(2, 0), (3, 1)])
    found = []
    for shown, weights in ((mask, 1.0 * six), (mask & six, jnp.ones(8))):
        data = Data(jnp.where(shown[:, :, None], values, 0.0), shown)
        weights = jnp.broadcast_to(weights, (2, 8))
        model = start(layout, data, weights, keys, np.array([0, 1]), np.eye(3))
        found.append(run(layout, data, weights, prior, 1e-6, model, 8, lambda done: None))
    for a, b in zip(found[0].model, found[1].model, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4)
    np.testing.assert_allclose(found[0].objective, found[1].objective, rtol=1e-5)


# --- criteria ---


def test_every_criterion_follows_its_formula(with_outlier):
    sweep, _ = with_outlier
    values = collinear([80] * 12)
    values[-1][:, 3:] = values[-1][::-1, 3:]
    rows = {row["num_states"]: row for row in selection_table(sweep)}
    for k, one in best_restarts(sweep).items():
        peer = GaussianHMM(k, "full")
        peer.startprob_, peer.transmat_, peer.means_, peer.covars_ = one.parameters
        p = num_parameters(k, 5, "full")
        medians = np.median(one.validation_run_log_likelihood / 80)
        totals = {"robust": (240 * medians, None, 240)}
        for half, runs in (("train", values[:9]), ("validation", values[9:])):
            paths = peer.decode(np.concatenate(runs), [80] * len(runs))[0]
            totals[half] = getattr(one, f"{half}_log_likelihood"), paths, 80 * len(runs)
        for half, (total, path, size) in totals.items():
            np.testing.assert_allclose(rows[k][f"{half}_log_likelihood"], total, rtol=1e-5)
            np.testing.assert_allclose(rows[k][f"{half}_aic"], -2 * total + 2 * p)
            np.testing.assert_allclose(rows[k][f"{half}_bic"], -2 * total + p * np.log(size))
            if path is not None:
                icl = -2 * path + p * np.log(size)
                np.testing.assert_allclose(rows[k][f"{half}_icl"], icl, rtol=1e-5)
        (score,) = (
            s.run_log_likelihood
            for s in sweep.cross_validation
            if (s.num_states, s.prior_scale) == (k, one.prior_scale)
        )
        assert rows[k]["kfold"] == np.median(score)
    for name in CRITERIA:
        column = [rows[k][name] for k in CONFIG.states]
        best = np.argmin(column) if name.endswith("ic") or name.endswith("icl") else None
        best = np.argmax(column) if best is None else best
        assert select(sweep, name).num_states == CONFIG.states[best]


def test_one_standard_error_takes_the_fewest_states_that_are_as_good(with_outlier):
    sweep, _ = with_outlier
    medians = {1: 0.0, 2: 9.1, 3: 9.6, 4: 10.0, 5: 9.9}
    spread = np.array([-3, -2, -1, -1, 0, 1, 1, 2, 3.0])  # MAD 1
    error = np.sqrt(np.pi / 2) * 1.4826 / 3
    scores = tuple(
        CrossValidation(one.num_states, one.prior_scale, medians[one.num_states] + spread)
        for one in sweep.fits
        if one.restart == 0
    )
    made = replace(sweep, cross_validation=scores)
    assert 0.4 < error < 0.9
    assert select(made, "kfold").num_states == 4
    assert select(made, "kfold", one_standard_error=True).num_states == 3
    best = {k: fit for k, fit in best_restarts(sweep).items()}
    totals = best[4].train_run_log_likelihood
    limit = totals.sum() - np.sqrt(9) * totals.std(ddof=1)
    fewest = min(k for k in best if best[k].train_log_likelihood >= limit)
    chosen = select(sweep, "train_log_likelihood", one_standard_error=True)
    assert chosen.num_states <= fewest + 1


def test_kfold_needs_a_cross_validation(with_outlier):
    without = replace(with_outlier[0], cross_validation=())
    with pytest.raises(ValueError, match="'kfold' needs a sweep with the prior 'held-out'"):
        select(without, "kfold")
    assert "kfold" not in selection_table(without)[0]


def test_the_paper_selects_by_the_total(with_outlier):
    sweep, _ = with_outlier
    weak = replace(sweep, config=replace(sweep.config, prior="weak"))
    assert select(weak) is select(sweep, "validation_bic")
    assert select(weak) is not select(sweep)


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
