"""What a metric may look at: it names the parts it wants as arguments and gets these."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from seedmap.errors import UserError

RESERVED = ("seed", "step", "epoch", "diverged", "state")  # of the dataset
PARTS = ("params", "initial", "batch", "grads", "updates", "loss", "key")

Metric = Callable[..., Mapping[str, jax.Array]]
Record = dict[str, jax.Array]


def parts_of(metric: Metric) -> tuple[str, ...]:
    """Names of the parts that a metric takes.

    Raises:
        UserError: it needs an argument that is not a part.
    """
    arguments = inspect.signature(metric).parameters.values()
    needed = [
        argument.name
        for argument in arguments
        if argument.default is argument.empty
        and argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
    ]
    unknown = [name for name in needed if name not in PARTS]
    if unknown:
        name = getattr(metric, "__name__", repr(metric))
        raise UserError(
            f"metrics: {name} needs {unknown[0]!r}; a metric's arguments are among "
            f"{', '.join(PARTS)}"
        )
    return tuple(argument.name for argument in arguments if argument.name in PARTS)


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


def measure(metrics: Sequence[Metric], parts: Mapping[str, Callable[[], Any]]) -> Record:
    """The values of all metrics; only the parts that one of them names are computed.

    Args:
        metrics: functions of some of these, by argument name: `params` now, `initial` parameters,
            `batch` of the coming step, `grads` of its mean loss, `updates` that the optimiser will
            add in it, its mean `loss` as a function of the parameters, and a random `key`, the same
            for all replicas and records.
        parts: name to a function that makes the part.

    Raises:
        UserError: two metrics give the same name, or one needs what is not a part.
    """
    record: Record = {}
    made: dict[str, Any] = {}
    for metric in metrics:
        names = parts_of(metric)
        made |= {name: parts[name]() for name in names if name not in made}
        values = metric(**{name: made[name] for name in names})
        _check_values(metric, values)
        twice = sorted(set(values) & set(record))
        if twice:
            raise UserError(f"metrics: {twice[0]!r} is given by two of them; keep one")
        record |= values
    return record
