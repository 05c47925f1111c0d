"""Networks of plain layers as PyTorch names them: a layer's tensors together say what it is.

weight [out, in] with a bias [out]       a dense layer
weight of 3 to 5 axes                    a convolution
weight of 1 axis                         a normalisation, left out with its bias and statistics
in_proj_weight, in_proj_bias             attention, divided by its heads
weight of 2 axes under an `emb...`       an embedding, left out

A weight of two axes alone may be a dense layer or an embedding: it counts where its name says that
it is dense. What is not told for certain is no layout, and wants rules.
"""

import re
from collections.abc import Mapping

from seedmap.experiments.checkpoints.rules import HEADS, WIDTH, Layout, Rule

PLAIN = "plain"
_EMBEDDING = re.compile(r"emb|^wte$|^wpe$", re.IGNORECASE)
_DENSE = re.compile(r"fc|lin|dense|proj|head|classifier|out|hidden|mlp", re.IGNORECASE)
_STATISTICS = {"running_mean", "running_var", "num_batches_tracked"}
_ATTENTION = {"in_proj_weight": (3, HEADS, WIDTH)}

Shapes = Mapping[str, tuple[int, ...]]


def plain_layout(shapes: Shapes) -> Layout | None:
    """Returns rules for a network of plain layers; None where it has others, or none.

    Args:
        shapes: name of each tensor to its shape.
    """
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        layer, _, tensor = name.rpartition(".")
        layers.setdefault(layer, {})[tensor] = shape
    rules: list[Rule] = []
    for layer, tensors in layers.items():
        roles = _roles(layer.rpartition(".")[2], tensors)
        if roles is None:
            return None
        for tensor, role in roles.items():
            pattern = f"^{re.escape(f'{layer}.{tensor}' if layer else tensor)}$"
            rules.append(Rule(pattern, role, parts=_ATTENTION.get(tensor, ())))
    if not any(rule.role == "matrix" for rule in rules):
        return None
    return Layout(PLAIN, "", tuple(rules))


def _roles(layer: str, tensors: Shapes) -> dict[str, str] | None:
    """Returns the role of each tensor of a layer; None where they are of no plain layer."""
    axes = len(tensors.get("weight", ()))
    if "in_proj_weight" in tensors:
        known = {"in_proj_weight": "matrix", "in_proj_bias": "bias"}
        return {t: known[t] for t in tensors} if tensors.keys() <= known.keys() else None
    if not tensors.keys() <= {"weight", "bias"} | _STATISTICS or "weight" not in tensors:
        return None
    if axes == 1 or _STATISTICS & tensors.keys():
        return dict.fromkeys(tensors, "ignore")
    if 3 <= axes <= 5:
        return {tensor: "kernels" if tensor == "weight" else "bias" for tensor in tensors}
    if axes != 2:
        return None
    if _EMBEDDING.search(layer):
        return dict.fromkeys(tensors, "ignore")
    biased = tensors.get("bias") == tensors["weight"][:1]
    if not biased and ("bias" in tensors or not _DENSE.search(layer)):
        return None
    return {tensor: "matrix" if tensor == "weight" else "bias" for tensor in tensors}
