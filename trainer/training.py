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
from trainer.streams import Streams
from trainer.task import Data, Task

OUTCOMES = ("train_loss", "eval_loss", "train_accuracy", "eval_accuracy")


class SeedState(NamedTuple):
    """What the next step of one replica needs; batched, every leaf has a leading seed axis.

    Attributes:
        keys: the replica's key streams.
        params: model parameters.
        opt_state: optimiser state.
        order: int32 [batches_per_epoch * batch_size], the current epoch's permutation of the
            training examples; places past the last example hold 0 and weigh nothing.
        diverged: int32 scalar, the step at which a non-finite value was first seen, else -1.
    """

    keys: Streams
    params: Any
    opt_state: Any
    order: jax.Array
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
        int32 [batches_per_epoch * batch_size]; the places past `num_train` hold 0.
    """
    order = jax.random.permutation(jax.random.fold_in(key, epoch), num_train)
    padding = batches_per_epoch(num_train, batch_size) * batch_size - num_train
    return jnp.pad(order.astype(jnp.int32), (0, padding))


def take_batch(
    train: Any, order: jax.Array, batch: jax.Array, num_train: int, batch_size: int
) -> tuple[Any, jax.Array]:
    """Batch number `batch` of the epoch and the weight (1 or 0) of each of its rows.

    The last batch keeps the examples that are left, as in the paper's code: its missing rows are
    filled with example 0 at weight 0, so that shapes stay fixed.
    """
    start = batch * batch_size
    rows = jax.lax.dynamic_slice(order, (start,), (batch_size,))
    weight = (start + jnp.arange(batch_size) < num_train).astype(jnp.float32)
    return jax.tree.map(lambda leaf: leaf[rows], train), weight


def weighted_loss(task: Task, params: Any, batch: Any, weight: jax.Array):
    """Mean loss over the rows that count, and their number predicted right."""
    loss, correct = task.score(params, batch)
    return jnp.sum(weight * loss) / jnp.sum(weight), jnp.sum(weight * correct)


def train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    step: jax.Array,
    state: SeedState,
    data: Data,
) -> tuple[SeedState, tuple[jax.Array, jax.Array, jax.Array]]:
    """One optimisation step of one replica.

    Returns:
        (state, (mean loss of the batch, examples predicted right, examples)), the outcomes
        before the update.
    """
    num_batches = batches_per_epoch(task.num_train, batch_size)
    epoch, batch = step // num_batches, step % num_batches
    order = jax.lax.cond(
        batch == 0,
        lambda: epoch_order(state.keys.order, epoch, task.num_train, batch_size),
        lambda: state.order,
    )
    examples, weight = take_batch(data.train, order, batch, task.num_train, batch_size)
    (loss, correct), grads = jax.value_and_grad(
        lambda params: weighted_loss(task, params, examples, weight), has_aux=True
    )(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = state._replace(params=params, opt_state=opt_state, order=order)
    return state, (loss, correct, jnp.sum(weight))


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
        ValueError: batch_size or record_every is under 1, or batch_size above `task.num_train`.
    """
    if not 1 <= batch_size <= task.num_train:
        raise ValueError(
            f"batch_size is {batch_size}; it must lie between 1 and the {task.num_train} "
            "training examples"
        )
    if record_every < 1:
        raise ValueError(f"record_every is {record_every} steps; it must be at least 1")

    def init_one(keys: Streams) -> SeedState:
        params = task.init(keys.init)
        order = epoch_order(keys.order, jnp.int32(0), task.num_train, batch_size)
        return SeedState(keys, params, optimizer.init(params), order, jnp.int32(-1))

    def advance_one(step: jax.Array, state: SeedState) -> tuple[SeedState, Record]:
        data = task.make_data(state.keys.data)

        def body(carry, _):
            step, state = carry
            state, outcome = train_step(task, optimizer, batch_size, step, state, data)
            return (step + 1, state), outcome

        (step, after), (losses, correct, counted) = jax.lax.scan(
            body, (step, state), length=record_every
        )
        record = dict(metrics(after.params))
        record["train_loss"] = jnp.mean(losses)
        record["train_accuracy"] = jnp.sum(correct) / jnp.sum(counted)
        record["eval_loss"], record["eval_accuracy"] = evaluate(task, after.params, data.test)
        return freeze_diverged(step, state, after, record)

    def init(keys: Streams) -> TrainState:
        return TrainState(jnp.int32(0), jax.vmap(init_one)(keys))

    def advance(state: TrainState) -> tuple[TrainState, Record]:
        seeds, record = jax.vmap(advance_one, in_axes=(None, 0))(state.step, state.seeds)
        return TrainState(state.step + record_every, seeds), record

    return Trainer(init=jax.jit(init), advance=jax.jit(advance, donate_argnums=0))
