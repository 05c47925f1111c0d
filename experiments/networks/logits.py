"""Scores of classifiers by their logits."""

import jax
import jax.numpy as jnp


def score_logits(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes log sum_k exp(logit_k) - logit_label in nats, and whether the label wins.

    The label's logit is picked by comparison rather than by index: that keeps scatters, which are
    slow in deterministic GPU programs, out of the gradient.

    Args:
        logits: float [..., class].
        label: int32 [...], 0 .. classes - 1.

    Returns:
        Loss [...], and 1.0 [...] where no other logit is as high as the label's, else 0.0.
    """
    is_label = jnp.arange(logits.shape[-1]) == label[..., None]
    of_label = jnp.sum(jnp.where(is_label, logits, 0.0), axis=-1)
    at_least = jnp.sum(logits >= of_label[..., None], axis=-1)
    loss = jax.nn.logsumexp(logits, axis=-1) - of_label
    return loss, (at_least == 1).astype(jnp.float32)
