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

from seedmap.errors import UserError
from seedmap.trainer.metrics.arguments import Metric, Record, measure
from seedmap.trainer.metrics.replica_distance import APART, apart_from_first, digest
from seedmap.trainer.metrics.weights import weight_metrics
from seedmap.trainer.noise.perturb import Perturbations, keys_at, move_by_ulp, places
from seedmap.trainer.noise.rounding import MANTISSA_BITS, round_products
from seedmap.trainer.order import batch_rows
from seedmap.trainer.step import (
    OUTCOMES,
    SeedState,
    evaluate,
    evaluate_and_predict,
    freeze,
    mean_batch_loss,
    take_rows,
    train_step,
)
from seedmap.trainer.streams import Streams
from seedmap.trainer.task import Data, Noise, Task, check_task, draw_data, init_model

PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
SEED_AXIS = "seed"

Optimizer = optax.GradientTransformation | Callable[[Mapping], optax.GradientTransformation]


class TrainState(NamedTuple):
    """State of all replicas: `step` (int32 scalar, optimisation steps done) is common to all."""

    step: jax.Array
    seeds: SeedState


class Trainer(NamedTuple):
    """Pure functions over all seeds at once.

    Attributes:
        init: (Streams [seed], hyperparameters [seed] by name = {}, Perturbations [seed] = none) ->
            TrainState.
        advance: (TrainState, pool = ()) -> (TrainState, Record). Runs `record_every` steps of every
            seed and measures them; Record maps a name to a float array [seed]: the metrics, then
            train_loss, eval_loss, train_accuracy, eval_accuracy. `pool` is the task's. Jitted; the
            state given is donated (its buffers are reused), so it cannot be used again.
        walk: (TrainState, pool = ()) -> TrainState. The same steps without any measurement, for
            timing.
    """

    init: Callable[..., TrainState]
    advance: Callable[..., tuple[TrainState, Record]]
    walk: Callable[..., TrainState]


def check_sizes(task: Task, batch_size: int, record_every: int) -> None:
    """Raises UserError unless `make_trainer` can build a trainer of these sizes."""
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


def _at_precision(function: Callable, precision: str) -> Callable:
    """A function of one replica with its products in a precision.

    It is the device's own mode; on CPU, which has none, products are rounded as the mode does. A
    replica that brings its own number of bits has its products rounded everywhere.
    """
    if precision != "float32" and jax.default_backend() == "cpu":
        return round_products(function, MANTISSA_BITS[precision])

    def precise(*args):
        with jax.default_matmul_precision(PRECISIONS[precision]):
            return function(*args)

    return precise


def in_groups(
    function: Callable, size: int | None, wrap: Callable[[Callable], Callable] | None = None
) -> Callable:
    """Batches a function of one replica: vmapped over groups of `size`, the groups one by one.

    Args:
        function: pytree -> pytree, of one replica.
        size: replicas at once, a divisor of their number; None takes all.
        wrap: changes the function of a group.
    """
    wrap = wrap or (lambda group: group)

    def batched(tree):
        count = jax.tree.leaves(tree)[0].shape[0]
        groups = max(1, count // (size or count))
        length = count // groups
        if size is not None and count > size and count % size:
            raise UserError(f"{count} replicas do not make whole groups of {size}")
        # A lone replica has no batch axis at all: XLA keeps its fast single convolutions.
        group = wrap(jax.vmap(function)) if length > 1 else wrap(_alone(function))
        if groups == 1:
            return group(tree)
        split = jax.tree.map(lambda leaf: leaf.reshape(groups, length, *leaf.shape[1:]), tree)
        done = jax.lax.map(group, split)
        return jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[2:]), done)

    return batched


def _alone(function: Callable) -> Callable:
    """A function of a group of one."""

    def group(tree):
        done = function(jax.tree.map(lambda leaf: leaf[0], tree))
        return jax.tree.map(lambda leaf: leaf[None], done)

    return group


def _skip_resting(group: Callable) -> Callable:
    """A group of which every replica is frozen costs nothing: it stays, its records are NaN."""

    def guarded(seeds: SeedState):
        def rest(seeds):
            _, record, seen = jax.eval_shape(group, seeds)  # `seen` is empty: nothing is compared
            nothing = jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), record)
            return seeds, nothing, seen

        resting = (seeds.diverged >= 0) | (seeds.converged >= 0)
        return jax.lax.cond(resting.all(), rest, group, seeds)

    return guarded


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
    compare: bool = False,
) -> Trainer:
    """Builds the pure training functions of a task.

    Args:
        task: what to learn.
        optimizer: any optax transformation, or a function from the replica's hyperparameters (name
            to float32 scalar) to one; its update is given the parameters.
        batch_size: examples per step; the last batch of an epoch is smaller where
            `task.num_train` is not a multiple.
        record_every: optimisation steps between records.
        metrics: a function from parts it names to named scalars
            (`trainer.metrics.arguments.measure`), or several, computed in-graph at every record.
        threshold: evaluation accuracy above which a replica has converged.
        stop_converged: freeze a replica once it has converged; its records are NaN from the next
            one on.
        precision: of matrix products and convolutions: "float32", or the faster modes of
            GPUs and TPUs, "tf32" or "bfloat16" (inputs rounded to it, sums in float32). On CPU the
            inputs are rounded alike (`trainer.noise.rounding`), which is no faster.
        seeds_at_once: replicas vmapped together on a device; the groups take turns. It must divide
            the number of replicas on a device. None: all.
        mesh: devices over which replicas are spread, of one axis named "seed"; their number must
            divide the number of replicas. None: no sharding.
        compare: also record how far every replica is from the first one, and when they part
            (`trainer.metrics.replica_distance.apart_from_first`); NaN for one that has diverged,
            and for all once the first has.

    Returns:
        Trainer. In its records, train_loss is the mean over the steps since the last record of
        the batch losses before each update, and train_accuracy the share of those examples
        predicted right (as the paper's code counts them over an epoch); eval_loss and
        eval_accuracy are taken on the test set at the record. A hyperparameter named `init_scale`
        multiplies all initial parameters.

    Raises:
        UserError: batch_size or record_every is under 1, batch_size is above `task.num_train`, the
            parts of the task do not fit together, the precision is unknown, or replicas to compare
            may stop; when `advance` is traced: a metric has the name of an outcome or needs what
            is not there.
    """
    check_sizes(task, batch_size, record_every)
    check_task(task, batch_size)
    check_precision(precision)
    if stop_converged and threshold is None:
        raise UserError("stop_converged needs a threshold: the accuracy that counts as converged")
    if stop_converged and compare:
        raise UserError("compare needs replicas that train equally long; leave out stop_converged")
    build = optimizer if callable(optimizer) else lambda hyper: optimizer
    functions = [metrics] if callable(metrics) else list(metrics)

    def init_one(replica) -> SeedState:
        keys, hyper, perturb = replica
        model = _initial_model(task, keys, hyper)
        opt_state, never = build(hyper).init(model.params), jnp.int32(-1)
        return SeedState(keys, hyper, model, opt_state, never, never, perturb)

    def parts(state: SeedState, step, data) -> dict[str, Callable[[], Any]]:
        """What metrics may ask for, each made only if one does."""
        keys = keys_at(state.keys, state.perturb, step)
        rows = batch_rows(keys.order, step, 1, task.num_train, batch_size)[0]
        noise = _noise(keys, step)

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

    def walk_one(step, data, state: SeedState):
        """`record_every` steps: state, batch losses, share predicted right, digests of steps."""
        keys = keys_at(state.keys, state.perturb, step)
        rows = batch_rows(keys.order, step, record_every, task.num_train, batch_size)
        steps = step + jnp.arange(record_every)
        place = places(state.perturb, steps, batch_size)
        if place is not None:
            rows = jnp.take_along_axis(rows, place, axis=1)
        params = move_by_ulp(state.model.params, state.perturb, step)
        state = state._replace(model=state.model._replace(params=params))

        def one_step(state, at):
            step, rows, place = at
            noise = _noise(keys, step)._replace(place=place)
            state, scored = train_step(task, build(state.hyper), state, data.train, rows, noise)
            return state, (*scored, digest(state.model.params) if compare else None)

        after, (losses, correct, digests) = jax.lax.scan(one_step, state, (steps, rows, place))
        return after, losses, jnp.sum(correct) / jnp.sum(rows >= 0), digests

    def evaluated(model, examples) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Loss, accuracy and, where replicas are compared, predictions."""
        if compare and task.classify is not None:
            return evaluate_and_predict(task, model, examples)
        return *evaluate(task, model, examples), None

    def advance_one(step, pool, state: SeedState) -> tuple[SeedState, Record, tuple]:
        data = exact_data(task, state.keys.data, pool)
        after, losses, accuracy, digests = walk_one(step, data, state)
        now = step + record_every
        record = measure(functions, parts(after, now, data))
        reserved = sorted(set(record) & set(OUTCOMES + APART * compare))
        if reserved:
            raise UserError(
                f"metrics: {reserved[0]!r} is the name of an outcome; give the metric another"
            )
        record["train_loss"] = jnp.mean(losses)
        record["train_accuracy"] = accuracy
        scored = evaluated(after.model, data.test)
        record["eval_loss"], record["eval_accuracy"], predictions = scored
        settled, record = freeze(now, state, after, record, threshold, stop_converged)
        return settled, record, (predictions, digests)

    def all_seeds(function, shared, seeds, wrap=None):
        def of_seed(shared, seed):
            bits = seed.perturb.mantissa_bits if isinstance(seed, SeedState) else None
            if bits is not None:
                return round_products(function, bits)(*shared, seed)
            return _at_precision(function, precision)(*shared, seed)

        def on_device(shared, seeds):
            return in_groups(lambda seed: of_seed(shared, seed), seeds_at_once, wrap)(seeds)

        return _over_devices(on_device, mesh)(shared, seeds)

    def init(
        keys: Streams,
        hyper: Mapping[str, jax.Array] | None = None,
        perturb: Perturbations | None = None,
    ) -> TrainState:
        replicas = keys, dict(hyper or {}), perturb or Perturbations()
        return TrainState(jnp.int32(0), all_seeds(init_one, (), replicas))

    def advance(state: TrainState, pool: Any = ()) -> tuple[TrainState, Record]:
        wrap = _skip_resting if stop_converged else None
        seeds, record, seen = all_seeds(advance_one, (state.step, pool), state.seeds, wrap)
        if compare:
            apart = apart_from_first(seeds.model.params, *seen, state.step + 1)
            alive = (seeds.diverged < 0) & (seeds.diverged[:1] < 0)
            record |= {name: jnp.where(alive, value, jnp.nan) for name, value in apart.items()}
        return TrainState(state.step + record_every, seeds), record

    def walk(state: TrainState, pool: Any = ()) -> TrainState:
        def one(step, pool, seed):
            return walk_one(step, exact_data(task, seed.keys.data, pool), seed)[0]

        seeds = all_seeds(one, (state.step, pool), state.seeds)
        return TrainState(state.step + record_every, seeds)

    return Trainer(
        jax.jit(init), jax.jit(advance, donate_argnums=0), jax.jit(walk, donate_argnums=0)
    )


def exact_data(task: Task, key: jax.Array, pool: Any) -> Data:
    """The examples of one replica: the same whatever the precision of training is."""
    with jax.default_matmul_precision("highest"):
        return draw_data(task, key, pool)


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
