"""The training step that is timed."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int32

from seedmap.experiments.overhead.networks import Arrays, Model, draw

LEARNING_RATE = 4e-4  # Zhuang et al. 2022

Step = Callable[["StepState", jax.Array, jax.Array], tuple["StepState", jax.Array]]


class StepState(NamedTuple):
    """State carried from step to step; every leaf [seed, ...] where there are seeds."""

    params: Arrays
    state: Arrays
    moments: optax.OptState


def make_step(model: Model) -> Step:
    """Makes a step of Adam (4e-4) on the cross-entropy of a batch.

    Returns:
        (state, images [B, H, W, C], labels int [B]) -> (state, loss before the step).
    """
    optimizer = optax.adam(LEARNING_RATE)

    def step(state: StepState, x_BxHxWxC: jax.Array, labels_B: jax.Array):
        def loss_of(params):
            logits_BxK, changed = model.apply(params, state.state, x_BxHxWxC)
            logits_BxK = logits_BxK.astype(jnp.float32)
            losses_B = optax.softmax_cross_entropy_with_integer_labels(logits_BxK, labels_B)
            return jnp.mean(losses_B), changed

        (loss, changed), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, moments = optimizer.update(gradient, state.moments)
        return StepState(optax.apply_updates(state.params, updates), changed, moments), loss

    return step


def side_by_side(step: Step) -> Step:
    """Makes the step of many seeds at once, all on the same batch."""
    return jax.vmap(step, in_axes=(0, None, None))


def start(model: Model, num_seeds: int | None, seed: int = 0) -> StepState:
    """Draws the state before the first step; seeds differ in their kernels."""
    rng = np.random.default_rng(seed)
    params, state = draw(model.params, num_seeds, rng), draw(model.state, num_seeds, rng)
    init = optax.adam(LEARNING_RATE).init
    return StepState(params, state, (init if num_seeds is None else jax.vmap(init))(params))


def random_batch(
    batch_size: int, image_size: int, num_classes: int, seed: int = 1
) -> tuple[Float[jax.Array, "batch height width 3"], Int32[jax.Array, " batch"]]:
    """Draws standard normal images [B, H, W, 3] and uniform labels int32 [B], on the device."""
    rng = np.random.default_rng(seed)
    x_BxHxWxC = rng.standard_normal((batch_size, image_size, image_size, 3), np.float32)
    labels_B = rng.integers(num_classes, size=batch_size, dtype=np.int32)
    return jax.device_put(x_BxHxWxC), jax.device_put(labels_B)
