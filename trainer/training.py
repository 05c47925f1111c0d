"""Training as pure functions of a state, batched over seeds and compiled once.

trainer = make_trainer(task, optimizer, batch_size=32, record_every=160)
state = trainer.init(make_streams(range(40)))
state, record = trainer.advance(state)      # 160 steps of 40 seeds, then their metrics
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from trainer.metrics import weight_metrics
from trainer.observe import Metric, Record, measure
from trainer.order import batch_rows
from trainer.replica import (
    OUTCOMES,
    SeedState,
    evaluate,
    freeze,
    mean_batch_loss,
    take_rows,
    train_step,
)
from trainer.streams import Streams
from trainer.task import Noise, Task, check_task, draw_data, init_model

PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
SEED_AXIS = "seed"

Optimizer = optax.GradientTransformation | Callable[[Mapping], optax.GradientTransformation]


class TrainState(NamedTuple):
    """State of all replicas: `step` (int32 scalar, optimisation steps done) is common to all."""

    step: jax.Array
    seeds: SeedState


class Trainer(NamedTuple):
    """A pair of pure functions over all seeds at once.

    Attributes:
        init: (Streams [seed], hyperparameters [seed] by name = {}) -> TrainState.
        advance: (TrainState, pool = ()) -> (TrainState, Record). Runs `record_every` steps of every
            seed and measures them; Record maps a name to a float array [seed]: the metrics, then
            train_loss, eval_loss, train_accuracy, eval_accuracy. `pool` is the task's. Jitted; the
            state given is donated (its buffers are reused), so it cannot be used again.
    """

    init: Callable[..., TrainState]
    advance: Callable[..., tuple[TrainState, Record]]


def check_sizes(task: Task, batch_size: int, record_every: int) -> None:
    """Raises ValueError unless `make_trainer` can build a trainer of these sizes."""
    if not 1 <= batch_size <= task.num_train:
        raise ValueError(
            f"batch_size is {batch_size}; it must lie between 1 and the {task.num_train} "
            "training examples"
        )
    if record_every < 1:
        raise ValueError(f"record_every is {record_every} steps; it must be at least 1")


def in_groups(function: Callable, size: int | None) -> Callable:
    """Batches a function of one replica: vmapped over groups of `size`, the groups one by one.

    Args:
        function: pytree -> pytree, of one replica.
        size: replicas at once, a divisor of their number; None takes all.
    """

    def batched(tree):
        count = jax.tree.leaves(tree)[0].shape[0]
        if size is None or size >= count:
            return jax.vmap(function)(tree)
        if size == 1:  # no batch axis at all: XLA keeps its fast single convolutions and products
            return jax.lax.map(function, tree)
        if count % size:
            raise ValueError(f"{count} replicas do not make whole groups of {size}")
        groups = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), tree)
        done = jax.lax.map(jax.vmap(function), groups)
        return jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[2:]), done)

    return batched


def _over_devices(function: Callable, mesh: Mesh | None) -> Callable:
    """Runs a function of (shared, seeds) on every device's own seeds, without communication.

    `check_vma` must stay off: with it, gradients of parameters that start out equal on all devices
    (zero biases) are taken for those of a shared parameter and summed over devices.
    """
    if mesh is None:
        return function
    shared, own = PartitionSpec(), PartitionSpec(SEED_AXIS)
    return jax.shard_map(
        function, mesh=mesh, in_specs=(shared, own), out_specs=own, check_vma=False
    )


def make_trainer(
    task: Task,
    optimizer: Optimizer,
    batch_size: int,
    record_every: int,
    metrics: Metric | Sequence[Metric] = weight_metrics,
    *,
    threshold: float | None = None,
    stop_converged: bool = False,
    precision: str = "float32",
    seeds_at_once: int | None = None,
    mesh: Mesh | None = None,
) -> Trainer:
    """Builds the pure training functions of a task.

    Args:
        task: what to learn.
        optimizer: any optax transformation, or a function from the replica's hyperparameters (name
            to float32 scalar) to one; its update is given the parameters.
        batch_size: examples per step; the last batch of an epoch is smaller where
            `task.num_train` is not a multiple.
        record_every: optimisation steps between records.
        metrics: a function from parts it names to named scalars (`trainer.observe.measure`), or
            several, computed in-graph at every record.
        threshold: evaluation accuracy above which a replica has converged.
        stop_converged: freeze a replica once it has converged; its records are NaN from the next
            one on.
        precision: of matrix products and convolutions: "float32", or, where the device has faster
            modes, "tf32" or "bfloat16" (inputs rounded to it, sums in float32).
        seeds_at_once: replicas vmapped together on a device; the groups take turns. It must divide
            the number of replicas on a device. None: all.
        mesh: devices over which replicas are spread, of one axis named "seed"; their number must
            divide the number of replicas. None: no sharding.

    Returns:
        Trainer. In its records, train_loss is the mean over the steps since the last record of
        the batch losses before each update, and train_accuracy the share of those examples
        predicted right (as the paper's code counts them over an epoch); eval_loss and
        eval_accuracy are taken on the test set at the record. A hyperparameter named `init_scale`
        multiplies all initial parameters.

    Raises:
        ValueError: batch_size or record_every is under 1, batch_size is above `task.num_train`, the
            parts of the task do not fit together, or the precision is unknown; when `advance` is
            traced: a metric has the name of an outcome or needs what is not there.
    """
    check_sizes(task, batch_size, record_every)
    check_task(task, batch_size)
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; choose from {', '.join(PRECISIONS)}")
    if stop_converged and threshold is None:
        raise ValueError("stop_converged needs a threshold: the accuracy that counts as converged")
    build = optimizer if callable(optimizer) else lambda hyper: optimizer
    functions = [metrics] if callable(metrics) else list(metrics)

    def init_one(streams_and_hyper) -> SeedState:
        keys, hyper = streams_and_hyper
        model = _initial_model(task, keys, hyper)
        never = jnp.int32(-1)
        return SeedState(keys, hyper, model, build(hyper).init(model.params), never, never)

    def parts(state: SeedState, step, data) -> dict[str, Callable[[], Any]]:
        """What metrics may ask for, each made only if one does."""
        rows = batch_rows(state.keys.order, step, 1, task.num_train, batch_size)[0]
        noise = _noise(state.keys, step)

        def loss(params):
            return mean_batch_loss(
                task, state.model._replace(params=params), data.train, rows, noise
            )[0]

        def grads():
            return jax.grad(loss)(state.model.params)

        def updates():
            return build(state.hyper).update(grads(), state.opt_state, state.model.params)[0]

        return {
            "params": lambda: state.model.params,
            "initial": lambda: _initial_model(task, state.keys, state.hyper).params,
            "batch": lambda: take_rows(data.train, rows),
            "grads": grads,
            "updates": updates,
            "loss": lambda: loss,
            "key": lambda: jax.random.key(0),
        }

    def advance_one(step, pool, state: SeedState) -> tuple[SeedState, Record]:
        data = draw_data(task, state.keys.data, pool)
        rows = batch_rows(state.keys.order, step, record_every, task.num_train, batch_size)

        def one_step(state, at):
            step, rows = at
            noise = _noise(state.keys, step)
            return train_step(task, build(state.hyper), state, data.train, rows, noise)

        after, (losses, correct) = jax.lax.scan(
            one_step, state, (step + jnp.arange(record_every), rows)
        )
        now = step + record_every
        record = measure(functions, parts(after, now, data))
        reserved = sorted(set(record) & set(OUTCOMES))
        if reserved:
            raise ValueError(
                f"metrics: {reserved[0]!r} is the name of an outcome; give the metric another"
            )
        record["train_loss"] = jnp.mean(losses)
        record["train_accuracy"] = jnp.sum(correct) / jnp.sum(rows >= 0)
        record["eval_loss"], record["eval_accuracy"] = evaluate(task, after.model, data.test)
        return freeze(now, state, after, record, threshold, stop_converged)

    def init(keys: Streams, hyper: Mapping[str, jax.Array] | None = None) -> TrainState:
        def all_seeds(_, seeds):
            return in_groups(init_one, seeds_at_once)(seeds)

        with jax.default_matmul_precision(PRECISIONS[precision]):
            seeds = _over_devices(all_seeds, mesh)((), (keys, dict(hyper or {})))
        return TrainState(jnp.int32(0), seeds)

    def advance(state: TrainState, pool: Any = ()) -> tuple[TrainState, Record]:
        def all_seeds(shared, seeds):
            return in_groups(lambda seed: advance_one(*shared, seed), seeds_at_once)(seeds)

        with jax.default_matmul_precision(PRECISIONS[precision]):
            seeds, record = _over_devices(all_seeds, mesh)((state.step, pool), state.seeds)
        return TrainState(state.step + record_every, seeds), record

    return Trainer(init=jax.jit(init), advance=jax.jit(advance, donate_argnums=0))


def _initial_model(task: Task, keys: Streams, hyper: Mapping[str, jax.Array]):
    """Parameters and state at step 0, scaled if the replica has a scale of its own."""
    model = init_model(task, keys.init)
    if "init_scale" not in hyper:
        return model
    scaled = jax.tree.map(
        lambda leaf: (hyper["init_scale"] * leaf).astype(leaf.dtype), model.params
    )
    return model._replace(params=scaled)


def _noise(keys: Streams, step: jax.Array) -> Noise:
    """The keys of one step: functions of the replica and the step alone."""
    return Noise(jax.random.fold_in(keys.augment, step), jax.random.fold_in(keys.dropout, step))
