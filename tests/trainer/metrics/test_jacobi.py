"""Singular values by rotations, against float64 SVD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.trainer.metrics.jacobi import jacobi_values

EPS = np.finfo(np.float32).eps
RNG = np.random.default_rng(0)


def with_values(values, columns):
    left = np.linalg.qr(RNG.standard_normal((len(values), len(values))))[0]
    right = np.linalg.qr(RNG.standard_normal((columns, len(values))))[0]
    return (left * values) @ right.T


CASES = {
    "wide": RNG.standard_normal((2, 12, 30)),
    "tall, odd": RNG.standard_normal((2, 9, 7)),
    "two rows": RNG.standard_normal((3, 2, 5)),
    "one row": RNG.standard_normal((2, 1, 5)),
    "rank 2": RNG.standard_normal((1, 12, 2)) @ RNG.standard_normal((1, 2, 20)),
    "eight decades": with_values(np.geomspace(1, 1e-8, 16), 24)[None],
    "all equal": with_values(np.full(8, 3.0), 8)[None],
    "zero": np.zeros((1, 4, 6)),
}


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_svd(name):
    matrices = np.asarray(CASES[name], np.float32)
    expected = np.linalg.svd(matrices.astype(np.float64), compute_uv=False)
    values = -np.sort(-np.asarray(jacobi_values(jnp.asarray(matrices))), axis=-1)
    assert values.shape == expected.shape
    np.testing.assert_allclose(values, expected, atol=20 * EPS * expected.max())


def test_replicas_side_by_side_and_nan():
    matrices = jnp.asarray(RNG.standard_normal((3, 2, 4, 6)), jnp.float32)
    together = jax.jit(jax.vmap(jacobi_values))(matrices)
    alone = jnp.stack([jacobi_values(each) for each in matrices])
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert np.isnan(jacobi_values(matrices[0].at[0, 0, 0].set(jnp.nan))[0]).all()
    assert np.isfinite(jacobi_values(matrices[0].at[0, 0, 0].set(jnp.nan))[1]).all()
