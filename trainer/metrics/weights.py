"""The 14 numbers of a network's weights that Hu et al. 2023 record (arXiv 2308.09543).

All of them are computed in-graph, from any parameter tree and a rule that says which leaves are
weight matrices, which are biases and which are left out; two measures of rank beside them.
`trainer.metrics.registry` has those that read more than the weights, and the choice by name.
"""

from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from seedmap.errors import UserError
from seedmap.metric_names import PAPER_METRICS
from seedmap.trainer.metrics.median import median
from seedmap.trainer.metrics.spectrum import Method, Spectrum, spectra

RANKS = ("stable_rank", "effective_rank")


class Role(NamedTuple):
    """What a parameter leaf counts as.

    Attributes:
        kind: "matrix", "kernels" (of a convolution, [height, width, in, out]), "bias" or "ignore"
            (embeddings, layer norms).
        head_axis: for a matrix with one slice per attention head, the axis of the heads; each
            slice counts as a matrix of its own (queries, keys and values in Hu et al. 2023).
        layers: the first axis counts layers that lie in one leaf, as flax's `nn.scan` keeps them;
            each counts as a leaf of its own, and `head_axis` is one of a single layer's.
    """

    kind: Literal["matrix", "kernels", "bias", "ignore"]
    head_axis: int | None = None
    layers: bool = False


Leaf = Shaped[Array, "..."] | Shaped[np.ndarray, "..."]
Rule = Callable[[tuple[str, ...], Leaf], Role]


def flax_rule(path: tuple[str, ...], leaf: Leaf) -> Role:
    """Roles by the names flax gives: `kernel` is a matrix, `bias` a bias, all else is left out.

    Biases of normalisation layers are left out too (Hu et al. 2023 leave out layer norms and
    embeddings): a bias counts unless its module's name contains "Norm". Queries, keys and values
    of flax attention, with kernels [features, head, head_features], count once per head; a kernel
    with 4 axes is a convolution's.
    """
    module = path[-2] if len(path) > 1 else ""
    if path[-1] == "kernel" and leaf.ndim == 4:
        return Role("kernels")
    if path[-1] == "kernel":
        per_head = leaf.ndim == 3 and module in ("query", "key", "value")
        return Role("matrix", head_axis=1 if per_head else None)
    if path[-1] == "bias" and "Norm" not in module:
        return Role("bias")
    return Role("ignore")


class Weights(NamedTuple):
    """A network's weights sorted by role.

    Attributes:
        matrices: leaf name ("Dense_0.kernel") to array [matrix, row, column]; the first axis
            counts attention heads (1 where there are none), those of each layer in turn.
        kernels: leaf name of a convolution to array [layer, height * width, slice], a slice for
            every pair of input and output channels.
        biases: leaf name to array [unit], those of each layer in turn.
        layers: leaf name to the layers that lie in it, where they are several.
    """

    matrices: dict[str, Float[Array, "matrix row column"]]
    kernels: dict[str, Float[Array, "layer pixel slice"]]
    biases: dict[str, Float[Array, " unit"]]
    layers: dict[str, int]

    def by_layer(self, leaf: str, values: jax.Array) -> dict[str, jax.Array]:
        """Splits values of a leaf, [...] in the order of its layers, by layer: "kernel.0", ...."""
        if leaf not in self.layers:
            return {leaf: values}
        layers = values.reshape(self.layers[leaf], -1, *values.shape[1:])
        return {f"{leaf}.{i}": layer for i, layer in enumerate(layers)}


def _as_matrices(leaf: jax.Array, role: Role) -> jax.Array:
    if role.layers:
        of_layers = jax.vmap(lambda layer: _as_matrices(layer, role._replace(layers=False)))(leaf)
        return of_layers.reshape(-1, *of_layers.shape[2:])
    if role.head_axis is not None:
        return jnp.moveaxis(leaf, role.head_axis, 0)
    # An output projection [head, head_features, features] is one matrix of joined rows.
    return leaf.reshape(1, -1, leaf.shape[-1])


def _as_slices(leaf: jax.Array, role: Role) -> jax.Array:
    layers = len(leaf) if role.layers else 1
    return leaf.reshape(layers, leaf.shape[-4] * leaf.shape[-3], -1)


def named_leaves(params: Any) -> list[tuple[tuple[str, ...], Shaped[Array, "..."]]]:
    """Leaves with the names on the way to them; flax's outermost "params" is left out."""
    leaves = [
        (tuple(str(getattr(key, "key", getattr(key, "name", key))) for key in key_path), leaf)
        for key_path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    wrapped = all(len(path) > 1 and path[0] == "params" for path, _ in leaves)
    return [(path[1:] if wrapped else path, leaf) for path, leaf in leaves]


def sort_weights(params: Any, rule: Rule = flax_rule) -> Weights:
    """Sorts the leaves of a parameter tree by the rule; those in half precision as float32.

    Raises:
        UserError: the rule finds no matrix in the tree.
    """
    matrices, kernels, biases, layers = {}, {}, {}, {}
    for path, leaf in named_leaves(params):
        role, name = rule(path, leaf), ".".join(path)
        leaf = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
        if role.kind == "matrix":
            matrices[name] = _as_matrices(leaf, role)
        elif role.kind == "kernels":
            kernels[name] = _as_slices(leaf, role)
        elif role.kind == "bias":
            biases[name] = leaf.ravel()
        if role.layers:
            layers[name] = len(leaf)
    if not matrices:
        names = ", ".join(".".join(path) for path, _ in named_leaves(params)[:8])
        raise UserError(
            f"metrics: the rule finds no weight matrix among the parameters ({names}); by default "
            "one of the name kernel counts, and bias: rename them, or give weight_metrics another "
            "rule"
        )
    return Weights(matrices, kernels, biases, layers)


def _norms(entries: jax.Array, axis: int | tuple[int, int]) -> dict[str, jax.Array]:
    """Norms of the entries over an axis or two, and how they compare."""
    l1 = jnp.sum(jnp.abs(entries), axis)
    l2 = jnp.sqrt(jnp.sum(jnp.square(entries), axis))
    return {"l1": l1, "l2": l2, "code_sparsity": l1 / l2}


def _kernel_values(slices: jax.Array) -> dict[str, jax.Array]:
    """Values of a convolution: [layer, pixel, slice] -> name to [layer], the mean over slices."""
    return {name: jnp.mean(values, axis=-1) for name, values in _norms(slices, axis=-2).items()}


def _matrix_values(matrices: jax.Array, spectrum: Spectrum) -> dict[str, jax.Array]:
    """Values of each matrix: [matrix, row, column] and its spectrum -> name to [matrix]."""
    norms = _norms(matrices, axis=(-2, -1))
    trace = jnp.trace(matrices, axis1=-2, axis2=-1)
    return norms | {
        "trace": trace,
        "spectral": spectrum.largest,
        "computational_sparsity": trace / spectrum.largest,
        "mean_lambda": spectrum.mean,
        "var_lambda": spectrum.variance,
        "stable_rank": jnp.square(norms["l2"] / spectrum.largest),
        "effective_rank": spectrum.effective_rank,
    }


def _entry_values(entries: list[jax.Array], suffix: str) -> dict[str, jax.Array]:
    """Mean, median and variance of all entries: "w" of the weights, "b" of the biases."""
    flat = jnp.concatenate([array.ravel() for array in entries])
    return {
        f"mean_{suffix}": jnp.mean(flat),
        f"median_{suffix}": median(flat),
        f"var_{suffix}": jnp.var(flat),
    }


def weight_values(
    params: Any,
    means: Collection[str] = PAPER_METRICS,
    layers: Collection[str] = (),
    rule: Rule = flax_rule,
    spectrum: Method = "exact",
) -> dict[str, Float[Array, ""]]:
    """Chosen ones of PAPER_METRICS and RANKS, of the whole network and of every layer.

    All of them come from one decomposition of every matrix. Under jit, what is not chosen is not
    computed.

    Args:
        params: parameter tree of one network, floating leaves.
        means: names to record as one number of the network.
        layers: names to record for every layer, as "l2.Dense_0.kernel", or "l2.Dense_0.kernel.3"
            where several lie in one leaf; the mean over heads where a leaf has several.
        rule: says which leaf counts as what.
        spectrum: how singular values are found, see `trainer.metrics.spectrum`.

    Returns:
        Name to scalar; no mean_b, median_b, var_b of a network without biases.

    Raises:
        UserError: the rule finds no matrix, or the spectrum is none of the known ones.
    """
    weights = sort_weights(params, rule)
    measured = spectra(tuple(weights.matrices.values()), spectrum)
    per_leaf = dict(
        zip(weights.matrices, map(_matrix_values, weights.matrices.values(), measured), strict=True)
    )
    names = list(next(iter(per_leaf.values())))
    per_leaf |= {leaf: _kernel_values(slices) for leaf, slices in weights.kernels.items()}
    values = {
        name: jnp.mean(jnp.concatenate([of[name] for of in per_leaf.values() if name in of]))
        for name in names
    }
    values |= _entry_values([*weights.matrices.values(), *weights.kernels.values()], "w")
    if weights.biases:
        values |= _entry_values(list(weights.biases.values()), "b")
    chosen = {name: values[name] for name in values if name in means}
    if not layers:
        return chosen
    return chosen | {
        f"{name}.{layer}": value
        for layer, values in _values_by_layer(weights, per_leaf).items()
        for name, value in values.items()
        if name in layers
    }


def _values_by_layer(
    weights: Weights, per_leaf: dict[str, dict[str, jax.Array]]
) -> dict[str, dict[str, jax.Array]]:
    """Values of each layer, by name: the mean over heads, and what is of its entries."""
    by_layer: dict[str, dict[str, jax.Array]] = {}
    for leaf, values in per_leaf.items():
        for name, of_matrices in values.items():
            for layer, values_of_layer in weights.by_layer(leaf, of_matrices).items():
                by_layer.setdefault(layer, {})[name] = jnp.mean(values_of_layer)
    for leaf, array in (weights.matrices | weights.kernels).items():
        for layer, values_of_layer in weights.by_layer(leaf, array).items():
            by_layer[layer] |= _entry_values([values_of_layer], "w")
    for leaf, array in weights.biases.items():
        for layer, values_of_layer in weights.by_layer(leaf, array).items():
            by_layer[layer] = _entry_values([values_of_layer], "b")
    return by_layer


def weight_metrics(
    params: Any,
    rule: Rule = flax_rule,
    spectrum: Method = "exact",
    per_layer: bool = False,
) -> dict[str, Float[Array, ""]]:
    """The 14 metrics of one network.

    Over the weight matrices W (each attention head's query, key and value counts as one):
    l1 = mean ||W||_1 (entrywise), l2 = mean ||W||_F, code_sparsity = mean ||W||_1 / ||W||_F,
    trace = mean of the sum of the main diagonal (non-square matrices too), spectral = mean of the
    largest singular value, computational_sparsity = mean trace / spectral, mean_lambda and
    var_lambda = mean over matrices of the mean and of the variance of the singular values.
    Over all weights concatenated: mean_w, median_w, var_w; over all biases: mean_b, median_b,
    var_b. Variances are population variances, as in the paper's text. A convolution counts
    in l1, l2 and code_sparsity as one matrix, whose value is the mean over its slices [height,
    width], and in mean_w, median_w and var_w; the rest is of the dense layers (as the released code
    has it).

    The paper's released code differs in three ways that rescale a metric or touch only its
    smallest values: variances with Bessel's correction, singular values under 1e-5 set to 0, and
    matrices with a single singular value left out of var_lambda.

    Args:
        params: parameter tree of one network, floating leaves.
        rule: says which leaf counts as what.
        spectrum: how the singular values behind spectral, computational_sparsity, mean_lambda and
            var_lambda are found: "exact" (SVD), "gram" (error bounded) or "lanczos" (an estimate,
            for large matrices); see `trainer.metrics.spectrum`.
        per_layer: also give every metric of every layer, as "l2.Dense_0.kernel" or
            "mean_b.Dense_0.bias" (the mean over heads where a kernel has several), and with a
            number behind, "l2.layers.mlp.out.kernel.3", where a leaf holds several.

    Returns:
        Each name of PAPER_METRICS to a scalar, in the dtype of the parameters; a network without
        biases has no mean_b, median_b and var_b.

    Raises:
        UserError: the rule finds no matrix, or the spectrum is none of the known ones.

    Source: Hu et al. 2023.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": 2.0 * jnp.eye(3), "bias": jnp.zeros(3)}}
        >>> float(weight_metrics(params)["spectral"])
        2.0
    """
    return weight_values(params, PAPER_METRICS, PAPER_METRICS if per_layer else (), rule, spectrum)


def rank_measures(
    params: Any,
    rule: Rule = flax_rule,
    spectrum: Method = "exact",
    per_layer: bool = True,
) -> dict[str, Float[Array, ""]]:
    """Stable and effective rank of the weight matrices, by layer and their means.

    stable_rank = ||W||_F^2 / ||W||_2^2 (Rudelson and Vershynin 2007, "numerical rank");
    effective_rank = exp(-sum p_i log p_i), p_i = s_i / sum s, s the singular values (Roy and
    Vetterli 2007, EUSIPCO, definition 1). Both lie between 1 and the rank. Beside `weight_metrics`
    in one program, choose both by `trainer.metrics.registry.choose`, which decomposes every matrix
    once.

    Args:
        params: parameter tree of one network, floating leaves.
        rule: says which leaf counts as what.
        spectrum: how singular values are found, see `trainer.metrics.spectrum`.
        per_layer: give the value of every layer, as "stable_rank.Dense_0.kernel".

    Returns:
        stable_rank and effective_rank, means over all matrices, and those of every layer; NaN for
        a zero matrix.

    Raises:
        UserError: the rule finds no matrix, or the spectrum is none of the known ones.
    """
    return weight_values(params, RANKS, RANKS if per_layer else (), rule, spectrum)
