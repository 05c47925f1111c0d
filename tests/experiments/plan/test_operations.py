"""Operations of traced programs, against XLA's own count and by hand."""

import jax
import jax.numpy as jnp
import pytest

from seedmap.experiments.plan.operations import count_operations

X = jax.ShapeDtypeStruct((3, 20, 30), jnp.float32)
W = jax.ShapeDtypeStruct((3, 30, 40), jnp.float32)


def counted(function, *shapes, platform="cpu"):
    return count_operations(jax.jit(function).trace(*shapes).jaxpr, platform)


def by_xla(function, *shapes):
    return jax.jit(function).lower(*shapes).cost_analysis()["flops"]


def convolve(images, kernel):
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def gradient(x, w):
    return jax.grad(lambda w: jnp.sum(jnp.sin(x @ w)))(w)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (jnp.matmul, (X, W)),
        (gradient, (X, W)),
        (convolve, (jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5)))),
    ],
)
def test_without_loops_the_count_is_that_of_xla(function, shapes):
    ours = counted(function, *shapes)
    assert ours.total == pytest.approx(by_xla(function, *shapes), rel=0.1)
    assert ours.products > 0.9 * ours.total
    assert ours.whole


def test_a_loop_counts_its_turns_and_a_call_what_it_calls():
    def steps(x, w):
        return jax.lax.scan(lambda x, _: (jax.jit(lambda x: x @ w @ w.mT)(x), None), x, length=7)[0]

    assert counted(steps, X, W).products == 7 * 2 * 2 * 3 * 20 * 30 * 40


def test_a_loop_of_unknown_length_counts_once_and_is_told():
    def until(x, w):
        return jax.lax.while_loop(lambda x: jnp.sum(x) < 9, lambda x: x @ w @ w.mT, x)

    found = counted(until, X, W)
    assert found.products == 2 * 2 * 3 * 20 * 30 * 40
    assert not found.whole


@pytest.mark.parametrize(("platform", "products"), [("tpu", 1), ("cuda", 2), ("cpu", 2)])
def test_of_what_depends_on_the_platform_its_own_counts(platform, products):
    def chosen(x, w):
        return jax.lax.platform_dependent(
            x, w, tpu=jnp.matmul, default=lambda x, w: x @ w + jnp.cos(x) @ w
        )

    found = counted(chosen, X, W, platform=platform)
    assert found.products == products * 2 * 3 * 20 * 30 * 40


def test_decompositions_are_counted_apart():
    found = counted(lambda x: jnp.linalg.svd(x, compute_uv=False), X)
    assert found.decompositions == pytest.approx(3 * (4 * 30 * 20**2 - 4 * 20**3 / 3))
