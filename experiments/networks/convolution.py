"""Convolution and max pooling of images, written so that they are fast where they run.

Trained under many seeds at once, a convolution has a kernel per seed. `vmap` makes a grouped
convolution of that, and inside a loop XLA:CPU loses its fast single one as well; XLA:TPU takes
minutes to compile some. So there are several ways to compute the same convolution, and the platform
that a program is compiled for chooses among them; `benchmarks/convolution.py` has the numbers
behind the choice on CPU.
"""

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Literal

import jax
import jax.numpy as jnp

Padding = Literal["SAME", "VALID"]
Strategy = Literal["platform", "lax", "eights", "patches", "shifts"]

CACHE_BYTES = 2**19  # of shifted images; 1/8 to 1/2 MiB are equally good on a core with 2 MiB
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _by_lax(x_BxHxWxC: jax.Array, kernel_hxwxCxO: jax.Array, stride: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x_BxHxWxC, kernel_hxwxCxO, (stride, stride), "VALID", dimension_numbers=_LAYOUT
    )


def _by_eights(x_BxHxWxC: jax.Array, kernel_hxwxCxO: jax.Array, stride: int) -> jax.Array:
    """Adds channels of zeros up to a multiple of 8, and convolves.

    The compiler of TPUs takes minutes over the gradient of a float32 kernel of 3 channels, and
    seconds over 8, which lie in the same registers.
    """
    missing = -x_BxHxWxC.shape[3] % 8
    x_BxHxWxC = jnp.pad(x_BxHxWxC, ((0, 0), (0, 0), (0, 0), (0, missing)))
    kernel_hxwxCxO = jnp.pad(kernel_hxwxCxO, ((0, 0), (0, 0), (0, missing), (0, 0)))
    # Or it sees the zeros and takes them away again.
    operands = jax.lax.optimization_barrier((x_BxHxWxC, kernel_hxwxCxO))
    return _by_lax(*operands, stride)


def _by_patches(x_BxHxWxC: jax.Array, kernel_hxwxCxO: jax.Array, stride: int) -> jax.Array:
    height, width, _, channels = kernel_hxwxCxO.shape
    patches = jax.lax.conv_general_dilated_patches(
        x_BxHxWxC, (height, width), (stride, stride), "VALID", dimension_numbers=_LAYOUT
    )
    # Patches hold the input channels outermost.
    return patches @ kernel_hxwxCxO.transpose(2, 0, 1, 3).reshape(-1, channels)


def _by_shifts(x_BxHxWxC: jax.Array, kernel_hxwxCxO: jax.Array, stride: int) -> jax.Array:
    """Multiplies shifted images, side by side, with the kernels, a few images at a time.

    The shifted images are height * width times the input: a batch of them at once goes through
    memory, not the cache, at half the speed. They are made again for the gradient rather than kept.
    """
    batch = x_BxHxWxC.shape[0]
    of_image = 4 * math.prod(kernel_hxwxCxO.shape[:3]) * math.prod(x_BxHxWxC.shape[1:3])
    most = max(1, CACHE_BYTES * stride**2 // of_image)
    at_once = max(n for n in range(1, min(most, batch) + 1) if batch % n == 0)
    product = jax.checkpoint(partial(_shifted_product, stride=stride))
    if at_once == batch:
        return product(x_BxHxWxC, kernel_hxwxCxO)
    pieces = x_BxHxWxC.reshape(-1, at_once, *x_BxHxWxC.shape[1:])
    out = jax.lax.map(lambda piece: product(piece, kernel_hxwxCxO), pieces)
    return out.reshape(batch, *out.shape[2:])


def _shifted_product(x_BxHxWxC: jax.Array, kernel_hxwxCxO: jax.Array, stride: int) -> jax.Array:
    height, width, _, channels = kernel_hxwxCxO.shape
    rows = (x_BxHxWxC.shape[1] - height) // stride * stride + 1
    columns = (x_BxHxWxC.shape[2] - width) // stride * stride + 1
    shifts = [
        x_BxHxWxC[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(height)
        for j in range(width)
    ]
    return jnp.concatenate(shifts, axis=-1) @ kernel_hxwxCxO.reshape(-1, channels)


def _by_platform(x_BxHxWxC: jax.Array, kernel_hxwxCxO: jax.Array, stride: int) -> jax.Array:
    """Chooses by platform: products of matrices on CPU, elsewhere XLA's own convolution."""
    return jax.lax.platform_dependent(
        x_BxHxWxC,
        kernel_hxwxCxO,
        cpu=partial(_by_shifts, stride=stride),
        tpu=partial(_by_eights, stride=stride),
        default=partial(_by_lax, stride=stride),
    )


_STRATEGIES: dict[Strategy, Callable[[jax.Array, jax.Array, int], jax.Array]] = {
    "platform": _by_platform,
    "lax": _by_lax,
    "eights": _by_eights,
    "patches": _by_patches,
    "shifts": _by_shifts,
}


def conv(
    x_BxHxWxC: jax.Array,
    kernel_hxwxCxO: jax.Array,
    stride: int = 1,
    padding: Padding = "SAME",
    strategy: Strategy = "platform",
) -> jax.Array:
    """Computes a convolution (cross-correlation, as in deep-learning libraries), no bias.

    out[b, i, j, o] = sum over u, v, c of x[b, s i + u, s j + v, c] kernel[u, v, c, o], x padded.

    Args:
        x_BxHxWxC: floating images.
        kernel_hxwxCxO: in flax's layout.
        stride: s, of both axes.
        padding: "VALID" pads nothing. "SAME" pads h - 1 rows of zeros in all, (h - 1) // 2 of them
            above, and columns likewise: whatever the stride, PyTorch's `padding=h // 2` for odd h.
            flax's SAME is the same at stride 1; at stride 2 it pads even sizes below alone, and
            its outputs belong to places one pixel further on.
        strategy: how it is computed: "lax" by XLA's convolution, "eights" by that with channels of
            zeros up to a multiple of 8, "patches" by XLA's patches and a product of matrices,
            "shifts" by shifted images side by side and a product, a few images at a time;
            "platform" by shifts in a program for CPUs, eights in one for TPUs, else lax.

    Returns:
        [B, ceil(H / s), ceil(W / s), O], or [B, (H - h) // s + 1, (W - w) // s + 1, O] where VALID.
    """
    if padding == "SAME":
        height, width = kernel_hxwxCxO.shape[:2]
        around = [((size - 1) // 2, size // 2) for size in (height, width)]
        x_BxHxWxC = jnp.pad(x_BxHxWxC, ((0, 0), *around, (0, 0)))
    return _STRATEGIES[strategy](x_BxHxWxC, kernel_hxwxCxO, stride)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x_BxHxWxC: jax.Array, size: int = 2) -> jax.Array:
    """Returns the largest value of each size x size window; the windows do not overlap.

    By slices, not by XLA's window reduction: that one's gradient, select-and-scatter, has no
    deterministic kernel on GPU. Rows and columns that fill no window are left out (PyTorch's
    default). Where several places of a window are equally large they share the gradient, as JAX's
    `max` does; PyTorch gives it to the first. The gradient is its own: that of `max` goes through
    memory four times, a fifth of a small network's step on a CPU.

    Args:
        x_BxHxWxC: images.
        size: rows, and columns, of a window.

    Returns:
        [B, H // size, W // size, C].
    """
    return reduce(jnp.maximum, _places(x_BxHxWxC, size))


def _places(x_BxHxWxC: jax.Array, size: int) -> list[jax.Array]:
    """Gives the values at each place of the windows, [B, H // size, W // size, C] each."""
    rows, columns = (length // size * size for length in x_BxHxWxC.shape[1:3])
    return [x_BxHxWxC[:, i:rows:size, j:columns:size] for i in range(size) for j in range(size)]


def _max_pool_forward(x_BxHxWxC: jax.Array, size: int):
    largest = reduce(jnp.maximum, _places(x_BxHxWxC, size))
    return largest, (x_BxHxWxC, largest)


def _max_pool_backward(size: int, saved: tuple[jax.Array, jax.Array], grad: jax.Array):
    x_BxHxWxC, largest = saved
    number = sum((place == largest).astype(grad.dtype) for place in _places(x_BxHxWxC, size))

    def spread(pooled):
        """The value of its window at every place; zeros where there is no window."""
        of_windows = jnp.repeat(jnp.repeat(pooled, size, axis=1), size, axis=2)
        missing = [(0, n - m) for n, m in zip(x_BxHxWxC.shape, of_windows.shape, strict=True)]
        return jnp.pad(of_windows, missing)

    return (jnp.where(x_BxHxWxC == spread(largest), spread(grad / number), 0),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def uniform_in(fan_in: int) -> jax.nn.initializers.Initializer:
    """Makes an initialiser, uniform in ± 1 / sqrt(fan_in) as PyTorch's of weights and biases."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return init
