"""Checks the jaxtyping annotations of arrays at run time, in every test.

Only arrays are checked: a list where an array is annotated is converted by the function itself, and
plain types are the type checker's work (`mypy`).
"""

import functools
import inspect
import types
import typing
from contextlib import contextmanager

import jax
import jaxtyping
import numpy as np


def array_kinds(annotation):
    """The jaxtyping arrays that an annotation admits."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [kind for entry in typing.get_args(annotation) for kind in array_kinds(entry)]
    is_kind = inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray)
    return [annotation] if is_kind else []


def check_arrays(function):
    """A type checker as jaxtyping's import hook takes it: dimensions agree within a call."""
    signature = inspect.signature(function)
    kinds = {
        name: array_kinds(parameter.annotation) for name, parameter in signature.parameters.items()
    }

    @functools.wraps(function)
    def checked(*args, **kwargs):
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            is_array = isinstance(value, np.ndarray | jax.Array)
            if kinds[name] and is_array and not any(isinstance(value, k) for k in kinds[name]):
                expected = " or ".join(kind.__name__ for kind in kinds[name])
                found = f"{value.dtype}[{', '.join(map(str, value.shape))}]"
                raise TypeError(f"{name} is {found}, annotated as {expected}")
        return function(*args, **kwargs)

    return checked


@contextmanager
def unchecked():
    """Lets wrong shapes through to the functions under test, for what these say of them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
