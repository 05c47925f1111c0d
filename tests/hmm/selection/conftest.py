"""Sweeps that several files look at."""

import pytest

from helpers.planted import planted
from helpers.sweeps import collinear, fit_held_out, fit_small


@pytest.fixture(scope="module")
def sweep():
    return fit_small(planted()[0])


@pytest.fixture(scope="module")
def with_outlier():
    """A sweep whose last held-out run breaks the collinearity of all others, and its callbacks."""
    values = collinear([80] * 12)
    values[-1][:, 3:] = values[-1][::-1, 3:]
    calls = []
    return fit_held_out(values, callback=lambda *call: calls.append(call)), calls
