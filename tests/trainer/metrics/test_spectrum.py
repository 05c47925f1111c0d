"""Singular values by three ways, against float64 SVD."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.trainer.metrics.lanczos import dense, tridiagonal
from seedmap.trainer.metrics.spectrum import (
    LANCZOS_ABOVE,
    Lanczos,
    Spectrum,
    exact_values,
    gram_values,
    lanczos_spectrum,
    spectra,
    summarise,
)

EPS = np.finfo(np.float32).eps
spectra_of = jax.jit(spectra, static_argnums=1)  # one program, not one for each operation
SHAPES = [(40, 128), pytest.param((512, 128), marks=pytest.mark.slow)]


def matrix_of(values, shape, seed=0):
    """A matrix with given singular values and random singular vectors."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((side, len(values))))[0] for side in shape)
    return np.asarray((left * values) @ right.T, np.float32)


def random_matrix(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


SPECTRA = {
    "random": None,
    "rank 2": lambda n: np.r_[2.0, 1.0, np.zeros(n - 2)],
    "rank 10, three decades": lambda n: np.r_[np.geomspace(1, 1e-3, 10), np.zeros(n - 10)],
    "power law": lambda n: 1.0 / np.arange(1, n + 1),
    "eight decades": lambda n: np.geomspace(1, 1e-8, n),
    "all equal": lambda n: np.full(n, 3.0),
}


def example(name, shape):
    spectrum = SPECTRA[name]
    return random_matrix(shape) if spectrum is None else matrix_of(spectrum(min(shape)), shape)


def truth(matrix):
    return np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)


def summary(values):
    """Mean, variance and effective rank in float64, from their definitions."""
    shares = values[values > 0] / values.sum()
    rank = np.exp(-(shares * np.log(shares)).sum())
    return Spectrum(values.max(), values.mean(), values.var(), rank)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SPECTRA)
def test_gram_values_are_within_their_bound(name, shape):
    """min(c eps s_1^2 / s, sqrt(c eps) s_1) at c = 4, no value beyond sqrt(eps) s_1.

    How far the worst value is off differs between machines by half (their kernels round otherwise):
    7e-5 to 1.6e-4 of s_1 over 20 draws.
    """
    matrix = example(name, shape)
    expected = truth(matrix)
    ours = np.sort(jax.jit(gram_values)(matrix[None])[0])[::-1]
    ratio = expected[0] / np.maximum(expected, 1e-30)
    bound = expected[0] * np.minimum(4 * EPS * ratio, np.sqrt(4 * EPS))
    error = np.abs(ours - expected)
    # Values at a rounding of the largest are known to a few roundings only.
    assert (error <= bound + 4 * EPS * expected[0]).all()
    assert error.max() < np.sqrt(EPS) * expected[0]
    assert abs(ours.mean() / expected.mean() - 1) < 5e-4
    exact = np.asarray(jax.jit(exact_values)(matrix[None])[0])
    assert np.abs(exact - expected).max() < 10 * EPS * expected[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_gram_keeps_the_zeros_of_a_matrix_of_low_rank(shape):
    """Roots of the eigenvalues would be off by some 1e-4: thousands of roundings."""
    ours = np.sort(jax.jit(gram_values)(example("rank 2", shape)[None])[0])[::-1]
    np.testing.assert_allclose(ours[:2], [2.0, 1.0], rtol=1e-5)
    assert ours[2:].max() < 20 * EPS


@pytest.mark.parametrize("method", ["exact", "gram"])
@pytest.mark.parametrize("name", SPECTRA)
def test_summary_agrees_with_float64(name, method):
    matrix = example(name, (40, 128))
    expected = summary(truth(matrix))
    ours = spectra_of((matrix[None],), method)[0]
    for field, value, known in zip(Spectrum._fields, ours, expected, strict=True):
        rtol = {"exact": 3e-5, "gram": 5e-3 if field == "effective_rank" else 5e-4}[method]
        np.testing.assert_allclose(value[0], known, rtol=rtol, atol=1e-6, err_msg=field)


def bulk_with_outliers(count):
    """784 x 800 Glorot normal, with `count` singular values from above the bulk's edge to 6."""
    outliers = matrix_of(np.linspace(2.5, 6, count), (784, 800), seed=1) if count else 0.0
    return random_matrix((784, 800)) * np.float32(np.sqrt(2 / 1584)) + outliers


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 10])
def test_lanczos_is_as_accurate_as_its_docstring_says(count):
    """16 draws of the probes: standard error of each, and of their mean, around the exact value."""
    matrix = jnp.asarray(bulk_with_outliers(count))
    expected = summary(truth(matrix))
    estimate = jax.jit(partial(lanczos_spectrum, probes=4, steps=20))
    draws = [estimate(matrix, key) for key in jax.random.split(jax.random.key(1), 16)]
    means = np.array([draw.mean for draw in draws]) / expected.mean - 1
    spread = means.std(ddof=1)
    assert spread < 0.01
    # The bias of the quadrature, and four standard errors of the mean of the draws.
    assert abs(means.mean()) < 0.004 + 4 * spread / 4
    largest = np.array([draw.largest for draw in draws]) / expected.largest - 1
    assert largest.max() < 10 * EPS
    assert largest.min() > -1e-3
    variances = np.array([draw.variance for draw in draws])
    np.testing.assert_allclose(
        variances, expected.variance, atol=2.2 * expected.mean**2 * np.abs(means).max() + 1e-5
    )
    ranks = np.array([draw.effective_rank for draw in draws]) / expected.effective_rank - 1
    assert np.sqrt((ranks**2).mean()) < 0.02


@pytest.mark.parametrize("name", SPECTRA)
def test_lanczos_on_spectra_far_from_random(name):
    """Four standard errors, or 12 % where values fall off over many decades."""
    matrix = jnp.asarray(example(name, (300, 200)))
    expected = summary(truth(matrix))
    estimate = jax.jit(partial(lanczos_spectrum, probes=4, steps=20))
    draws = [estimate(matrix, key) for key in jax.random.split(jax.random.key(1), 16)]
    means = np.array([draw.mean for draw in draws]) / expected.mean - 1
    bias = 0.12 if name in ("power law", "eight decades") else 0.004
    assert abs(means.mean()) < bias + 4 * means.std(ddof=1) / 4
    largest = np.array([draw.largest for draw in draws])
    np.testing.assert_allclose(largest, expected.largest, rtol=1e-3)


def test_lanczos_with_as_many_steps_as_sides_errs_by_sampling_alone():
    """Full Krylov space: the mean of 64 draws of 50 probes lies within 4 standard errors."""
    matrix = jnp.asarray(random_matrix((20, 30)))
    expected = summary(truth(matrix))
    keys = jax.random.split(jax.random.key(0), 64)
    estimate = partial(lanczos_spectrum, probes=50, steps=20)
    draws = jax.jit(jax.vmap(estimate, (None, 0)))(matrix, keys)
    for field, values, known in zip(Spectrum._fields, draws, expected, strict=True):
        if field == "largest":
            np.testing.assert_allclose(values, known, rtol=1e-5)
        else:
            error = np.std(values, ddof=1) / np.sqrt(64)
            # The regression's own bias falls as one over the probes.
            assert abs(np.mean(values) - known) < 4 * error + 0.02 * known / 50, field
            assert error < 0.01 * known, field


@pytest.mark.parametrize("reorthogonalise", [True, False])
def test_tridiagonal_matrix_has_the_operators_eigenvalues(reorthogonalise):
    operator = random_matrix((6, 6))
    operator = jnp.asarray(operator + operator.T)
    starts = jnp.eye(6)[:2]
    diagonals, links = jax.jit(
        lambda starts: tridiagonal(
            lambda rows: rows @ operator, starts, 6, reorthogonalise=reorthogonalise
        )
    )(starts)
    expected = np.linalg.eigvalsh(np.asarray(operator, np.float64))
    for small in dense(diagonals, links[:, :-1]):
        np.testing.assert_allclose(np.linalg.eigvalsh(small), expected, atol=1e-4)
    assert np.asarray(links[:, -1] < 1e-3).all()


LEAVES = tuple(
    jnp.asarray(random_matrix(shape, seed))
    for seed, shape in enumerate([(5, 2, 40, 30), (5, 1, 60, 20), (5, 1, 7, 1), (5, 1, 130, 135)])
)


@pytest.mark.parametrize("method", ["exact", "gram", Lanczos(2, 9, 3)])
def test_a_batch_in_one_program_equals_a_loop(method):

    def one(leaves):
        return spectra(leaves, method)

    single, batched = jax.jit(one), jax.jit(jax.vmap(one))
    together = batched(LEAVES)
    mapped = jax.jit(lambda leaves: jax.lax.map(one, leaves))(LEAVES)
    for seed in range(5):
        alone = single(tuple(leaf[seed] for leaf in LEAVES))
        for other in (together, mapped):
            many, one_by_one = jax.tree.leaves(other), jax.tree.leaves(alone)
            for values, value in zip(many, one_by_one, strict=True):
                np.testing.assert_allclose(values[seed], value, rtol=2e-4)


@pytest.mark.parametrize("method", ["exact", "gram", "lanczos"])
def test_every_decomposition_waits_for_the_one_before(method):
    """Side by side they can hang. That they are chained shows where the first gives a NaN."""
    broken = jnp.full((1, 5, 12), jnp.nan)
    for leaf in LEAVES:
        first, second = jax.jit(lambda leaves: spectra(leaves, method))((broken, leaf[0]))
        assert np.isnan(first.largest).all()
        assert np.isnan(second.largest).all()


def test_probes_do_not_change_with_time_or_replica_but_with_the_seed():
    matrices = jnp.asarray(random_matrix((1, 140, 150)))
    first, again, other = (
        spectra_of((matrices,), Lanczos(steps=3, seed=seed))[0].mean[0] for seed in (0, 0, 1)
    )
    assert first == again != other


def test_small_matrices_are_exact_under_every_method():
    matrices = jnp.asarray(random_matrix((3, LANCZOS_ABOVE, 140)))
    expected = jax.jit(lambda matrices: summarise(exact_values(matrices)))(matrices)
    for method in ("gram", "lanczos"):
        jax.tree.map(np.testing.assert_array_equal, spectra_of((matrices,), method)[0], expected)


@pytest.mark.parametrize("method", ["exact", "gram", "lanczos"])
def test_a_zero_matrix_has_zeros_and_no_effective_rank(method):
    ours = spectra_of((jnp.zeros((1, 130, 300)),), method)[0]
    np.testing.assert_array_equal(jnp.stack(ours)[:3, 0], 0.0)
    assert np.isnan(ours.effective_rank[0])


@pytest.mark.parametrize("method", ["svd", Lanczos(probes=0), Lanczos(steps=1)])
def test_unknown_methods_are_refused(method):
    with pytest.raises(ValueError, match="spectrum"):
        spectra((jnp.ones((1, 2, 2)),), method)
