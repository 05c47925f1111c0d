"""Batched decompositions, one matrix at a time where threads of a CPU would block each other."""

from collections.abc import Callable
from typing import Any

import jax


def batched(
    decompose: Callable[[jax.Array], Any], tpu: Callable[[jax.Array], Any] | None = None
) -> Callable[[jax.Array], Any]:
    """A decomposition of arrays [matrix, row, column] that may run in several programs at once.

    Batched LAPACK calls of jaxlib 0.10 on CPU share their batch out to the thread pool they run on
    and wait for it: as many calls at once as there are threads wait for ever. A call for one
    matrix shares nothing out. Groups of replicas are trained side by side on a CPU, so in a program
    for it the batch is taken one by one, at the same values to the bit.

    Args:
        decompose: one call for all matrices.
        tpu: the same in programs for TPUs, where XLA would compile the other for long.
    """
    single = jax.custom_batching.sequential_vmap(decompose)

    def one_by_one(matrices):
        return jax.lax.map(single, matrices)

    def call(matrices):
        return jax.lax.platform_dependent(
            matrices, cpu=one_by_one, tpu=tpu or decompose, default=decompose
        )

    return call
