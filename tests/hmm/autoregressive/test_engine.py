"""The map as a whole: planted runs, odd runs, holes, new runs, refits."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.special import logsumexp

from helpers.relaxing import relaxing_runs
from seedmap.errors import UserError
from seedmap.hmm.autoregressive import engine, map_model, sizes
from seedmap.hmm.autoregressive.choice import candidate_row
from seedmap.hmm.autoregressive.engine import MapSettings, make_map
from seedmap.hmm.autoregressive.fits import log_densities, precision
from seedmap.hmm.autoregressive.map_model import (
    decode_paths,
    decode_runs,
    filter_runs,
    location_model,
    paths_by_refits,
    score_runs,
)
from seedmap.hmm.autoregressive.records import records_of
from seedmap.hmm.autoregressive.refits import agreement_of, matching, permute_states
from seedmap.hmm.autoregressive.residuals import autocorrelation, misfit, motion_residuals
from seedmap.hmm.autoregressive.sizes import decode_at_sizes, decode_resamples
from seedmap.hmm.features import apply_scale, scale_metrics
from seedmap.hmm.io import SavedHMM, load_hmm, save_hmm
from seedmap.hmm.sequences import from_arrays
from seedmap.hmm.training_map.stability import adjusted_rand_index

QUICK = MapSettings(states=(1, 2, 3), restarts=2, final_restarts=2, resamples=4)
QUICKEST = MapSettings(states=(3,), restarts=1, final_restarts=1, iterations=22, resamples=2)


@pytest.fixture(scope="module")
def planted():
    """24 runs through 3 places, the last one through places of its own; two records missing."""
    values, states = relaxing_runs(24, 60, 3, seed=2, odd=1)
    values[0, 20], values[1, 30, :5] = np.nan, np.nan
    return from_arrays(values, np.r_[np.full(14, 60), 33, np.full(9, 60)]), states


@pytest.fixture(scope="module")
def made(planted):
    calls = []
    fit = make_map(planted[0], np.arange(24), QUICK, lambda *call: calls.append(call))
    return fit, calls


def test_planted_places_are_found_and_the_odd_run_is_named(planted, made):
    fit, _ = made
    sequences, states = planted
    assert fit.num_states == 3
    assert fit.odd == ("23",)
    assert fit.fitted == tuple(map(str, range(23)))
    truth = np.where(sequences.mask, states, -1)[:23]
    assert adjusted_rand_index(fit.paths[:23], truth) > 0.85
    assert fit.paths.dtype == np.int32
    assert ((fit.paths == -1) == ~sequences.mask).all()
    assert (fit.paths[:23, 0] == 0).all()  # state 0 is where runs start
    assert fit.agreement[sequences.mask].mean() > 0.9
    assert fit.edges[0, 1] == fit.edges[1, 2] == 1
    assert fit.edges[2, 0] < 0.5
    assert any("1 runs fit no state well and are left off the map: 23" in n for n in fit.notes)
    assert any("1 records lack some metrics" in note for note in fit.notes)
    assert any("1 records lack every metric" in note for note in fit.notes)


def test_runs_that_all_end_before_the_last_record_keep_their_padding():
    values = relaxing_runs(10, 40, 2, seed=3)[0]
    cut, padded = from_arrays(values[:, :30]), from_arrays(values, np.full(10, 30))
    assert padded.values.shape[1] == 40
    each = [make_map(runs, np.arange(10), QUICK) for runs in (cut, padded)]
    np.testing.assert_array_equal(each[0].paths, each[1].paths[:, :30])
    assert (each[1].paths[:, 30:] == -1).all()
    assert filter_runs(each[1].model, padded).shape == (10, 40, each[1].num_states)


def test_float32_makes_the_same_map(planted, made, monkeypatch):
    for module in (engine, map_model):
        monkeypatch.setattr(module, "precision", partial(precision, "tpu"))
    narrow, wide = make_map(planted[0], np.arange(24), QUICK), made[0]
    assert narrow.score != wide.score
    np.testing.assert_allclose(narrow.score, wide.score, atol=2e-3)
    assert (narrow.num_states, narrow.odd) == (wide.num_states, wide.odd)
    assert (narrow.paths == wide.paths).mean() >= 0.99


def test_autocorrelated_residuals_are_noted(made):
    model = replace(made[0].model, tempering=0.044)
    strong = replace(made[0], model=model, autocorrelation=np.array([0.2, -0.6]))
    noted = engine._notes(strong, QUICK, 3)
    assert any("autocorrelated (0.60)" in n and "count as 0.044 of one" in n for n in noted)
    noted = engine._notes(replace(made[0], autocorrelation=np.array([0.2, -0.4])), QUICK, 3)
    assert not any("autocorrelated" in note for note in noted)


def test_the_callback_counts_fits(made):
    _, calls = made
    assert calls[0][0] == 0
    assert calls[-1][0] == calls[-1][1]
    assert all(0 <= a[0] <= b[0] <= b[1] for a, b in itertools.pairwise(calls))


def test_any_runs_are_decoded_as_in_the_fit_alone_or_unfinished(planted, made):
    fit, sequences = made[0], planted[0]
    paths, agreement = decode_runs(fit.model, sequences.select([3, 14]))
    np.testing.assert_array_equal(paths, fit.paths[[3, 14]])
    np.testing.assert_array_equal(agreement, fit.agreement[[3, 14]])
    cut = from_arrays(sequences.values[3:4, :12])
    early = filter_runs(fit.model, cut)
    whole = filter_runs(fit.model, sequences.select([3]))
    np.testing.assert_allclose(early[0], whole[0, :12], atol=1e-5)
    one = from_arrays(sequences.values[3:4, :1])
    assert decode_runs(fit.model, one)[0].shape == (1, 1)
    np.testing.assert_allclose(filter_runs(fit.model, one)[0, 0], whole[0, 0], atol=1e-6)
    with pytest.raises(UserError, match=r"fitted to metric_0, .*; the runs have a"):
        decode_runs(fit.model, from_arrays(np.zeros((1, 3, 1)), metrics=["a"]))


def test_the_filter_and_the_score_by_the_forward_recursion(planted, made):
    fit, sequences = made[0], planted[0].select([0, 14])
    model = fit.model
    features = apply_scale(model.scale, sequences)
    with precision():
        logs = log_densities(records_of(features), features.mask, model.parameters, model.tempering)
    found, scores = filter_runs(model, sequences), score_runs(model, sequences)
    rows = np.log(model.parameters.transition)
    for run, length in enumerate(sequences.lengths):
        first = np.exp(logs[run, 0] - logsumexp(logs[run, 0]))
        np.testing.assert_allclose(found[run, 0], first, atol=1e-6)
        ahead = np.log(model.parameters.initial) + logs[run, 1]
        for t in range(2, length + 1):
            probabilities = np.exp(ahead - logsumexp(ahead))
            np.testing.assert_allclose(found[run, t - 1], probabilities, atol=1e-5)
            if t < length:
                ahead = logsumexp(ahead[:, None] + rows, 0) + logs[run, t]
        np.testing.assert_allclose(scores[run] * model.tempering, logsumexp(ahead), rtol=1e-8)
    assert (found[1, 33:] == 0).all()


def test_the_same_seed_gives_the_same_map_and_runs_held_out_do_not_change_it(planted):
    sequences = planted[0]
    fitted = np.arange(18)
    alone = make_map(sequences.select(fitted), fitted, QUICKEST)
    beside = make_map(sequences, fitted, QUICKEST)
    np.testing.assert_array_equal(beside.paths[:18], alone.paths)
    np.testing.assert_array_equal(beside.model.scale.loadings, alone.model.scale.loadings)
    assert beside.fitted == alone.fitted == tuple(map(str, range(18)))


def saved_of(fit):
    return SavedHMM(
        parameters=location_model(fit.model),
        metrics=fit.model.scale.metrics,
        covariance="full",
        z_score={"per": "common"},
        train_runs=fit.fitted,
        validation_runs=(),
        config={},
        selection=[candidate_row(candidate) for candidate in fit.candidates],
        scale=fit.model.scale,
        model=fit.model,
    )


def test_a_saved_model_decodes_as_before(planted, made, tmp_path):
    fit, sequences = made[0], planted[0]
    save_hmm(tmp_path, saved_of(fit))
    loaded = load_hmm(tmp_path)
    paths, agreement = decode_runs(loaded.model, sequences)
    np.testing.assert_array_equal(paths, fit.paths)
    np.testing.assert_array_equal(agreement, fit.agreement)
    assert loaded.selection[2]["halves"] == fit.candidates[2].halves.tolist()
    plain = replace(fit, model=replace(fit.model, refits=()))
    save_hmm(tmp_path, saved_of(plain))
    assert load_hmm(tmp_path).model.refits == ()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("motion", lambda a: a[:, 1:], r"motion must be float \[3, .*: fit again"),
        ("scale_std", lambda a: a * np.nan, "scale_std holds numbers that are not finite"),
        ("refit_noise", lambda a: None, "refit_noise must be float"),
    ],
)
def test_a_damaged_model_is_refused(made, tmp_path, name, change, message):
    save_hmm(tmp_path, saved_of(made[0]))
    arrays = dict(np.load(tmp_path / "hmm.npz"))
    del arrays["checksum"]  # which would tell of any change
    changed = change(arrays.pop(name))
    np.savez(tmp_path / "hmm.npz", **arrays, **({} if changed is None else {name: changed}))
    with pytest.raises(UserError, match=message):
        load_hmm(tmp_path)


def test_where_states_are_in_metrics(planted, made):
    """The location model's means are those of the records in a state, on the scale of the runs."""
    fit, sequences = made[0], planted[0]
    parameters = location_model(fit.model)
    scaled = scale_metrics(fit.model.scale, sequences)
    for state in range(3):
        mine = scaled.values[:23][fit.paths[:23] == state]
        np.testing.assert_allclose(parameters.means[state], np.nanmean(mine, 0), atol=0.15)
    assert (np.linalg.eigvalsh(parameters.covariances) > 0).all()


def test_other_sizes_are_those_of_the_sweep_or_fitted_anew(made):
    fit = made[0]
    found = decode_at_sizes(fit, (3, 4), restarts=1)
    assert list(found) == [3, 4]
    np.testing.assert_array_equal(found[3], fit.paths)
    assert found[4].shape == fit.paths.shape
    assert set(np.unique(found[4])) == {-1, 0, 1, 2, 3}
    resampled = decode_resamples(fit.fitted_runs, fit.paths, 3, 2)
    again = decode_resamples(fit.fitted_runs, fit.paths, 3, 2)
    for paths, same in zip(resampled, again, strict=True):
        np.testing.assert_array_equal(paths, same)
        assert adjusted_rand_index(paths, fit.paths[:23]) > 0.8
    other = decode_resamples(fit.fitted_runs, np.where(fit.paths < 0, -1, 0), 3, 2)
    assert adjusted_rand_index(other[0], resampled[0]) < 1  # they start from what they are given
    five = [decode_resamples(fit.fitted_runs, found[4], 4, 2, seed=seed)[0] for seed in range(5)]
    assert any((paths != five[0]).any() for paths in five)  # more states than there are vary


def test_of_several_starts_the_one_with_most_places_stands_for_a_size(monkeypatch, made):
    fit = made[0]
    starts = [np.full_like(fit.paths, i) for i in range(4)]  # best first
    monkeypatch.setattr(sizes, "count_places", lambda x, paths, k, seed: [0, 2, 2, 1][paths[0, 0]])
    assert sizes._with_most_places(fit, starts, 5, 0) is starts[1]
    for k in (fit.num_states, 2, 11):  # the map's own, and those that are not searched
        assert sizes._with_most_places(fit, starts, k, 0) is starts[0]


# --- refits ---


def test_agreement_by_counting():
    others = [np.array([[0, 1, 1, -1]]), np.array([[0, 0, 1, -1]]), np.array([[0, 1, 0, -1]])]
    agreement = agreement_of(np.array([[0, 0, 1, -1]]), others)
    np.testing.assert_allclose(agreement, [[1, 1 / 3, 2 / 3, 0]])
    assert np.isnan(agreement_of(np.array([[0, -1]]), [])).all()


def test_the_path_is_that_of_the_fit_to_all_runs_whatever_refits_say(planted, made):
    fit, sequences = made[0], planted[0]
    alone = replace(fit.model, refits=())
    turned = permute_states(fit.model.parameters, np.array([1, 2, 0]))
    against = replace(fit.model, refits=(turned,) * 3)
    for model, agreement in ((alone, np.nan), (against, 0.0)):
        paths, share = decode_runs(model, sequences)
        np.testing.assert_array_equal(paths, fit.paths)
        np.testing.assert_array_equal(share[paths >= 0], agreement)
        np.testing.assert_array_equal(decode_paths(model, sequences), paths)


def test_matching_by_trying_every_order():
    rng = np.random.default_rng(0)
    for _ in range(5):
        first, other = rng.integers(0, 4, (2, 3, 30))
        first[:, 25:] = other[:, 25:] = -1
        order = matching(first, other, 4)

        def common(order, first=first, other=other):
            return (order[first[:, :25]] == other[:, :25]).sum()

        best = max(common(np.array(each)) for each in itertools.permutations(range(4)))
        assert common(order) == best


def test_permuted_states_are_the_same_model(planted, made):
    fit, sequences = made[0], planted[0]
    order = np.array([2, 0, 1])
    permuted = permute_states(fit.model.parameters, order)
    model = replace(fit.model, parameters=permuted, refits=())
    np.testing.assert_allclose(
        score_runs(model, sequences), score_runs(fit.model, sequences), rtol=1e-10
    )
    plain = replace(fit.model, refits=())
    paths = decode_runs(model, sequences)[0]
    expected = decode_runs(plain, sequences)[0]
    np.testing.assert_array_equal(np.where(paths >= 0, order[paths], -1), expected)


def test_the_refits_have_the_labels_of_the_map(planted, made):
    fit, sequences = made[0], planted[0]
    first, *others = paths_by_refits(fit.model, sequences)
    assert len(others) == 4
    for other in others:
        assert (matching(first, other, 3) == np.arange(3)).all()


# --- residuals ---


def test_residuals_of_a_simulated_motion_are_white_and_those_of_a_ramp_are_not(planted, made):
    fit = made[0]
    size = fit.model.parameters.location.shape[1]
    rng = np.random.default_rng(0)
    p = fit.model.parameters
    roots = np.linalg.cholesky(p.noise[0])
    x = np.zeros((4, 400, size))
    for t in range(1, 400):
        before = x[:, t - 1]
        step = p.motion[0, 0] + before @ p.motion[0, 1:] + rng.normal(size=(4, size)) @ roots.T
        x[:, t] = before + step
    features = replace(
        fit.features,
        x=x,
        lengths=np.full(4, 400),
        present=np.full((4, 400), True),
        imputed=np.full((4, 400), False),
        runs=tuple("abcd"),
    )
    paths = np.zeros((4, 400), int)
    residuals = motion_residuals(p, features, paths)
    assert np.isnan(residuals[:, 0]).all()
    np.testing.assert_allclose(misfit(residuals), 1, atol=0.2)
    assert np.abs(autocorrelation(residuals, paths)).max() < 0.1
    smooth = np.nancumsum(np.nan_to_num(residuals), 1)
    assert autocorrelation(smooth, paths).min() > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"states": (0, 1)}, "states must be different whole numbers from 1 up"),
        ({"states": ()}, "states must be different"),
        ({"restarts": 0}, "restarts and iterations must be at least 1"),
        ({"iterations": 1.5}, "must be whole numbers"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        MapSettings(**changes)


def test_too_few_runs_or_records_are_refused():
    values = np.random.default_rng(0).normal(size=(5, 3, 2))
    with pytest.raises(UserError, match="at least 5 runs"):
        make_map(from_arrays(values[:4]), np.arange(4), QUICK)
    with pytest.raises(UserError, match="at least 2 runs to fit; got 1"):
        make_map(from_arrays(values), np.arange(1), QUICK)
    with pytest.raises(UserError, match=r"8 states are more than the data allow: 10 records.* 5"):
        make_map(from_arrays(values), np.arange(5), MapSettings())
