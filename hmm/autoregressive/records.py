"""Runs as the products of pairs of their entries, padded so that like data share one program."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.hmm.autoregressive.model import LOCATION_WEIGHT, Records, pairs
from seedmap.hmm.features import Features

_STEPS = 8  # lengths and numbers of runs are padded to multiples of this
_COMPONENTS = 2  # likewise the number of components


def records_of(features: Features) -> Records:
    """Returns the records of runs as `Records`, in JAX's precision.

    Args:
        features: the runs. Lengths, runs and components are padded with zeros; padded components
            have no part in any density (`hmm.autoregressive.emission`).
    """
    num_runs, num_steps, size = features.x.shape
    runs, steps, width = _padded_sizes(num_runs, num_steps, size)
    spare = ((0, runs - num_runs), (0, steps - num_steps))
    x = np.pad(features.x, (*spare, (0, width - size)))
    present = np.pad(features.present & features.mask, spare)
    mask = np.pad(features.mask, spare)
    products = _products(x, present).astype(jax.dtypes.canonicalize_dtype(float))
    host = products[:, 1:].transpose(1, 0, 2), products[:, 0], mask[:, 1:].T
    # Copied by NumPy: JAX compiles a program for every conversion, also of the order of axes.
    contiguous = map(np.ascontiguousarray, host)
    return Records(*jax.device_put((*contiguous, np.array(size, np.int32))))


def records_shape(num_runs: int, num_steps: int, size: int) -> Records:
    """Returns shapes and types of the records of so many runs, steps and components."""
    runs, steps, width = _padded_sizes(num_runs, num_steps, size)
    columns = len(pairs(2 * width + 1)[0]) + len(pairs(width + 1)[0])
    shape: Any = jax.ShapeDtypeStruct
    dtype = jnp.zeros((), float).dtype
    return Records(
        shape((steps - 1, runs, columns), dtype),
        shape((runs, columns), dtype),
        shape((steps - 1, runs), jnp.bool_),
        shape((), jnp.int32),
    )


def _padded_sizes(num_runs: int, num_steps: int, size: int) -> tuple[int, int, int]:
    """Runs, steps (the first one and a multiple of 8) and components of padded records."""
    return padded(num_runs, _STEPS), 1 + padded(num_steps - 1, _STEPS), padded(size, _COMPONENTS)


def padded(count: int, unit: int) -> int:
    """Returns the multiple of `unit` that is at least `count`, and at least one unit."""
    return max(1, -(-count // unit)) * unit


def _products(x: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The rows [run, time, column] of `Records`; x [run, time, D], present [run, time]."""
    before = np.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    follows = present & np.pad(present, ((0, 0), (1, 0)))[:, :-1]
    intercept = np.ones_like(x[:, :, :1])
    motion = np.concatenate([intercept, before, x - before], -1)
    location = np.concatenate([intercept, x], -1)
    alone = LOCATION_WEIGHT + ~follows  # 1 more where the motion says nothing
    return np.concatenate(
        [
            follows[:, :, None] * _of_pairs(motion),
            (present * alone)[:, :, None] * _of_pairs(location),
        ],
        axis=-1,
    )


def _of_pairs(entries: np.ndarray) -> np.ndarray:
    rows, columns = pairs(entries.shape[-1])
    return entries[..., rows] * entries[..., columns]
