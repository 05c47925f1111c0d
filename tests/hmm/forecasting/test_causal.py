import itertools

import numpy as np
import pytest

from seedmap.hmm import from_arrays
from seedmap.hmm.forecasting.causal import causal_z_score


def test_causal_z_scores_are_those_of_each_prefix():
    rng = np.random.default_rng(0)
    values = rng.normal(1e6, 1, (3, 12, 2))
    values[1, 3, 0] = values[1, 8, 1] = np.nan
    lengths = [12, 12, 7]
    z = causal_z_score(from_arrays(values, lengths), minimum=4)
    np.testing.assert_array_equal(z.lengths, np.array(lengths) - 3)
    for run, time in itertools.product(range(3), range(3, 12)):
        past = values[run, : time + 1]
        expected = (past[-1] - np.nanmean(past, axis=0)) / np.nanstd(past, axis=0)
        expected = expected if time < lengths[run] else np.zeros(2)
        np.testing.assert_allclose(z.values[run, time - 3], expected, atol=1e-7)


def test_causal_z_scores_do_not_look_ahead():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4, 30, 3))
    changed = values.copy()
    changed[:, 20:] = 1e6 * rng.normal(size=(4, 10, 3))
    before, after = (causal_z_score(from_arrays(v)).values for v in (values, changed))
    np.testing.assert_array_equal(before[:, :16], after[:, :16])
    assert (before[:, 16:] != after[:, 16:]).all()


def test_a_metric_constant_so_far_is_zero():
    values = np.full((1, 10, 1), 0.1)
    values[0, 7:] = 0.2
    z = causal_z_score(from_arrays(values), minimum=2).values[0, :, 0]
    np.testing.assert_array_equal(z[:6], 0)
    assert z[6] == pytest.approx(np.sqrt(7))


def test_runs_too_short_for_z_scores_are_named():
    sequences = from_arrays([np.zeros((9, 1)), np.zeros((3, 1))], runs=["long", "short"])
    with pytest.raises(ValueError, match="run short has 3 checkpoints and a forecast needs 5"):
        causal_z_score(sequences)
    with pytest.raises(ValueError, match="minimum is 1"):
        causal_z_score(sequences, minimum=1)
