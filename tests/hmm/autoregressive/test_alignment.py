"""Lasting offsets of runs, and how much their records count for."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.phases import phases
from helpers.relaxing import relaxing_runs
from seedmap.hmm.autoregressive.alignment import align_runs
from seedmap.hmm.autoregressive.choice import Plan, final_fit, make_material
from seedmap.hmm.autoregressive.engine import MapSettings, make_map
from seedmap.hmm.autoregressive.fits import Job, fits_of_states, make_fits, precision
from seedmap.hmm.autoregressive.model import REGULARISATION, default_tempering
from seedmap.hmm.autoregressive.refits import refit_resamples
from seedmap.hmm.autoregressive.residuals import design_effect
from seedmap.hmm.features import Features, apply_scale, fit_scale
from seedmap.hmm.sequences import from_arrays
from seedmap.hmm.training_map.stability import adjusted_rand_index

RUNS, RECORDS = 24, 60
SHAPE = (RUNS, RECORDS, 4)  # of most runs here: one program, where others take one of their own


def features_of(x, lengths=None):
    """Runs [run, time, component] as the engine takes them."""
    runs, steps = x.shape[:2]
    lengths = np.full(runs, steps) if lengths is None else np.asarray(lengths)
    mask = np.arange(steps) < lengths[:, None]
    names = tuple(map(str, range(runs)))
    return Features(np.where(mask[:, :, None], x, 0.0), lengths, mask, np.zeros_like(mask), names)


@pytest.fixture(scope="module")
def relaxed():
    """Runs through 3 places in 4 components, and their true states."""
    values, states = relaxing_runs(RUNS, RECORDS, 3, seed=2)
    sequences = from_arrays(values)
    return apply_scale(fit_scale(sequences), sequences).x, states


def test_planted_offsets_are_taken_off_and_the_rest_stays(relaxed):
    x, _ = relaxed
    planted = 0.5 * np.random.default_rng(0).normal(size=(RUNS, 1, x.shape[2]))
    lengths = np.r_[np.full(RUNS - 1, RECORDS), RECORDS - 5]
    with precision():
        without = align_runs(features_of(x, lengths), np.arange(RUNS), 0)
        aligned = align_runs(features_of(x + planted, lengths), np.arange(RUNS), 0)
    mask = without.features.mask
    moved = (x + planted - aligned.features.x)[mask[:, 0]]
    assert np.ptp(moved[:-1], axis=1) == pytest.approx(0, abs=1e-12)  # one offset for all records
    assert (aligned.features.x[~mask] == 0).all()
    left = (aligned.features.x - without.features.x)[:, 0]
    assert left.std() < 0.3 * planted.std()
    assert aligned.num_common == 3
    assert 0 < aligned.tempering <= default_tempering(lengths)


def test_runs_that_are_not_fitted_have_offsets_by_the_fitted_ones(relaxed):
    x = relaxed[0] + 0.5 * np.random.default_rng(0).normal(size=(RUNS, 1, relaxed[0].shape[2]))
    far = x.copy()
    far[-1] += 100.0
    fitted = np.arange(RUNS - 1)
    with precision():
        one = align_runs(features_of(x), fitted, 0)
        other = align_runs(features_of(far), fitted, 0)
    np.testing.assert_array_equal(one.features.x[fitted], other.features.x[fitted])
    assert one.tempering == other.tempering
    assert np.abs(other.features.x[-1]).max() < 50


def test_states_are_nearer_to_the_truth_than_those_of_runs_with_their_offsets(monkeypatch):
    # Halves, most of the fits, choose nothing where one number of states is tried.
    monkeypatch.setattr(MapSettings, "plan", Plan((4,), 3, pairs=1, half_restarts=1))
    settings = MapSettings(states=(4,), restarts=3, final_restarts=3, resamples=0)
    aligned, raw = [], []
    for seed in range(4):
        planted = phases("single", (7, seed), num_runs=24, num_records=100, num_phases=4)
        sequences, weights = from_arrays(planted.values), np.ones(24)
        made = make_map(sequences, np.arange(24), settings)
        with precision():
            material = make_material(made.features, np.arange(24))
            start, tempering = made.paths.astype(np.int8), made.model.tempering
            jobs = [Job(4, start, weights, tempering, 60)]
            (fit,) = make_fits(material.records, material.mask, jobs)
        aligned.append(adjusted_rand_index(planted.states, made.paths))
        raw.append(adjusted_rand_index(planted.states, fit.paths))
    assert np.mean(aligned) > 0.8
    assert np.mean(aligned) > np.mean(raw)


def test_given_states_are_fitted_as_weighted_regressions_and_counts(relaxed):
    x, states = relaxed
    lengths = np.r_[np.full(RUNS - 1, RECORDS), RECORDS - 9]
    features = features_of(x, lengths)
    weights = np.arange(RUNS) % 3.0
    with precision():
        material = make_material(features, np.arange(RUNS))
        jobs = [Job(3, states.astype(np.int8), weights, 0.3, 0)] * 5  # more than lanes
        fits = fits_of_states(material.records, material.mask, jobs)
    assert len(fits) == 5
    found = fits[4].parameters
    rows = [(r, t) for r in range(RUNS) for t in range(1, lengths[r])]
    count = np.full((3, 3), REGULARISATION.counts)
    first = np.full(3, REGULARISATION.counts)
    for r, t in rows:
        if t == 1:
            first[states[r, 1]] += weights[r]
        else:
            count[states[r, t - 1], states[r, t]] += weights[r]
    np.testing.assert_allclose(found.transition, count / count.sum(1, keepdims=True), rtol=1e-10)
    np.testing.assert_allclose(found.initial, first / first.sum(), rtol=1e-10)
    for k in range(3):
        mine = [(r, t) for r, t in rows if states[r, t] == k]
        w = np.array([weights[r] for r, _ in mine])
        u = np.array([[1.0, *x[r, t - 1]] for r, t in mine])
        y = np.array([x[r, t] - x[r, t - 1] for r, t in mine])
        ridge = REGULARISATION.ridge * np.diag([1e-4, *np.ones(x.shape[2])])
        motion = np.linalg.solve((u.T * w) @ u + ridge, (u.T * w) @ y)
        np.testing.assert_allclose(found.motion[k], motion, rtol=1e-6, atol=1e-9)
        residual = y - u @ motion
        noise = (residual.T * w) @ residual / w.sum() + REGULARISATION.noise * np.eye(x.shape[2])
        np.testing.assert_allclose(found.noise[k], noise, rtol=1e-6, atol=1e-9)


def test_a_state_without_records_has_the_densities_of_all_and_takes_none(relaxed):
    x, states = relaxed
    features = features_of(x)
    with precision():
        material = make_material(features, np.arange(RUNS))
        weights = np.ones(RUNS)
        jobs = [
            Job(4, states.astype(np.int8), weights, 0.3, 0),
            Job(3, states.astype(np.int8), weights, 0.3, 0),
            Job(1, np.zeros_like(states, np.int8), weights, 0.3, 0),
        ]
        four, three, one = fits_of_states(material.records, material.mask, jobs)
    np.testing.assert_allclose(four.parameters.motion[3], one.parameters.motion[0])
    np.testing.assert_allclose(four.parameters.spread[3], one.parameters.spread[0])
    np.testing.assert_allclose(four.parameters.location[:3], three.parameters.location)
    np.testing.assert_array_equal(four.paths, three.paths)


def total_spread(parameters):
    """Of all states and components."""
    return np.trace(parameters.spread, axis1=1, axis2=2).sum()


def test_the_map_has_the_densities_of_the_runs_as_recorded(monkeypatch):
    planted = phases("single", (7, 9), num_runs=20, num_records=RECORDS, num_phases=3)
    sequences = from_arrays(planted.values)
    monkeypatch.setattr(MapSettings, "plan", Plan((3,), 1, pairs=1, half_restarts=1))
    settings = MapSettings(states=(3,), restarts=1, final_restarts=1, resamples=2)
    made = make_map(sequences, np.arange(20), settings)
    with precision():
        aligned = align_runs(made.features, np.arange(20), settings.seed)
        chosen = final_fit(aligned.material, settings.plan, made.candidates[0], 1)
        recorded = make_material(made.features, np.arange(20)).records
        states = [Job(3, chosen.paths, np.ones(20), aligned.tempering, 0)]
        spreads, of_refits = [], []
        for records in (recorded, aligned.material.records):
            (fit,) = fits_of_states(records, made.features.mask, states)
            call = (aligned.material, settings.plan, chosen, 2, records, lambda fits: None)
            spreads.append(total_spread(fit.parameters))
            of_refits.append([total_spread(refit.parameters) for refit in refit_resamples(*call)])
    assert total_spread(made.model.parameters) == pytest.approx(spreads[0])
    assert [total_spread(refit) for refit in made.model.refits] == pytest.approx(of_refits[0])
    assert spreads[0] > 1.1 * spreads[1]  # offsets are in it
    assert min(of_refits[0]) > 1.1 * max(of_refits[1])


def test_runs_that_have_no_states_in_common_keep_their_offsets():
    """Two groups far apart, each around a place of its own."""
    rng = np.random.default_rng(1)
    x = 0.1 * rng.normal(size=(RUNS, RECORDS, 2)) + 5.0 * (np.arange(RUNS) % 2)[:, None, None]
    with precision():
        aligned = align_runs(features_of(x), np.arange(RUNS), 0)
    assert aligned.num_common < 2
    np.testing.assert_array_equal(aligned.features.x, x)
    settings = MapSettings(states=(2,), restarts=1, final_restarts=1, resamples=1)
    noted = make_map(from_arrays(x), np.arange(RUNS), settings).notes
    assert any("too few states in common" in note for note in noted)


def test_runs_that_stand_still_count_as_any():
    x = np.repeat(np.random.default_rng(0).normal(size=(RUNS, 1, 4)), RECORDS, axis=1)
    lengths = np.full(RUNS, 30)
    with precision():
        assert align_runs(features_of(x, lengths), np.arange(RUNS), 0).tempering == 0.5


def regressed(residuals, x):
    """Residuals less their own regression, as those of a fit are, of variance 1."""
    size = x.shape[2]
    u = np.concatenate([np.ones_like(x[:, :, :1]), np.roll(x, 1, axis=1)], 2)[:, 1:]
    flat, y = u.reshape(-1, size + 1), residuals[:, 1:].reshape(-1, size)
    left = y - flat @ np.linalg.lstsq(flat, y, rcond=None)[0]
    out = np.full_like(residuals, np.nan)
    out[:, 1:] = (left / left.std(0)).reshape(len(x), -1, size)
    return out


def test_design_effect_of_independent_and_of_repeated_records():
    rng = np.random.default_rng(3)
    x, paths = rng.normal(size=(60, 41, 2)), np.zeros((60, 41), int)
    one = [design_effect(regressed(rng.normal(size=x.shape), x), x, paths) for _ in range(100)]
    assert np.mean(one) == pytest.approx(1, abs=4 * np.std(one) / np.sqrt(len(one)))
    tens = []
    for _ in range(100):
        repeated = np.repeat(rng.normal(size=(60, 5, 4)), 10, axis=1)[:, 9:]  # from record 1 on
        before, after = np.roll(repeated[:, :, :2], -1, axis=1), repeated[:, :, 2:]
        tens.append(design_effect(regressed(after, before), before, paths))
    assert np.mean(tens) == pytest.approx(10, abs=4 * np.std(tens) / np.sqrt(len(tens)) + 0.1)


def test_design_effect_is_the_ratio_of_two_sandwiches():
    """tr(H^-1 J) / p written out with the Kronecker product, over two states."""
    rng = np.random.default_rng(4)
    x, paths = rng.normal(size=(12, 30, 2)), rng.integers(0, 2, (12, 30))
    paths[0, 5:25] = 2  # one run alone says nothing of runs
    residuals = rng.normal(size=x.shape) + rng.normal(size=(12, 1, 2))
    residuals[:, 0] = np.nan
    each = []
    for k in (0, 1):
        hessian, outer = np.zeros((6, 6)), np.zeros((6, 6))
        for run in range(12):
            score = np.zeros(6)
            for t in range(1, 30):
                if paths[run, t] == k:
                    u = np.r_[1.0, x[run, t - 1]]
                    hessian += np.kron(np.outer(u, u), np.eye(2))
                    score += np.kron(u, residuals[run, t])
            outer += np.outer(score, score)
        mine = residuals[(paths == k) & (np.arange(30) > 0)]
        noise = np.kron(np.eye(3), mine.T @ mine / len(mine))  # of hessian's missing factor
        each.append(np.trace(np.linalg.solve(noise, np.linalg.solve(hessian, outer))) / 6)
    assert design_effect(residuals, x, paths) == pytest.approx(np.mean(each) * 12 / 11)
    assert design_effect(residuals[:1, :6], x[:1, :6], paths[:1, :6]) == 1.0  # too few records


def test_records_of_runs_that_are_pushed_for_long_each_its_own_way_count_less(relaxed):
    x, _ = relaxed
    pushes = 0.2 * np.random.default_rng(0).normal(size=(RUNS, 3, x.shape[2]))
    drifting = x + np.repeat(pushes, RECORDS // 3, axis=1).cumsum(1)
    with precision():
        usual = align_runs(features_of(x), np.arange(RUNS), 0).tempering
        less = align_runs(features_of(drifting), np.arange(RUNS), 0).tempering
    assert usual == default_tempering(np.full(RUNS, RECORDS))
    assert less < 0.7 * usual


def test_too_little_to_align_changes_nothing():
    """Runs of 2 records have no state in common but one; offsets are zero or finite."""
    x, two = np.random.default_rng(0).normal(size=SHAPE), np.full(RUNS, 2)
    with precision():
        aligned = align_runs(features_of(x, two), np.arange(RUNS), 0)
    assert np.isfinite(aligned.features.x).all()
    assert aligned.tempering == 0.5
    none = np.zeros(SHAPE[:2], bool)
    same = replace(features_of(x, two), present=none, x=np.zeros_like(x))
    with precision():
        nothing = align_runs(same, np.arange(RUNS), 0)
    assert (nothing.features.x == 0).all()
