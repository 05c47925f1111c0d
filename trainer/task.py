"""What is trained: a task is data, a model, a loss and an evaluation, as pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from seedmap.errors import UserError

PyTree = Any
Score = tuple[Float[Array, " example"], Float[Array, " example"]]
"""Loss of every example, and 1.0 where it is predicted right, else 0.0."""


class Data(NamedTuple):
    """Examples of one replica; every leaf's first axis counts examples."""

    train: PyTree
    test: PyTree


class Variables(NamedTuple):
    """A model with a state of its own.

    Attributes:
        params: what the optimiser changes.
        state: what training carries along beside it, such as the running statistics of batch
            normalisation.
    """

    params: PyTree
    state: PyTree


class Noise(NamedTuple):
    """What a training step brings to its batch.

    Attributes:
        augment: key of augmentation.
        dropout: key of masks.
        there: bool [example], False in rows that only fill up an epoch's last batch. They have no
            weight in the loss; statistics over a batch must leave them out as well, as flax's
            `BatchNorm(...)(x, mask=...)` does. None: all are there.
        place: int32 [example], where each example would stand in the batch had its order not been
            changed (`trainer.noise.perturb`); what is drawn for every example by its place in the
            batch must be gathered by it, as `in_drawn_order` does. None: the order is as drawn.
    """

    augment: Key[Array, ""]
    dropout: Key[Array, ""]
    there: Bool[Array, " example"] | None = None
    place: Int[Array, " example"] | None = None


def in_drawn_order(change: Callable[[PyTree], PyTree], batch: PyTree, noise: Noise) -> PyTree:
    """A random change of a batch, such that each example gets what was drawn for it.

    A study of accumulation order (`trainer.noise.perturb`) puts the examples of a batch into
    another order; that must change nothing but the order of sums, whatever is drawn by place in the
    batch.

    Args:
        change: batch -> batch, leaves [example, ...]; draws for the first example, the second, ...
        batch: as the task's `train_score` gets it.
        noise: of the same call.

    Returns:
        The changed batch, its examples in the order of `batch`.

    Example:
        images = in_drawn_order(lambda x: crop(noise.augment, x), images, noise)
    """
    if noise.place is None:
        return change(batch)
    drawn = jnp.argsort(noise.place)
    changed = change(jax.tree.map(lambda leaf: leaf[drawn], batch))
    return jax.tree.map(lambda leaf: leaf[noise.place], changed)


class Task(NamedTuple):
    """A learning problem, described by pure functions of a single replica.

    The trainer adds the seed axis with `vmap`; nothing here knows of it. Below, `model` is what
    `init` gives: a tree of parameters, or `Variables` where the model has a state.

    Attributes:
        init: key -> model. From the `init` stream.
        make_data: key -> Data, or (key, pool) -> Data where there is a `pool`. Training and test
            examples, from the `data` stream; called inside the compiled program, so that data are
            a function of the key and take no part in checkpoints.
        score: (model, batch) -> (loss [example], correct [example]). Loss of every example of
            a batch (a pytree like `Data.train`, rows gathered) and 1.0 where it is predicted
            right, else 0.0. Their means are the loss and the accuracy. An example's score must not
            depend on the others of its batch: evaluation goes through the test set in pieces.
        num_train: number of training examples that `make_data` gives.
        train_score: (model, batch, Noise) -> (loss [example], correct [example]), or with a third
            value, the new state, where the model has one: the same in training, where masks,
            augmentation and batch statistics come in. By default `score`.
        pool: arrays that `make_data` reads. They are placed on the device once and shared by all
            seeds; what `make_data` returns without drawing on its key is shared too.
        classify: (model, batch) -> (logits [example, class], label int [example]), for tasks that
            tell classes apart: what each example of a test batch is taken for, and what it is. The
            class with the largest logit is the prediction. Only studies of noise ask for it.
        cpu_group: replicas that stand side by side on a core of a CPU; by default by the network's
            size (`trainer.group_size.by_network`). The number decides the last bits of the results.
    """

    init: Callable[[Key[Array, ""]], PyTree]
    make_data: Callable[..., Data]
    score: Callable[[PyTree, PyTree], Score]
    num_train: int
    train_score: Callable[[PyTree, PyTree, Noise], tuple] | None = None
    pool: PyTree | None = None
    classify: (
        Callable[[PyTree, PyTree], tuple[Float[Array, "example class"], Int[Array, " example"]]]
        | None
    ) = None
    cpu_group: int | None = None


def init_model(task: Task, key: Key[Array, ""]) -> Variables:
    """Initial parameters and state; the state of a model without one is ()."""
    model = task.init(key)
    return model if isinstance(model, Variables) else Variables(model, ())


def as_model(variables: Variables) -> PyTree:
    """What the task's own functions take."""
    stateless = isinstance(variables.state, tuple) and variables.state == ()
    return variables.params if stateless else variables


def draw_data(task: Task, key: Key[Array, ""], pool: PyTree) -> Data:
    """The examples of one replica."""
    data = task.make_data(key) if task.pool is None else task.make_data(key, pool)
    return jax.tree.map(jnp.asarray, data)


def score_training(task: Task, variables: Variables, batch: PyTree, noise: Noise) -> tuple:
    """Loss [example], correct [example] and new state of a training batch."""
    model = as_model(variables)
    scored = (
        task.score(model, batch)
        if task.train_score is None
        else task.train_score(model, batch, noise)
    )
    if not isinstance(scored, tuple) or len(scored) not in (2, 3):
        raise UserError("task: a score must give (loss, correct), each with a value per example")
    return scored if len(scored) == 3 else (*scored, variables.state)


def _check_floats(params: PyTree) -> None:
    """Raises UserError where a parameter cannot be differentiated by."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise UserError(
                f"task: init gives the parameter {jax.tree_util.keystr(path)} in {leaf.dtype}, "
                "which no optimizer can change; make it floating, or keep it in Variables(params, "
                "state)"
            )


def check_task(task: Task, batch_size: int) -> None:
    """Checks, by shapes alone and without computing, that the parts of a task fit together.

    Raises:
        UserError: the data do not hold `num_train` examples, or a score does not give one loss and
            one correctness per example (a loss of shape [batch, 1] would otherwise broadcast
            against the batch's weights and be wrong without a word), or a state that training
            changes in shape, or there are no test examples or parameters that are not floating.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(lambda key: init_model(task, key), key)
    data = jax.eval_shape(lambda key: draw_data(task, key, task.pool), key)
    _check_floats(variables.params)
    examples = [leaf.shape[:1] for leaf in jax.tree.leaves(data.test)]
    if not examples or not all(map(all, examples)):
        raise UserError("task: make_data(key).test holds no example; give at least one to evaluate")
    counts = sorted({leaf.shape[:1] for leaf in jax.tree.leaves(data.train)})
    if counts != [(task.num_train,)]:
        raise UserError(
            f"task: num_train is {task.num_train}, but the first axes of make_data(key).train are "
            f"{[count[0] if count else 'none' for count in counts]}"
        )
    batch = jax.eval_shape(
        lambda train: jax.tree.map(lambda leaf: leaf[:batch_size], train), data.train
    )

    def score(key):
        model = init_model(task, key)
        example = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), batch)
        valid = jnp.ones(batch_size, bool)
        return score_training(task, model, example, Noise(key, key, valid))

    loss, correct, state = jax.eval_shape(score, key)
    for name, values in (("loss", loss), ("correct", correct)):
        if values.shape != (batch_size,):
            raise UserError(
                f"task: score gives a {name} of shape {values.shape} for a batch of {batch_size}; "
                f"it must be one number per example, shape ({batch_size},)"
            )
    kinds = [
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
        for tree in (state, variables.state)
    ]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"task: train_score gives a state of {kinds[0]}, but init made one of {kinds[1]}"
        )
