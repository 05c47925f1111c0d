"""The 14 numbers of a network's weights that paper A records (arXiv 2308.09543, section 2.1).

All of them are computed in-graph, from any parameter tree and a rule that says which leaves are
weight matrices, which are biases and which are left out.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from trainer.median import median

METRICS = (
    "l1",
    "l2",
    "code_sparsity",
    "mean_w",
    "median_w",
    "var_w",
    "mean_b",
    "median_b",
    "var_b",
    "trace",
    "spectral",
    "computational_sparsity",
    "mean_lambda",
    "var_lambda",
)


class Role(NamedTuple):
    """What a parameter leaf counts as.

    Attributes:
        kind: "matrix", "bias" or "ignore" (embeddings, layer norms).
        head_axis: for a matrix with one slice per attention head, the axis of the heads; each
            slice counts as a matrix of its own (queries, keys and values in paper A).
    """

    kind: Literal["matrix", "bias", "ignore"]
    head_axis: int | None = None


Rule = Callable[[tuple[str, ...], jax.Array], Role]


def flax_rule(path: tuple[str, ...], leaf: jax.Array) -> Role:
    """Roles by the names flax gives: `kernel` is a matrix, `bias` a bias, all else is left out.

    Biases of normalisation layers are left out too (paper A leaves out layer norms and
    embeddings): a bias counts unless its module's name contains "Norm". Queries, keys and values
    of flax attention, with kernels [features, head, head_features], count once per head.
    """
    module = path[-2] if len(path) > 1 else ""
    if path[-1] == "kernel":
        per_head = leaf.ndim == 3 and module in ("query", "key", "value")
        return Role("matrix", head_axis=1 if per_head else None)
    if path[-1] == "bias" and "Norm" not in module:
        return Role("bias")
    return Role("ignore")


class Weights(NamedTuple):
    """A network's weights sorted by role.

    Attributes:
        matrices: tuple of arrays [matrix, row, column]; one array per leaf, its first axis
            counting attention heads (1 where there are none).
        biases: tuple of arrays [unit].
    """

    matrices: tuple[jax.Array, ...]
    biases: tuple[jax.Array, ...]


def _as_matrices(leaf: jax.Array, role: Role) -> jax.Array:
    if role.head_axis is not None:
        return jnp.moveaxis(leaf, role.head_axis, 0)
    # An output projection [head, head_features, features] is one matrix of joined rows.
    return leaf.reshape(1, -1, leaf.shape[-1])


def sort_weights(params: Any, rule: Rule = flax_rule) -> Weights:
    """Sorts the leaves of a parameter tree by the rule.

    Raises:
        ValueError: the rule finds no matrix in the tree.
    """
    matrices, biases = [], []
    for key_path, leaf in jax.tree_util.tree_leaves_with_path(params):
        path = tuple(str(getattr(key, "key", getattr(key, "name", key))) for key in key_path)
        role = rule(path, leaf)
        if role.kind == "matrix":
            matrices.append(_as_matrices(leaf, role))
        elif role.kind == "bias":
            biases.append(leaf.ravel())
    if not matrices:
        raise ValueError("metrics: the rule finds no weight matrix among the parameters")
    return Weights(tuple(matrices), tuple(biases))


def _singular_values(matrices: jax.Array) -> jax.Array:
    if min(matrices.shape[-2:]) == 1:  # the one singular value of a vector is its length
        return jnp.sqrt(jnp.sum(jnp.square(matrices), axis=(-2, -1)))[..., None]
    return jnp.linalg.svd(matrices, compute_uv=False)


def singular_values(leaves: tuple[jax.Array, ...]) -> list[jax.Array]:
    """Singular values of every matrix, largest first: [matrix, row, column] -> [matrix, value].

    Each decomposition takes a zero from the one before, so that no two run side by side: batched
    LAPACK calls of jaxlib 0.10 wait on the CPU for threads of the pool that runs them, and as many
    at once as there are threads wait for ever.
    """
    found, zero = [], 0.0
    for matrices in leaves:
        found.append(_singular_values(matrices + zero))
        zero = 0.0 * found[-1][0, 0]
    return found


def _matrix_metrics(matrices: jax.Array, lambdas: jax.Array) -> dict[str, jax.Array]:
    """Metrics of each matrix: [matrix, row, column] and its singular values -> name to [matrix]."""
    l1 = jnp.sum(jnp.abs(matrices), axis=(-2, -1))
    l2 = jnp.sqrt(jnp.sum(jnp.square(matrices), axis=(-2, -1)))
    trace = jnp.trace(matrices, axis1=-2, axis2=-1)
    spectral = jnp.max(lambdas, axis=-1)
    return {
        "l1": l1,
        "l2": l2,
        "code_sparsity": l1 / l2,
        "trace": trace,
        "spectral": spectral,
        "computational_sparsity": trace / spectral,
        "mean_lambda": jnp.mean(lambdas, axis=-1),
        "var_lambda": jnp.var(lambdas, axis=-1),
    }


def weight_metrics(params: Any, rule: Rule = flax_rule) -> dict[str, jax.Array]:
    """The 14 metrics of one network.

    Over the weight matrices W (each attention head's query, key and value counts as one):
    l1 = mean ||W||_1 (entrywise), l2 = mean ||W||_F, code_sparsity = mean ||W||_1 / ||W||_F,
    trace = mean of the sum of the main diagonal (non-square matrices too), spectral = mean of the
    largest singular value, computational_sparsity = mean trace / spectral, mean_lambda and
    var_lambda = mean over matrices of the mean and of the variance of the singular values.
    Over all weights concatenated: mean_w, median_w, var_w; over all biases: mean_b, median_b,
    var_b. Variances are population variances, as in the paper's text.

    The paper's released code differs in three ways that rescale a metric or touch only its
    smallest values: variances with Bessel's correction, singular values under 1e-5 set to 0, and
    matrices with a single singular value left out of var_lambda.

    Args:
        params: parameter tree of one network, floating leaves.
        rule: says which leaf counts as what.

    Returns:
        Each name of METRICS to a scalar, in the dtype of the parameters; a network without biases
        has no mean_b, median_b and var_b.

    Raises:
        ValueError: the rule finds no matrix.

    Source: paper A, section 2.1 and appendix A.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": 2.0 * jnp.eye(3), "bias": jnp.zeros(3)}}
        >>> float(weight_metrics(params)["spectral"])
        2.0
    """
    weights = sort_weights(params, rule)
    per_leaf = list(map(_matrix_metrics, weights.matrices, singular_values(weights.matrices)))
    values = {
        name: jnp.mean(jnp.concatenate([leaf[name] for leaf in per_leaf])) for name in per_leaf[0]
    }
    flat = {"w": jnp.concatenate([matrices.ravel() for matrices in weights.matrices])}
    if weights.biases:
        flat["b"] = jnp.concatenate(weights.biases)
    for suffix, array in flat.items():
        values[f"mean_{suffix}"] = jnp.mean(array)
        values[f"median_{suffix}"] = median(array)
        values[f"var_{suffix}"] = jnp.var(array)
    return values
