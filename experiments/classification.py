"""Scores of classifiers by their logits."""

import jax
import jax.numpy as jnp


def score_logits(logits_BxK: jax.Array, label_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy log sum_k exp(logit_k) - logit_label in nats, and whether the label is first.

    The label's logit is picked by comparison rather than by index: that keeps scatters, which are
    slow in deterministic GPU programs, out of the gradient.

    Args:
        logits_BxK: float [example, class].
        label_B: int32 [example], 0 .. K - 1.

    Returns:
        Loss [example], and 1.0 where the largest logit (the first of equal ones) is the label's.
    """
    is_label_BxK = jnp.arange(logits_BxK.shape[1]) == label_B[:, None]
    of_label_B = jnp.sum(jnp.where(is_label_BxK, logits_BxK, 0.0), axis=1)
    loss_B = jax.nn.logsumexp(logits_BxK, axis=1) - of_label_B
    return loss_B, (jnp.argmax(logits_BxK, axis=1) == label_B).astype(jnp.float32)
