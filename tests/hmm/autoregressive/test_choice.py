"""Starts, halves, the number of states, and what a chooser says of it."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.relaxing import relaxing_runs
from seedmap.hmm.autoregressive import choice
from seedmap.hmm.autoregressive.choice import (
    Material,
    Plan,
    SizeCandidate,
    candidate_row,
    choose,
    draw_halves,
    final_fit,
    sweep_states,
)
from seedmap.hmm.autoregressive.fits import Fitted, precision
from seedmap.hmm.autoregressive.model import Parameters, default_tempering, num_parameters
from seedmap.hmm.autoregressive.records import records_of
from seedmap.hmm.autoregressive.starts import draw_labels, progress_along_the_way
from seedmap.hmm.features import Features, apply_scale, fit_scale
from seedmap.hmm.sequences import from_arrays
from seedmap.hmm.training_map.stability import adjusted_rand_index


def as_features(x, lengths=None, present=None):
    lengths = np.full(len(x), x.shape[1]) if lengths is None else np.array(lengths)
    mask = np.arange(x.shape[1]) < lengths[:, None]
    present = mask if present is None else present
    return Features(x, lengths, present, np.zeros_like(mask), tuple(map(str, range(len(x)))))


# --- starts ---


def test_the_way_is_the_arc_length_of_the_moving_average():
    x = np.random.default_rng(0).normal(size=(2, 40, 3)).cumsum(1)
    shares = progress_along_the_way(as_features(x))
    padded = np.concatenate([x[0][[0, 0]], x[0], x[0][[-1, -1]]])
    smooth = np.array([padded[i : i + 5].mean(0) for i in range(40)])
    way = np.append(0, np.linalg.norm(np.diff(smooth, axis=0), axis=1).cumsum())
    np.testing.assert_allclose(shares[0], way / way[-1], rtol=1e-12)


def test_the_way_of_a_run_does_not_depend_on_its_speed_padding_or_holes():
    corners = np.array([[0.0, 0], [4, 0], [4, 3]])
    slow = np.concatenate([np.linspace(*corners[:2], 20), np.linspace(*corners[1:], 20)])
    x = np.zeros((3, 40, 2))
    x[0], x[1, :10] = slow, slow[::4]
    x[2] = slow
    x[2, 12] = 0
    present = np.arange(40) < np.array([40, 10, 40])[:, None]
    present[2, 12] = False
    shares = progress_along_the_way(as_features(x, [40, 10, 40], present))
    assert abs(shares[0, 20] - 4 / 7) < 0.05
    assert abs(shares[1, 5] - 4 / 7) < 0.1
    assert (shares[1, 10:] == 1).all()
    assert shares[2, 12] >= shares[2, 11]
    np.testing.assert_allclose(shares[2, 20], shares[0, 20], atol=0.05)
    assert (progress_along_the_way(as_features(np.ones((1, 5, 2))))[0, 1:] == 1).all()


def test_cuts_are_common_to_all_runs_and_a_function_of_the_key():
    shares = np.sort(np.random.default_rng(0).random((4, 30)), 1)
    labels = draw_labels(shares, 4, (0, 1))
    np.testing.assert_array_equal(labels, draw_labels(shares, 4, (0, 1)))
    assert (labels != draw_labels(shares, 4, (0, 2))).any()
    order = np.argsort(shares, axis=None)
    assert (np.diff(labels.reshape(-1)[order]) >= 0).all()
    fine = np.linspace(0, 1, 1001)[None]
    first = [(draw_labels(fine, 3, (i,)) == 0).mean() for i in range(400)]
    assert abs(np.mean(first) - 1 / 3) < 0.02  # a share of Dirichlet(3, 3, 3)
    assert abs(np.std(first) - np.sqrt(2 / 90)) < 0.02


# --- the choice ---


def made_up(k, bic, halves):
    fit = Fitted(
        run_log_likelihood=np.zeros(3),
        path_log_likelihood=np.zeros(3),
        paths=np.zeros((3, 4), np.int8),
        parameters=Parameters(*np.zeros((6, 1))),
        tempering=0.5,
        score=1.0,
        iterations=30,
    )
    return SizeCandidate(k, fit, 5, bic, 0.0, np.array(halves), 0.4, np.array([1.0]), (), "")


@pytest.mark.parametrize(
    ("halves", "expected"),
    [
        ({1: [], 2: [0.9], 3: [0.8], 4: [0.9]}, 3),
        ({1: [], 2: [0.9], 3: [0.6], 4: [0.9]}, 4),
        ({1: [], 2: [0.9], 3: [0.6, 0.8], 4: [0.9]}, 3),
        ({1: [], 2: [0.6], 3: [0.6], 4: [0.1]}, 1),
        ({2: [0.6], 3: [0.69], 4: [0.1]}, 3),
    ],
)
def test_lowest_bic_among_those_that_halves_agree_on(halves, expected):
    bic = {1: 100.0, 2: 50.0, 3: 10.0, 4: 20.0}
    candidates = [made_up(k, bic[k], values) for k, values in halves.items()]
    assert choose(candidates).num_states == expected


def test_parameters_in_closed_form_and_tempering():
    """3 states over 4 components: 8 probabilities, 3 x 20 of the motion, 3 x 10 of its noise."""
    assert num_parameters(3, 4) == 8 + 60 + 30
    assert default_tempering(np.array([5, 201, 301])) == 33 / 200
    assert default_tempering(np.array([21])) == default_tempering(np.array([1])) == 0.5


def test_halves_share_no_run_and_leave_none_out():
    weights = np.array([1, 1, 0, 1, 1, 1, 1.0])
    halves = draw_halves(weights, 3, seed=0)
    assert halves.shape == (6, 7)
    np.testing.assert_array_equal(halves[::2] + halves[1::2], np.tile(weights, (3, 1)))
    assert set(halves.sum(1)) == {3.0}
    np.testing.assert_array_equal(draw_halves(weights, 2, 0), halves[:4])


@pytest.fixture(scope="module")
def material():
    sequences = from_arrays(relaxing_runs(16, 50, 3, seed=2)[0])
    features = apply_scale(fit_scale(sequences), sequences)
    with precision():
        records = records_of(features)
    shares = progress_along_the_way(features)
    return Material(records, features.mask, shares, np.ones(16))


def test_a_sweep_of_planted_runs(material):
    plan = Plan((1, 2, 3, 5), restarts=2, pairs=2, half_restarts=2)
    done = []
    with precision():
        candidates = sweep_states(material, plan, 0.5, done.append)
        again = sweep_states(material, replace(plan, states=(3, 1)), 0.5)
        more = final_fit(material, plan, candidates[2], 6)
    chosen = choose(candidates)
    assert chosen.num_states == 3
    assert sum(done) == 1 + 3 * 2 + 2 * (4 + 2 * 2)  # starts; halves of 3, a pair of 2 and of 5
    assert [len(c.halves) for c in candidates] == [0, 1, 2, 1]
    assert chosen.reason.startswith("lowest BIC")
    assert "nats above that of the chosen" in candidates[1].reason
    np.testing.assert_allclose(again[0].bic, chosen.bic, rtol=1e-9)  # whatever else is swept
    assert more.score >= chosen.fit.score
    for c in candidates:
        size = num_parameters(c.num_states, int(material.records.num_components))
        penalty = size * np.log(16 * 49 * 0.5)
        np.testing.assert_allclose(c.bic, penalty - 2 * c.fit.run_log_likelihood.sum())
        np.testing.assert_allclose(c.icl, penalty - 2 * c.fit.path_log_likelihood.sum())
        assert c.fit.score == pytest.approx(c.fit.run_log_likelihood.sum() / (16 * 49))
        assert c.scores.max() == c.fit.score
        assert len(c.starts) == len(c.scores)
        np.testing.assert_array_equal(c.starts[0], c.fit.paths)
    row = candidate_row(chosen)
    assert row["agreement"] == chosen.halves.mean() > 0.7
    assert row["log_likelihood"] == chosen.fit.score / 0.5
    assert candidate_row(candidates[0])["agreement"] == 1


def test_chance_is_the_agreement_of_unrelated_cuts(material):
    """Far above 0, as both follow time: what agreement has to be compared with."""
    found = choice._chance(material, Plan(), 3)
    draws = [draw_labels(material.shares, 3, (7, i)).astype(int) for i in range(60)]
    pairs = zip(draws[::2], draws[1::2], strict=True)
    expected = np.mean([adjusted_rand_index(*pair) for pair in pairs])
    assert abs(found - expected) < 0.12
    assert found > 0.3
