"""All of one replica between two records: its start, its steps, what is measured of it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

from seedmap.errors import UserError
from seedmap.metric_names import OUTCOMES
from seedmap.trainer.metrics.arguments import Record, measure
from seedmap.trainer.metrics.replica_distance import DISTANCES, digest
from seedmap.trainer.noise.perturb import Perturbations, keys_at, move_by_ulp, positions
from seedmap.trainer.order import batch_rows
from seedmap.trainer.recipe import Recipe
from seedmap.trainer.step import (
    SeedState,
    evaluate,
    evaluate_and_predict,
    freeze,
    mean_batch_loss,
    take_rows,
    train_step,
)
from seedmap.trainer.streams import Streams
from seedmap.trainer.task import Data, Noise, Task, Variables, draw_data, init_model


class Steps(NamedTuple):
    """Some training steps of one replica.

    Attributes:
        state: after the last of them.
        losses: float [step], mean loss of each batch before its update.
        accuracy: scalar, share of their examples that were predicted right.
        digests: uint32 [step], of the parameters after each; None where replicas are not compared.
    """

    state: SeedState
    losses: Float[Array, " step"]
    accuracy: Float[Array, ""]
    digests: UInt32[Array, " step"] | None


class Comparable(NamedTuple):
    """What replicas are compared by; empty where they are not.

    Attributes:
        predictions: int32 [test example]; None where the task tells no classes apart.
        digests: uint32 [step], of the parameters after each step since the last record.
    """

    predictions: Int[Array, "*replica example"] | None
    digests: UInt32[Array, "*replica step"] | None


def init_replica(
    recipe: Recipe, keys: Streams, hyper: Mapping[str, Float[Array, ""]], perturb: Perturbations
) -> SeedState:
    """State of a replica before its first step."""
    model = initial_model(recipe.task, keys, hyper)
    opt_state, never = recipe.build_optimizer(hyper).init(model.params), jnp.int32(-1)
    return SeedState(keys, dict(hyper), model, opt_state, never, never, perturb)


def initial_model(task: Task, keys: Streams, hyper: Mapping[str, Float[Array, ""]]) -> Variables:
    """Parameters and state at step 0, scaled if the replica has a scale of its own."""
    model = init_model(task, keys.init)
    if "init_scale" not in hyper:
        return model
    scaled = jax.tree.map(
        lambda leaf: (hyper["init_scale"] * leaf).astype(leaf.dtype), model.params
    )
    return model._replace(params=scaled)


def exact_data(task: Task, key: Key[Array, ""], pool: Any) -> Data:
    """The examples of one replica: the same whatever the precision of training is."""
    with jax.default_matmul_precision("highest"):
        return draw_data(task, key, pool)


def step_noise(keys: Streams, step: Int[Array, ""]) -> Noise:
    """The keys of one step: functions of the replica and the step alone."""
    return Noise(jax.random.fold_in(keys.augment, step), jax.random.fold_in(keys.dropout, step))


def metric_arguments(
    recipe: Recipe, state: SeedState, step: Int[Array, ""], data: Data
) -> dict[str, Callable[[], Any]]:
    """What metrics may ask for, each made only if one does.

    Args:
        recipe: how the replica is trained.
        state: of the replica.
        step: int32 scalar, number of steps done; the batch is that of the coming one.
        data: of the replica.

    Returns:
        Each name of `trainer.metrics.arguments.ARGUMENTS` to a function that makes the argument.
    """
    keys = keys_at(state.keys, state.perturb, step)
    rows = batch_rows(keys.order, step, 1, recipe.task.num_train, recipe.batch_size)[0]
    noise, params = step_noise(keys, step), state.model.params

    def loss(params):
        model = state.model._replace(params=params)
        return mean_batch_loss(recipe.task, model, data.train, rows, noise)[0]

    def grads():
        return jax.grad(loss)(params)

    def updates():
        return recipe.build_optimizer(state.hyper).update(grads(), state.opt_state, params)[0]

    return {
        "params": lambda: params,
        "initial": lambda: initial_model(recipe.task, state.keys, state.hyper).params,
        "batch": lambda: take_rows(data.train, rows),
        "grads": grads,
        "updates": updates,
        "loss": lambda: loss,
        "key": lambda: jax.random.key(0),
    }


def take_steps(recipe: Recipe, step: Int[Array, ""], data: Data, state: SeedState) -> Steps:
    """Trains a replica for `record_every` steps.

    Args:
        recipe: how.
        step: int32 scalar, number of steps done, a multiple of `record_every`.
        data: of the replica.
        state: of the replica.
    """
    keys = keys_at(state.keys, state.perturb, step)
    task, batch_size = recipe.task, recipe.batch_size
    rows = batch_rows(keys.order, step, recipe.record_every, task.num_train, batch_size)
    steps = step + jnp.arange(recipe.record_every)
    position = positions(state.perturb, steps, batch_size)
    if position is not None:
        rows = jnp.take_along_axis(rows, position, axis=1)
    params = move_by_ulp(state.model.params, state.perturb, step)
    state = state._replace(model=state.model._replace(params=params))

    def take_step(state, inputs):
        step, rows, position = inputs
        noise = step_noise(keys, step)._replace(place=position)
        optimizer = recipe.build_optimizer(state.hyper)
        state, scored = train_step(task, optimizer, state, data.train, rows, noise)
        return state, (*scored, digest(state.model.params) if recipe.compare else None)

    after, (losses, correct, digests) = jax.lax.scan(take_step, state, (steps, rows, position))
    return Steps(after, losses, jnp.sum(correct) / jnp.sum(rows >= 0), digests)


def advance(
    recipe: Recipe, step: Int[Array, ""], pool: Any, state: SeedState
) -> tuple[SeedState, Record, Comparable]:
    """Trains a replica to its next record and measures it there.

    Args:
        recipe: how.
        step: int32 scalar, number of steps done, a multiple of `record_every`.
        pool: of the task.
        state: of the replica.

    Returns:
        The state after it, frozen where it is to be; the record: metrics and outcomes by name; what
        the replica is compared by.

    Raises:
        UserError: a metric has the name of an outcome, or needs what is not there.
    """
    data = exact_data(recipe.task, state.keys.data, pool)
    steps = take_steps(recipe, step, data, state)
    now = step + recipe.record_every
    record = measure(recipe.metrics, metric_arguments(recipe, steps.state, now, data))
    reserved = sorted(set(record) & set(OUTCOMES + DISTANCES * recipe.compare))
    if reserved:
        raise UserError(
            f"metrics: {reserved[0]!r} is the name of an outcome; give the metric another"
        )
    record["train_loss"] = jnp.mean(steps.losses)
    record["train_accuracy"] = steps.accuracy
    scored = _evaluate(recipe, steps.state.model, data.test)
    record["eval_loss"], record["eval_accuracy"], predictions = scored
    settled, record = freeze(
        now, state, steps.state, record, recipe.threshold, recipe.stop_converged
    )
    return settled, record, Comparable(predictions, steps.digests)


def _evaluate(
    recipe: Recipe, model: Variables, examples: Any
) -> tuple[Float[Array, ""], Float[Array, ""], Int[Array, " example"] | None]:
    """Loss, accuracy and, where replicas are compared, predictions."""
    if recipe.compare and recipe.task.classify is not None:
        return evaluate_and_predict(recipe.task, model, examples)
    return *evaluate(recipe.task, model, examples), None
