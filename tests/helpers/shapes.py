"""Checks the jaxtyping annotations of arrays at run time, in every test.

Only arrays are checked: a list where an array is annotated is converted by the function itself, and
plain types are the type checker's work (`mypy`).

jaxtyping's own import hook wraps every function, annotated or not, and compiles two more for each:
a tenth of the suite's time. `check_modules` wraps those only whose annotations name an array. What
`jax.jit` has compiled stays as it is.
"""

import dataclasses
import functools
import inspect
import itertools
import sys
import types
import typing
from contextlib import contextmanager
from importlib.abc import MetaPathFinder

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


def has_arrays(annotated):
    """Whether a function or a record has an annotation that `check_arrays` checks."""
    return any(map(array_kinds, inspect.get_annotations(annotated).values()))


CALLS = 50


def at_first(checked, function):
    """Checks the first calls alone: some functions are called 10 000 times in a test."""
    calls = itertools.count()

    @functools.wraps(function)
    def checked_at_first(*args, **kwargs):
        return (checked if next(calls) < CALLS else function)(*args, **kwargs)

    return checked_at_first


def check_module(module):
    """Has the functions, methods and dataclasses of a module check their arrays."""
    jaxtyped = jaxtyping.jaxtyped(typechecker=check_arrays)

    def check(function):
        return at_first(jaxtyped(function), function)

    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value) and has_arrays(inspect.unwrap(value)):
            setattr(module, name, check(value))
        elif inspect.isclass(value):
            for entry, method in list(vars(value).items()):
                if inspect.isfunction(method) and has_arrays(method):
                    setattr(value, entry, check(method))
            if dataclasses.is_dataclass(value) and has_arrays(value):
                setattr(module, name, jaxtyped(value))


class _Finder(MetaPathFinder):
    """Finds modules as the others do, and has them checked once they are imported."""

    def __init__(self, names):
        self.names = names

    def find_spec(self, fullname, path=None, target=None):
        if not any(fullname == name or fullname.startswith(f"{name}.") for name in self.names):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_check(module):
                execute(module)
                check_module(module)

            spec.loader.exec_module = execute_and_check
        return spec


def check_modules(names):
    """Has the named modules, and those in them, checked when they are imported."""
    sys.meta_path.insert(0, _Finder(names))


@contextmanager
def unchecked():
    """Lets wrong shapes through to the functions under test, for what these say of them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
