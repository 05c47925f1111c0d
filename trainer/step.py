"""One replica: its state, a training step, an evaluation, and when it is frozen."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from seedmap.trainer.metrics.arguments import Record
from seedmap.trainer.noise.perturb import Perturbations
from seedmap.trainer.streams import Streams
from seedmap.trainer.task import Noise, Task, Variables, as_model, score_training

_EVALUATED_AT_ONCE = 1024  # test examples; activations of all at once would fill the memory


class SeedState(NamedTuple):
    """What the next step of one replica needs; batched, every leaf has a leading seed axis.

    Attributes:
        keys: the replica's key streams.
        hyper: hyperparameters of its own, name to float32 scalar; empty where all share theirs.
        model: parameters and model state.
        opt_state: optimiser state.
        diverged: int32 scalar, the step at which a non-finite value was first seen, else -1.
        converged: int32 scalar, the step of the first record with an evaluation accuracy above the
            threshold, else -1.
        perturb: noise of tools that is imitated in it.
    """

    keys: Streams
    hyper: dict[str, Float[Array, "*replica"]]
    model: Variables
    opt_state: Any
    diverged: Int[Array, "*replica"]
    converged: Int[Array, "*replica"]
    perturb: Perturbations = Perturbations()


def take_rows(examples: Any, rows: Int[Array, " row"]) -> Any:
    """The examples of these rows; -1 takes the last one, to be given no weight."""
    return jax.tree.map(lambda leaf: leaf[rows], examples)


def mean_batch_loss(
    task: Task, model: Variables, train: Any, rows: Int[Array, " example"], noise: Noise
):
    """Mean training loss over the rows that are there (-1: none).

    Missing rows are filled with the last example at weight 0, so that shapes stay fixed.

    Returns:
        (mean loss, (number of examples predicted right, new model state)).
    """
    present = rows >= 0
    batch, noise = take_rows(train, rows), noise._replace(there=present)
    loss, correct, state = score_training(task, model, batch, noise)
    weight = present.astype(jnp.float32)
    return jnp.sum(weight * loss) / jnp.sum(weight), (jnp.sum(weight * correct), state)


def train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    state: SeedState,
    train: Any,
    rows: Int[Array, " example"],
    noise: Noise,
) -> tuple[SeedState, tuple[Float[Array, ""], Float[Array, ""]]]:
    """One optimisation step of one replica on the training examples `rows` (-1: none).

    Returns:
        (state, (mean loss of the batch, examples predicted right)), before the update.
    """

    def mean_loss(params):
        return mean_batch_loss(task, state.model._replace(params=params), train, rows, noise)

    (loss, (correct, model_state)), grads = jax.value_and_grad(mean_loss, has_aux=True)(
        state.model.params
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.model.params)
    model = Variables(optax.apply_updates(state.model.params, updates), model_state)
    return state._replace(model=model, opt_state=opt_state), (loss, correct)


def evaluate(
    task: Task, model: Variables, examples: Any
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean loss and accuracy over a set of examples."""
    loss, correct = score_examples(task.score, model, examples)
    return jnp.mean(loss), jnp.mean(correct)


def score_examples(function: Callable[[Any, Any], Any], model: Variables, examples: Any) -> Any:
    """A function of (model, batch) over a set of examples, in equal pieces of at most 1024.

    Args:
        function: gives leaves [example, ...], each example's a function of itself alone.
        model: of one replica.
        examples: leaves [example, ...].

    Returns:
        What the function gives for all examples at once, but for memory and rounding.
    """
    size = jax.tree.leaves(examples)[0].shape[0]
    if size <= _EVALUATED_AT_ONCE:
        return function(as_model(model), examples)
    pieces = -(-size // _EVALUATED_AT_ONCE)
    length = -(-size // pieces)
    rows = jnp.pad(jnp.arange(size), (0, pieces * length - size), constant_values=-1)

    def piece(rows):
        return function(as_model(model), take_rows(examples, rows))

    scored = jax.lax.map(piece, rows.reshape(pieces, length))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:size], scored)


def evaluate_and_predict(
    task: Task, model: Variables, examples: Any
) -> tuple[Float[Array, ""], Float[Array, ""], Int[Array, " example"]]:
    """Mean loss, accuracy, and the class that each example is taken for: int32 [example].

    In one pass over the examples: what score and classify have in common is computed once.
    """
    classify = task.classify
    assert classify is not None  # only asked of tasks that tell classes apart

    def both(model, batch):
        logits, _ = classify(model, batch)
        return task.score(model, batch), jnp.argmax(logits, axis=-1).astype(jnp.int32)

    (loss, correct), predictions = score_examples(both, model, examples)
    return jnp.mean(loss), jnp.mean(correct), predictions


def _all_finite(tree: Any) -> Bool[Array, ""]:
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()


def freeze(
    step: Int[Array, ""],
    before: SeedState,
    after: SeedState,
    record: Record,
    threshold: float | None,
    stop_converged: bool,
) -> tuple[SeedState, Record]:
    """Keeps a replica that has diverged at its last finite state, and one that has stopped at its.

    The choice is made per replica, so a diverged one costs the others nothing. The records of a
    frozen replica are NaN: of a diverged one from the record on that is not finite, of one stopped
    because it has converged from the record after.
    """
    stopped = (before.converged >= 0) if stop_converged else jnp.bool_(False)
    diverged_now = ~_all_finite((after.model, record)) & ~stopped
    diverged = jnp.where((before.diverged < 0) & diverged_now, step, before.diverged)
    alive = (diverged < 0) & ~stopped
    model, opt_state = jax.tree.map(
        lambda new, old: jnp.where(alive, new, old),
        (after.model, after.opt_state),
        (before.model, before.opt_state),
    )
    converged = before.converged
    if threshold is not None:
        first = alive & (record["eval_accuracy"] > threshold) & (converged < 0)
        converged = jnp.where(first, step, converged)
    record = {name: jnp.where(alive, value, jnp.nan) for name, value in record.items()}
    settled = after._replace(
        model=model, opt_state=opt_state, diverged=diverged, converged=converged
    )
    return settled, record
