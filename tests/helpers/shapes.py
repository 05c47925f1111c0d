"""Checks the jaxtyping annotations of arrays at run time, in every test.

Parameters and results are checked; of results also the arrays in tuples, lists and dicts, but not
in records, whose own annotations are. Only arrays are checked: a list where an array is annotated
is converted by the function itself, and plain types are the type checker's work (`mypy`).

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


def options(annotation):
    """What an annotation admits: the parts of a union, or itself."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def array_kinds(annotation):
    """The jaxtyping arrays that an annotation admits."""
    if len(options(annotation)) > 1:
        return [kind for entry in options(annotation) for kind in array_kinds(entry)]
    is_kind = inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray)
    return [annotation] if is_kind else []


def entries(annotation, value):
    """Pairs of the entries of a tuple, list or dict and their annotations; of all else, none."""
    for option in options(annotation):
        kind, inner = typing.get_origin(option), typing.get_args(option)
        if kind is dict and isinstance(value, dict):
            yield from ((inner[1], entry) for entry in value.values())
        elif kind in (tuple, list) and type(value) is kind:
            one = kind is list or inner[1:] == (...,)
            yield from zip(len(value) * inner[:1] if one else inner, value, strict=True)


def check_array(name, annotation, value):
    """Raises TypeError where an array is of none of the kinds that its annotation admits."""
    kinds = array_kinds(annotation)
    is_array = isinstance(value, np.ndarray | jax.Array)
    if kinds and is_array and not any(isinstance(value, kind) for kind in kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        found = f"{value.dtype}[{', '.join(map(str, value.shape))}]"
        raise TypeError(f"{name} is {found}, annotated as {expected}")


def check_result(annotation, value):
    """`check_array` of a result, and of all within it."""
    check_array("the result", annotation, value)
    for inner, entry in entries(annotation, value):
        check_result(inner, entry)


def check_arrays(function):
    """A type checker as jaxtyping's import hook takes it: dimensions agree within a call."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args, **kwargs):
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            check_array(name, signature.parameters[name].annotation, value)
        result = function(*args, **kwargs)
        check_result(signature.return_annotation, result)
        return result

    return checked


def names_arrays(annotation):
    """Whether an annotation names an array, at any depth."""
    return bool(array_kinds(annotation)) or any(map(names_arrays, typing.get_args(annotation)))


def has_arrays(annotated):
    """Whether a function or a record has an annotation that `check_arrays` checks."""
    hints = inspect.get_annotations(annotated)
    return any(map(array_kinds, hints.values())) or names_arrays(hints.get("return"))


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
