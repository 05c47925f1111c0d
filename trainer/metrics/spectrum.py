"""What the metrics read of a matrix's singular values, by three ways of differing cost.

- "exact": a full SVD, values only. Any matrix, error about machine epsilon times the largest. In
  programs for TPUs by rotations (`trainer.metrics.jacobi`), at the same error.
- "gram": eigenvectors of the smaller of W W^T and W^T W, for matrices at least twice as long as
  wide (elsewhere the SVD is as fast and is used). Error bounded, see `gram_values`.
- `Lanczos(probes, steps, seed)` or "lanczos": stochastic Lanczos quadrature for matrices both of
  whose sides exceed `LANCZOS_ABOVE` (elsewhere the SVD is used). An estimate, see
  `lanczos_spectrum`.

Every way runs under jit, vmap and scan.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from seedmap.errors import UserError
from seedmap.trainer.metrics import lapack
from seedmap.trainer.metrics.jacobi import jacobi_values
from seedmap.trainer.metrics.lanczos import HIGHEST, dense, tridiagonal

LANCZOS_ABOVE = 128
"""Matrices whose shorter side is at most this long are decomposed exactly: that is as fast."""


class Spectrum(NamedTuple):
    """Summary of the singular values s_1..s_n of some matrices, n the shorter side.

    Attributes:
        largest: float [matrix], max s_i.
        mean: float [matrix], sum s_i / n.
        variance: float [matrix], the population variance of s.
        effective_rank: float [matrix], exp(-sum p_i log p_i) with p_i = s_i / sum s (Roy and
            Vetterli 2007); between 1 and n, NaN for a zero matrix.
    """

    largest: Float[Array, "*matrix"]
    mean: Float[Array, "*matrix"]
    variance: Float[Array, "*matrix"]
    effective_rank: Float[Array, "*matrix"]


class Lanczos(NamedTuple):
    """Settings of the estimate by Lanczos quadrature.

    Attributes:
        probes: random vectors; the sampling error falls with the square root of their number.
        steps: Lanczos steps, which cost two products of the matrix with every probe each.
        seed: of the probes. They do not depend on the time or on the replica, so that a metric's
            error is nearly constant along a run instead of noise from record to record.
    """

    probes: int = 4
    steps: int = 20
    seed: int = 0


_svd_values = lapack.batched(partial(jnp.linalg.svd, compute_uv=False), tpu=jacobi_values)
_eigh = lapack.batched(lambda matrices: tuple(jnp.linalg.eigh(matrices)))

Method = Literal["exact", "gram", "lanczos"] | Lanczos


def exact_values(matrices: Float[Array, "matrix row column"]) -> Float[Array, "matrix value"]:
    """All singular values, in any order: [matrix, row, column] -> [matrix, value]."""
    if min(matrices.shape[-2:]) == 1:  # the one singular value of a vector is its length
        return jnp.sqrt(jnp.sum(jnp.square(matrices), axis=(-2, -1)))[..., None]
    return _svd_values(matrices)


def gram_values(matrices: Float[Array, "matrix row column"]) -> Float[Array, "matrix value"]:
    """Singular values from the eigenvectors v_i of the smaller Gram matrix G: s_i = ||W v_i||.

    G and its eigenvectors are known in floating point up to an error E of the size of
    eps ||W||_2^2, so that s_i^2 = v_i^T G v_i errs by no more: with a small factor c(n)

        |error of s_i| <= min(c eps s_1^2 / s_i, sqrt(c eps) s_1).

    The first term is rounding for all values near the largest; the second, 3e-4 s_1 in float32 at
    c = 1, is the worst case, met by values near sqrt(eps) s_1 among a continuum. Square roots of
    the eigenvalues themselves have the same bound and meet it wherever W has zeros in its
    spectrum; lengths of W v_i do not, since the null space is found to within eps (s_1 / s_r)^2
    (s_r the smallest value that is not zero): a matrix of low rank, as weight decay makes, keeps
    its zeros. Measured on random, low-rank, geometric and power-law spectra: c at most 0.21, that
    is values off by up to 1.6e-4 s_1, and no mean by more than 5e-4 of itself.

    Args:
        matrices: float [matrix, row, column].

    Returns:
        float [matrix, value], in no particular order.

    Source: Golub and Van Loan, Matrix Computations, section 8.6 (values from the Gram matrix);
    Weyl's inequality for the bound.
    """
    if matrices.shape[-2] < matrices.shape[-1]:
        matrices = matrices.mT
    gram = jnp.matmul(matrices.mT, matrices, precision=HIGHEST)
    vectors = _eigh(gram)[1]
    return jnp.linalg.norm(jnp.matmul(matrices, vectors, precision=HIGHEST), axis=-2)


def summarise(values: Float[Array, "matrix value"]) -> Spectrum:
    """Summary of known singular values, [matrix, value] in any order."""
    shares = values / jnp.sum(values, axis=-1, keepdims=True)
    return Spectrum(
        largest=jnp.max(values, axis=-1),
        mean=jnp.mean(values, axis=-1),
        variance=jnp.var(values, axis=-1),
        effective_rank=jnp.exp(jnp.sum(jax.scipy.special.entr(shares), axis=-1)),
    )


def lanczos_spectrum(
    matrix: Float[Array, "row column"], key: Key[Array, ""], probes: int, steps: int
) -> Spectrum:
    """Estimates the summary of one matrix's singular values from products with random vectors.

    With A the smaller Gram matrix, of order n, and z a vector of random signs over sqrt(n),
    E z^T f(A) z = tr f(A) / n, and `steps` of Lanczos from z give nodes t_k and weights w_k with
    z^T f(A) z ~ sum_k w_k f(t_k), exact for polynomials of degree 2 steps - 1. The mean of the
    singular values is the case f(t) = sqrt(t), the effective rank needs f(t) = sqrt(t) log sqrt(t).
    The mean of f(t) = t is known exactly, ||W||_F^2 / n, and is used as a control variate: f is
    regressed on t over all nodes and the line is read at the exact mean.

    - mean: for weights of the kind an MLP has (bulk of random values, up to ten outliers above it)
      the standard error is 0.3 to 1 % with 4 probes and 20 steps. Where the values fall off over
      many orders of magnitude (1/i, or geometric) the quadrature takes the smallest for larger:
      up to 10 % too high, whatever the number of probes; more steps help.
    - variance = ||W||_F^2 / n - mean^2, its absolute error 2 mean times that of the mean.
    - largest: the largest node, never above the truth but for rounding; within 0.1 % in all the
      tests, and the better the further it stands out.

    Args:
        matrix: float [row, column].
        key: random key of the probes.
        probes: random vectors.
        steps: Lanczos steps, full reorthogonalisation.

    Returns:
        Spectrum of scalars.

    Source: Ubaru, Chen and Saad 2017, Fast estimation of tr(f(A)) via stochastic Lanczos
    quadrature (SIAM J. Matrix Anal. 38), section 3; the regression is ours.
    """
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    order = matrix.shape[0]

    def multiply(vectors):
        product = jnp.matmul(vectors, matrix, precision=HIGHEST)
        return jnp.matmul(product, matrix.T, precision=HIGHEST)

    signs = jax.random.rademacher(key, (probes, order), matrix.dtype)
    starts = signs / jnp.sqrt(jnp.asarray(order, matrix.dtype))
    diagonals, links = tridiagonal(multiply, starts, steps, reorthogonalise=True)
    nodes, vectors = _eigh(dense(diagonals, links[:, :-1]))
    nodes = jnp.maximum(nodes, 0.0)
    weights = jnp.square(vectors[:, 0, :]) / probes
    second = jnp.sum(jnp.square(matrix)) / order
    values = jnp.sqrt(nodes)
    mean = _regressed_mean(values, nodes, weights, second)
    # sum s log s / n: entropy of the shares s / (n mean) is log(n mean) - that / mean.
    logs = -_regressed_mean(jax.scipy.special.entr(values), nodes, weights, second)
    return Spectrum(
        largest=jnp.max(values),
        mean=mean,
        variance=jnp.maximum(second - mean**2, 0.0),
        effective_rank=jnp.exp(jnp.log(order * mean) - logs / mean),
    )


def _regressed_mean(
    values: jax.Array, nodes: jax.Array, weights: jax.Array, exact: jax.Array
) -> jax.Array:
    """Weighted mean of values, corrected by their regression on nodes whose mean is known."""
    mean_value, mean_node = jnp.sum(weights * values), jnp.sum(weights * nodes)
    spread = jnp.sum(weights * jnp.square(nodes - mean_node))
    slope = jnp.sum(weights * (nodes - mean_node) * values) / jnp.where(spread > 0, spread, 1.0)
    return mean_value + slope * (exact - mean_node)


def _settings(method: Method) -> Literal["exact", "gram"] | Lanczos:
    method = Lanczos() if method == "lanczos" else method
    if isinstance(method, Lanczos):
        if method.probes < 1 or method.steps < 2:
            raise UserError(f"spectrum: {method} needs at least 1 probe and 2 steps")
    elif method not in ("exact", "gram"):
        raise UserError(
            f"spectrum is {method!r}; it must be 'exact', 'gram', 'lanczos' or Lanczos(...)"
        )
    return method


def _spectrum(matrices: jax.Array, method: Literal["exact", "gram"] | Lanczos) -> Spectrum:
    short, long = sorted(matrices.shape[-2:])
    if isinstance(method, Lanczos) and short > LANCZOS_ABOVE:
        keys = jax.random.split(jax.random.key(method.seed), matrices.shape[0])
        estimate = partial(lanczos_spectrum, probes=method.probes, steps=min(method.steps, short))
        # Not vmap: products with two batch axes, seeds and heads, take four times as long on CPU.
        return jax.lax.map(lambda pair: estimate(*pair), (matrices, keys))
    if method == "gram" and short > 1 and long >= 2 * short:
        return summarise(gram_values(matrices))
    return summarise(exact_values(matrices))


def spectra(
    leaves: tuple[Float[Array, "matrix row column"], ...], method: Method = "exact"
) -> list[Spectrum]:
    """Summaries of the singular values of every matrix, leaf by leaf.

    Each decomposition takes a zero from the one before, so that no two run side by side: batched
    LAPACK calls of jaxlib 0.10 wait on the CPU for threads of the pool that runs them, and as many
    at once as there are threads wait for ever.

    Args:
        leaves: arrays [matrix, row, column].
        method: "exact", "gram", "lanczos" or Lanczos(probes, steps, seed).

    Raises:
        UserError: the method is none of these, or has no probe or fewer than 2 steps.
    """
    method = _settings(method)
    summaries: list[Spectrum] = []
    zero: float | jax.Array = 0.0
    for matrices in leaves:
        summaries.append(_spectrum(matrices + zero, method))
        zero = 0.0 * summaries[-1].largest[0]
    return summaries
