"""What is trained: a task is data, a model, a loss and an evaluation, as pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

PyTree = Any


class Data(NamedTuple):
    """Examples of one replica; every leaf's first axis counts examples."""

    train: PyTree
    test: PyTree


class Task(NamedTuple):
    """A learning problem, described by pure functions of a single replica.

    The trainer adds the seed axis with `vmap`; nothing here knows of it.

    Attributes:
        init: key -> params. Initial parameters, from the `init` stream.
        make_data: key -> Data. Training and test examples, from the `data` stream; called inside
            the compiled program, so that data are a function of the key and take no part in
            checkpoints.
        score: (params, batch) -> (loss [example], correct [example]). Loss of every example of
            a batch (a pytree like `Data.train`, rows gathered) and 1.0 where it is predicted
            right, else 0.0. Their means over the batch are the training loss and accuracy.
        num_train: number of training examples that `make_data` gives.
    """

    init: Callable[[jax.Array], PyTree]
    make_data: Callable[[jax.Array], Data]
    score: Callable[[PyTree, PyTree], tuple[jax.Array, jax.Array]]
    num_train: int
