"""Sources of noise that vary between the replicas of a study, and those held fixed.

After Zhuang et al. 2022. A study trains a few replicas of each *variant*. Replica r of a variant
has number r in the sources that vary and number 0 in all others, so that replica 0 of every variant
is one and the same training, and CONTROL, where nothing varies, is that training several times
over. With several *roots* all of this is done around as many such trainings: a root is another base
seed, which gives another initialisation, order, ... and other examples, and its replicas are one
block of rows. Replicas are nested in variants, and these in roots.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from seedmap.errors import UserError
from seedmap.trainer import Data, Fork, Noise, Perturbations, Streams, Task, make_streams
from seedmap.trainer.noise.rounding import MANTISSA_BITS
from seedmap.trainer.task import draw_data, init_model, score_training

ALGORITHMIC = ("init", "order", "augment", "dropout")
"""What we choose to draw at random: key streams of the trainer."""

IMPLEMENTATION = ("accumulation", "precision", "ulp")
"""What tools bring, imitated in the program: `trainer.noise.perturb`."""

SOURCES = ALGORITHMIC + IMPLEMENTATION
COMMITTED = ("order", "augment", "ulp")
"""Sources that can begin to differ at a step."""
CONTROL, ALGO, IMPL, BOTH = "CONTROL", "ALGO", "IMPL", "ALGO+IMPL"
MODES = tuple(MANTISSA_BITS)  # float32 first: that of replica 0


class Variant(NamedTuple):
    """Some replicas that differ in some sources.

    Attributes:
        name: a source, one of CONTROL, ALGO, IMPL and ALGO+IMPL, or "fork@STEP" or "SOURCE@STEP".
        varied: the sources that differ between its replicas.
        replicas: number of them.
        fork: step from which on they differ; before it they share order, augmentation and masks.
    """

    name: str
    varied: tuple[str, ...]
    replicas: int
    fork: int = 0

    @property
    def forks(self) -> bool:
        """Whether its replicas share their first steps."""
        return "@" in self.name

    @property
    def commits(self) -> bool:
        """Whether they then differ in a single source, for the commitment curve."""
        return self.forks and not self.name.startswith("fork@")


class Sized(Protocol):
    """What has a name and a number of replicas: a variant, or its summary."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def replicas(self) -> int: ...  # noqa: D102


class Rows(NamedTuple):
    """All replicas of a study, variant by variant: what the trainer takes; leaves [row]."""

    streams: Streams
    perturb: Perturbations


def parse_sources(text: str) -> tuple[str, ...]:
    """Parses sources from "init,order"; "none" for none, in the order of `SOURCES`.

    Raises:
        UserError: it is no text, or a source is unknown, or stands twice.
    """
    if not isinstance(text, str):
        raise UserError(f"--sources is {text!r}; give text, its names separated by commas")
    names = [] if text == "none" else [word.strip() for word in text.split(",")]
    unknown = [name for name in names if name not in SOURCES]
    if unknown:
        raise UserError(
            f"--sources: {unknown[0]!r} is unknown; choose from {','.join(SOURCES)}, or none"
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"--sources: {twice[0]} stands twice; name each source once")
    return tuple(name for name in SOURCES if name in names)


def make_variants(
    sources: Sequence[str],
    replicas: int,
    fork_steps: Sequence[int] = (),
    commit_steps: Sequence[int] = (),
) -> list[Variant]:
    """Returns CONTROL, each source alone, the algorithmic ones, those of tools, and all.

    A set that another variant has already is not trained twice: with one algorithmic source alone
    there is no ALGO beside it.

    Args:
        sources: those to study, of `SOURCES`.
        replicas: replicas of each variant; of precision alone there are at most as many as modes
            (float32, tf32, bfloat16), since another float32 replica would be a copy.
        fork_steps: steps k for a variant each whose replicas share their first k steps and then
            differ in all that is drawn in training (order, augmentation, masks).
        commit_steps: steps k for a variant each of order, of augmentation and of rounding (one
            weight moved by one unit in the last place), whose replicas differ in it from k on.
    """
    together = {
        ALGO: tuple(name for name in sources if name in ALGORITHMIC),
        IMPL: tuple(name for name in sources if name in IMPLEMENTATION),
        BOTH: tuple(sources),
    }
    variants = [Variant(CONTROL, (), replicas)]
    for name, varied in {**{name: (name,) for name in sources}, **together}.items():
        if varied and varied not in [variant.varied for variant in variants]:
            count = min(replicas, len(MODES)) if varied == ("precision",) else replicas
            variants.append(Variant(name, varied, count))
    drawn = tuple(name for name in ("order", "augment", "dropout") if name in sources)
    variants += [Variant(f"fork@{step}", drawn, replicas, step) for step in fork_steps]
    committed = [name for name in COMMITTED if name in sources]
    return variants + [
        Variant(f"{name}@{step}", (name,), replicas, step)
        for name in committed
        for step in commit_steps
    ]


def used_sources(task: Task, sources: Sequence[str]) -> tuple[str, ...]:
    """Returns those of the sources that a task's training depends on.

    Initialisation, order and what tools bring always count; augmentation and dropout where the
    training score reads their keys.
    """
    reads = _noise_read(task)
    return tuple(name for name in sources if reads.get(name, True))


def draws_by_place(task: Task) -> bool:
    """Tells whether training draws something at random without heeding `Noise.place`.

    The order of a batch then also decides which example gets which draw, and `accumulation` is not
    rounding alone.
    """
    reads = _noise_read(task)
    return (reads["augment"] or reads["dropout"]) and not reads["place"]


def _noise_read(task: Task) -> dict[str, bool]:
    """Tells which fields of `Noise` the training score depends on, from its trace."""
    key = jax.random.key(0)

    def score(augment, dropout, position, variables, batch):
        noise = Noise(augment, dropout, jnp.ones(2, bool), position)
        return score_training(task, variables, batch, noise)

    variables = jax.eval_shape(lambda key: init_model(task, key), key)
    data: Data = jax.eval_shape(lambda key: draw_data(task, key, task.pool), key)
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), leaf.dtype), data.train
    )
    position = jax.ShapeDtypeStruct((2,), "int32")
    jaxpr = jax.make_jaxpr(score)(key, key, position, variables, batch).jaxpr
    # What is handed to a function, as to one under jit, need not be read there.
    _, read = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return dict(zip(("augment", "dropout", "place"), read[:3], strict=True))


def make_rows(
    variants: Sequence[Variant], root: int = 0, ulp_step: int = 0, roots: int = 1
) -> Rows:
    """Makes keys and perturbations of all replicas, root by root, variant by variant.

    Args:
        variants: as `make_variants` gives them.
        root: number of the root key of all streams; another root is another training to vary.
        ulp_step: step before which the replicas of `ulp`, but for number 0, have a weight moved.
        roots: roots, numbered from the first one on.
    """
    of_roots = [_rows_of_root(variants, root + i, ulp_step) for i in range(roots)]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *of_roots)


def _rows_of_root(variants: Sequence[Variant], root: int, ulp_step: int) -> Rows:
    """Makes keys and perturbations of the replicas of one root, variant by variant."""
    streams_of_variants = [make_streams(range(v.replicas), _streams_of(v), root) for v in variants]
    streams = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *streams_of_variants)

    def column(source: str, of_replica: Callable[[int], int], otherwise: int, dtype: str):
        """Returns one value per row, or None where the source varies nowhere."""
        if not any(source in variant.varied for variant in variants):
            return None
        values = [
            of_replica(r) if source in variant.varied else otherwise
            for variant in variants
            for r in range(variant.replicas)
        ]
        return jnp.asarray(np.array(values, dtype))

    moved = column("ulp", lambda r: ulp_step if r else -1, -1, "int32")
    if moved is not None:
        at = [v.fork if v.commits else ulp_step for v in variants for _ in range(v.replicas)]
        moved = jnp.where(moved < 0, moved, jnp.asarray(at, jnp.int32))
    bits = list(MANTISSA_BITS.values())
    perturb = Perturbations(
        accumulation=column("accumulation", lambda r: r, 0, "uint32"),
        mantissa_bits=column("precision", lambda r: bits[r % len(bits)], bits[0], "int32"),
        ulp_step=moved,
        ulp_number=column("ulp", lambda r: r, 0, "uint32"),
    )
    steps = [variant.fork for variant in variants for _ in range(variant.replicas)]
    if any(steps):
        common = make_streams(range(len(steps)), (), root)
        perturb = perturb._replace(fork=Fork(jnp.asarray(steps, jnp.int32), common))
    return Rows(streams, perturb)


def _streams_of(variant: Variant) -> tuple[str, ...]:
    return tuple(name for name in variant.varied if name in ALGORITHMIC)


def rows_of(variants: Sequence[Sized]) -> dict[str, np.ndarray]:
    """Returns the rows of each variant's replicas in the block of a root: name -> [replica]."""
    ends = np.cumsum([variant.replicas for variant in variants])
    return {
        variant.name: np.arange(end - variant.replicas, end)
        for variant, end in zip(variants, ends, strict=True)
    }


def is_sampled(variant: Variant) -> bool:
    """Tells whether a variant's replicas are a sample; modes of precision are all there are."""
    return variant.varied != ("precision",)


def num_rows(variants: Sequence[Sized]) -> int:
    """Returns the rows of a root."""
    return sum(variant.replicas for variant in variants)


def rows_by_root(variants: Sequence[Sized], roots: int) -> dict[str, np.ndarray]:
    """Returns the rows of each variant's replicas among all: name -> int [root, replica]."""
    begins = num_rows(variants) * np.arange(roots)[:, None]
    return {name: begins + rows for name, rows in rows_of(variants).items()}
