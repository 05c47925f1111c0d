"""Checks of a task, its groups and its predictions before a study."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.errors import UserError
from seedmap.trainer import Task, make_streams
from seedmap.trainer.checks import MAX_SEED
from seedmap.trainer.task import as_model, draw_data, init_model


def check_root(root: int) -> None:
    """Raises UserError unless this is the number of a key; another one would stand for two."""
    if not isinstance(root, int | np.integer) or not 0 <= root <= MAX_SEED:
        raise UserError(f"root is {root!r}; it must be a whole number in 0 .. {MAX_SEED}")


def check_predictions(task: Task, groups: Mapping[str, Any], root: int = 0) -> None:
    """Checks that `Task.classify` and the groups say something of every test example.

    Shapes are looked at without computing; of what is computed there are the labels alone.

    Args:
        task: what is to be learned.
        groups: subgroups of the test examples by name.
        root: number of the root key of the study.

    Raises:
        UserError: there are fewer than two test examples, `classify` does not give float logits
            [example, class] of two classes or more and a label in 0 .. classes - 1 for each, or a
            group is not bool [example].
    """
    key = make_streams([0], (), root).data[0]
    test = jax.eval_shape(lambda key: draw_data(task, key, task.pool), key).test
    num_test = jax.tree.leaves(test)[0].shape[0]
    if num_test < 2:
        raise UserError(
            f"task: measures of a study need at least 2 test examples; there are {num_test}"
        )
    if not isinstance(groups, Mapping):
        raise UserError("groups must be a mapping from names to bool [test example]")
    for name, members in groups.items():
        try:
            array = np.asarray(members)
        except ValueError:
            raise UserError(f"groups: {name!r} is no array; its rows differ in length") from None
        if array.dtype != bool or array.shape != (num_test,):
            raise UserError(
                f"groups: {name!r} is {array.dtype} of shape {array.shape}; it must be bool, True "
                f"for its members, of shape ({num_test},), one for each test example"
            )
    if task.classify is not None:
        _check_labels(task, key, _num_classes(task, key, num_test))


def check_logits(logits: np.ndarray | None, diverged: np.ndarray) -> None:
    """Raises UserError where a replica has logits that are not finite though it is finite.

    Args:
        logits: float [replica, example, class]; None where there are no classes.
        diverged: int [replica], the step at which it diverged, else -1.
    """
    if logits is None:
        return
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=(1, 2)) & (diverged < 0))
    if len(wrong):
        raise UserError(
            f"task: classify gives logits that are not finite (replica {wrong[0]}), though the "
            "losses are; mend it, and give a class that is ruled out a low finite logit"
        )


def _classified(task: Task, key: jax.Array) -> Any:
    model = init_model(task, key)
    return task.classify(as_model(model), draw_data(task, key, task.pool).test)


def _num_classes(task: Task, key: jax.Array, num_test: int) -> int:
    """Returns the number of classes; checks shapes and types of `classify`'s result."""
    outputs = jax.eval_shape(lambda key: _classified(task, key), key)
    if not isinstance(outputs, tuple) or len(outputs) != 2:
        raise UserError("task: classify must give two arrays, (logits, label)")
    logits, label = outputs
    shape = logits.shape
    fits = len(shape) == 2 and shape[0] == num_test and shape[1] > 1
    if not (fits and jnp.issubdtype(logits.dtype, jnp.floating)):
        raise UserError(
            f"task: classify gives {logits.dtype} logits of shape {shape} for {num_test} examples; "
            f"they must be float, of shape ({num_test}, classes), with two classes or more"
        )
    if label.shape != (num_test,) or not jnp.issubdtype(label.dtype, jnp.integer):
        raise UserError(
            f"task: classify gives {label.dtype} labels of shape {label.shape} for {num_test} "
            f"examples; they must be integers, of shape ({num_test},)"
        )
    return shape[1]


def _check_labels(task: Task, key: jax.Array, num_classes: int) -> None:
    # The logits are not asked for, and XLA leaves out what only they need.
    label = np.asarray(jax.jit(lambda key: _classified(task, key)[1])(key))
    wrong = label[(label < 0) | (label >= num_classes)]
    if len(wrong):
        raise UserError(
            f"task: classify gives the label {wrong[0]}; with {num_classes} logits labels must lie "
            f"in 0 .. {num_classes - 1}"
        )
