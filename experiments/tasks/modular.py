"""Modular arithmetic (Hu et al. 2023): a one-layer transformer learns x ∘ y mod 113.

    seedmap run modular
    seedmap run modular-stabilised

The input is three tokens, (x, y, =); the loss is the cross-entropy of the last position's logits.
`modular` forks and generalises late ("grokking"); `modular-stabilised` is the same network with a
layer norm after each residual sum, in smaller batches.

From Hu et al. (2023): one layer, width 128, 4 heads of 32, 512 ReLU units, no layer norm
(stabilised: after each residual sum); (x + y) mod 113, 30 % of all 12 769 pairs train; AdamW,
learning rate 1e-3, weight decay 1.0; batch 2048 (stabilised: 256); 10 000 epochs, every 10th
recorded; 40 seeds, a seed setting initialisation, split and order. Where they are silent we
follow their released code: normal weights of standard deviation 1/sqrt(width) (the unembedding's
1/sqrt(vocabulary)), biases of the two MLP layers alone, zero at first; 114 tokens, `=` too has a
logit; scores over sqrt(32); Adam's betas 0.9 and 0.999, and a decay of every parameter, biases and
embeddings included; layer norm with scale, offset and epsilon 1e-5; the last batch of an epoch
keeps the examples that are left. The 14 metrics leave out embedding, unembedding and layer norms,
as there.

Ours alone: subtraction, multiplication, and division by the modular inverse (`--operation`); a
batch is at most the training set, so `--batch-size` goes down with `--prime`.

`--preset cpu` of `modular` is a smaller network on (x + y) mod 59 (45 % train, learning rate 3e-3,
batches of half the training set); that of `modular-stabilised` the network of Hu et al. (2023) for
200 epochs. What 40 seeds of either found, and the time it took, is in
`experiments/results/RESULTS.md` (`seedmap run modular --preset cpu`, the same of
`modular-stabilised`; 2026-11-21, by Gaussian HMMs): all grok, the former at 482 ± 180 epochs, the
latter at 115 ± 14.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from seedmap.errors import UserError
from seedmap.experiments.networks.layers import layer_norm, look_up
from seedmap.experiments.networks.logits import score_logits
from seedmap.experiments.tasks.base import (
    QUICK_FIT,
    Experiment,
    MapConfig,
    Preset,
    Setup,
    TrainingConfig,
    check_positive,
)
from seedmap.trainer import Data, Task
from seedmap.trainer.order import permutation

LAYER_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class ModularConfig(TrainingConfig):
    """Hyperparameters of modular arithmetic; defaults of Hu et al. (2023), no layer norm."""

    epochs: int = 10_000
    """Length of training, in passes over the training data."""
    record_every: int = 10
    """Time between two records of the metrics, in epochs."""
    batch_size: int = 2048
    """Examples per optimisation step; the last batch of an epoch holds what is left."""
    learning_rate: float = 1e-3
    """Learning rate per step."""
    weight_decay: float = 1.0
    """Weight decay coefficient, decoupled from the gradient (AdamW)."""
    operation: Literal["add", "subtract", "multiply", "divide"] = "add"
    """Operation modulo the prime; a division's divisor is never 0."""
    prime: int = 113
    """The modulus."""
    train_share: float = 0.3
    """Share of all pairs that train; the others test."""
    width: int = 128
    """Length of the residual stream's vectors."""
    heads: int = 4
    """Attention heads, each of width / heads."""
    mlp_hidden: int = 512
    """ReLU units."""
    layer_norm: tyro.conf.FlagCreatePairsOff[bool] = False
    """Layer norm after each residual sum (the stabilised variant of Hu et al. 2023)."""


def all_examples(config: ModularConfig) -> tuple[np.ndarray, np.ndarray]:
    """Returns every pair of operands and its result.

    Returns:
        int32 [example, 2] of numbers 0 .. prime - 1, and int32 [example], x ∘ y mod prime. A
        division has prime (prime - 1) examples, the other operations prime².
    """
    prime = config.prime
    x, y = np.divmod(np.arange(prime * prime), prime)
    if config.operation == "divide":
        x, y = x[y > 0], y[y > 0]
        inverse = np.array([0] + [pow(divisor, -1, prime) for divisor in range(1, prime)])
        result = x * inverse[y]
    else:
        result = {"add": x + y, "subtract": x - y, "multiply": x * y}[config.operation]
    return np.stack([x, y], axis=1).astype(np.int32), (result % prime).astype(np.int32)


def num_train(config: ModularConfig) -> int:
    """Returns the number of training examples: the share of all pairs, rounded down."""
    pairs = config.prime * (config.prime - (config.operation == "divide"))
    return int(config.train_share * pairs)


def make_data(config: ModularConfig, key: jax.Array) -> Data:
    """Splits all pairs at random.

    Returns:
        Data of pairs (int32 [example, 2], int32 [example]).
    """
    operands_Nx2, result_N = map(jnp.asarray, all_examples(config))
    order = permutation(key, len(result_N))
    train, test = jnp.split(order, [num_train(config)])
    return Data(*((operands_Nx2[rows], result_N[rows]) for rows in (train, test)))


def _normal_tree(key: jax.Array, shapes: Any) -> Any:
    """Draws standard normal arrays of a tree of shapes at once: many draws compile slowly."""
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda node: isinstance(node, tuple))
    ends = np.cumsum([math.prod(shape) for shape in leaves])
    pieces = jnp.split(jax.random.normal(key, (ends[-1],)), ends[:-1])
    return structure.unflatten(
        [piece.reshape(shape) for piece, shape in zip(pieces, leaves, strict=True)]
    )


def init_params(config: ModularConfig, key: jax.Array) -> dict[str, Any]:
    """Draws initial parameters, float32, named for `trainer.flax_rule`.

    Returns:
        {"params": ...} with V = prime + 1 tokens and K = width / heads: `embed` [V, width],
        `positions` [3, width], `attention` {query, key, value [width, head, K], out [head, K,
        width]}, `mlp` {hidden, out [width, mlp_hidden], with biases}, `unembed` [V, width], and
        two layer norms where the config has them.

    The MLP's output layer and the unembedding are stored transposed, [out, in]: XLA:CPU forms the
    gradient of a matrix at half the rate where it has more rows than columns (55 against 100
    GFLOP/s on a core; jax 0.10.2). No metric tells a matrix from its transpose.
    """
    width, heads, hidden, vocab = config.width, config.heads, config.mlp_hidden, config.prime + 1
    per_head = (width, heads, width // heads)
    shapes = {
        "embed": {"embedding": (vocab, width)},
        "positions": {"embedding": (3, width)},
        "attention": {name: {"kernel": per_head} for name in ("query", "key", "value")}
        | {"out": {"kernel": (*per_head[1:], width)}},
        "mlp": {"hidden": {"kernel": (width, hidden)}, "out": {"kernel": (width, hidden)}},
        "unembed": {"embedding": (vocab, width)},
    }
    params = jax.tree.map(lambda weights: weights / math.sqrt(width), _normal_tree(key, shapes))
    params["mlp"]["hidden"]["bias"] = jnp.zeros(hidden)
    params["mlp"]["out"]["bias"] = jnp.zeros(width)
    params["unembed"]["embedding"] *= math.sqrt(width / vocab)
    if config.layer_norm:
        for name in ("LayerNorm_0", "LayerNorm_1"):
            params[name] = {"scale": jnp.ones(width), "bias": jnp.zeros(width)}
    return {"params": params}


def attend(net: dict[str, Any], operands_Bx2: jax.Array) -> jax.Array:
    """Computes the residual stream at the last position after attention.

    Ahead of attention a token's vectors depend on the token and its position alone, and the last
    token is always `=`. So there is one query; the score and the value of every token are computed
    once, not once per example, and looked up.

    Args:
        net: the parameters, without their outer name.
        operands_Bx2: int32, the first two tokens.

    Returns:
        float32 [example, width].
    """
    embed_VxD, positions_TxD = net["embed"]["embedding"], net["positions"]["embedding"]
    attention = {name: leaf["kernel"] for name, leaf in net["attention"].items()}
    width, heads, head_width = attention["query"].shape

    last_D = embed_VxD[-1] + positions_TxD[-1]
    query_HxK = jnp.einsum("d,dhk->hk", last_D, attention["query"]) / math.sqrt(head_width)
    to_score_DxH = jnp.einsum("dhk,hk->dh", attention["key"], query_HxK)
    # Columns: the values of all heads, then their scores. The position comes first, so that what
    # is summed below are whole arrays.
    project = jnp.concatenate([attention["value"].reshape(width, width), to_score_DxH], axis=1)
    of_token, of_position = embed_VxD @ project, positions_TxD @ project
    operands_2xBxC = look_up(of_token[:-1], operands_Bx2.T) + of_position[:2, None]
    equals_1x1xC = (of_token[-1] + of_position[2])[None, None]

    equals_1xBxC = jnp.broadcast_to(equals_1x1xC, (1, *operands_2xBxC.shape[1:]))
    scores_TxBxH = jnp.concatenate([operands_2xBxC[..., width:], equals_1xBxC[..., width:]])
    share_TxBxHx1 = jax.nn.softmax(scores_TxBxH, axis=0)[..., None]
    mixed_BxHxK = sum(
        share * values[:, :width].reshape(-1, heads, head_width)
        for share, values in zip(share_TxBxHx1, (*operands_2xBxC, *equals_1x1xC), strict=True)
    )
    return last_D + mixed_BxHxK.reshape(-1, width) @ attention["out"].reshape(width, width)


def last_logits(params: dict[str, Any], operands_Bx2: jax.Array) -> jax.Array:
    """Computes logits of the last position: attention, MLP, unembedding.

    Args:
        params: as `init_params` gives them; the layer norms are used where they are there.
        operands_Bx2: int32, numbers 0 .. prime - 1.

    Returns:
        float32 [example, prime + 1].
    """
    net = params["params"]
    hidden, out = net["mlp"]["hidden"], net["mlp"]["out"]
    x_BxD = attend(net, operands_Bx2)
    if "LayerNorm_0" in net:
        x_BxD = layer_norm(net["LayerNorm_0"], x_BxD, LAYER_NORM_EPSILON)
    h_BxM = jax.nn.relu(x_BxD @ hidden["kernel"] + hidden["bias"])
    x_BxD = x_BxD + h_BxM @ out["kernel"].T + out["bias"]
    if "LayerNorm_1" in net:
        x_BxD = layer_norm(net["LayerNorm_1"], x_BxD, LAYER_NORM_EPSILON)
    return x_BxD @ net["unembed"]["embedding"].T


def classify(params: dict[str, Any], batch: tuple[jax.Array, jax.Array]):
    """Returns logits of the last position, and the result."""
    operands_Bx2, result_B = batch
    return last_logits(params, operands_Bx2), result_B


def score(params: dict[str, Any], batch: tuple[jax.Array, jax.Array]):
    """Computes cross-entropy in nats; right where no other logit is as high as the result's."""
    return score_logits(*classify(params, batch))


def setup(config: ModularConfig) -> Setup:
    """Returns task and optimiser: AdamW, every parameter decayed (PyTorch's default).

    Raises:
        UserError: a size is not positive, the prime is none, the heads do not share the width
            evenly, or the training share leaves no example to train or to test.
    """
    check_positive(config, "prime", "width", "heads", "mlp_hidden")
    if config.prime < 2 or any(
        config.prime % k == 0 for k in range(2, math.isqrt(config.prime) + 1)
    ):
        raise UserError(f"prime is {config.prime}; it must be a prime number, for instance 113")
    if config.width % config.heads:
        raise UserError(f"width is {config.width}; it must be a multiple of heads ({config.heads})")
    if not 0 < config.train_share < 1 or not num_train(config):
        raise UserError(
            f"train_share is {config.train_share}; it must lie between 0 and 1, "
            "and leave an example to train"
        )
    task = Task(
        init=lambda key: init_params(config, key),
        make_data=lambda key: make_data(config, key),
        score=score,
        num_train=num_train(config),
        classify=classify,
    )
    optimizer = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)
    return Setup(task, optimizer)


PAPER = ModularConfig()
STABILISED = replace(PAPER, batch_size=256, layer_norm=True)
SMALL = replace(
    PAPER,
    prime=59,
    train_share=0.45,
    width=64,
    mlp_hidden=256,
    learning_rate=3e-3,
    batch_size=783,
    epochs=2000,
    record_every=5,
)
QUICK = replace(
    PAPER,
    seeds=6,
    seeds_at_once=3,
    prime=13,
    train_share=0.8,
    width=32,
    heads=2,
    mlp_hidden=64,
    learning_rate=1e-2,
    batch_size=68,
    epochs=240,
    record_every=8,
)


def presets(paper: ModularConfig, cpu: ModularConfig) -> dict[str, Preset]:
    """Returns the three presets of a variant; `quick` is `QUICK` with the variant's layer norms."""
    quick = replace(QUICK, layer_norm=paper.layer_norm)
    return {
        "paper": Preset(paper),
        "cpu": Preset(cpu),
        "quick": Preset(quick, QUICK_FIT, MapConfig(threshold=0.7)),
    }


MODULAR = Experiment(
    name="modular",
    presets=presets(PAPER, SMALL),
    setup=setup,
)

MODULAR_STABILISED = Experiment(
    name="modular-stabilised",
    presets=presets(STABILISED, replace(STABILISED, epochs=200, record_every=1)),
    setup=setup,
)
