"""Criteria against their formulas, and the choice on fits with made-up scores."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM

from helpers.sweeps import CONFIG, collinear
from seedmap.hmm.parameters import num_parameters
from seedmap.hmm.selection.criteria import (
    CRITERIA,
    best_restarts,
    dominant_validation_runs,
    select,
    selection_table,
)
from seedmap.hmm.selection.cross_validation import CrossValidation
from seedmap.hmm.selection.fits import Sweep


def made_up(sweep, **changes):
    """The sweep with other fits: changes[field] maps (num_states, restart) to a value."""
    fits = []
    for one in sweep.fits:
        own = {
            field: values[one.num_states, one.restart]
            for field, values in changes.items()
            if (one.num_states, one.restart) in values
        }
        fits.append(replace(one, **own))
    return Sweep(**{**vars(sweep), "fits": tuple(fits)})


def test_selection_takes_the_restart_by_training_and_the_states_by_held_out_bic(sweep):
    names = [(f.num_states, f.restart) for f in sweep.fits]
    trained = dict(zip(names, [1, 2, 3, 4, 6.0, 5, 8, 7], strict=True))
    bic = dict(zip(names, [50, 40, 0, 30, 20, 10, 60, 5], strict=True))
    made = made_up(
        sweep,
        penalised_log_likelihood=trained,
        bic=bic,
        validation_log_likelihood={name: -value / 2 for name, value in bic.items()},
        num_parameters=dict.fromkeys(names, 0),
    )
    assert {k: f.restart for k, f in best_restarts(made).items()} == {1: 1, 2: 1, 3: 0, 4: 0}
    assert (select(made).num_states, select(made).restart) == (3, 0)
    assert [row["bic"] for row in selection_table(made)] == [40, 30, 20, 60]
    assert [row["mean_bic"] for row in selection_table(made)] == [45, 15, 15, 32.5]


def test_degenerate_fits_are_left_out_and_counted(sweep):
    flags = {(3, 0): True, (3, 1): True, (4, 0): True}
    made = made_up(sweep, degenerate=flags)
    assert select(made).num_states != 3
    assert best_restarts(made)[4].restart == 1
    rows = selection_table(made)
    assert [row["num_degenerate"] for row in rows] == [0, 0, 2, 1]
    assert rows[2]["bic"] is None
    assert rows[3]["mean_bic"] == rows[3]["bic"]
    every = made_up(sweep, degenerate={(f.num_states, f.restart): True for f in sweep.fits})
    with pytest.raises(ValueError, match="every fit is degenerate"):
        select(every)


def test_select_refuses_an_unknown_criterion(sweep):
    with pytest.raises(ValueError, match=r"validation_bic, validation_aic.*got 'bic'"):
        select(sweep, "bic")


def test_a_run_that_decides_the_selection_is_named(sweep):
    by_run = {
        (f.num_states, f.restart): np.array([1.0 * f.num_states, 100.0 * f.num_states])
        for f in sweep.fits
    }
    made = made_up(sweep, validation_run_log_likelihood=by_run)
    with pytest.warns(UserWarning, match="1 of 2 validation runs: 7 hold 99%"):
        assert dominant_validation_runs(made) == ("7",)
    even = {name: np.array([values[0], values[0]]) for name, values in by_run.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dominant_validation_runs(made_up(sweep, validation_run_log_likelihood=even)) == ()


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
