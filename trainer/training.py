"""Training steps as pure functions of a state, vmapped over seeds and compiled once.

trainer = make_trainer(task, optimizer, batch_size=32, record_every=160)
state = trainer.init(make_streams(range(40)))
state, record = trainer.advance(state)      # 160 steps of 40 seeds, then their metrics
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from trainer.metrics import weight_metrics
from trainer.shuffle import permutation
from trainer.streams import Streams
from trainer.task import Task

OUTCOMES = ("train_loss", "eval_loss", "train_accuracy", "eval_accuracy")


class SeedState(NamedTuple):
    """What the next step of one replica needs; batched, every leaf has a leading seed axis.

    Attributes:
        keys: the replica's key streams.
        params: model parameters.
        opt_state: optimiser state.
        diverged: int32 scalar, the step at which a non-finite value was first seen, else -1.
    """

    keys: Streams
    params: Any
    opt_state: Any
    diverged: jax.Array


class TrainState(NamedTuple):
    """State of all replicas: `step` (int32 scalar, optimisation steps done) is common to all."""

    step: jax.Array
    seeds: SeedState


Record = dict[str, jax.Array]


class Trainer(NamedTuple):
    """A pair of pure functions over all seeds at once.

    Attributes:
        init: Streams [seed] -> TrainState.
        advance: TrainState -> (TrainState, Record). Runs `record_every` steps of every seed and
            measures them; Record maps a name to a float array [seed]: the weight metrics, then
            train_loss, eval_loss, train_accuracy, eval_accuracy. Jitted; the state given is
            donated (its buffers are reused), so it cannot be used again.
    """

    init: Callable[[Streams], TrainState]
    advance: Callable[[TrainState], tuple[TrainState, Record]]


def batches_per_epoch(num_train: int, batch_size: int) -> int:
    """Batches of one pass over the data, the last and smaller one included."""
    return -(-num_train // batch_size)


def epoch_order(key: jax.Array, epoch: jax.Array, num_train: int, batch_size: int) -> jax.Array:
    """Permutation of the training examples in one epoch: a function of (key, epoch) alone.

    Returns:
        int32 [batches_per_epoch, batch_size], a row per batch. The last batch keeps the examples
        that are left, as in the paper's code; its missing places hold -1.
    """
    order = permutation(jax.random.fold_in(key, epoch), num_train)
    num_batches = batches_per_epoch(num_train, batch_size)
    padding = num_batches * batch_size - num_train
    padded = jnp.pad(order, (0, padding), constant_values=-1)
    return padded.reshape(num_batches, batch_size)


def batch_rows(
    key: jax.Array, step: jax.Array, num_steps: int, num_train: int, batch_size: int
) -> jax.Array:
    """Rows of the training examples that steps `step` .. `step + num_steps - 1` visit.

    The orders of all epochs that the steps touch are drawn at once, ahead of the loop over steps:
    a branch inside the loop that draws them at an epoch's end costs a third of the speed on CPU.

    Args:
        key: the replica's `order` key.
        step: int32 scalar, a multiple of `num_steps`.
        num_steps: number of steps.
        num_train: number of training examples.
        batch_size: examples per step.

    Returns:
        int32 [num_steps, batch_size]; -1 where the last batch of an epoch has no example.
    """
    num_batches = batches_per_epoch(num_train, batch_size)
    aligned = num_steps % num_batches == 0
    num_epochs = num_steps // num_batches if aligned else (num_steps - 2) // num_batches + 2
    epochs = step // num_batches + jnp.arange(num_epochs)
    orders = jax.vmap(lambda epoch: epoch_order(key, epoch, num_train, batch_size))(epochs)
    rows = orders.reshape(num_epochs * num_batches, batch_size)
    return jax.lax.dynamic_slice_in_dim(rows, step % num_batches, num_steps)


def train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    state: SeedState,
    train: Any,
    rows: jax.Array,
) -> tuple[SeedState, tuple[jax.Array, jax.Array]]:
    """One optimisation step of one replica on the training examples `rows` (-1: none).

    Missing rows are filled with the last example at weight 0, so that shapes stay fixed and the
    loss is the mean over the examples that are there.

    Returns:
        (state, (mean loss of the batch, examples predicted right)), before the update.
    """
    weight = (rows >= 0).astype(jnp.float32)
    batch = jax.tree.map(lambda leaf: leaf[rows], train)

    def mean_loss(params):
        loss, correct = task.score(params, batch)
        return jnp.sum(weight * loss) / jnp.sum(weight), jnp.sum(weight * correct)

    outcome, grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state._replace(params=params, opt_state=opt_state), outcome


def evaluate(task: Task, params: Any, examples: Any) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy over a set of examples."""
    loss, correct = task.score(params, examples)
    return jnp.mean(loss), jnp.mean(correct)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()


def freeze_diverged(
    step: jax.Array, before: SeedState, after: SeedState, record: Record
) -> tuple[SeedState, Record]:
    """Keeps a replica at its last finite state and its record at NaN, once a value is not finite.

    The choice is made per replica, so a diverged one costs the others nothing.
    """
    diverged_now = ~_all_finite((after.params, record))
    diverged = jnp.where((before.diverged < 0) & diverged_now, step, before.diverged)
    alive = diverged < 0
    params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(alive, new, old),
        (after.params, after.opt_state),
        (before.params, before.opt_state),
    )
    record = {name: jnp.where(alive, value, jnp.nan) for name, value in record.items()}
    return after._replace(params=params, opt_state=opt_state, diverged=diverged), record


def check_sizes(task: Task, batch_size: int, record_every: int) -> None:
    """Raises ValueError unless `make_trainer` can build a trainer of these sizes."""
    if not 1 <= batch_size <= task.num_train:
        raise ValueError(
            f"batch_size is {batch_size}; it must lie between 1 and the {task.num_train} "
            "training examples"
        )
    if record_every < 1:
        raise ValueError(f"record_every is {record_every} steps; it must be at least 1")


def check_task(task: Task, batch_size: int) -> None:
    """Checks, by shapes alone and without computing, that the parts of a task fit together.

    Raises:
        ValueError: the data do not hold `num_train` examples, or `score` does not give one loss
            and one correctness per example. (A loss of shape [batch, 1] would otherwise broadcast
            against the batch's weights and be wrong without a word.)
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    params, data = jax.eval_shape(task.init, key), jax.eval_shape(task.make_data, key)
    counts = sorted({leaf.shape[:1] for leaf in jax.tree.leaves(data.train)})
    if counts != [(task.num_train,)]:
        raise ValueError(
            f"task: num_train is {task.num_train}, but the first axes of make_data(key).train are "
            f"{[count[0] if count else 'none' for count in counts]}"
        )
    batch = jax.eval_shape(
        lambda train: jax.tree.map(lambda leaf: leaf[:batch_size], train), data.train
    )
    for name, part in zip(
        ("loss", "correct"), jax.eval_shape(task.score, params, batch), strict=True
    ):
        if part.shape != (batch_size,):
            raise ValueError(
                f"task: score gives a {name} of shape {part.shape} for a batch of {batch_size}; "
                f"it must be one number per example, shape ({batch_size},)"
            )


def make_trainer(
    task: Task,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    record_every: int,
    metrics: Callable[[Any], Record] = weight_metrics,
) -> Trainer:
    """Builds the pure training functions of a task.

    Args:
        task: what to learn.
        optimizer: any optax transformation; its update is given the parameters.
        batch_size: examples per step; the last batch of an epoch is smaller where
            `task.num_train` is not a multiple.
        record_every: optimisation steps between records.
        metrics: params -> name to scalar, computed in-graph at every record.

    Returns:
        Trainer. In its records, train_loss is the mean over the steps since the last record of
        the batch losses before each update, and train_accuracy the share of those examples
        predicted right (as the paper's code counts them over an epoch); eval_loss and
        eval_accuracy are taken on the test set at the record.

    Raises:
        ValueError: batch_size or record_every is under 1, batch_size is above `task.num_train`, the
            parts of the task do not fit together, or a metric has the name of an outcome.
    """
    check_sizes(task, batch_size, record_every)
    check_task(task, batch_size)
    measured = set(jax.eval_shape(lambda key: metrics(task.init(key)), jax.random.key(0)))
    if measured & set(OUTCOMES):
        name = sorted(measured & set(OUTCOMES))[0]
        raise ValueError(f"metrics: {name!r} is the name of an outcome; give the metric another")

    def init_one(keys: Streams) -> SeedState:
        params = task.init(keys.init)
        return SeedState(keys, params, optimizer.init(params), jnp.int32(-1))

    def advance_one(step: jax.Array, state: SeedState) -> tuple[SeedState, Record]:
        data = task.make_data(state.keys.data)
        rows = batch_rows(state.keys.order, step, record_every, task.num_train, batch_size)
        after, (losses, correct) = jax.lax.scan(
            lambda state, rows: train_step(task, optimizer, state, data.train, rows), state, rows
        )
        record = dict(metrics(after.params))
        record["train_loss"] = jnp.mean(losses)
        record["train_accuracy"] = jnp.sum(correct) / jnp.sum(rows >= 0)
        record["eval_loss"], record["eval_accuracy"] = evaluate(task, after.params, data.test)
        return freeze_diverged(step + record_every, state, after, record)

    def init(keys: Streams) -> TrainState:
        return TrainState(jnp.int32(0), jax.vmap(init_one)(keys))

    def advance(state: TrainState) -> tuple[TrainState, Record]:
        seeds, record = jax.vmap(advance_one, in_axes=(None, 0))(state.step, state.seeds)
        return TrainState(state.step + record_every, seeds), record

    return Trainer(init=jax.jit(init), advance=jax.jit(advance, donate_argnums=0))
