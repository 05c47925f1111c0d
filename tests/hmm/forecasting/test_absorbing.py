import itertools

import numpy as np
import pytest

from seedmap.hmm import Parameters, log_densities
from seedmap.hmm.forecasting.absorbing import absorbed, exit_probabilities, pass_probabilities


def random_chain(num_states, seed):
    rng = np.random.default_rng(seed)
    return Parameters(
        rng.dirichlet(np.ones(num_states)),
        rng.dirichlet(np.ones(num_states), num_states),
        rng.normal(size=(num_states, 2)),
        np.stack([np.eye(2)] * num_states),
    )


def weigh_paths(chain, exits, values, num_left):
    """Every path over past and future, and its probability given the past's values.

    Convergence is the last label; it may come in the future only.
    """
    num_states, past = len(exits), len(values)
    logs = log_densities(chain, values)
    step = np.eye(num_states + 1)
    step[:-1] = np.column_stack([(1 - exits)[:, None] * chain.transition, exits])
    labels = [range(num_states)] * past + [range(num_states + 1)] * num_left
    paths = np.array(list(itertools.product(*labels)))
    weights = chain.initial[paths[:, 0]]
    before, after = paths[:, : past - 1], paths[:, 1:past]
    weights = weights * chain.transition[before, after].prod(axis=1)
    weights = weights * step[paths[:, past - 1 : -1], paths[:, past:]].prod(axis=1)
    weights = weights * np.exp(logs[np.arange(past), paths[:, :past]].sum(axis=1))
    return paths, weights / weights.sum()


@pytest.mark.parametrize("num_left", [0, 1, 4])
@pytest.mark.parametrize("missing", [False, True])
def test_pass_probabilities_by_enumeration(num_left, missing):
    chain = random_chain(3, seed=num_left)
    values = np.random.default_rng(3).normal(size=(3, 2))
    values[1, 0] = np.nan if missing else values[1, 0]
    exits = np.array([0.3, 0, 0.1])
    paths, weights = weigh_paths(chain, exits, values, num_left)
    expected = [weights[(paths == state).any(axis=1)].sum() for state in range(3)]
    found = pass_probabilities(chain, exits, values, num_left)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_pass_probabilities_by_simulation():
    chain = random_chain(4, seed=5)
    chain = chain._replace(transition=0.1 * chain.transition + 0.9 * np.eye(4))
    rng = np.random.default_rng(0)
    num_paths, past, num_left = 40000, 3, 12
    values = rng.normal(size=(past, 2))
    exits = np.array([0, 0.1, 0.05, 0.2])
    state, left = rng.choice(4, num_paths, p=chain.initial), np.ones(num_paths, bool)
    visited, weights = np.zeros((num_paths, 4), bool), np.ones(num_paths)
    densities = np.exp(log_densities(chain, values))
    for time in range(past + num_left):
        if time >= past:
            left &= rng.random(num_paths) > exits[state]
        if time:
            state = (rng.random((num_paths, 1)) > chain.transition[state].cumsum(axis=1)).sum(1)
            state = np.minimum(state, 3)
        visited[left, state[left]] = True
        weights *= densities[time, state] if time < past else 1
    weights /= weights.sum()
    found = pass_probabilities(chain, exits, values, num_left)
    error = np.sqrt((weights**2).sum()) / 2  # largest standard error of a weighted share
    np.testing.assert_allclose(weights @ visited, found, atol=4 * error)


def test_pass_probabilities_of_chains_made_by_hand():
    transition = np.array([[0.5, 0.3, 0.2, 0], [0, 0, 0, 1], [0, 0, 0.6, 0.4], [0, 0, 0, 1]])
    blind = Parameters(np.eye(4)[0], transition, np.zeros((4, 1)), np.ones((4, 1, 1)))
    never, one = np.zeros(4), np.zeros((1, 1))
    np.testing.assert_allclose(pass_probabilities(blind, never, one, 1), [1, 0.3, 0.2, 0])
    at_last = pass_probabilities(blind, never, one, num_left=200)
    np.testing.assert_allclose(at_last, [1, 0.6, 0.4, 1])  # the fork: 0.3 to 0.2
    exits = np.array(
        [0, 0.75, 0, 0]
    )  # three in four of those who take the first way converge there
    at_last = pass_probabilities(blind, exits, one, num_left=200)
    np.testing.assert_allclose(at_last, [1, 0.6, 0.4, 0.6 / 4 + 0.4])
    telling = blind._replace(means=100.0 * np.arange(4)[:, None])
    seen = pass_probabilities(telling, never, np.array([[0.0], [200], [300]]), num_left=50)
    np.testing.assert_allclose(seen, [1, 0, 1, 1], atol=1e-9)  # what is passed stays passed


def test_exits_are_convergences_over_checkpoints():
    beliefs = np.zeros((3, 4, 3))
    beliefs[0, :4] = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]]
    beliefs[1, :3] = [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]]
    beliefs[2, :2] = [[1, 0, 0], [0.5, 0.5, 0]]  # ends unconverged: its last checkpoint is not told
    found = exit_probabilities(beliefs, np.array([4, 3, 2]), np.array([True, True, False]))
    np.testing.assert_allclose(found, [0, 2 / 3.5, 0])


def test_absorption_by_enumeration():
    chain, exits = random_chain(3, seed=2), np.array([0.1, 0, 0.6])
    beliefs = np.array([[0.2, 0.3, 0.5]])
    found = absorbed(chain.transition, exits, beliefs, num_left=3)
    for num_left in range(4):
        stays = 0.0
        for path in itertools.product(range(3), repeat=num_left + 1):
            weight = beliefs[0, path[0]]
            for here, there in itertools.pairwise(path):
                weight *= (1 - exits[here]) * chain.transition[here, there]
            stays += weight
        assert found[0, num_left] == pytest.approx(1 - stays)


def test_absorption_by_simulation():
    chain, exits = random_chain(4, seed=7), np.array([0.02, 0.1, 0, 0.05])
    rng = np.random.default_rng(0)
    state, left = rng.choice(4, 40000, p=[0.7, 0.1, 0.1, 0.1]), np.ones(40000, bool)
    found = absorbed(chain.transition, exits, np.array([[0.7, 0.1, 0.1, 0.1]]), num_left=15)
    for num_left in range(1, 16):
        left &= rng.random(40000) > exits[state]
        state = (rng.random((40000, 1)) > chain.transition[state].cumsum(axis=1)).sum(1).clip(max=3)
        assert found[0, num_left] == pytest.approx(1 - left.mean(), abs=0.01)
