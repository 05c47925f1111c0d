"""Task of classifying images: network, conversion of pixels to numbers, and augmentation."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedmap.experiments.datasets.images import Images
from seedmap.experiments.networks.logits import score_logits
from seedmap.trainer import Data, Noise, Task, Variables, in_drawn_order


def pool_of(images: Images) -> Data:
    """Returns the images as they go to the device: bytes, shared by all seeds."""
    return Data(*jax.tree.map(jnp.asarray, (images.train, images.test)))


def image_task(
    model: nn.Module,
    images: Images,
    prepare: Callable[[jax.Array], jax.Array],
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> Task:
    """Makes a task from images to classes; cross-entropy, right where the largest logit is.

    The images are bytes on the device, once for all seeds; a batch is converted when it is used.

    Args:
        model: called as (x [B, H, W, C], train, there_B=bool [B] or None) -> logits [B, class];
            where `train`, batch norm goes by the examples that are there.
        images: training and test images of one shape.
        prepare: uint8 [B, H, W, C] -> what the network is given, float32 of the same shape.
        augment: (key, uint8 [B, H, W, C]) -> the same, anew at every training step; None: nothing.

    Returns:
        Task; its model is `Variables`, with the running statistics of batch norm for a state, {}
        where there are none.
    """

    def init(key: jax.Array) -> Variables:
        variables = model.init(key, jnp.zeros((1, *images.train[0].shape[1:])), train=False)
        return Variables(variables["params"], variables.get("batch_stats", {}))

    def apply(variables: Variables, x_BxHxWxC: jax.Array, train: bool, there_B=None):
        tree = {"params": variables.params, "batch_stats": variables.state}
        return model.apply(
            tree, prepare(x_BxHxWxC), train, there_B=there_B, mutable=["batch_stats"]
        )

    def classify(variables: Variables, batch):
        return apply(variables, batch[0], train=False)[0], batch[1]

    def train_score(variables: Variables, batch, noise: Noise):
        x_BxHxWxC = batch[0]
        if augment is not None:
            x_BxHxWxC = in_drawn_order(partial(augment, noise.augment), x_BxHxWxC, noise)
        logits, changed = apply(variables, x_BxHxWxC, train=True, there_B=noise.there)
        return *score_logits(logits, batch[1]), changed.get("batch_stats", {})

    return Task(
        init=init,
        make_data=lambda key, pool: pool,
        score=lambda variables, batch: score_logits(*classify(variables, batch)),
        num_train=len(images.train[1]),
        train_score=train_score,
        pool=pool_of(images),
        classify=classify,
    )
