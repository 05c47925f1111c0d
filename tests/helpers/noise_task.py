"""A task that trains in no time and draws at random in training, for studies of noise."""

import jax
import jax.numpy as jnp

from seedmap.trainer import Data, Noise, Task, in_drawn_order


def make_data(_):
    x = jax.random.normal(jax.random.key(1), (60, 6))
    y = (x[:, 0] * x[:, 1] > 0).astype(jnp.int32)
    return Data((x[:34], y[:34]), (x[34:], y[34:]))


def logits(params, x):
    return jnp.tanh(x @ params["first"]) @ params["second"]


def score_of(out, y):
    loss = jax.nn.logsumexp(out, axis=-1) - jnp.take_along_axis(out, y[:, None], 1)[:, 0]
    return loss, (jnp.argmax(out, -1) == y).astype(jnp.float32)


def score(params, batch):
    return score_of(logits(params, batch[0]), batch[1])


def jittered(params, batch, noise: Noise):
    def jitter(x):
        return x + 0.1 * jax.random.normal(noise.augment, x.shape)

    return score(params, (in_drawn_order(jitter, batch[0], noise), batch[1]))


def init(key):
    first, second = jax.random.split(key)
    return {
        "first": jax.random.normal(first, (6, 8)),
        "second": jax.random.normal(second, (8, 2)),
    }


TASK = Task(init, make_data, score, 34, jittered, classify=lambda p, b: (logits(p, b[0]), b[1]))
