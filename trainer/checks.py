"""What `train` refuses, in one line each, before anything long begins."""

from collections.abc import Collection, Mapping, Sequence
from types import UnionType
from typing import Any

import jax
import numpy as np

from seedmap.errors import UserError
from seedmap.trainer.task import Task

MAX_SEED = 2**32 - 1
EARLY_STOPS = ("never", "each", "all")
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
"""Precisions of products, and what JAX calls them."""


def check_seeds(
    seeds: Sequence[int], hyperparameters: Mapping[str, Sequence[float]] | None = None
) -> None:
    """Raises UserError unless these are seed numbers, at least one, no replica standing twice."""
    hyperparameters = hyperparameters or {}
    if isinstance(seeds, int) or not hasattr(seeds, "__len__"):
        raise UserError(f"seeds is {seeds}; give the numbers, for instance range(40)")
    if len(seeds) == 0:
        raise UserError("seeds: none given; give at least one seed number")
    odd = [seed for seed in seeds if not isinstance(seed, int | np.integer)]
    if odd:
        raise UserError(f"seeds: {odd[0]!r} is not a whole number")
    if min(seeds) < 0 or max(seeds) > MAX_SEED:
        raise UserError(
            f"seeds {min(seeds)} to {max(seeds)}: numbers must lie between 0 and {MAX_SEED}"
        )
    for name, values in hyperparameters.items():
        if np.shape(values) != (len(seeds),):
            raise UserError(
                f"hyperparameters: {name} has shape {np.shape(values)}; give one value for each of "
                f"the {len(seeds)} replicas"
            )
        if not np.isfinite(np.asarray(values, float)).all():
            raise UserError(f"hyperparameters: {name} has a value that is not finite")
    if len(set(zip(seeds, *hyperparameters.values(), strict=True))) != len(seeds):
        raise UserError("seeds: a number stands twice; each seed may be trained once")


def check_hyperparameters(names: Collection[str], used_by_optimizer: bool) -> None:
    """Raises UserError for hyperparameters that nothing would read."""
    unread = [name for name in names if name != "init_scale"]
    if unread and not used_by_optimizer:
        raise UserError(
            f"hyperparameters: nothing reads {unread[0]}: give the optimizer as a function of "
            f"them, as lambda own: optax.sgd(own[{unread[0]!r}])"
        )


def check_steps(steps: int, record_every: int) -> None:
    """Raises UserError unless training is a whole number of records long."""
    check_whole(steps=steps)
    if steps < 1 or steps % record_every:
        raise UserError(
            f"steps is {steps}; it must be a positive multiple of record_every ({record_every})"
        )


def check_whole(**values: Any) -> None:
    """Raises UserError unless these arguments, by name, are whole numbers."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise UserError(f"{name} is {value!r}; it must be a whole number")


def check_kind(name: str, value: Any, kind: type | UnionType) -> None:
    """Raises UserError unless the argument of this name is of a kind."""
    if not isinstance(value, kind):
        asked = getattr(kind, "__name__", str(kind)).replace("seedmap.trainer.loop.", "")
        raise UserError(f"{name} is {value!r}; it must be {asked}, of seedmap.trainer")


def check_optimizer(optimizer: Any) -> None:
    """Raises UserError unless this is an optimizer of optax, or a function that gives one."""
    if not callable(optimizer) and not hasattr(optimizer, "update"):
        raise UserError(
            f"optimizer is {optimizer!r}; it must be one of optax, such as optax.adam(1e-2), or a "
            "function from hyperparameters to one"
        )


def check_width() -> None:
    """Raises UserError where JAX computes in 64 bits: a seed would begin with other weights."""
    if jax.dtypes.canonicalize_dtype(np.float64) == np.float64:
        raise UserError(
            "jax_enable_x64 is on; a seed would give other initial weights than it does elsewhere: "
            "train without it (JAX_ENABLE_X64=0)"
        )


def check_sizes(task: Task, batch_size: int, record_every: int) -> None:
    """Raises UserError unless a task can be trained in batches of these sizes."""
    check_whole(batch_size=batch_size, record_every=record_every)
    if not 1 <= batch_size <= task.num_train:
        raise UserError(
            f"batch_size is {batch_size}; it must lie between 1 and the {task.num_train} "
            "training examples"
        )
    if record_every < 1:
        raise UserError(f"record_every is {record_every} steps; it must be at least 1")


def check_precision(precision: str) -> None:
    """Raises UserError for a precision that is unknown."""
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r} is unknown; choose from {', '.join(PRECISIONS)}")


def check_stop(early_stop: str, threshold: float | None) -> None:
    """Raises UserError for an early stop that is unknown or has no threshold to go by."""
    if threshold is not None and not isinstance(threshold, int | float | np.number):
        raise UserError(f"threshold is {threshold!r}; it must be a number, or None")
    if early_stop not in EARLY_STOPS:
        raise UserError(
            f"early_stop {early_stop!r} is unknown; choose from {', '.join(EARLY_STOPS)}"
        )
    if early_stop != "never" and threshold is None:
        raise UserError(
            f"early_stop {early_stop!r} needs a threshold: the accuracy that counts as converged"
        )


def check_seeds_at_once(seeds_at_once: int | None) -> None:
    """Raises UserError for a size of groups that is not positive."""
    if seeds_at_once is not None:
        check_whole(seeds_at_once=seeds_at_once)
    if seeds_at_once is not None and seeds_at_once < 1:
        raise UserError(f"seeds_at_once is {seeds_at_once}; it must be at least 1")


def grid(seeds: Sequence[int], **values: Sequence[float]) -> tuple[list[int], dict[str, Any]]:
    """Every seed under every combination of hyperparameters, as `train` takes them.

    Args:
        seeds: seed numbers.
        **values: values of each hyperparameter.

    Returns:
        Seed numbers and hyperparameters by name, one of each per replica; seeds vary fastest.

    Example:
        >>> grid([0, 1], learning_rate=[0.1, 0.2])
        ([0, 1, 0, 1], {'learning_rate': [0.1, 0.1, 0.2, 0.2]})
    """
    axes = np.meshgrid(*values.values(), np.asarray(seeds), indexing="ij")
    columns = [axis.ravel().tolist() for axis in axes]
    return columns[-1], dict(zip(values, columns[:-1], strict=True))
