"""Every strategy of the convolution against PyTorch's, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.experiments.networks import convolution
from seedmap.experiments.networks.convolution import conv, max_pool

torch = pytest.importorskip("torch")

STRATEGIES = ("lax", "eights", "patches", "shifts")
CASES = [  # height, width, kernel, stride, padding
    (8, 8, (3, 3), 1, "SAME"),
    (8, 8, (3, 3), 2, "SAME"),
    (7, 10, (3, 3), 2, "SAME"),
    (8, 6, (1, 1), 2, "SAME"),
    (8, 7, (5, 3), 1, "SAME"),
    (8, 9, (3, 3), 2, "VALID"),
]


def example(height, width, kernel):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, height, width, 3)).astype(np.float32)
    return x, rng.normal(size=(*kernel, 3, 4)).astype(np.float32)


def in_torch(array, **kwargs):
    """In float64: PyTorch's float32 gradient of a 1x1 kernel was seen wrong once under load."""
    return torch.tensor(array, dtype=torch.float64, **kwargs)


def torch_conv(x, kernel, stride, padding):
    """PyTorch's, the zeros it pads stated as numbers: size // 2 on either side."""
    around = tuple(size // 2 if padding == "SAME" else 0 for size in kernel.shape[:2])
    out = torch.nn.functional.conv2d(
        x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), stride=stride, padding=around
    )
    return out.permute(0, 2, 3, 1)


@pytest.mark.parametrize(("height", "width", "size", "stride", "padding"), CASES)
def test_values_and_gradients_agree_with_torch(height, width, size, stride, padding):
    x, kernel = example(height, width, size)
    sides = [in_torch(array, requires_grad=True) for array in (x, kernel)]
    expected = torch_conv(*sides, stride, padding)
    weights = np.random.default_rng(1).normal(size=expected.shape).astype(np.float32)
    (expected * in_torch(weights)).sum().backward()

    @jax.jit
    def of_every_strategy(x, kernel):
        found = {}
        for strategy in STRATEGIES:
            out, pull = jax.vjp(lambda x, k, s=strategy: conv(x, k, stride, padding, s), x, kernel)
            found[strategy] = out, *pull(jnp.asarray(weights))
        return found

    for strategy, (out, *grads) in of_every_strategy(x, kernel).items():
        np.testing.assert_allclose(out, expected.detach(), rtol=1e-4, atol=1e-5, err_msg=strategy)
        for found, side in zip(grads, sides, strict=True):
            np.testing.assert_allclose(found, side.grad, rtol=1e-4, atol=1e-4, err_msg=strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_even_kernel_is_padded_more_below_and_to_the_right(strategy):
    """So do PyTorch's padding="same" and flax's SAME, which exist at stride 1."""
    x, kernel = example(6, 7, (2, 4))
    padded = np.pad(x, ((0, 0), (0, 1), (1, 2), (0, 0)))
    expected = torch_conv(in_torch(padded), in_torch(kernel), 1, "VALID")
    assert expected.shape == (2, 6, 7, 4)
    out = conv(x, kernel, strategy=strategy)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("batch", "pieces"), [(6, 3), (7, 7), (1, 1)])
def test_images_a_few_at_a_time_give_the_same(batch, pieces, monkeypatch):
    """Room for 2 images: 3 pieces of 6 images, and one image at a time of a prime number."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, 8, 8, 3)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 3, 4)).astype(np.float32)

    def run(x, kernel):
        return jax.value_and_grad(
            lambda x, k: jnp.sum(jnp.sin(conv(x, k, strategy="shifts"))), argnums=(0, 1)
        )(x, kernel)

    expected = run(x, kernel)
    monkeypatch.setattr(convolution, "CACHE_BYTES", 2 * 4 * 27 * 100)
    found = run(x, kernel)
    program = str(jax.make_jaxpr(lambda x: conv(x, kernel, strategy="shifts"))(x))
    assert (f"length={pieces}" in program) == (pieces > 1)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), expected, found
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_vmapped_over_kernels_it_is_one_convolution_each(strategy):
    x, kernel = example(8, 8, (3, 3))
    kernels = np.stack([kernel, 2 * kernel[::-1], kernel[..., ::-1]])
    out = jax.vmap(lambda k: conv(x, k, 2, strategy=strategy))(kernels)
    alone = np.stack([conv(x, k, 2, strategy="lax") for k in kernels])
    np.testing.assert_allclose(out, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("platform", "convolution"), [("cpu", False), ("cuda", True), ("rocm", True), ("tpu", True)]
)
def test_the_platform_compiled_for_decides_whether_a_convolution_is_in_the_program(
    platform, convolution
):
    x, kernel = example(8, 8, (3, 3))
    step = jax.jit(jax.vmap(jax.grad(lambda k, x: conv(x, k).sum(), argnums=(0, 1)), (0, None)))
    traced = step.trace(np.stack([kernel, kernel]), x)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == convolution
    assert ("stablehlo.dot_general" in text) != convolution


@pytest.mark.parametrize(("platform", "channels"), [("tpu", 8), ("cuda", 3)])
def test_for_tpus_channels_are_a_multiple_of_eight(platform, channels):
    """Behind a barrier: seen by the compiler, the zeros would be taken away again."""
    x, kernel = example(8, 8, (3, 3))
    text = jax.jit(conv).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert f"(tensor<2x10x10x{channels}xf32>, tensor<3x3x{channels}x4xf32>)" in text
    assert ("optimization_barrier" in text) == (platform == "tpu")


def test_by_platform_is_what_it_chooses_to_the_bit():
    x, kernel = example(8, 8, (3, 3))

    def value_and_gradients(strategy):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(conv(x, kernel, 2, strategy=strategy)))

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(x, kernel)

    chosen = "shifts" if jax.devices()[0].platform == "cpu" else "lax"
    jax.tree.map(
        np.testing.assert_array_equal, value_and_gradients("platform"), value_and_gradients(chosen)
    )


@pytest.mark.parametrize("size", [2, 3])
def test_max_pool_agrees_with_torch(size):
    x = np.random.default_rng(0).normal(size=(2, 7, 9, 3)).astype(np.float32)
    side = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.max_pool2d(side.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)
    expected.square().sum().backward()
    np.testing.assert_array_equal(max_pool(x, size), expected.detach())
    grad = jax.grad(lambda x: jnp.sum(jnp.square(max_pool(x, size))))(x)
    np.testing.assert_array_equal(grad, side.grad)


def max_of_windows(x, size):
    """By JAX's own max, whose gradient equally large values share."""
    batch, height, width, channels = x.shape
    x = x[:, : height // size * size, : width // size * size]
    return jnp.max(x.reshape(batch, height // size, size, -1, size, channels), axis=(2, 4))


def derivatives(pool, x, direction, size):
    """Values, gradient, and the Hessian's product with a direction, of sin of what is pooled."""
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(pool(x, size))))
    return jax.jit(pool, static_argnums=1)(x, size), *jax.jvp(gradient, (x,), (direction,))


@pytest.mark.parametrize("size", [2, 3])
def test_the_derivatives_of_max_pool_are_those_of_max(size):
    rng = np.random.default_rng(0)
    x, direction = rng.normal(size=(2, 4, 7, 9, 3)).astype(np.float32)
    found = derivatives(max_pool, x, direction, size)
    for ours, expected in zip(found, derivatives(max_of_windows, x, direction, size), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [2, 3])
def test_equally_large_values_share_the_gradient(size):
    """Of small integers most windows hold several."""
    x = np.random.default_rng(0).integers(0, 3, (4, 7, 9, 3)).astype(np.float32)
    found = derivatives(max_pool, x, x, size)[1]
    expected = derivatives(max_of_windows, x, x, size)[1]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(np.unique(np.abs(found))) >= 1 + 2 * 4  # of 1 and 2, shared by up to 4 places


def test_the_gradient_of_max_pool_has_no_scatter():
    jaxpr = str(jax.make_jaxpr(jax.grad(lambda x: max_pool(x).sum()))(jnp.ones((1, 4, 4, 1))))
    assert "scatter" not in jaxpr
