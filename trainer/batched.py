"""Training as pure functions of a state, batched over seeds and compiled once.

trainer = make_trainer(task, optimizer, batch_size=32, record_every=160)
state = trainer.init(make_streams(range(40)))
state, record = trainer.advance(state)      # 160 steps of 40 seeds, then their metrics
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from seedmap.trainer.checks import PRECISIONS
from seedmap.trainer.metrics.arguments import Metric, Record
from seedmap.trainer.metrics.replica_distance import Compared, distance_to_first, first_of
from seedmap.trainer.metrics.weights import weight_metrics
from seedmap.trainer.noise.perturb import Perturbations
from seedmap.trainer.noise.rounding import MANTISSA_BITS, round_products
from seedmap.trainer.recipe import Optimizer, Recipe, make_recipe
from seedmap.trainer.replica import Comparable, advance, exact_data, init_replica, take_steps
from seedmap.trainer.step import SeedState
from seedmap.trainer.streams import Streams
from seedmap.trainer.task import Task

SEED_AXIS = "seed"


class TrainState(NamedTuple):
    """State of all replicas: `step` (int32 scalar, optimisation steps done) is common to all."""

    step: Int[Array, ""]
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

    init: jax.stages.Wrapped
    advance: jax.stages.Wrapped
    walk: jax.stages.Wrapped


class Batching(NamedTuple):
    """What a program goes through its replicas on.

    Attributes:
        mesh: devices over which replicas are spread, one axis named "seed"; None: no sharding.
        platform: that the program is compiled for, as JAX names it.
    """

    mesh: Mesh | None
    platform: str


def at_precision(
    function: Callable, precision: str, platform: str, mantissa_bits: Int[Array, ""] | None = None
) -> Callable:
    """A function of one replica with its products in a precision.

    It is the device's own mode; in a program for CPUs, which have none, products are rounded as the
    mode does. A replica that brings its own number of bits has its products rounded everywhere.

    Args:
        function: pure function of pytrees of arrays.
        precision: a key of `PRECISIONS`.
        platform: that the program is compiled for.
        mantissa_bits: int32 scalar, the replica's own; None: it has none.
    """
    if mantissa_bits is not None:
        return round_products(function, mantissa_bits)
    if precision != "float32" and platform == "cpu":
        return round_products(function, MANTISSA_BITS[precision])

    def precise(*args):
        with jax.default_matmul_precision(PRECISIONS[precision]):
            return function(*args)

    return precise


def side_by_side(function: Callable) -> Callable:
    """Vmaps a function of one replica, pytree -> pytree.

    A lone replica has no batch axis at all: XLA keeps its fast single convolutions.
    """

    def batched(tree):
        if jax.tree.leaves(tree)[0].shape[0] > 1:
            return jax.vmap(function)(tree)
        result = function(jax.tree.map(lambda leaf: leaf[0], tree))
        return jax.tree.map(lambda leaf: leaf[None], result)

    return batched


def over_devices(function: Callable, mesh: Mesh | None) -> Callable:
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


def over_replicas(function: Callable, precision: str, batching: Batching) -> Callable:
    """Batches a function of (*shared, replica) over replicas: their precision and devices.

    Args:
        function: of one replica; a `SeedState` may bring a number of mantissa bits of its own.
        precision: of products.
        batching: devices and their platform.

    Returns:
        (shared tuple, replicas with leading axis [replica]) -> results [replica].
    """

    def of_replica(shared, replica):
        own = replica.perturb.mantissa_bits if isinstance(replica, SeedState) else None
        return at_precision(function, precision, batching.platform, own)(*shared, replica)

    def on_device(shared, replicas):
        return side_by_side(partial(of_replica, shared))(replicas)

    return over_devices(on_device, batching.mesh)


def init_all(
    recipe: Recipe,
    batching: Batching,
    keys: Streams,
    hyper: Mapping[str, Float[Array, " replica"]] | None = None,
    perturb: Perturbations | None = None,
) -> TrainState:
    """State of all replicas before the first step; see `Trainer.init`."""

    def init(replica):
        return init_replica(recipe, *replica)

    replicas = keys, dict(hyper or {}), perturb or Perturbations()
    return TrainState(jnp.int32(0), over_replicas(init, recipe.precision, batching)((), replicas))


def advance_group(
    recipe: Recipe, batching: Batching, state: TrainState, pool: Any = ()
) -> tuple[TrainState, Record, Comparable]:
    """Trains replicas to their next record, and gives what they are compared by."""
    batched = over_replicas(partial(advance, recipe), recipe.precision, batching)
    seeds, record, comparable = batched((state.step, pool), state.seeds)
    return TrainState(state.step + recipe.record_every, seeds), record, comparable


def compare_group(
    record_every: int, first: Compared, state: TrainState, comparable: Comparable
) -> Record:
    """Measures how far replicas are from the first one, at a record.

    Args:
        record_every: steps between records.
        first: of the first replica.
        state: of the replicas to compare with it.
        comparable: of the same.

    Returns:
        `distance_to_first`; NaN for a replica that has diverged, and for all once the first has.
    """
    here = compared(state, comparable)
    distances = distance_to_first(first, here, state.step - record_every + 1)
    alive = (here.diverged < 0) & (first.diverged < 0)
    return {name: jnp.where(alive, value, jnp.nan) for name, value in distances.items()}


def compared(state: TrainState, comparable: Comparable) -> Compared:
    """Collects what of replicas is compared."""
    predictions, digests = comparable
    assert digests is not None  # of replicas that are compared
    return Compared(state.seeds.model.params, predictions, digests, state.seeds.diverged)


def advance_all(
    recipe: Recipe, batching: Batching, state: TrainState, pool: Any = ()
) -> tuple[TrainState, Record]:
    """Trains all replicas to their next record; see `Trainer.advance`."""
    state, record, comparable = advance_group(recipe, batching, state, pool)
    if recipe.compare:
        first = first_of(compared(state, comparable))
        record |= compare_group(recipe.record_every, first, state, comparable)
    return state, record


def walk_all(recipe: Recipe, batching: Batching, state: TrainState, pool: Any = ()) -> TrainState:
    """Trains all replicas as far as `advance_all` does, and measures nothing."""

    def walk(step, pool, seed):
        data = exact_data(recipe.task, seed.keys.data, pool)
        return take_steps(recipe, step, data, seed).state

    seeds = over_replicas(walk, recipe.precision, batching)((state.step, pool), state.seeds)
    return TrainState(state.step + recipe.record_every, seeds)


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
    mesh: Mesh | None = None,
    platform: str | None = None,
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
        metrics: a function from the arguments it names to named scalars
            (`trainer.metrics.arguments.measure`), or several, computed in-graph at every record.
        threshold: evaluation accuracy above which a replica has converged.
        stop_converged: freeze a replica once it has converged; its records are NaN from the next
            one on.
        precision: of matrix products and convolutions: "float32", or the faster modes of
            GPUs and TPUs, "tf32" or "bfloat16" (inputs rounded to it, sums in float32). In a
            program for CPUs the inputs are rounded alike (`trainer.noise.rounding`), which is no
            faster.
        mesh: devices over which replicas are spread, of one axis named "seed"; their number must
            divide the number of replicas. None: no sharding.
        platform: that the program is to be compiled for; None: that of the mesh, or without one
            of this process's devices.
        compare: also record how far every replica is from the first one, and since when
            (`trainer.metrics.replica_distance.distance_to_first`); NaN for one that has diverged,
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
    recipe = make_recipe(
        task,
        optimizer,
        batch_size,
        record_every,
        metrics,
        threshold=threshold,
        stop_converged=stop_converged,
        precision=precision,
        compare=compare,
    )
    return build_trainer(recipe, mesh, platform)


def build_trainer(recipe: Recipe, mesh: Mesh | None = None, platform: str | None = None) -> Trainer:
    """Builds the trainer of a recipe; see `make_trainer`."""
    batching = batching_of(mesh, platform)
    return Trainer(
        jax.jit(partial(init_all, recipe, batching)),
        jax.jit(partial(advance_all, recipe, batching), donate_argnums=0),
        jax.jit(partial(walk_all, recipe, batching), donate_argnums=0),
    )


def batching_of(mesh: Mesh | None, platform: str | None = None) -> Batching:
    """Returns the devices of a mesh, or without one this process's, with their platform."""
    devices = jax.local_devices() if mesh is None else mesh.devices.flat
    return Batching(mesh, platform or devices[0].platform)
