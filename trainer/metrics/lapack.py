"""Batched decompositions, one matrix at a time where several CPU devices would block each other."""

from collections.abc import Callable
from typing import Any

import jax


def batched(decompose: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """A decomposition of arrays [matrix, row, column] that may run on all devices at once.

    Batched LAPACK calls of jaxlib 0.10 on CPU share their batch out to the thread pool they run on
    and wait for it: calls from as many devices at once as there are threads wait for ever. A call
    for one matrix shares nothing out. It matters for simulated devices alone, so only in a program
    for CPUs that is spread over a mesh of several (`jax.shard_map`) is the batch taken one by one,
    at the same values to the bit.
    """
    single = jax.custom_batching.sequential_vmap(decompose)

    def one_by_one(matrices):
        return jax.lax.map(single, matrices)

    def call(matrices):
        if jax.sharding.get_abstract_mesh().size <= 1:  # 0 outside of any mesh
            return decompose(matrices)
        return jax.lax.platform_dependent(matrices, cpu=one_by_one, default=decompose)

    return call
