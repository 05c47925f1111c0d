"""BERT's network in plain functions: embeddings, blocks with a layer norm after each sum, a head.

params = init_params(Shape(30_522, 512, 12, 768, 12, 3072), key)
logits = logits_at(params, tokens, positions, make_dropout(None, 0.0))

Logits and parameter count agree with `BertForMaskedLM` of the library transformers.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from seedmap.experiments.networks.layers import layer_norm, look_up

LAYER_NORM_EPSILON = 1e-12
INITIAL_DEVIATION = 0.02

Drop = Callable[[jax.Array, int | jax.Array], jax.Array]


class Shape(NamedTuple):
    """Sizes of the network; `width` is a multiple of `heads`."""

    vocabulary: int
    length: int
    layers: int
    width: int
    heads: int
    mlp_hidden: int


def init_params(shape: Shape, key: jax.Array) -> dict[str, Any]:
    """Draws initial parameters, float32, named for `tasks.masked_lm.mlm_rule`.

    Kernels and embeddings are normal with standard deviation 0.02, biases and offsets 0, scales 1.

    Returns:
        {"params": ...} with K = width / heads: `embeddings` {token [V, width], position [length,
        width], segment [2, width], LayerNorm}, `head` {dense, LayerNorm, decoder {bias [V]}}, and
        `layers` {attention {query, key, value [width, head, K], out [head, K, width]}, LayerNorm_0,
        mlp {hidden, out}, LayerNorm_1}, all kernels with biases, whose first axis counts the
        layers: the network is a loop over them, since 12 copies of a block take minutes to compile.
    """
    vocabulary, length, layers, width, heads, hidden = shape
    head_width = width // heads

    def linear(kernel, bias):
        return {"kernel": jnp.zeros(kernel), "bias": jnp.zeros(bias)}

    def norm():
        return {"scale": jnp.zeros(width), "bias": jnp.zeros(width)}

    per_head = ((width, heads, head_width), (heads, head_width))
    layer = {
        "attention": {name: linear(*per_head) for name in ("query", "key", "value")}
        | {"out": linear((heads, head_width, width), width)},
        "LayerNorm_0": norm(),
        "mlp": {"hidden": linear((width, hidden), hidden), "out": linear((hidden, width), width)},
        "LayerNorm_1": norm(),
    }
    net = {
        "embeddings": {
            "token": {"embedding": jnp.zeros((vocabulary, width))},
            "position": {"embedding": jnp.zeros((length, width))},
            "segment": {"embedding": jnp.zeros((2, width))},
            "LayerNorm": norm(),
        },
        "layers": jax.tree.map(lambda leaf: jnp.zeros((layers, *leaf.shape)), layer),
        "head": {
            "dense": linear((width, width), width),
            "LayerNorm": norm(),
            "decoder": {"bias": jnp.zeros(vocabulary)},
        },
    }
    flat, restore = ravel_pytree(net)
    drawn = restore(
        INITIAL_DEVIATION * jax.random.normal(key, flat.shape)
    )  # one draw: compiles fast
    constants = {"bias": jnp.zeros_like, "scale": jnp.ones_like}

    def initial(path, leaf):
        return constants.get(path[-1].key, lambda leaf: leaf)(leaf)

    return {"params": jax.tree_util.tree_map_with_path(initial, drawn)}


def make_dropout(key: jax.Array | None, share: float, drawn_for_B: jax.Array | None = None) -> Drop:
    """Makes dropout: (x, position) -> x with a share of entries 0, the others scaled up.

    Args:
        key: of one step; None: nothing is dropped.
        share: of entries dropped.
        drawn_for_B: int32 [row], which of the masks drawn each row gets (`trainer.Noise.place`);
            None: the first row the first one, and so on.
    """
    if key is None or share == 0:
        return lambda x, position: x

    def drop(x: jax.Array, position: int | jax.Array) -> jax.Array:
        kept = jax.random.bernoulli(jax.random.fold_in(key, position), 1 - share, x.shape)
        kept = kept if drawn_for_B is None else kept[drawn_for_B]
        return jnp.where(kept, x / (1 - share), 0.0)

    return drop


def gelu(x: jax.Array) -> jax.Array:
    """Gives x Phi(x), with Phi the normal distribution function."""
    return 0.5 * x * (1 + jax.lax.erf(x / math.sqrt(2)))


normalise = partial(layer_norm, epsilon=LAYER_NORM_EPSILON)


def dense(linear: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Gives x kernel + bias over the last axis."""
    return x @ linear["kernel"] + linear["bias"]


def attend(
    attention: dict[str, Any], x_BxLxD: jax.Array, drop: Drop, position: int | jax.Array
) -> jax.Array:
    """Computes attention of every token to every token, all heads: [row, token, width]."""
    query, key, value = (
        jnp.einsum("bld,dhk->bhlk", x_BxLxD, attention[name]["kernel"])
        + attention[name]["bias"][:, None]
        for name in ("query", "key", "value")
    )
    scores_BxHxLxL = jnp.einsum("bhqk,bhlk->bhql", query, key) / math.sqrt(query.shape[-1])
    share_BxHxLxL = drop(jax.nn.softmax(scores_BxHxLxL, axis=-1), position)
    mixed_BxHxLxK = jnp.einsum("bhql,bhlk->bhqk", share_BxHxLxL, value)
    out = attention["out"]
    return jnp.einsum("bhlk,hkd->bld", mixed_BxHxLxK, out["kernel"]) + out["bias"]


def block(
    layer: dict[str, Any], x_BxLxD: jax.Array, drop: Drop, position: int | jax.Array
) -> jax.Array:
    """Computes a transformer block; a layer norm follows each residual sum."""
    attended = drop(attend(layer["attention"], x_BxLxD, drop, position), position + 1)
    x_BxLxD = normalise(layer["LayerNorm_0"], x_BxLxD + attended)
    hidden = gelu(dense(layer["mlp"]["hidden"], x_BxLxD))
    out = drop(dense(layer["mlp"]["out"], hidden), position + 2)
    return normalise(layer["LayerNorm_1"], x_BxLxD + out)


def through_blocks(
    layers: dict[str, Any], x_BxLxD: jax.Array, drop: Drop, remat: bool
) -> jax.Array:
    """Computes the blocks one after the other; the first axis of parameters counts them.

    A loop but on CPU, where the step of 2 blocks would take a quarter longer.
    """

    def step(x_BxLxD, of_layer):
        layer, position = of_layer
        return block(layer, x_BxLxD, drop, position), None

    count = len(layers["LayerNorm_0"]["scale"])
    positions = 3 * jnp.arange(count) + 1

    def loop(x_BxLxD, layers, unroll):
        # Copies of a block may be taken for one and the same, as the turns of a loop cannot.
        kept = jax.checkpoint(step, prevent_cse=unroll > 1) if remat else step
        return jax.lax.scan(kept, x_BxLxD, (layers, positions), unroll=unroll)[0]

    return jax.lax.platform_dependent(
        x_BxLxD, layers, cpu=partial(loop, unroll=count), default=partial(loop, unroll=1)
    )


def logits_at(
    params: dict[str, Any],
    tokens_BxL: jax.Array,
    positions_BxP: jax.Array,
    drop: Drop,
    remat: bool = False,
) -> jax.Array:
    """Computes logits of the tokens at some positions.

    Args:
        params: as `init_params` gives them.
        tokens_BxL: int32, what the network sees.
        positions_BxP: int32, positions in 0 .. L - 1.
        drop: as `make_dropout` gives it.
        remat: keep only what goes into a block for the gradient, and compute the block again.

    Returns:
        float32 [row, position, vocabulary].
    """
    net = params["params"]
    embeddings, head = net["embeddings"], net["head"]
    table_VxD = embeddings["token"]["embedding"]
    of_position = embeddings["position"]["embedding"] + embeddings["segment"]["embedding"][0]
    x_BxLxD = look_up(table_VxD, tokens_BxL) + of_position
    x_BxLxD = drop(normalise(embeddings["LayerNorm"], x_BxLxD), 0)
    x_BxLxD = through_blocks(net["layers"], x_BxLxD, drop, remat)
    is_position_BxPxL = jax.nn.one_hot(positions_BxP, tokens_BxL.shape[1])
    x_BxPxD = jnp.einsum("bpl,bld->bpd", is_position_BxPxL, x_BxLxD)
    x_BxPxD = normalise(head["LayerNorm"], gelu(dense(head["dense"], x_BxPxD)))
    return x_BxPxD @ table_VxD.T + head["decoder"]["bias"]
