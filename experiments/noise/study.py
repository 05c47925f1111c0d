"""A study of noise: replicas of every variant trained as one program, and what they predict.

study = run_study(task, optimizer, batch_size=50, steps=400, record_every=20)  # one's own task
summarise_study(study).variants  # `experiments.noise.summary`

`experiments.noise.folder` does the same for an experiment, into a folder, resumable.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from seedmap.errors import UserError
from seedmap.experiments.noise.check_task import check_logits, check_predictions, check_root
from seedmap.experiments.noise.predictions import (
    Predictions,
    errors_between,
    joined_predictions,
    predict_rows,
)
from seedmap.experiments.noise.variants import (
    COMMITTED,
    SOURCES,
    Variant,
    draws_by_place,
    make_rows,
    make_variants,
    num_rows,
    parse_sources,
    rows_of,
    used_sources,
)
from seedmap.showing import card
from seedmap.trainer import Progress, Replicas, Task, Variables, train, weight_metrics
from seedmap.trainer.checks import check_sizes, check_steps
from seedmap.trainer.metrics.arguments import Metric
from seedmap.trainer.recipe import Optimizer

BARRIER_PAIRS = 3  # of each variant: replicas 0 and 1, 2 and 3, 4 and 5
BARRIER_POINTS = 11
MAX_REPLICAS = 10_000  # of a variant; pairs of them are a matrix
MAX_ROOTS = 1000


@dataclass(frozen=True)
class NoiseConfig:
    """Sources, roots, replicas and perturbation of a study."""

    sources: str = ",".join(SOURCES)
    """Sources of noise, or none: init(ialisation), order of the examples, augment(ation) and
    dropout; accumulation (the order of sums over a batch), precision of products (float32, tf32,
    bfloat16), and ulp, one weight moved by one unit in the last place."""
    roots: int = 5
    """Base trainings that are varied, each of another base seed and with examples of its own. What
    a source does in general, with an interval, takes several."""
    replicas: int | None = None
    """Replicas of each variant and root, at least 2. By default 3, or 10 of a single root."""
    ulp_step: int = 0
    """Step before which that weight is moved: 0, or a step at which a record is taken."""
    fork_steps: tuple[int, ...] = ()
    """Steps at which records are taken; for each also a variant whose replicas share training up to
    it, then differ in order, augmentation and masks."""
    commit_steps: tuple[int, ...] = ()
    """Steps at which records are taken, for the commitment curve: at each also a variant for each
    of order, augmentation and ulp, whose replicas share training up to it, then differ in that
    alone. It needs several roots."""

    @property
    def num_replicas(self) -> int:
        """Replicas of each variant and root, their default filled in."""
        if self.replicas is None:
            return 10 if self.roots == 1 else 3
        return self.replicas


class StudyResult(NamedTuple):
    """A study that has been trained.

    Attributes:
        variants: which replicas each root has; they stand in this order, root after root.
        dataset: records [seed, step] of the trainer, "seed" counting replicas.
        params: final parameters, leaves [replica, ...].
        diverged: int [replica], step at which it diverged, else -1.
        predictions: on the test examples.
        barriers: float [variant, pair, point], errors along the line between two replicas, up to 3
            pairs of each root; NaN where a variant has fewer, or one of a pair diverged.
        notes: what a reader should know first.
        ulp_step: step before which the replicas of `ulp` have a weight moved.
        roots: how many there are.
    """

    variants: list[Variant]
    dataset: xr.Dataset
    params: Any
    diverged: np.ndarray
    predictions: Predictions
    barriers: np.ndarray
    notes: list[str]
    ulp_step: int = 0
    roots: int = 1

    def __repr__(self) -> str:
        names = ", ".join(variant.name for variant in self.variants)
        replicas = f"{len(self.diverged)} replicas, {int((self.diverged >= 0).sum())} diverged"
        return f"StudyResult({self.roots} roots of {names}; {replicas})"

    def _repr_html_(self) -> str:
        rows = [(v.name, ", ".join(v.varied), v.replicas) for v in self.variants]
        return card(repr(self), None, self.notes, ("variant", "varied", "replicas a root"), rows)


def study_of_root(study: StudyResult, number: int) -> StudyResult:
    """Returns one root's part of a study: what a study of that root alone is.

    Args:
        study: of any number of roots.
        number: of the root, from 0.
    """
    if study.roots == 1:
        return study
    size, pairs = num_rows(study.variants), study.barriers.shape[1] // study.roots
    rows = slice(number * size, (number + 1) * size)
    return study._replace(
        dataset=study.dataset.isel(seed=rows),
        params=jax.tree.map(lambda leaf: leaf[rows], study.params),
        diverged=study.diverged[rows],
        predictions=study.predictions.of_root(number, rows),
        barriers=study.barriers[:, number * pairs : (number + 1) * pairs],
        roots=1,
    )


def check_noise(noise: NoiseConfig) -> None:
    """Raises UserError where a setting of the study is wrong for any task."""
    parse_sources(noise.sources)
    if not isinstance(noise.roots, int | np.integer) or not 1 <= noise.roots <= MAX_ROOTS:
        raise UserError(
            f"--roots is {noise.roots!r}; it must be a whole number in 1 .. {MAX_ROOTS}"
        )
    replicas = noise.num_replicas
    if not isinstance(replicas, int | np.integer):
        raise UserError(f"--replicas is {replicas!r}; it must be a whole number")
    if replicas < 2:
        raise UserError(
            f"--replicas is {replicas}; a spread needs at least 2 replicas of each variant"
        )
    if replicas > MAX_REPLICAS:
        raise UserError(
            f"--replicas is {replicas}; every two of a variant are compared: at most {MAX_REPLICAS}"
        )
    for name, asked in _lists_of_steps(noise).items():
        if not isinstance(asked, Sequence):
            raise UserError(f"{name} is {asked!r}; give a sequence of steps")
    for name, step in _steps_of(noise):
        if not isinstance(step, int | np.integer):
            raise UserError(f"{name} is {step!r}; it must be a whole number")
    for name, asked in _lists_of_steps(noise).items():
        twice = [step for step in asked if asked.count(step) > 1]
        if twice:
            raise UserError(f"{name}: {twice[0]} stands twice; name each step once")
    if noise.commit_steps and noise.roots == 1:
        raise UserError("--commit-steps: a curve is over several roots; --roots is 1")


def _lists_of_steps(noise: NoiseConfig) -> dict[str, Sequence[int]]:
    return {"--fork-steps": noise.fork_steps, "--commit-steps": noise.commit_steps}


def _steps_of(noise: NoiseConfig) -> list[tuple[str, int]]:
    """Returns all steps asked for, each with its flag."""
    lists = _lists_of_steps(noise).items()
    return [("--ulp-step", noise.ulp_step), *((name, k) for name, asked in lists for k in asked)]


def plan_study(
    task: Task, noise: NoiseConfig, record_every: int, steps: int
) -> tuple[list[Variant], list[str]]:
    """Returns the variants of a study, and notes on what this task cannot show.

    Raises:
        UserError: a step is not one at which a record is taken, or nothing would vary at forks.
    """
    asked = parse_sources(noise.sources)
    for name, step in _steps_of(noise):
        if not 0 <= step < steps or step % record_every:
            raise UserError(
                f"{name} {step}: it must be a multiple of {record_every}, the steps between "
                f"records, below {steps}, the steps of training"
            )
    sources = used_sources(task, asked)
    notes = [
        f"training draws nothing from {name}: its replicas would not differ, and none were trained"
        for name in asked
        if name not in sources
    ]
    if noise.fork_steps and not {"order", "augment", "dropout"} & set(sources):
        raise UserError("--fork-steps: nothing would differ; name order among the --sources")
    if noise.commit_steps and not {*COMMITTED} & set(sources):
        raise UserError("--commit-steps: nothing would differ; name order or ulp in --sources")
    if 0 in noise.commit_steps:
        raise UserError("--commit-steps: 0 is what every source is trained from; leave it out")
    if "accumulation" in sources and draws_by_place(task):
        notes.append(
            "the training score draws by position in the batch and ignores Noise.place: "
            "accumulation also pairs examples with other draws, so it is not rounding alone"
        )
    if task.classify is None:
        notes.append(
            "the task names no classes (Task.classify): no churn, logits or classes, only losses, "
            "accuracies and weights"
        )
    variants = make_variants(sources, noise.num_replicas, noise.fork_steps, noise.commit_steps)
    return variants, notes


def run_study(
    task: Task,
    optimizer: Optimizer,
    *,
    batch_size: int,
    steps: int,
    record_every: int,
    noise: NoiseConfig = NoiseConfig(),
    groups: Mapping[str, np.ndarray] | None = None,
    metrics: Metric | Sequence[Metric] = weight_metrics,
    seeds_at_once: int | None = None,
    root: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> StudyResult:
    """Trains the replicas of a study in memory: the way for a task of one's own.

    Args:
        task: what to learn; `Task.classify` gives the measures that need predictions.
        optimizer: as of `trainer.train`.
        batch_size: examples per step.
        steps: optimisation steps, a multiple of `record_every`.
        record_every: steps between records.
        noise: what to vary.
        groups: subgroups of the test examples by name, bool [example].
        metrics: what to record of the weights.
        seeds_at_once: replicas vmapped together; None: as of `trainer.train`, but one at which
            copies of a replica stay alike to the bit.
        root: number of the training that is varied, the first of them where there are several.
        on_progress: as of `trainer.train`.

    Returns:
        StudyResult.

    Raises:
        UserError: a setting is out of range.
    """
    check_noise(noise)
    check_root(root)
    check_root(root + noise.roots - 1)
    check_sizes(task, batch_size, record_every)
    check_steps(steps, record_every)
    check_predictions(task, groups or {}, root)
    variants, notes = plan_study(task, noise, record_every, steps)
    rows = make_rows(variants, root, noise.ulp_step, noise.roots)
    run = train(
        task,
        optimizer,
        range(len(rows.streams.init)),
        batch_size=batch_size,
        steps=steps,
        record_every=record_every,
        metrics=metrics,
        seeds_at_once=seeds_at_once,
        replicas=Replicas(
            streams=rows.streams, perturb=rows.perturb, compare=True, families=noise.roots
        ),
        on_progress=on_progress,
    )
    model = Variables(run.params, run.state)
    tested = evaluate_replicas(task, variants, model, groups or {}, run.diverged, root, noise.roots)
    return StudyResult(
        variants,
        run.dataset,
        run.params,
        run.diverged,
        *tested,
        notes,
        noise.ulp_step,
        noise.roots,
    )


def evaluate_replicas(
    task: Task,
    variants: Sequence[Variant],
    model: Variables,
    groups: Mapping[str, np.ndarray],
    diverged: np.ndarray,
    root: int,
    roots: int,
) -> tuple[Predictions, np.ndarray]:
    """Takes predictions and errors on lines of all replicas, each on the examples of its root.

    Args:
        task: what they learned.
        variants: of each root.
        model: leaves [replica, ...].
        groups: subgroups of the test examples.
        diverged: int [replica], the step at which it diverged, else -1.
        root: number of the first root.
        roots: how many there are.

    Returns:
        Predictions, and errors [variant, pair, point], of all roots.

    Raises:
        UserError: logits are not finite though the replica is.
    """
    size, predictions, barriers = num_rows(variants), [], []
    for i in range(roots):
        rows = slice(i * size, (i + 1) * size)
        own = jax.tree.map(lambda leaf, rows=rows: leaf[rows], model)
        predictions.append(predict_rows(task, own, groups, root + i))
        check_logits(predictions[-1].logits, diverged[rows])
        barriers.append(barriers_of(task, variants, own, diverged[rows], root + i))
    return joined_predictions(predictions), np.concatenate(barriers, axis=1)


def barriers_of(
    task: Task, variants: Sequence[Variant], model: Variables, diverged: np.ndarray, root: int
) -> np.ndarray:
    """Computes errors on lines between up to 3 disjoint pairs a variant: [variant, pair, point].

    CONTROL has none: its replicas are one. The pairs are replicas 0 and 1, 2 and 3, 4 and 5.
    """
    errors = np.full((len(variants), BARRIER_PAIRS, BARRIER_POINTS), np.nan)
    positions, pairs = [], []
    for i, rows in enumerate(rows_of(variants).values()):
        if not variants[i].varied:
            continue
        for p, pair in enumerate(zip(rows[::2], rows[1::2], strict=False)):
            if p < BARRIER_PAIRS and (diverged[list(pair)] < 0).all():
                positions.append((i, p))
                pairs.append(pair)
    if pairs:
        first, second = (
            jax.tree.map(lambda leaf, side=side: leaf[side], model) for side in np.transpose(pairs)
        )
        errors[tuple(np.transpose(positions))] = errors_between(
            task, first, second, BARRIER_POINTS, root
        )
    return errors
