"""Measures of replicas against loops over pairs and points, closed forms and hand-made cases."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from seedmap.experiments import noise
from seedmap.experiments.networks.logits import score_logits

RNG = np.random.default_rng(0)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws():
    """Whichever tests run before."""
    RNG.bit_generator.state = START


# Predictions and logits


@settings(deadline=None)  # score_logits compiles
@given(
    hnp.arrays(np.float32, (3, 4, 3), elements=st.sampled_from([-1.0, 0.0, 1.0, np.inf, np.nan])),
    hnp.arrays(np.int32, 4, elements=st.integers(0, 2)),
)
def test_what_is_right_is_the_projects_rule(logits, label):
    expected = [
        score_logits(jnp.asarray(of_replica), jnp.asarray(label))[1] for of_replica in logits
    ]
    np.testing.assert_array_equal(noise.correctness(logits, label), np.asarray(expected) == 1)


def test_a_tie_is_wrong_though_argmax_falls_on_the_label():
    logits, label = np.array([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0]]), np.array([0, 0])
    assert np.argmax(logits, axis=-1).tolist() == [0, 0]
    assert noise.correctness(logits, label).tolist() == [False, True]


def test_accuracy_is_the_share_of_points():
    np.testing.assert_array_equal(
        noise.accuracy(np.array([[True, False, True, True], [False] * 4])), [0.75, 0.0]
    )
    with pytest.raises(ValueError, match="replica, test point"):
        noise.accuracy(np.zeros((3, 0), bool))


@given(hnp.arrays(np.int64, (5, 7), elements=st.integers(0, 2)))
def test_churn_is_the_share_of_points_on_which_two_disagree(prediction_RxN):
    expected = [
        [sum(a != b for a, b in zip(first, second, strict=True)) / 7 for second in prediction_RxN]
        for first in prediction_RxN
    ]
    np.testing.assert_allclose(noise.churn(prediction_RxN), expected, rtol=1e-15)


def test_churn_by_hand():
    found = noise.churn(np.array([[0, 1, 2, 3], [0, 1, 2, 0], [3, 2, 1, 0]]))
    np.testing.assert_array_equal(found, [[0, 0.25, 1], [0.25, 0, 0.75], [1, 0.75, 0]])


def test_standard_deviation_of_equal_replicas_is_exactly_zero():
    assert np.std([0.1] * 3, ddof=1) > 0  # as NumPy has it
    assert noise.standard_deviation(np.full(3, 0.1)) == 0
    values = RNG.normal(size=(6, 4))
    np.testing.assert_allclose(noise.standard_deviation(values), np.std(values, axis=0, ddof=1))
    with pytest.raises(ValueError, match="at least 2 replicas"):
        noise.standard_deviation(np.ones((1, 3)))


def test_logit_correlation_is_pearsons():
    logits = RNG.normal(size=(4, 9, 3)).astype(np.float32) + RNG.normal(size=(9, 3))
    expected = np.corrcoef(logits.reshape(4, -1))
    np.testing.assert_allclose(noise.logit_correlation(logits), expected, atol=1e-14)


def test_logit_correlation_does_not_see_offsets_and_scales_but_sees_sign():
    one = RNG.normal(size=(50, 3))
    found = noise.logit_correlation(np.stack([one, 5 * one + 1e3, -one, one]))
    sign = np.array([1, 1, -1, 1])
    np.testing.assert_allclose(found, np.outer(sign, sign), atol=1e-12)
    assert found[0, 3] == 1.0


def test_logit_correlation_refuses_what_has_none():
    logits = RNG.normal(size=(3, 3, 2))
    logits[1] = 0.7  # six times this over six is another number
    assert np.mean(logits[1]) != 0.7
    with pytest.raises(ValueError, match=r"replica 1 are all alike"):
        noise.logit_correlation(logits)
    logits[2, 0, :] = [np.inf, -np.inf]
    with pytest.raises(ValueError, match=r"replica 2 are not finite"):
        noise.logit_correlation(logits)


def test_ensemble_gain_by_hand():
    label = np.array([0, 0, 1, 1])
    first = np.array([[3, 0], [0, 1], [0, 3], [1, 0]], float)  # right, wrong, right, wrong
    second = np.array([[0, 1], [3, 0], [1, 0], [2, 0]], float)  # wrong, right, wrong, wrong
    found = noise.ensemble_gain(np.stack([first, second]), label)
    # Together 3 of 4 are right; alone 2 and 1.
    np.testing.assert_array_equal(found, [[0, 0.375], [0.375, 0]])


def test_ensemble_gain_is_a_loop_over_pairs():
    logits, label = RNG.integers(-2, 3, (4, 30, 3)).astype(np.float32), RNG.integers(0, 3, 30)

    def right(of_one):
        return np.mean(
            [row[k] > max(np.delete(row, k)) for row, k in zip(of_one, label, strict=True)]
        )

    expected = [[right((a + b) / 2) - (right(a) + right(b)) / 2 for b in logits] for a in logits]
    np.testing.assert_allclose(noise.ensemble_gain(logits, label), expected, atol=1e-15)
    logits[3, 0, 0] = np.inf
    with pytest.raises(ValueError, match=r"replica 3 are not finite"):
        noise.ensemble_gain(logits, label)


# Weights


def test_weight_distances_of_known_angles():
    angle = np.array([0.0, 0.3, np.pi / 2, np.pi, -0.3])
    length = np.array([1.0, 7.0, 0.01, 3.0, 2.0])[:, None]
    across = np.stack([np.cos(angle), np.sin(angle)], axis=1) * length
    found = noise.weight_distances({"a": across[:, :1, None], "b": {"c": across[:, 1]}})
    apart = np.abs(angle[:, None] - angle)
    np.testing.assert_allclose(found.angle_RxR, np.minimum(apart, 2 * np.pi - apart), atol=1e-8)
    np.testing.assert_allclose(found.l2_RxR, 2 * np.sin(found.angle_RxR / 2), atol=1e-15)


def test_one_unit_in_the_last_place_of_a_million_weights_has_its_distance():
    weights = RNG.normal(size=(1, 1_000_001)).astype(np.float32)
    replicas = np.repeat(weights, 3, axis=0)
    replicas[1, 777] = np.nextafter(replicas[1, 777], np.float32(np.inf))
    moved = float(replicas[1, 777]) - float(replicas[0, 777])
    norm = np.linalg.norm(weights.astype(np.float64))
    # To first order the unit vector moves by the part of the change across it.
    expected = moved / norm * np.sqrt(1 - (float(replicas[0, 777]) / norm) ** 2)
    found = noise.weight_distances({"w": replicas.reshape(3, 101, -1), "b": np.zeros((3, 5))})
    np.testing.assert_allclose(found.l2_RxR[0, 1], expected, rtol=1e-4)
    np.testing.assert_allclose(found.angle_RxR[0, 1], expected, rtol=1e-4)
    assert found.l2_RxR[0, 2] == found.angle_RxR[0, 2] == 0.0


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_weights_in_pieces_are_those_in_one(monkeypatch, piece):
    params = {"a": RNG.normal(size=(4, 5, 3)), "b": RNG.normal(size=(4, 11))}
    whole = noise.weight_distances(params)
    monkeypatch.setattr("seedmap.experiments.noise.measures.replicas.PIECE", piece)
    for part, expected in zip(noise.weight_distances(params), whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-13)


def test_half_precision_weights_and_refusals():
    weights = jnp.asarray(RNG.normal(size=(2, 30)), jnp.bfloat16)
    exact = noise.weight_distances(np.asarray(weights, np.float64))
    np.testing.assert_array_equal(noise.weight_distances(weights).l2_RxR, exact.l2_RxR)
    with pytest.raises(ValueError, match=r"replica 1 are all alike"):
        noise.weight_distances(np.array([[1.0, 2.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match=r"replica 0 are not finite"):
        noise.weight_distances(np.array([[np.nan, 2.0], [1.0, 0.0]]))
    with pytest.raises(ValueError, match=r"\[2, 3\] replicas"):
        noise.weight_distances([np.ones((2, 1)), np.ones((3, 1))])


# Classes and subgroups


def test_accuracy_by_class_is_a_loop_over_classes():
    label, correct = RNG.choice([1, 4, 7], 40), RNG.random((5, 40)) < 0.7
    found = noise.class_accuracy(correct, label)
    assert found.classes.tolist() == [1, 4, 7]
    expected = np.stack([correct[:, label == k].mean(axis=1) for k in (1, 4, 7)], axis=1)
    np.testing.assert_allclose(found.accuracy_RxK, expected, rtol=1e-15)
    with pytest.raises(ValueError, match="test points"):
        noise.class_accuracy(correct, label[:-1])


def test_rates_by_group_from_their_confusion_matrices():
    label, prediction = RNG.integers(0, 2, 60), RNG.integers(0, 2, (3, 60))
    group = np.stack([np.ones(60, bool), RNG.random(60) < 0.4, label == 1])
    found = noise.group_rates(prediction, label, group)
    for r, g in itertools.product(range(3), range(2)):
        p, y = prediction[r, group[g]], label[group[g]]
        tp, fp = np.sum((p == 1) & (y == 1)), np.sum((p == 1) & (y == 0))
        tn, fn = np.sum((p == 0) & (y == 0)), np.sum((p == 0) & (y == 1))
        rates = [rate[r, g] for rate in found]
        expected = [(tp + tn) / (tp + tn + fp + fn), fp / (fp + tn), fn / (fn + tp)]
        np.testing.assert_allclose(rates, expected, rtol=1e-15)
    assert np.isnan(found.fpr[:, 2]).all()  # a group without negatives
    assert not np.isnan(found.fnr).any()


def test_rates_by_hand():
    # Of 4 negatives 1 is called positive; of 2 positives 1 is missed.
    found = noise.group_rates(
        np.array([[1, 0, 0, 0, 0, 1]]), np.array([0, 0, 0, 0, 1, 1]), np.array([[True] * 6])
    )
    np.testing.assert_allclose(np.ravel(found), [4 / 6, 1 / 4, 1 / 2])


def test_rates_of_an_empty_group_and_of_other_labels():
    label, prediction = np.array([0, 1]), np.array([[0, 1], [1, 1]])
    nothing = noise.group_rates(prediction, label, np.zeros((1, 2), bool))
    assert np.isnan(nothing).all()
    with pytest.raises(ValueError, match=r"label must be 0 or 1 .* found 2"):
        noise.group_rates(prediction, label + 1, np.ones((1, 2), bool))
    with pytest.raises(ValueError, match=r"prediction must be 0 or 1 .* found -1"):
        noise.group_rates(prediction * 2 - 1, label, np.ones((1, 2), bool))
    with pytest.raises(ValueError, match="test points"):
        noise.group_rates(prediction, label, np.ones((1, 3), bool))


def test_spread_of_groups_over_the_wholes():
    whole = np.array([0.5, 0.6, 0.7])
    groups = np.stack([whole, 3 * whole, np.full(3, 0.1), [0.1, np.nan, 0.2]], axis=1)
    np.testing.assert_allclose(noise.relative_spread(groups, whole), [1, 3, 0, np.nan])
    assert np.isnan(noise.relative_spread(groups, np.full(3, 0.1))).all()
    with pytest.raises(ValueError, match="3 replicas and the whole 2"):
        noise.relative_spread(groups, whole[:2])


# Independent errors


def all_tables(replicas, probability_N):
    """Every table of right and wrong replicas with its probability, errors independent."""
    points = len(probability_N)
    for cells in itertools.product([0, 1], repeat=replicas * points):
        correct = np.array(cells).reshape(replicas, points)
        yield correct, np.prod(np.where(correct, 1 - probability_N, probability_N))


def test_variance_of_independent_errors_is_unbiased_over_every_table():
    error_N = np.array([0.1, 0.5, 0.8])
    expected = np.sum(error_N * (1 - error_N)) / 9
    tables = list(all_tables(3, error_N))
    means = [
        sum(p * measure(correct) for correct, p in tables)
        for measure in (noise.independent_error_variance, noise.distribution_variance)
    ]
    # Errors that are independent leave nothing to the distribution.
    np.testing.assert_allclose(means, [expected, 0.0], atol=1e-14)


def test_distribution_variance_is_unbiased():
    """Replicas of differing skill on test sets drawn anew: Var(skill) comes back."""
    trials, replicas, points = 4000, 5, 20
    skill = RNG.choice([0.5, 0.9], (trials, replicas, 1))
    hardness = RNG.choice([0.0, 1.0], (trials, 1, points), p=[0.7, 0.3])
    correct = RNG.random((trials, replicas, points)) < np.where(hardness, 1 - skill, skill)
    accuracy = 0.7 * np.array([0.5, 0.9]) + 0.3 * (1 - np.array([0.5, 0.9]))
    found = np.array([noise.distribution_variance(table) for table in correct])
    error = found.std() / np.sqrt(trials)
    assert abs(found.mean() - np.var(accuracy)) < 4 * error
    assert error < np.var(accuracy) / 20


def test_variances_by_their_formulas():
    correct = RNG.random((6, 9)) < 0.6
    wrong = ~correct
    each = sum(np.var(wrong[:, i], ddof=1) for i in range(9)) / 81
    np.testing.assert_allclose(noise.independent_error_variance(correct), each, rtol=1e-13)
    expected = 9 / 8 * (np.var(wrong.mean(axis=1), ddof=1) - each)
    np.testing.assert_allclose(noise.distribution_variance(correct), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("errs", "imbalances", "published", "digits"),
    [  # percent: SD on the test set, as if errors were independent, of the distribution
        (634, (25, 5, 4), (0.149, 0.145, 0.033), 3),  # 64 epochs
        (1450, (88, 40, 8), (0.56, 0.22, 0.52), 2),  # 4 epochs
    ],
)
def test_variances_are_those_of_jordans_trainings(errs, imbalances, published, digits):
    """Sections 3.2 and 3.3 of arXiv 2304.01910v4, CIFAR-10: four replicas with their deviations.

    Two replicas of four are wrong at each of `errs` points, one pair more often than the other two:
    chosen to give the first two deviations as published. The third must follow.
    """
    pairs = [([0, 1], [2, 3]), ([0, 2], [1, 3]), ([0, 3], [1, 2])]
    each = (errs - sum(imbalances)) // 6
    wrong = np.zeros((4, 10_000), bool)
    who = [
        pair
        for pairing, more in zip(pairs, imbalances, strict=True)
        for pair in [pairing[0]] * (each + more) + [pairing[1]] * each
    ]
    for point, replicas in enumerate(who):
        wrong[replicas, point] = True
    found = [
        noise.standard_deviation(noise.accuracy(~wrong)),
        np.sqrt(noise.independent_error_variance(~wrong)),
        np.sqrt(noise.distribution_variance(~wrong)),
    ]
    np.testing.assert_array_equal(np.round(100 * np.array(found), digits), published)


def test_covariance_of_two_examples_is_jordans():
    """Figure 4 of arXiv 2304.01910v4: 60 000 networks at images 776 and 796 of CIFAR-10's test set.

    Of two points the estimate is the covariance of their errors: 21.83 % - 21.97 %.
    """
    both, first, second = 13_103, 21_736, 36_392
    counts = [both, first - both, second - both, 60_000 - first - second + both]
    correct = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], counts, axis=0)
    np.testing.assert_allclose(100 * noise.accuracy(correct.T), [36.2, 60.7], atol=0.05)
    found = noise.distribution_variance(correct)
    np.testing.assert_allclose(found, np.cov(correct.T)[0, 1], rtol=1e-9)
    np.testing.assert_allclose(100 * found, 21.83 - 21.97, atol=0.01)


def test_replicas_that_are_alike_have_no_variance():
    correct = np.repeat(RNG.random((1, 13)) < 0.5, 7, axis=0)
    assert noise.independent_error_variance(correct) == noise.distribution_variance(correct) == 0
    with pytest.raises(ValueError, match="at least 2 replicas"):
        noise.distribution_variance(correct[:1])
    with pytest.raises(ValueError, match="at least 2 test points"):
        noise.distribution_variance(correct[:, :1])


# P(A > B)


@given(
    hnp.arrays(np.float64, st.integers(2, 6), elements=st.integers(0, 4)),
    hnp.arrays(np.float64, st.integers(2, 6), elements=st.integers(0, 4)),
)
def test_probability_of_being_better_is_mann_and_whitneys(a, b):
    found, swapped = noise.probability_better(a, b), noise.probability_better(b, a)
    statistic = stats.mannwhitneyu(a, b, method="asymptotic").statistic
    np.testing.assert_allclose(found.value, statistic / (len(a) * len(b)), atol=1e-15)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low
    np.testing.assert_allclose(swapped, [1 - found.value, 1 - found.high, 1 - found.low], atol=1e-9)


def test_interval_of_being_better_solves_newcombes_equation():
    a, b = np.array([1, 3, 5, 7, 9, 11, 13, 15]), np.array([0, 1, 2, 4, 6, 8])
    value, *ends = noise.probability_better(a, b, confidence=0.9)
    for theta in ends:
        inner = 1 + 6 * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        error = np.sqrt(theta * (1 - theta) * inner / 48)
        np.testing.assert_allclose(abs(theta - value) / error, 1.6448536, rtol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 2.5])
def test_interval_of_being_better_holds_the_truth(shift):
    truth, trials = stats.norm.cdf(shift / np.sqrt(2)), 400
    samples = RNG.normal(size=(trials, 2, 10))
    found = np.array([noise.probability_better(a + shift, b) for a, b in samples])
    covered = np.mean((found[:, 1] <= truth) & (truth <= found[:, 2]))
    assert 0.91 < covered < 0.99  # 95 %, with three standard errors


def test_being_better_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="replica 1 of the second is not finite"):
        noise.probability_better(np.ones(2), np.array([1, np.nan]))
    with pytest.raises(ValueError, match="at least 2 replicas"):
        noise.probability_better(np.ones(1), np.ones(2))
    with pytest.raises(ValueError, match="confidence"):
        noise.probability_better(np.ones(2), np.ones(2), confidence=95)


# Barriers


def test_barrier_of_a_parabola_and_of_a_bump():
    share = np.linspace(0, 1, 5)
    errors = np.stack([share**2, 0.2 + 0.1 * share + 4 * share * (1 - share), np.full(5, 0.3)])
    np.testing.assert_allclose(noise.error_barrier(errors), [0.5, 1.0, 0.0], atol=1e-15)
    with pytest.raises(ValueError, match="at least 3 points"):
        noise.error_barrier(np.ones(2))


def squared_distance(target, params):
    return sum(jnp.sum((leaf - target) ** 2) for leaf in jax.tree.leaves(params))


def test_errors_along_a_line_are_those_of_its_points():
    first = {"a": jnp.array([0.0, 2.0]), "b": jnp.array(1.0)}
    second = {"a": jnp.array([4.0, -2.0]), "b": jnp.array(0.0)}
    evaluate = partial(squared_distance, 1.0)
    found = noise.line_errors(evaluate, first, second, points=5)
    a = np.linspace(0, 1, 5)
    expected = (4 * a - 1) ** 2 + (1 - 4 * a) ** 2 + a**2
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # A convex error lies under its chord.
    assert noise.error_barrier(found) == max(expected) - (expected[0] + expected[-1]) / 2


def test_a_line_meets_its_ends_exactly_and_stays_between_equal_trees():
    # Floats for which 0.3 w + 0.7 w rounds to another number than w.
    first, second = (jnp.asarray(RNG.normal(size=200), jnp.float32) for _ in range(2))
    evaluate = partial(jnp.dot, jnp.arange(200.0))
    ends = noise.line_errors(evaluate, first, second)[np.array([0, -1])]
    alone = [noise.line_errors(evaluate, one, one) for one in (first, second)]
    for end, errors in zip(ends, alone, strict=True):
        np.testing.assert_array_equal(errors, np.full(11, end))
        assert noise.error_barrier(errors) == 0


def xor_error(params):
    """Mean squared error on XOR of a network with two hidden ReLU units."""
    x = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    hidden = jax.nn.relu(x @ params["in"] + params["bias"])
    return jnp.mean((hidden @ params["out"] - jnp.array([0.0, 1.0, 1.0, 0.0])) ** 2)


def test_permuted_copies_of_a_network_have_a_known_barrier_between_them():
    # relu(x + y) - 2 relu(x + y - 1) is XOR; swapping the hidden units computes the same.
    first = {
        "in": jnp.ones((2, 2)),
        "bias": jnp.array([0.0, -1.0]),
        "out": jnp.array([1.0, -2.0]),
    }
    second = first | {"bias": first["bias"][::-1], "out": first["out"][::-1]}
    errors = np.asarray(noise.line_errors(xor_error, first, second))
    np.testing.assert_array_equal(errors[[0, -1]], 0.0)
    # Half way both units are relu(x + y - 1/2) with weight -1/2: outputs 0, -1/2, -1/2, -3/2.
    np.testing.assert_allclose(errors[5], (2 * 1.5**2 + 1.5**2) / 4, rtol=1e-6)
    np.testing.assert_allclose(noise.error_barrier(errors), errors.max())
    pairs = jax.vmap(partial(noise.line_errors, xor_error))(
        jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), first),
        jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second),
    )
    np.testing.assert_allclose(noise.error_barrier(pairs), [0.0, errors.max()], rtol=1e-6)


def test_a_line_is_compiled_once_for_all_pairs():
    traces = []

    def evaluate(params):
        traces.append(params)
        return jnp.sum(params)

    for end in (1.0, 2.0, 3.0):
        noise.line_errors(evaluate, jnp.zeros(2), jnp.full(2, end))
    assert len(traces) == 1
    with pytest.raises(ValueError, match="at least 3 points"):
        noise.line_errors(evaluate, jnp.zeros(2), jnp.zeros(2), points=2)
