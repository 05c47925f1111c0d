"""The order in which training examples are visited: a function of (key, epoch) alone."""

import jax
import jax.numpy as jnp

from seedmap.trainer.shuffle import permutation


def batches_per_epoch(num_train: int, batch_size: int) -> int:
    """Batches of one pass over the data, the last and smaller one included."""
    return -(-num_train // batch_size)


def epoch_order(key: jax.Array, epoch: jax.Array, num_train: int, batch_size: int) -> jax.Array:
    """Permutation of the training examples in one epoch: a function of (key, epoch) alone.

    Returns:
        int32 [batches_per_epoch, batch_size], a row per batch. The last batch keeps the examples
        that are left, as in the paper's code; its missing places hold -1.
    """
    order = permutation(jax.random.fold_in(key, epoch), num_train)
    num_batches = batches_per_epoch(num_train, batch_size)
    padding = num_batches * batch_size - num_train
    padded = jnp.pad(order, (0, padding), constant_values=-1)
    return padded.reshape(num_batches, batch_size)


def batch_rows(
    key: jax.Array, step: jax.Array, num_steps: int, num_train: int, batch_size: int
) -> jax.Array:
    """Rows of the training examples that steps `step` .. `step + num_steps - 1` visit.

    The orders of all epochs that the steps touch are drawn at once, ahead of the loop over steps:
    a branch inside the loop that draws them at an epoch's end costs a third of the speed on CPU.

    Args:
        key: the replica's `order` key.
        step: int32 scalar, a multiple of `num_steps`.
        num_steps: number of steps.
        num_train: number of training examples.
        batch_size: examples per step.

    Returns:
        int32 [num_steps, batch_size]; -1 where the last batch of an epoch has no example.
    """
    num_batches = batches_per_epoch(num_train, batch_size)
    aligned = num_steps % num_batches == 0
    num_epochs = num_steps // num_batches if aligned else (num_steps - 2) // num_batches + 2
    epochs = step // num_batches + jnp.arange(num_epochs)
    orders = jax.vmap(lambda epoch: epoch_order(key, epoch, num_train, batch_size))(epochs)
    rows = orders.reshape(num_epochs * num_batches, batch_size)
    return jax.lax.dynamic_slice_in_dim(rows, step % num_batches, num_steps)
