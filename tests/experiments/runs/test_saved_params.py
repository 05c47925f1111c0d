"""Final parameters in `checkpoint/`: the arrays that were written come back, and no others."""

import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.errors import UserError
from seedmap.experiments.runs.folder import load_params, params_id, save_params


class Layer(NamedTuple):
    w: jax.Array
    b: jax.Array


def params(value):
    """Trees of all kinds; `value` is one number of one array."""
    layer = Layer(jnp.zeros((2, 3), jnp.bfloat16).at[1, 2].set(value), jnp.ones(2))
    return {"layer": layer, "more": (np.arange(2), [np.ones((2, 2), np.float16)])}


def test_every_leaf_comes_back_as_it_was_written(tmp_path):
    save_params(tmp_path, params(3), "its id")
    read = load_params(tmp_path)
    assert params_id(tmp_path) == "its id"
    expected = jax.tree.leaves(
        {"layer": {**params(3)["layer"]._asdict()}, "more": params(3)["more"]}
    )
    for leaf, array in zip(jax.tree.leaves(read), expected, strict=True):
        np.testing.assert_array_equal(leaf, array, strict=True)


def test_arrays_of_another_training_are_refused(tmp_path):
    """Same names, shapes and id: one number differs, which only the checksum tells."""
    for name, value in (("ours", 3), ("other", 4)):
        (tmp_path / name).mkdir()
        save_params(tmp_path / name, params(value), "its id")
    about = "checkpoint/_CHECKPOINT_METADATA"
    shutil.copy(tmp_path / "ours" / about, tmp_path / "other" / about)
    with pytest.raises(UserError, match=r"checkpoint was changed after it was written: .*anew"):
        load_params(tmp_path / "other")
