"""Products at lower precision against NumPy on operands rounded by hand."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from seedmap.trainer import Data, Task, train
from seedmap.trainer.noise.rounding import MANTISSA_BITS, round_products

LOWER = ("tf32", "bfloat16")


def rounded(function, precision):
    return round_products(function, MANTISSA_BITS[precision])


def by_hand(values, precision):
    """Rounded to nearest, ties to even: bfloat16 by its own type, tf32 on the bits."""
    values = np.asarray(values, np.float32)
    if precision == "bfloat16":
        return values.astype(ml_dtypes.bfloat16).astype(np.float32)
    bits = values.view(np.uint32).astype(np.uint64)
    odd = (bits >> 13) & 1
    return (((bits + 0xFFF + odd) >> 13) << 13).astype(np.uint32).view(np.float32)


ordinary = st.floats(-1e4, 1e4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-4)


@pytest.mark.parametrize("precision", LOWER)
@settings(deadline=None, max_examples=50)
@given(arrays(np.float32, (2, 3), elements=ordinary), arrays(np.float32, (3, 2), elements=ordinary))
def test_a_product_is_that_of_rounded_operands(precision, a, b):
    product = rounded(jnp.matmul, precision)(a, b)
    exact = by_hand(a, precision).astype(float) @ by_hand(b, precision).astype(float)
    largest = np.abs(a).astype(float) @ np.abs(b).astype(float)
    assert np.all(np.abs(product - exact) <= 4 * np.finfo(np.float32).eps * largest + 1e-30)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("precision", LOWER)
def test_products_in_loops_branches_gradients_and_convolutions_are_rounded(precision):
    w = normal(0, 3, 3) / 3

    def looped(w):
        return jax.lax.fori_loop(0, 3, lambda _, x: x @ w, w)

    def branched(w):
        return jax.lax.cond(w.sum() > 1e9, lambda w: w, lambda w: jax.jit(jnp.matmul)(w, w), w)

    def sloped(w):
        return jax.grad(lambda w: jnp.sum(jax.nn.relu(w @ w)))(w)

    def step(x):
        return by_hand(x, precision) @ by_hand(w, precision)

    cube = step(step(step(np.asarray(w))))
    found = jax.vmap(jax.jit(rounded(looped, precision)))(w[None])[0]
    np.testing.assert_allclose(found, cube, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(rounded(branched, precision)(w), step(np.asarray(w)), 1e-6)
    # d/dw sum(relu(w w)) = g w' + w' g, with g the slope of relu at the rounded product.
    slope, near = (step(np.asarray(w)) > 0).astype(np.float32), by_hand(w, precision)
    expected = slope @ near.T + near.T @ slope
    np.testing.assert_allclose(rounded(sloped, precision)(w), expected, rtol=1e-6, atol=1e-7)

    image, kernel = normal(1, 1, 5, 5, 2), normal(2, 3, 3, 2, 4)

    def conv(image, kernel):
        return jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    expected = conv(by_hand(image, precision), by_hand(kernel, precision))
    found = rounded(conv, precision)(image, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert np.abs(found - conv(image, kernel)).max() > 1e-4


def test_a_default_precision_set_elsewhere_changes_nothing():
    a = normal(7, 4, 4)
    with jax.default_matmul_precision("highest"):  # Dynamax sets it for the whole process
        found = round_products(jnp.matmul, 7)(a, a)
    near = by_hand(a, "bfloat16")
    np.testing.assert_allclose(found, near @ near, rtol=1e-6, atol=1e-6)


def test_bits_that_differ_within_a_vmap_are_those_of_each_member():
    w, bits = normal(8, 4, 4) / 4, jnp.array([23, 10, 7, 1])

    def everything(w):
        looped = jax.lax.fori_loop(0, 2, lambda _, x: x @ w, w)
        counted = jax.lax.while_loop(lambda x: jnp.max(x @ w) < 1e-3, lambda x: 2 * (x @ w), w)
        chosen = jax.lax.cond(w.sum() > 1e9, lambda w: w, lambda w: jax.jit(jnp.matmul)(w, w), w)
        slope = jax.grad(lambda w: jnp.sum(jax.nn.relu(w @ w)))(w)
        here = jax.lax.platform_dependent(w, tpu=lambda w: w, default=lambda w: w @ w)
        return looped, counted, chosen, slope, here

    found = jax.jit(jax.vmap(lambda bits: round_products(everything, bits)(w)))(bits)
    for row, each in enumerate((23, 10, 7, 1)):
        alone = round_products(everything, each)(w)
        for a, b in zip(found, alone, strict=True):
            np.testing.assert_allclose(a[row], b, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found[4][0], w @ w, rtol=1e-6, atol=1e-7)
    assert np.abs(found[4][0] - found[4][1]).max() > 1e-5


def test_each_platform_keeps_its_branch():
    def branching(x):
        return jax.lax.platform_dependent(x, cuda=lambda x: x @ x, default=lambda x: x + 17.0)

    traced = jax.jit(round_products(branching, 7)).trace(jnp.ones((3, 3)))
    programs = {
        name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda")
    }
    assert "dot_general" in programs["cuda"]
    assert "reduce_precision" in programs["cuda"]
    assert "1.7" not in programs["cuda"]
    assert "dot_general" not in programs["cpu"]
    assert "1.7" in programs["cpu"]


def test_what_is_not_finite_stays_what_it_is():
    odd = jnp.array([[jnp.inf, -jnp.inf, jnp.nan, 3.4e38]])
    rounded = round_products(lambda a: a @ jnp.eye(4), jnp.int32(7))(odd)
    by_number = round_products(lambda a: a @ jnp.eye(4), 7)(odd)
    np.testing.assert_array_equal(rounded, by_number)


def test_a_product_that_asks_for_its_own_precision_keeps_it():
    a = normal(3, 4, 4)

    def exact(a):
        return jnp.matmul(a, a, precision="highest")

    np.testing.assert_array_equal(round_products(exact, 7)(a), exact(a))
    with pytest.raises(ValueError, match="must lie between 1 and 23"):
        round_products(exact, 0)


@pytest.mark.parametrize("precision", LOWER)
def test_training_rounds_every_product_of_its_steps(precision):
    x, y = np.asarray(normal(4, 8, 3)), np.asarray(normal(5, 8))
    first = np.asarray(normal(6, 3, 1))

    def score(w, batch):
        return (batch[0] @ w - batch[1][:, None])[:, 0] ** 2, jnp.zeros(len(batch[1]))

    task = Task(lambda key: jnp.asarray(first), lambda key: Data((x, y), (x, y)), score, 8)
    run = train(
        task,
        optax.sgd(0.1),
        range(2),
        batch_size=8,
        steps=6,
        record_every=3,
        metrics=lambda params: {"norm": jnp.linalg.norm(params)},
        precision=precision,
    )
    w, near = first.copy(), by_hand(x, precision)
    for _ in range(6):
        residual = near @ by_hand(w, precision) - y[:, None]
        w = w - 0.1 * near.T @ by_hand(2 * residual / 8, precision)
    # An operand near a tie may round the other way: one unit in the last place it keeps.
    slack = 2.0 ** -MANTISSA_BITS[precision] / 20
    np.testing.assert_allclose(run.params[0], w, atol=slack)
    plain = train(
        task, optax.sgd(0.1), range(2), batch_size=8, steps=6, record_every=3,
        metrics=lambda params: {"norm": jnp.linalg.norm(params)},
    )  # fmt: skip
    assert np.abs(plain.params[0] - run.params[0]).max() > 2e-5
