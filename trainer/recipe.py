"""How replicas are trained: everything that they have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import jax
import optax
from jaxtyping import Array, Float

from seedmap.errors import UserError
from seedmap.trainer.checks import check_optimizer, check_precision, check_sizes
from seedmap.trainer.metrics.arguments import Metric, check_metrics
from seedmap.trainer.metrics.weights import weight_metrics
from seedmap.trainer.task import Task, check_task, init_model

Optimizer: TypeAlias = (
    optax.GradientTransformation | Callable[[Mapping], optax.GradientTransformation]
)


@dataclass(frozen=True)
class Recipe:
    """What `make_trainer` was asked for, checked, but for the replicas and their devices.

    Attributes:
        task: what to learn.
        build_optimizer: hyperparameters of a replica, name to float32 scalar -> its optimizer.
        batch_size: examples per step.
        record_every: optimisation steps between records.
        metrics: what is recorded besides the outcomes.
        threshold: evaluation accuracy above which a replica has converged; None: never.
        stop_converged: whether a replica is frozen once it has converged.
        precision: of products, a key of `trainer.checks.PRECISIONS`.
        compare: whether each replica's distance to the first is recorded.
    """

    task: Task
    build_optimizer: Callable[[Mapping[str, Float[Array, ""]]], optax.GradientTransformation]
    batch_size: int
    record_every: int
    metrics: tuple[Metric, ...] = (weight_metrics,)
    threshold: float | None = None
    stop_converged: bool = False
    precision: str = "float32"
    compare: bool = False


def make_recipe(
    task: Task,
    optimizer: Optimizer,
    batch_size: int,
    record_every: int,
    metrics: Metric | Sequence[Metric] = weight_metrics,
    *,
    threshold: float | None = None,
    stop_converged: bool = False,
    precision: str = "float32",
    compare: bool = False,
) -> Recipe:
    """Makes the recipe of these settings, as of `trainer.make_trainer`.

    Raises:
        UserError: as of `make_trainer`.
    """
    check_sizes(task, batch_size, record_every)
    check_optimizer(optimizer)
    check_task(task, batch_size)
    metrics = (metrics,) if callable(metrics) else tuple(metrics)
    check_metrics(metrics, jax.eval_shape(lambda: init_model(task, jax.random.key(0)).params))
    check_precision(precision)
    if stop_converged and threshold is None:
        raise UserError("stop_converged needs a threshold: the accuracy that counts as converged")
    if stop_converged and compare:
        raise UserError("compare needs replicas that train equally long; leave out stop_converged")
    return Recipe(
        task=task,
        build_optimizer=optimizer if callable(optimizer) else lambda hyper: optimizer,
        batch_size=batch_size,
        record_every=record_every,
        metrics=metrics,
        threshold=threshold,
        stop_converged=stop_converged,
        precision=precision,
        compare=compare,
    )
