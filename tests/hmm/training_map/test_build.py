import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.hmm.parameters import Parameters, log_densities
from seedmap.hmm.sequences import from_arrays
from seedmap.hmm.training_map.build import belief_gradient, build_map, importance
from seedmap.hmm.training_map.entries import smoothed_entries
from seedmap.hmm.training_map.transitions import returns, transitions_made


def random_hmm(num_states=3, num_metrics=4, seed=0):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(num_states, num_metrics, num_metrics))
    return Parameters(
        initial=rng.dirichlet(np.ones(num_states)),
        transition=rng.dirichlet(np.ones(num_states), size=num_states),
        means=rng.normal(size=(num_states, num_metrics)),
        covariances=factors @ factors.transpose(0, 2, 1) + 0.5 * np.eye(num_metrics),
    )


def log_beliefs(parameters, run, last):
    """Log p(s_t | z_1:t) [state] with z_t = `last`; `run` [t - 1, metric] may hold NaN."""
    beliefs = jnp.log(parameters.initial)
    for index, z in enumerate([*run, last]):
        seen = np.flatnonzero(~np.isnan(z)) if index < len(run) else np.arange(len(last))
        log_densities = jnp.stack(
            [
                jax.scipy.stats.multivariate_normal.logpdf(
                    jnp.asarray(z)[seen], mean[seen], covariance[np.ix_(seen, seen)]
                )
                for mean, covariance in zip(parameters.means, parameters.covariances, strict=True)
            ]
        )
        if index:
            beliefs = jax.nn.logsumexp(beliefs[:, None] + jnp.log(parameters.transition), axis=0)
        beliefs = jax.nn.log_softmax(beliefs + log_densities)
    return beliefs


def autodiff_gradient(parameters, run, time):
    return jax.jacobian(lambda z: log_beliefs(parameters, run[:time], z))(run[time])


def test_belief_gradient_is_autodiff_through_the_forward_filter():
    parameters, run = random_hmm(), np.random.default_rng(1).normal(size=(6, 4))
    with jax.enable_x64(True):
        beliefs = np.stack([jnp.exp(log_beliefs(parameters, run[:t], run[t])) for t in range(6)])
        expected = np.stack([autodiff_gradient(parameters, run, t) for t in range(6)])
    assert expected.dtype == np.float64
    np.testing.assert_allclose(
        belief_gradient(parameters, run, beliefs), expected, rtol=1e-9, atol=1e-11
    )


def test_importance_is_the_size_of_the_gradient_and_nan_on_padding():
    parameters, rng = random_hmm(seed=2), np.random.default_rng(3)
    runs = [rng.normal(size=(5, 4)), rng.normal(size=(3, 4))]
    with jax.enable_x64(True):
        result = importance(parameters, from_arrays(runs))
        for index, run in enumerate(runs):
            for time in range(len(run)):
                expected = np.abs(autodiff_gradient(parameters, run, time))
                np.testing.assert_allclose(result[index, time], expected, rtol=1e-7, atol=1e-9)
    assert result.shape == (2, 5, 3, 4)
    assert np.isnan(result[1, 3:]).all()


def test_importance_marginalises_missing_metrics():
    parameters, rng = random_hmm(seed=4), np.random.default_rng(5)
    run = rng.normal(size=(4, 4))
    run[1, 2] = np.nan
    run[2] = np.nan
    run[3, [0, 3]] = np.nan
    with jax.enable_x64(True):
        result = importance(parameters, from_arrays([run]))[0]
        # The last checkpoint: differentiate the filter of the HMM over the metrics seen there.
        seen = np.array([1, 2])
        before = jnp.exp(log_beliefs(parameters, run[:2], run[2, :0]))
        marginal = Parameters(
            initial=before @ parameters.transition,
            transition=parameters.transition,
            means=parameters.means[:, seen],
            covariances=parameters.covariances[:, seen[:, None], seen],
        )
        expected = np.abs(autodiff_gradient(marginal, run[3:, seen], 0))
    np.testing.assert_allclose(result[3][:, seen], expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(np.isnan(result).any(axis=1), np.isnan(run))


# Two metrics tell states 0 and 1 apart, and so on; all states share one diagonal covariance, for
# which the importance for k, when only j competes, is proportional to |mu_k - mu_j| / variance.
MEANS = np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 2.0, -3.0, 0.5], [9.0, 9.0, 9.0, 9.0]])
VARIANCES = np.array([0.1, 1.0, 10.0, 1.0])
HAND_MADE = Parameters(
    initial=np.array([0.8, 0.1, 0.1]),
    transition=np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.1, 0.1, 0.8]]),
    means=MEANS,
    covariances=np.tile(np.diag(VARIANCES), (3, 1, 1)),
)
PATHS = np.array([[0, 0, 1, 1, 1], [0, 1, 0, 1, -1], [0, 0, 0, 0, 0], [0, 1, 2, 2, 2]])


def hand_made_sequences():
    between = (MEANS[0] + MEANS[1]) / 2  # beliefs stay unsure between states 0 and 1
    values = [np.where(path[:, None] == 2, MEANS[2], between) for path in PATHS]
    return from_arrays(
        [v[path >= 0] for v, path in zip(values, PATHS, strict=True)],
        metrics=("l1", "l2", "trace", "spectral"),
    )


def test_hand_made_map():
    result = build_map(HAND_MADE, hand_made_sequences(), PATHS)
    assert (result.num_states, result.num_runs) == (3, 4)
    edges = {(e.source, e.target): e for e in result.edges}
    assert list(edges) == [(0, 1), (1, 0), (1, 2)]  # the other three are never used
    assert [e.num_runs for e in result.edges] == [3, 1, 1]
    assert [e.count for e in result.edges] == [4, 1, 1]
    assert [e.probability for e in result.edges] == pytest.approx([0.1, 0.3, 0.1])
    # |mu_1 - mu_0| / variance = 10, 2, 0.3, 0.5
    top = (("l1", 1.0), ("l2", 2.0), ("spectral", 0.5))
    assert edges[0, 1].top_features == top
    assert edges[1, 0].top_features == tuple((name, -change) for name, change in top)
    np.testing.assert_allclose(result.occupancy, np.array([10, 6, 3]) / 19, rtol=1e-15)
    np.testing.assert_array_equal(result.visits, [4, 3, 1])
    np.testing.assert_allclose(result.first_visit, [0, (2 + 1 + 1) / 3, 2], rtol=1e-15)
    assert not result.forking


def smoothed_transitions(parameters, run):
    """p(s_t-1 = j, s_t = k | run) [time - 1, state, state], over all paths."""
    num_states, length = len(parameters.initial), len(run)
    densities = np.exp(log_densities(parameters, run))
    joint = np.zeros((length - 1, num_states, num_states))
    for path in itertools.product(range(num_states), repeat=length):
        weight = parameters.initial[path[0]] * densities[np.arange(length), path].prod()
        weight *= parameters.transition[path[:-1], path[1:]].prod()
        joint[np.arange(length - 1), path[:-1], path[1:]] += weight
    return joint / joint[0].sum()


def test_metrics_are_weighed_over_the_records_at_which_the_entry_may_have_been():
    parameters = random_hmm(num_states=3, num_metrics=5, seed=8)
    values = np.random.default_rng(9).normal(size=(2, 7, 5))
    sequences = from_arrays(values)
    paths = np.array([[0, 0, 0, 1, 1, 1, 2], [1, 1, 0, 0, 0, 1, 1]])
    windows = {  # (source, target): run, first and last record at which the target may begin
        (0, 1): [(0, 1, 5), (1, 3, 6)],
        (1, 2): [(0, 4, 6)],
        (1, 0): [(1, 1, 4)],
    }
    sizes = importance(parameters, sequences)
    edges = build_map(parameters, sequences, paths).edges
    assert [(edge.source, edge.target) for edge in edges] == sorted(windows)
    for edge in edges:
        total = np.zeros(5)
        for run, first, last in windows[edge.source, edge.target]:
            joint = smoothed_transitions(parameters, values[run])[:, edge.source, edge.target]
            weight = joint[first - 1 : last]
            weight = np.where(weight < 1e-3 * weight.sum(), 0, weight)
            total += weight / weight.sum() @ sizes[run, first : last + 1, edge.target]
        change = parameters.means[edge.target] - parameters.means[edge.source]
        top = np.argsort(-total)[:3]
        assert edge.top_features == tuple((f"metric_{i}", change[i]) for i in top)


def test_records_of_an_entry_have_their_smoothed_weights():
    parameters, run = random_hmm(seed=10), np.random.default_rng(11).normal(size=(1, 6, 4))
    paths = np.array([[0, 0, 0, 2, 2, 2]])
    made = transitions_made(paths)
    found = smoothed_entries(parameters, from_arrays(run), paths, made)
    expected = smoothed_transitions(parameters, run[0])[:, 0, 2]
    assert found.times.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(found.weights, expected / expected.sum(), rtol=1e-5)
    never = parameters._replace(transition=np.eye(3))
    assert smoothed_entries(never, from_arrays(run), paths, made).times.tolist() == [3]


def test_top_features_as_decoded_are_those_most_important_when_the_target_is_entered():
    rng = np.random.default_rng(6)
    parameters = random_hmm(num_states=3, num_metrics=7, seed=7)
    sequences = from_arrays(rng.normal(size=(4, 12, 7)))
    paths = rng.integers(3, size=(4, 12))
    sizes = importance(parameters, sequences)
    uses = {}
    for run, path in enumerate(paths.tolist()):
        for time in range(1, 12):
            if path[time - 1] != path[time]:
                edge = path[time - 1], path[time]
                uses.setdefault(edge, []).append(sizes[run, time, path[time]])
    edges = build_map(parameters, sequences, paths, as_decoded=True).edges
    assert {(e.source, e.target): e.count for e in edges} == {e: len(u) for e, u in uses.items()}
    for edge in edges:
        top = np.argsort(-np.mean(uses[edge.source, edge.target], axis=0))[:3]
        change = parameters.means[edge.target] - parameters.means[edge.source]
        assert edge.top_features == tuple((f"metric_{i}", change[i]) for i in top)


def test_graph_and_table():
    result = build_map(HAND_MADE, hand_made_sequences(), PATHS)
    graph = result.graph()
    assert set(graph.nodes) == {0, 1, 2}
    assert set(graph.edges) == {(0, 1), (1, 0), (1, 2)}
    assert graph.nodes[1] == {
        "occupancy": pytest.approx(6 / 19),
        "visits": 3,
        "first_visit": pytest.approx(4 / 3),
    }
    assert graph.edges[0, 1]["share"] == 0.75
    assert graph.edges[0, 1]["top_features"] == result.edges[0].top_features
    table = json.loads(json.dumps(result.table(), allow_nan=False))
    assert table[0] == {
        "from": 0,
        "to": 1,
        "probability": pytest.approx(0.1),
        "num_runs": 3,
        "share": 0.75,
        "count": 4,
        "top_features": [["l1", 1.0], ["l2", 2.0], ["spectral", 0.5]],
    }


def test_a_metric_never_seen_on_an_edge_does_not_describe_it():
    sequences = hand_made_sequences()
    sequences.values[:, :, :2] = np.nan
    edge = build_map(HAND_MADE, sequences, PATHS).edges[0]
    assert edge.top_features == (("spectral", 0.5), ("trace", -3.0))


def test_a_state_no_run_visits():
    paths = np.array([[0, 0, 1], [0, 1, 1]])
    result = build_map(HAND_MADE, from_arrays([np.zeros((3, 4))] * 2), paths)
    np.testing.assert_array_equal(result.visits, [2, 2, 0])
    np.testing.assert_array_equal(result.first_visit, [0, 1.5, np.nan])
    assert set(result.graph().nodes) == {0, 1, 2}


@pytest.mark.parametrize(
    ("paths", "forking"),
    [
        ([[0, 0, 1, 2], [0, 1, 2, 2]], False),
        ([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2]], False),  # runs that end early
        ([[0, 1, 0, 2], [0, 1, 2, 0]], False),  # going back is no new state
        ([[0, 1, 2, 2], [0, 2, 2, 2]], True),  # a skipped state
        ([[0, 1, 2, 2], [0, 2, 1, 1]], True),
        ([[0, 0, 0, 0], [1, 1, 1, 1]], True),
    ],
)
def test_forking(paths, forking):
    sequences = from_arrays([np.zeros((4, 4))] * len(paths))
    assert build_map(HAND_MADE, sequences, np.array(paths)).forking is forking


@pytest.mark.parametrize(
    ("path", "back"),
    [
        ([0, 0, 1, 2], False),
        ([0, 1, 0, -1], True),
        ([2, 1, 1, 2], True),
        ([1, 1, -1, -1], False),
        ([0, 1, 2, 1], True),
    ],
)
def test_a_run_returns_to_a_state_it_had_left(path, back):
    assert returns(np.array(path)) == back


def test_a_map_with_a_step_back_says_so_and_claims_no_single_path():
    paths = np.array([[0, 0, 1, 2], [0, 1, 2, 2], [0, 1, 0, 2]])
    sequences = from_arrays(np.zeros((3, 4, 4)))
    tmap = build_map(random_hmm(), sequences, paths)
    assert tmap.num_returning == 1
    assert tmap.order == "one order of first visits; 1 of 3 runs goes back"


def test_relabelling_the_states_relabels_the_map():
    order = np.array([2, 0, 1])  # new state i is the old order[i]
    relabelled = Parameters(
        HAND_MADE.initial[order],
        HAND_MADE.transition[np.ix_(order, order)],
        HAND_MADE.means[order],
        HAND_MADE.covariances[order],
    )
    paths = np.where(PATHS < 0, -1, np.argsort(order)[PATHS])
    old = build_map(HAND_MADE, hand_made_sequences(), PATHS).table()
    new = build_map(relabelled, hand_made_sequences(), paths).table()
    for row in new:
        row["from"], row["to"] = order[row["from"]], order[row["to"]]
    assert sorted(new, key=lambda row: (row["from"], row["to"])) == old


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (PATHS[:, :4], r"\[run, time\]"),
        (np.where(PATHS == 2, 3, PATHS), "states 0 to 2"),
        (np.where(PATHS < 0, 0, PATHS), "padding"),
    ],
)
def test_paths_that_do_not_fit(paths, message):
    with pytest.raises(ValueError, match=message):
        build_map(HAND_MADE, hand_made_sequences(), paths)
