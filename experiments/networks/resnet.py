"""ResNet18 for images of 32x32 (He et al. 2016, arXiv 1512.03385; stem as in Hu et al. 2023).

A 3x3 stem without pooling, four stages of two basic blocks with `width`, 2, 4 and 8 times `width`
channels (64 in Hu et al. 2023), every stage but the first at half the resolution of the one before;
mean over the image, dense layer.

Batch norm has PyTorch's constants: epsilon 1e-5, running = 0.9 running + 0.1 of the batch. Its
running variance is the batch's population variance, where PyTorch's has Bessel's correction: a
factor n / (n - 1), n = examples x rows x columns, the only difference to torchvision's batch norm.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedmap.experiments.networks.convolution import conv, uniform_in
from seedmap.trainer import Role, flax_rule

STAGES = (1, 2, 4, 8)
BLOCKS_PER_STAGE = 2

# Uniform within ± 1 / sqrt(fan in): PyTorch's default, and so that of the stem and the dense layer
# that Hu et al.'s code puts in torchvision's network; the rest is normal by the fan out.
UNIFORM_FAN_IN = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
NORMAL_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Convolution(nn.Module):
    """Convolution, padded as PyTorch pads; a bias is 0 at first."""

    channels: int
    size: int = 3
    stride: int = 1
    kernel_init: nn.initializers.Initializer = NORMAL_FAN_OUT
    bias: bool = False

    @nn.compact
    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), channels]."""
        shape = (self.size, self.size, x_BxHxWxC.shape[-1], self.channels)
        out = conv(x_BxHxWxC, self.param("kernel", self.kernel_init, shape), self.stride)
        if not self.bias:
            return out
        return out + self.param("bias", nn.initializers.zeros, (self.channels,))


def _norm(batch_norm: bool, train: bool) -> Callable[[], Callable[..., jax.Array]]:
    """Returns a factory of batch-norm layers, or of layers that change nothing."""
    if not batch_norm:
        return lambda: lambda x, mask: x
    return partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5)


class Block(nn.Module):
    """relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)); no sum where not `residual`.

    The shortcut is x itself, or norm(1x1 convolution of x) where the shape changes.
    """

    channels: int
    stride: int
    batch_norm: bool
    residual: bool

    @nn.compact
    def __call__(
        self, x_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
    ) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, channels]; mask as in flax."""
        norm = _norm(self.batch_norm, train)
        first = Convolution(self.channels, stride=self.stride)
        h_BxHxWxC = nn.relu(norm()(first(x_BxHxWxC), mask=mask))
        h_BxHxWxC = norm()(Convolution(self.channels)(h_BxHxWxC), mask=mask)
        if self.residual and x_BxHxWxC.shape == h_BxHxWxC.shape:
            h_BxHxWxC += x_BxHxWxC
        elif self.residual:
            shortcut = Convolution(self.channels, 1, self.stride, name="shortcut")
            h_BxHxWxC += norm()(shortcut(x_BxHxWxC), mask=mask)
        return nn.relu(h_BxHxWxC)


class ResNet18(nn.Module):
    """The network; without batch norm and residual sums the destabilised one of Hu et al. (2023).

    Attributes:
        num_classes: length of the logits.
        width: channels of the stem and the first stage.
        batch_norm: whether every convolution is followed by batch norm.
        residual: whether blocks add what they got. Without, there are no shortcuts to train; the
            code of Hu et al. (2023) keeps theirs, unused.
    """

    num_classes: int
    width: int = 64
    batch_norm: bool = True
    residual: bool = True

    @nn.compact
    def __call__(
        self, x_BxHxWxC: jax.Array, train: bool, there_B: jax.Array | None = None
    ) -> jax.Array:
        """Computes logits [B, num_classes]; if `train`, by statistics of examples `there_B`."""
        mask = None if there_B is None else there_B[:, None, None, None]
        x_BxHxWxC = Convolution(self.width, kernel_init=UNIFORM_FAN_IN)(x_BxHxWxC)
        x_BxHxWxC = nn.relu(_norm(self.batch_norm, train)()(x_BxHxWxC, mask=mask))
        for stage, factor in enumerate(STAGES):
            for block in range(BLOCKS_PER_STAGE):
                stride = 2 if stage > 0 and block == 0 else 1
                channels = factor * self.width
                x_BxHxWxC = Block(channels, stride, self.batch_norm, self.residual)(
                    x_BxHxWxC, train, mask
                )
        x_BxC = jnp.mean(x_BxHxWxC, axis=(1, 2))
        head = nn.Dense(
            self.num_classes, kernel_init=UNIFORM_FAN_IN, bias_init=uniform_in(x_BxC.shape[1])
        )
        return head(x_BxC)


def resnet_rule(path: tuple[str, ...], leaf: jax.Array) -> Role:
    """Returns a leaf's role by `flax_rule`, but leaves out the shortcuts' 1x1 convolutions.

    The released code of Hu et al. (2023) leaves them out as well.
    """
    return Role("ignore") if "shortcut" in path else flax_rule(path, leaf)
