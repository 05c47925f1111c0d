"""What distinguishes the replicas of a training, and what all of them are trained by, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax

from seedmap.errors import UserError
from seedmap.trainer import checks
from seedmap.trainer.metrics.arguments import Metric
from seedmap.trainer.noise.perturb import Perturbations
from seedmap.trainer.recipe import Optimizer, Recipe, make_recipe
from seedmap.trainer.streams import Streams
from seedmap.trainer.task import Task


@dataclass(frozen=True)
class Replicas:
    """What distinguishes replicas beyond the numbers of their seeds.

    Attributes:
        vary: the random streams that differ between seeds (`Streams`).
        hyperparameters: values of each replica by name, for an optimizer that is a function, and
            `init_scale`; a seed may stand several times if these differ (`grid`).
        streams: keys of every replica, in place of those that the seeds and `vary` give; the seeds
            are then only names. What distinguishes them belongs in `Saving.identity`.
        perturb: noise of tools to imitate in each replica (`trainer.noise`); the same holds.
        compare: also record how far each replica is from the first one, and since when
            (`trainer.metrics.replica_distance`); a `seeds_at_once` that is not given is then one at
            which copies of a replica stay alike to the bit.
        families: equal parts of the replicas, in their order, such as those of several base
            trainings; with `compare` each replica is compared with the first of its own family.
    """

    vary: Sequence[str] = Streams._fields
    hyperparameters: Mapping[str, Sequence[float]] | None = None
    streams: Streams | None = None
    perturb: Perturbations | None = None
    compare: bool = False
    families: int = 1


DIFFER_IN_ALL = Replicas()
"""Replicas that differ in every stream and in nothing else."""


def checked_recipe(
    task: Task,
    optimizer: Optimizer,
    seeds: Sequence[int],
    replicas: Replicas,
    *,
    batch_size: int,
    steps: int,
    record_every: int,
    metrics: Metric | Sequence[Metric],
    threshold: float | None,
    early_stop: str,
    precision: str,
    seeds_at_once: int | None,
) -> tuple[Recipe, dict[str, list[float]]]:
    """Checks what `train` is given, before any work.

    Returns:
        The recipe, and the hyperparameters of all replicas by name.

    Raises:
        UserError: an argument is out of its range; the message names it.
    """
    checks.check_kind("task", task, Task)
    checks.check_kind("replicas", replicas, Replicas)
    hyper = {
        name: list(map(float, column)) for name, column in (replicas.hyperparameters or {}).items()
    }
    checks.check_width()
    checks.check_sizes(task, batch_size, record_every)
    checks.check_seeds(seeds, hyper)
    checks.check_steps(steps, record_every)
    checks.check_stop(early_stop, threshold)
    checks.check_hyperparameters(hyper, callable(optimizer))
    checks.check_seeds_at_once(seeds_at_once)
    _check_replicas(replicas, len(seeds))
    recipe = make_recipe(
        task,
        optimizer,
        batch_size,
        record_every,
        metrics,
        threshold=threshold,
        stop_converged=early_stop == "each",
        precision=precision,
        compare=replicas.compare,
    )
    return recipe, hyper


def _check_replicas(replicas: Replicas, num_seeds: int) -> None:
    """Raises UserError for replicas of another number, or of several processes at once."""
    ours = replicas.streams is not None or replicas.perturb is not None or replicas.compare
    if ours and jax.process_count() > 1:
        raise UserError("streams, perturb and compare are for one process; start only one")
    if replicas.streams is not None and len(replicas.streams.init) != num_seeds:
        raise UserError(
            f"streams are of {len(replicas.streams.init)} replicas, for {num_seeds} seeds"
        )
    if replicas.families < 1 or num_seeds % replicas.families:
        raise UserError(
            f"families is {replicas.families}; it must divide the number of replicas, {num_seeds}"
        )
