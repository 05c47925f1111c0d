"""Annotations of shapes are checked in all tests, and are there on every public function."""

import inspect

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from helpers.shapes import array_kinds
from seedmap import hmm


def test_wrong_shapes_and_types_are_noticed():
    bag = np.full((4, 2), 0.5)
    with pytest.raises(TypeCheckError):
        hmm.regress(bag, np.zeros((4, 1)))
    with pytest.raises(TypeCheckError):
        hmm.bag_of_states(np.zeros((4, 3)), 2)


def test_what_fits_passes():
    bag = hmm.bag_of_states(np.array([[0, 1, 1], [0, 0, -1]], np.int32), 2)
    np.testing.assert_allclose(bag, [[1 / 3, 2 / 3], [1, 0]])


def arrays_without_shape(function):
    """Parameters annotated as bare arrays, whose shape nobody checks."""
    annotations = inspect.signature(function).parameters.items()
    return [name for name, p in annotations if p.annotation is np.ndarray]


@pytest.mark.parametrize("name", [n for n in hmm.__all__ if inspect.isfunction(getattr(hmm, n))])
def test_public_functions_say_the_shapes_of_their_arrays(name):
    assert arrays_without_shape(getattr(hmm, name)) == []


def test_some_public_function_is_annotated():
    kinds = [array_kinds(p.annotation) for p in inspect.signature(hmm.regress).parameters.values()]
    assert sum(map(bool, kinds)) >= 2
