"""Annotations of shapes are checked in all tests, and are there on every public function."""

import inspect
import math
import typing
from dataclasses import is_dataclass
from types import ModuleType

import jax
import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError, jaxtyped

from helpers import shapes
from helpers.shapes import array_kinds
from seedmap import fitting, hmm, mapping, runs, trainer


def test_wrong_shapes_and_types_are_noticed(monkeypatch):
    monkeypatch.setattr(shapes, "CALLS", math.inf)  # however often other tests have called them
    bag = np.full((4, 2), 0.5)
    with pytest.raises(TypeCheckError):
        hmm.regress(bag, np.zeros((4, 1)))
    with pytest.raises(TypeCheckError):
        hmm.bag_of_states(np.zeros((4, 3)), 2)
    with pytest.raises(TypeCheckError):
        trainer.make_streams(np.zeros((2, 2), int))
    with pytest.raises(TypeCheckError):
        runs.from_arrays(np.zeros((2, 3, 1)), steps=np.zeros((3, 1)))


def test_what_fits_passes():
    bag = hmm.bag_of_states(np.array([[0, 1, 1], [0, 0, -1]], np.int32), 2)
    np.testing.assert_allclose(bag, [[1 / 3, 2 / 3], [1, 0]])


RUNS, OTHER = np.zeros(3), np.zeros(4)
Runs = Float[np.ndarray, " run"]


@pytest.mark.parametrize(
    ("annotation", "right", "wrong"),
    [
        (Runs, RUNS, OTHER),
        (Runs, RUNS, RUNS.astype(int)),
        (Runs | None, None, OTHER),
        (tuple[str, Runs], ("a", RUNS), ("a", OTHER)),
        (tuple[Runs, ...], (RUNS, RUNS), (RUNS, OTHER)),
        (tuple[Runs, Runs] | None, (RUNS, RUNS), (RUNS, OTHER)),
        (list[Runs], [RUNS], [RUNS, OTHER]),
        (dict[str, Runs], {"a": RUNS}, {"a": RUNS, "b": OTHER}),
        (tuple[str, list[tuple[Runs, int]]], ("a", [(RUNS, 1)]), ("a", [(OTHER, 1)])),
    ],
)
def test_results_are_checked_against_the_axes_of_parameters(annotation, right, wrong):
    def give(runs: Runs, result):
        return result

    give.__annotations__["return"] = annotation
    checked = jaxtyped(typechecker=shapes.check_arrays)(give)
    assert checked(RUNS, right) is right
    with pytest.raises(TypeCheckError, match=r"return value of .*\.give"):
        checked(RUNS, wrong)


@pytest.mark.parametrize(
    ("annotation", "checked"), [(tuple[str, Runs], True), (dict[str, Runs], True), (str, False)]
)
def test_functions_are_checked_whose_results_alone_are_arrays(annotation, checked):
    module = ModuleType("of_a_test")

    def give(result):
        return result

    give.__annotations__["return"] = annotation
    give.__module__, module.give = module.__name__, give
    shapes.check_module(module)
    assert (module.give is not give) is checked


def names_bare_array(annotation):
    """Whether an annotation admits, at any depth, an array whose shape nobody checks."""
    arguments = typing.get_args(annotation)
    bare = annotation in (np.ndarray, jax.Array) or typing.get_origin(annotation) is np.ndarray
    lists = [entry for argument in arguments if isinstance(argument, list) for entry in argument]
    return bare or any(names_bare_array(entry) for entry in (*arguments, *lists))


def arrays_without_shape(public):
    """Parameters, results or fields annotated as arrays without their shape."""
    is_fields = is_dataclass(public) or hasattr(public, "_fields")
    if inspect.isclass(public) and not is_fields:
        return []
    hints = inspect.get_annotations(public)
    return [name for name, hint in hints.items() if names_bare_array(hint)]


def public_names():
    for package in (hmm, trainer):
        yield from ((package, name) for name in package.__all__)
    for module in (runs, fitting, mapping):
        yield from (
            (module, name)
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        )


PUBLIC = [
    pytest.param(getattr(home, name), id=f"{home.__name__}.{name}")
    for home, name in public_names()
    if inspect.isfunction(getattr(home, name)) or inspect.isclass(getattr(home, name))
]


@pytest.mark.parametrize("public", PUBLIC)
def test_public_functions_and_records_say_the_shapes_of_their_arrays(public):
    assert arrays_without_shape(public) == []


def test_an_array_without_shape_is_seen_at_any_depth():
    def bare(a: list[np.ndarray], b: jax.Array | None, c: Float[np.ndarray, " run"]) -> np.ndarray:
        """For its annotations alone."""

    assert arrays_without_shape(bare) == ["a", "b", "return"]


def test_some_public_function_is_annotated():
    kinds = [array_kinds(p.annotation) for p in inspect.signature(hmm.regress).parameters.values()]
    assert sum(map(bool, kinds)) >= 2
    assert len(PUBLIC) > 80
