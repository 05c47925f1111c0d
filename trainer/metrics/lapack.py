"""Batched decompositions, one matrix at a time where several CPU devices would block each other."""

from collections.abc import Callable
from typing import Any

import jax


def _several_cpu_devices() -> bool:
    return jax.default_backend() == "cpu" and jax.local_device_count() > 1


def batched(decompose: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """A decomposition of arrays [matrix, row, column] that may run on all devices at once.

    Batched LAPACK calls of jaxlib 0.10 on CPU share their batch out to the thread pool they run on
    and wait for it: calls from as many devices at once as there are threads wait for ever. A call
    for one matrix shares nothing out. It matters for simulated devices alone, so only there is the
    batch taken one by one, at the same values to the bit.
    """
    one = jax.custom_batching.sequential_vmap(decompose)

    def call(matrices):
        return jax.lax.map(one, matrices) if _several_cpu_devices() else decompose(matrices)

    return call
