import warnings

import numpy as np
import pytest

from helpers.shapes import unchecked
from seedmap.hmm.sequences import from_arrays, split_runs, z_score


def unequal():
    rng = np.random.default_rng(0)
    return [rng.normal(3, 2, (n, 2)) for n in (7, 4, 9)]


def test_from_arrays_pads_a_list_with_zeros_and_keeps_every_value():
    arrays = unequal()
    sequences = from_arrays(arrays, metrics=["l1", "l2"], runs=[3, 5, 8])
    assert sequences.values.shape == (3, 9, 2)
    assert sequences.values.dtype == np.float64
    assert sequences.lengths.tolist() == [7, 4, 9]
    assert sequences.runs == ("3", "5", "8")
    assert sequences.num_observations == 20
    np.testing.assert_array_equal(sequences.observations(), np.concatenate(arrays))
    assert not sequences.values[~sequences.mask].any()


def test_from_arrays_wipes_what_lies_beyond_the_lengths():
    values = np.full((2, 5, 1), np.inf)
    values[0, :2] = values[1, :3] = 1.0
    sequences = from_arrays(values, lengths=[2, 3])
    assert sequences.values[:, :, 0].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]
    assert values[0, 4, 0] == np.inf  # the input is left alone


def test_select_keeps_names_and_lengths_together():
    sequences = from_arrays(unequal()).select([2, 0])
    assert sequences.runs == ("2", "0")
    assert sequences.lengths.tolist() == [9, 7]
    np.testing.assert_array_equal(sequences.values[1, :7], unequal()[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(values=np.zeros((2, 3))), r"array \[run, time, metric\]"),
        (dict(values=[]), "none of them empty"),
        (dict(values=np.zeros((2, 0, 3))), "none of them empty"),
        (dict(values=[np.zeros((2, 3)), np.zeros((2, 4))]), r"columns|\[3, 4\]"),
        (dict(values=np.zeros((2, 3, 1)), lengths=[3, 4]), "between 1 and 3"),
        (dict(values=np.zeros((2, 3, 1)), lengths=[3, 0]), "between 1 and 3"),
        (dict(values=np.zeros((2, 3, 1)), metrics=["a", "b"]), "need 1 different metric names"),
        (dict(values=np.zeros((2, 3, 1)), runs=["a", "a"]), "need 2 different run names"),
        (dict(values=[[[1.0]], [[np.inf]]], runs=["4", "7"]), "run 7 diverged: metric_0 is inf"),
    ],
)
def test_from_arrays_says_what_is_wrong(arguments, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        from_arrays(**arguments)


def test_z_score_per_run_uses_only_the_first_checkpoints_of_that_run():
    arrays = unequal()
    z = z_score(from_arrays(arrays), first=5)
    for row, length, array in zip(z.values, z.lengths, arrays, strict=True):
        expected = (array - array[:5].mean(0)) / array[:5].std(0)
        np.testing.assert_allclose(row[:length], expected, rtol=1e-12)
        assert not row[length:].any()


def test_z_score_pooled_uses_all_runs():
    arrays = unequal()
    pooled = np.concatenate([a[:5] for a in arrays])
    z = z_score(from_arrays(arrays), first=5, per="pooled")
    expected = (np.concatenate(arrays) - pooled.mean(0)) / pooled.std(0)
    np.testing.assert_allclose(z.observations(), expected, rtol=1e-12)


def test_z_score_sets_a_constant_metric_to_zero_and_names_it():
    values = np.random.default_rng(0).normal(size=(3, 6, 2))
    values[1, :, 1] = 0.1  # its mean is not exactly 0.1 in floating point
    with pytest.warns(UserWarning, match=r"^constant metrics.*: b \(1 of 3 runs\)$"):
        z = z_score(from_arrays(values, metrics=["a", "b"]))
    assert not z.values[1, :, 1].any()
    assert np.isclose(z.values[1, :, 0].std(), 1)


def test_z_score_of_a_run_of_one_checkpoint_is_zero():
    with pytest.warns(UserWarning, match="2 runs"):
        z = z_score(from_arrays(np.ones((2, 1, 1))))
    assert not z.values.any()


def test_z_score_leaves_missing_values_missing_and_out_of_the_moments():
    values = np.random.default_rng(0).normal(size=(1, 6, 1))
    values[0, 2, 0] = np.nan
    z = z_score(from_arrays(values)).values[0, :, 0]
    known = np.delete(values[0, :, 0], 2)
    assert np.isnan(z[2])
    np.testing.assert_allclose(np.delete(z, 2), (known - known.mean()) / known.std(), rtol=1e-12)


@pytest.mark.parametrize("arguments", [dict(per="metric"), dict(first=0)])
def test_z_score_refuses_unknown_settings(arguments):
    with pytest.raises(ValueError, match="z_score needs"):
        z_score(from_arrays(unequal()), **arguments)


def test_split_runs_parts_the_runs_and_follows_its_seed():
    train, validation = split_runs(40)
    assert (len(train), len(validation)) == (32, 8)
    assert sorted([*train, *validation]) == list(range(40))
    np.testing.assert_array_equal(validation, split_runs(40)[1])
    assert set(validation) != set(split_runs(40, seed=1)[1])
    assert [len(part) for part in split_runs(5)] == [4, 1]
    assert [len(part) for part in split_runs(5, 0.99)] == [1, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4,), "at least 5 runs.*got 4"),
        ((8, 0.0), "between 0 and 1"),
        ((8, 1.0), "between 0 and 1"),
    ],
)
def test_split_runs_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        split_runs(*arguments)


@pytest.mark.parametrize(("spread", "constant"), [(1e-6, True), (1e-4, False)])
def test_a_metric_constant_but_for_the_rounding_of_float32_is_constant(spread, constant):
    """12.53 +- 1e-6 in every run: scaled to variance 1 it was noise that changed the states."""
    noise = np.random.default_rng(0).normal(size=(6, 40))
    values = np.stack([np.broadcast_to(np.arange(40.0), (6, 40)), 12.53 + spread * noise], -1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        z = z_score(from_arrays(values))
    assert [str(each.message) for each in caught] == (
        ["constant metrics, z-score set to 0: metric_1 (6 of 6 runs)"] if constant else []
    )
    assert np.allclose(z.values[:, :, 1].std(1), 0.0 if constant else 1.0)
