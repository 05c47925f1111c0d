"""What a metric may look at: what it names among its arguments it is given."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from seedmap.errors import UserError

RESERVED = ("seed", "step", "epoch", "diverged", "state")  # of the dataset
ARGUMENTS = ("params", "initial", "batch", "grads", "updates", "loss", "key")

Metric = Callable[..., Mapping[str, Float[Array, ""]]]
Record = dict[str, Float[Array, "*replica"]]


def arguments_of(metric: Metric) -> tuple[str, ...]:
    """Names of the arguments that a metric is given.

    Raises:
        UserError: it needs an argument that is none of these.
    """
    parameters = inspect.signature(metric).parameters.values()
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    unknown = [name for name in needed if name not in ARGUMENTS]
    if unknown:
        name = getattr(metric, "__name__", repr(metric))
        raise UserError(
            f"metrics: {name} needs {unknown[0]!r}; a metric's arguments are among "
            f"{', '.join(ARGUMENTS)}"
        )
    return tuple(parameter.name for parameter in parameters if parameter.name in ARGUMENTS)


def check_metrics(metrics: Sequence[Metric], params: Any) -> None:
    """Checks, by shapes alone, the metrics that look at nothing but parameters.

    Args:
        metrics: as `measure` takes them.
        params: of one replica, arrays or their shapes.

    Raises:
        UserError: one is no function, or as `measure`.
    """
    odd = [metric for metric in metrics if not callable(metric)]
    if odd:
        raise UserError(f"metrics: {odd[0]!r} is no function; choose by name with trainer.choose")
    simple = [metric for metric in metrics if {*arguments_of(metric)} <= {"params", "initial"}]
    arguments = ("params", "initial")
    jax.eval_shape(lambda tree: measure(simple, {name: lambda: tree for name in arguments}), params)


def _check_values(metric: Metric, values: Any) -> None:
    """Raises UserError unless these are named scalars, under names a dataset can hold."""
    name = getattr(metric, "__name__", repr(metric))
    if not isinstance(values, Mapping):
        raise UserError(f"metrics: {name} gives {type(values).__name__}; give a dict of scalars")
    for key, value in values.items():
        if jnp.shape(value):
            raise UserError(
                f"metrics: {key!r} of {name} has shape {jnp.shape(value)}; give one number"
            )
        if key in RESERVED or "/" in key:
            raise UserError(f"metrics: {key!r} of {name} cannot be a variable's name; change it")


def measure(metrics: Sequence[Metric], arguments: Mapping[str, Callable[[], Any]]) -> Record:
    """Computes all metrics; only the arguments that one of them names are made.

    Args:
        metrics: functions of some of these, by argument name: `params` now, `initial` parameters,
            `batch` of the coming step, `grads` of its mean loss, `updates` that the optimiser will
            add in it, its mean `loss` as a function of the parameters, and `key`, the random key
            `jax.random.key(0)`: the same for all replicas and records, so that what a metric draws
            is no noise between them (`fold_in` a number of one's own for another draw).
        arguments: name to a function that makes the argument.

    Raises:
        UserError: two metrics give the same name, or one needs another argument.
    """
    record: Record = {}
    made: dict[str, Any] = {}
    for metric in metrics:
        names = arguments_of(metric)
        made |= {name: arguments[name]() for name in names if name not in made}
        values = metric(**{name: made[name] for name in names})
        _check_values(metric, values)
        twice = sorted(set(values) & set(record))
        if twice:
            raise UserError(f"metrics: {twice[0]!r} is given by two of them; keep one")
        record |= values
    return record
