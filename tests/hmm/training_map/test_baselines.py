import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from seedmap.hmm import CRITERIA, SweepConfig, fit_sweep, from_arrays, select, split_runs, z_score
from seedmap.hmm.training_map.baselines import (
    compare_baselines,
    early_bag_regression,
    fit_and_decode,
    kmeans,
    only_metrics,
    rank_metrics,
)
from seedmap.hmm.training_map.build import Edge, TrainingMap
from seedmap.hmm.training_map.regression import bag_of_states, regress

TRAIN, HELD_OUT = split_runs(10)
CONFIG = SweepConfig(
    states=(1, 2, 3), restarts=2, iterations=10, covariance="diagonal", prior="weak"
)


# k-means


def blobs(num_clusters=3, distance=8.0):
    """10 runs whose checkpoints jump between blobs of unit variance, with one run cut short."""
    rng = np.random.default_rng(0)
    centres = distance * np.eye(4)[:num_clusters]
    labels = rng.choice(num_clusters, (10, 40), p=np.arange(num_clusters, 0, -1) / 6)
    values = centres[labels] + rng.normal(size=(10, 40, 4))
    lengths = [40] * 9 + [25]
    labels[9, 25:] = -1
    return from_arrays(values, lengths), labels


def test_kmeans_finds_planted_clusters_and_their_number():
    sequences, labels = blobs()
    found = kmeans(sequences, TRAIN, HELD_OUT, states=range(1, 7))
    assert found.num_states == 3
    assert found.paths.dtype == np.int32
    np.testing.assert_array_equal(found.paths == -1, labels == -1)
    assert adjusted_rand_score(found.paths.ravel(), labels.ravel()) > 0.99
    assert found.bic[3] == min(found.bic.values())
    assert list(found.bic) == list(range(1, 7))


@pytest.mark.parametrize("num_clusters", [1, 2, 3])
def test_bic_is_that_of_the_mixture_of_gaussians(num_clusters):
    sequences, _ = blobs()
    points = sequences.select(TRAIN).observations()
    others = sequences.select(HELD_OUT).observations()
    reference = KMeans(num_clusters, n_init=20, random_state=0).fit(points)
    variance = reference.inertia_ / points.size
    expected = 0.0
    for point, cluster in zip(others, reference.predict(others), strict=True):
        centre = reference.cluster_centers_[cluster]
        expected += np.log((reference.labels_ == cluster).mean())
        expected += multivariate_normal.logpdf(point, centre, variance * np.eye(4))
    free = num_clusters - 1 + num_clusters * 4 + 1
    bic = -2 * expected + free * np.log(len(others))
    found = kmeans(sequences, TRAIN, HELD_OUT, states=[num_clusters])
    assert found.bic[num_clusters] == pytest.approx(bic, rel=1e-4)


def test_kmeans_refuses_what_it_cannot_cluster():
    sequences, _ = blobs()
    holed = sequences.values.copy()
    holed[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="k-means cannot use missing values"):
        kmeans(replace(sequences, values=holed), TRAIN, HELD_OUT)
    two_values = from_arrays(np.arange(400).reshape(10, 40, 1) % 2.0)
    with pytest.raises(ValueError, match="2 clusters of 2 different training checkpoints"):
        kmeans(two_values, TRAIN, HELD_OUT, states=[2])


# Metrics


def test_only_metrics_keeps_the_named_columns_in_order():
    values = np.random.default_rng(0).normal(size=(2, 5, 3))
    sequences = from_arrays(values, metrics=["a", "b", "c"])
    kept = only_metrics(sequences, ["c", "a"])
    np.testing.assert_array_equal(kept.values, values[:, :, [2, 0]])
    assert kept.metrics == ("c", "a")
    with pytest.raises(ValueError, match="there is no metric l2; there are a, b, c"):
        only_metrics(sequences, ["l2"])


def test_metrics_are_ranked_by_the_runs_whose_edges_they_describe():
    edges = [
        Edge(0, 1, 0.1, 10, 10, (("b", 1.0), ("a", 1.0))),
        Edge(1, 2, 0.1, 4, 4, (("c", 1.0), ("a", 1.0))),
        Edge(0, 2, 0.1, 6, 6, (("c", -1.0), ("d", 2.0))),
    ]
    empty = np.zeros(3)
    tmap = TrainingMap(3, 10, tuple(edges), empty, empty.astype(int), empty, True, 0)
    # Runs: a 14, b 10, c 10, d 6; b and c both stand first where they stand.
    assert rank_metrics(tmap) == ["a", "b", "c", "d"]
    swapped = replace(edges[0], top_features=(("a", 1.0), ("b", 1.0)))
    tmap = replace(tmap, edges=(swapped, *edges[1:]))
    assert rank_metrics(tmap) == ["a", "c", "b", "d"]
    assert rank_metrics(replace(tmap, edges=())) == []


# The first checkpoints


def read_back(num_runs=60, num_steps=50, seed=0):
    """Paths that enter state 1 when the run converges, at a time nothing foretells."""
    arrival = np.random.default_rng(seed).integers(10, num_steps, num_runs)
    paths = (np.arange(num_steps) >= arrival[:, None]).astype(int)
    return paths, 2.0 * np.arange(num_steps), 2.0 * arrival


def test_the_whole_bag_reads_the_outcome_back_and_the_early_bag_cannot():
    paths, steps, outcome = read_back()
    assert regress(bag_of_states(paths, 2), outcome).r2 == pytest.approx(1)
    early = early_bag_regression(paths, steps, outcome, upto=30)
    assert early.num_runs == (outcome > 30).sum() < 60
    assert early.r2 == 0  # all bags are alike: all of state 0


def test_early_bag_foretells_what_can_be_foretold():
    rng = np.random.default_rng(0)
    early = rng.random((40, 20)) < rng.random(40)[:, None]
    outcome = 100 + 80 * early.mean(axis=1) + rng.normal(size=40)
    paths = np.concatenate([early, rng.random((40, 30)) < 0.5], axis=1).astype(int)
    outcome[:3] = np.nan
    outcome[3] = 5.0  # before the step
    found = early_bag_regression(paths, np.arange(50), outcome, upto=19.5)
    expected = regress(bag_of_states(paths[4:, :20], 2), outcome[4:])
    assert found == expected
    assert found.r2 > 0.9
    assert found.num_runs == 36


def test_early_bag_never_reads_the_future():
    paths, steps, outcome = read_back()
    changed = paths.copy()
    changed[:, 16:] = np.random.default_rng(0).integers(0, 2, (60, 34))
    changed[:, -1] = 1  # the same number of states
    first, second = (early_bag_regression(p, steps, outcome, 30) for p in (paths, changed))
    assert first == second


def test_a_step_with_nothing_to_foresee_is_refused():
    paths, steps, outcome = read_back()
    with pytest.raises(ValueError, match="checkpoints begin at step 0 and 60 runs"):
        early_bag_regression(paths, steps, outcome, upto=-1)
    with pytest.raises(ValueError, match=r"at step 98: .* 0 runs have their outcome later"):
        early_bag_regression(paths, steps, outcome, upto=98)


# The comparison


@pytest.fixture(scope="module")
def data():
    """24 runs in three stages; the outcome is the start of the third, the noise metric is noise."""
    rng = np.random.default_rng(0)
    second = rng.integers(8, 14, 24)
    third = second + rng.integers(8, 20, 24)
    time = np.arange(45)
    stage = (time >= second[:, None]).astype(int) + (time >= third[:, None])
    signal = np.array([[0.0, 0], [3, 0], [3, 3]])[stage]
    values = np.concatenate([signal, np.zeros((24, 45, 1))], axis=2)
    values = values + 0.3 * rng.normal(size=values.shape)
    outcome = 10.0 * third
    outcome[5] = np.nan
    return from_arrays(values, metrics=["l2", "trace", "noise"]), outcome, 10.0 * time


@pytest.fixture(scope="module")
def rows(data):
    sequences, outcome, steps = data
    return compare_baselines(sequences, outcome, steps, CONFIG, best=(1, 9), upto=(130, 150))


@pytest.mark.slow
def test_every_baseline_has_its_row(rows):
    assert [row["name"].split(" (")[0] for row in rows] == [
        *("HMM", "k-means", "HMM-1", "best 1", "up to step 130", "up to step 150")
    ]
    assert {row["num_runs"] for row in rows[:4]} == {23}
    for row in rows:
        assert row["leave_one_out_r2"] <= row["r2"] <= 1


@pytest.mark.slow
def test_stages_that_end_with_the_outcome_explain_it_but_do_not_foretell_it(rows):
    by_name = {row["name"].split(" (")[0]: row for row in rows}
    assert by_name["HMM"]["num_states"] == 3
    assert by_name["HMM"]["leave_one_out_r2"] > 0.9
    assert by_name["k-means"]["leave_one_out_r2"] > 0.9
    assert by_name["up to step 150"]["leave_one_out_r2"] < 0.5


@pytest.mark.slow
def test_rows_are_the_regressions_of_the_parts(data, rows):
    sequences, outcome, _ = data
    train, held_out = split_runs(24)
    z = z_score(sequences)
    clusters = kmeans(z, train, held_out, CONFIG.states)
    whole = fit_and_decode(z, train, held_out, CONFIG)
    one = fit_and_decode(only_metrics(z, ["l2"]), train, held_out, CONFIG)
    for row, states in zip(rows, (whole, clusters, one), strict=False):
        expected = regress(bag_of_states(states.paths, states.num_states), outcome)
        assert row["r2"] == pytest.approx(expected.r2)
        assert row["f_pvalue"] == pytest.approx(expected.f_pvalue)
        assert row["num_states"] == states.num_states


@pytest.mark.slow
def test_every_hmm_is_fitted_and_chosen_as_asked(data, monkeypatch):
    sequences, outcome, steps = data
    asked = []

    def one(scaled, *given):
        asked.append(given)
        return fit_and_decode(scaled, *given)

    monkeypatch.setattr("seedmap.hmm.training_map.baselines.fit_and_decode", one)
    rows = compare_baselines(
        *(only_metrics(sequences, ["trace", "noise"]), outcome, steps, CONFIG, 7),
        best=(1,),
        upto=(130,),
        held_out=[2, 5, 11],
        criterion="train_aic",
        one_standard_error=True,
    )
    assert [row["name"].split(" (")[0] for row in rows] == [
        *("HMM", "k-means", "best 1", "up to step 130")  # no HMM-1 without l2
    ]
    assert len(asked) == 3
    for train, held_out, *rest in asked:
        assert sorted({*train, *held_out}) == list(range(24))
        assert list(held_out) == [2, 5, 11]
        assert rest == [CONFIG, 7, "train_aic", True]


@pytest.mark.slow
def test_the_criterion_chooses(data, monkeypatch):
    z, parts = z_score(data[0]), split_runs(24)
    config = replace(CONFIG, states=(1, 2, 3, 4, 5))
    sweep = fit_sweep(*(z.select(part) for part in parts), config, jax.random.key(0))
    monkeypatch.setattr("seedmap.hmm.decoding.fit_sweep", lambda *_: sweep)
    chosen, names = {}, [name for name in CRITERIA if name != "kfold"]
    for given in itertools.product((None, *names), (False, True)):
        chosen[given] = fit_and_decode(z, *parts, config, 0, *given).num_states
        assert chosen[given] == select(sweep, *given).num_states
    assert chosen[None, False] < chosen["train_log_likelihood", False]
    assert any(chosen[name, True] < chosen[name, False] for name in names)


@pytest.mark.slow
def test_early_rows_never_read_the_future(data, rows, monkeypatch):
    sequences, outcome, steps = data
    fitted = []

    def fit_once(scaled, *given):
        # The HMM is fitted to all checkpoints; what is decoded must not be.
        key = scaled.metrics, scaled.values.shape
        known = [decoding for other, decoding in fitted if other == key]
        fitted.append((key, known[0] if known else fit_and_decode(scaled, *given)))
        return fitted[-1][1]

    monkeypatch.setattr("seedmap.hmm.training_map.baselines.fit_and_decode", fit_once)
    changed = sequences.values.copy()
    changed[:, 16:] += np.random.default_rng(1).normal(size=changed[:, 16:].shape)
    both = [
        compare_baselines(given, outcome, steps, CONFIG, best=(), upto=(130, 150))
        for given in (sequences, replace(sequences, values=changed))
    ]
    assert both[0][-2:] == both[1][-2:] == rows[-2:]
    assert both[0][1] != both[1][1]  # k-means has seen the change


@pytest.mark.slow
def test_more_metrics_than_describe_the_map_have_no_row(rows):
    assert not [row for row in rows if row["name"].startswith("best 9")]
