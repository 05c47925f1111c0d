"""One chain from runs to states in order of first visit."""

import jax
import numpy as np

from helpers.planted import planted
from seedmap import hmm
from seedmap.hmm.decoding import decode, fit_and_decode

CONFIG = hmm.SweepConfig(
    states=(2, 3), restarts=2, iterations=8, covariance="diagonal", prior="weak"
)


def test_decoding_is_viterbi_of_the_same_model_in_order_of_first_visit():
    sequences, states = planted()
    paths = np.concatenate(states)
    values = sequences.observations()
    labels = [2, 0, 1]  # of the planted states, in the model to decode
    order = np.argsort(labels)
    parameters = hmm.Parameters(
        np.array([0.1, 0.1, 0.8]),
        (0.9 * np.eye(3) + 0.1 / 3)[np.ix_(order, order)],
        np.stack([values[paths == k].mean(0) for k in order]),
        np.stack([np.cov(values[paths == k].T) for k in order]),
    )
    decoded = decode(parameters, sequences)
    raw = hmm.viterbi(parameters, sequences)
    expected = hmm.canonical_order(raw, 3)
    np.testing.assert_array_equal(decoded.order, expected)
    np.testing.assert_array_equal(decoded.paths, hmm.relabel(raw, expected))
    assert decoded.order[0] == 2  # where all runs start
    assert (decoded.paths[:, 0] == 0).all()
    assert decoded.num_states == 3
    for new, old in zip(decoded.parameters, hmm.permute(parameters, expected), strict=True):
        np.testing.assert_array_equal(new, old)
    np.testing.assert_array_equal(hmm.viterbi(decoded.parameters, sequences), decoded.paths)
    again = decode(decoded.parameters, sequences)
    np.testing.assert_array_equal(again.order, np.arange(3))


def test_fitting_and_decoding_is_the_chain_of_its_steps():
    sequences = planted()[0]
    train, held_out = np.arange(6), np.array([6, 7])
    decoded = fit_and_decode(sequences, train, held_out, CONFIG, 3, "train_bic", True)
    sweep = hmm.fit_sweep(
        sequences.select(train), sequences.select(held_out), CONFIG, jax.random.key(3)
    )
    chosen = hmm.select(sweep, "train_bic", True)
    expected = decode(chosen.parameters, sequences)
    np.testing.assert_array_equal(decoded.paths, expected.paths)
    np.testing.assert_array_equal(decoded.parameters.means, expected.parameters.means)
