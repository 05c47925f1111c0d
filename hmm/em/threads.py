"""A sweep's fits in batches that run side by side.

On the CPU, XLA spends one core on the loops of the EM program, whatever there are. So the fits are
dealt into 4 batches, each a program of its own, run on as many threads as there are cores for us
(`seedmap.cores`): 1.9 times as fast on 2 cores. States are padded to the largest of the batch only,
which saves as well. The last bits of a fit depend on what is in its batch, so that the number of
batches is the same on every machine.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from seedmap.cores import threads_on
from seedmap.hmm.em.model import Data, Layout, Model

_BATCHES = 4  # each has to be compiled
_WORTH = 1e7  # multiplications an iteration, below which compiling takes longer than it saves


def num_threads(data: Data) -> int:
    """Returns how many programs to run side by side on the device that holds the data.

    The cores of a CPU that there are for it; 1 on another device, which is best given all at once.
    """
    (device, *_) = data.values.devices()
    return threads_on(device)


def num_batches(data: Data) -> int:
    """Returns how many batches to deal the fits into on the device that holds the data."""
    (device, *_) = data.values.devices()
    return _BATCHES if device.platform == "cpu" else 1


def split(layout: Layout, data: Data, num_batches: int) -> list[slice]:
    """Returns consecutive fits in batches that take about the same time, one slice a batch.

    A batch takes as long as its fits x states, padding included: the largest is made as small as
    can be.
    """
    work = len(layout.fit) * data.values.size * data.values.shape[-1]
    count = min(num_batches, len(layout.num_states)) if work >= _WORTH else 1
    largest = len(layout.num_states) * max(layout.num_states)
    fillings = (_fill(layout.num_states, capacity) for capacity in range(1, largest + 1))
    return next(batches for batches in fillings if len(batches) <= count)


def _fill(num_states: tuple[int, ...], capacity: int) -> list[slice]:
    """Batches of at most `capacity` states, padding included, each as long as can be."""
    batches, start = [], 0
    for end in range(2, len(num_states) + 1):
        if (end - start) * max(num_states[start:end]) > capacity:
            batches.append(slice(start, end - 1))
            start = end - 1
    return [*batches, slice(start, len(num_states))]


def take(layout: Layout, fits: slice) -> Layout:
    """The layout of some consecutive fits."""
    return Layout(layout.num_states[fits], layout.covariance)


def take_model(layout: Layout, model: Model, fits: slice) -> Model:
    """Their parameters, from those of all fits (NumPy arrays), padded to their largest K only."""
    size = max(layout.num_states[fits])
    flat = np.isin(layout.fit, np.arange(fits.start, fits.stop))
    return Model(
        model.initial[fits, :size],
        model.transition[fits, :size, :size],
        model.means[flat],
        model.factors[flat],
    )


def join_models(layout: Layout, models: list[Model]) -> Model:
    """The parameters of all fits (NumPy arrays) from those of consecutive batches."""
    size = max(layout.num_states)

    def pad(array):
        spare = size - array.shape[-1]
        return np.pad(array, ((0, 0), *(array.ndim - 1) * ((0, spare),)))

    padded = [Model(pad(m.initial), pad(m.transition), m.means, m.factors) for m in models]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *padded)


def side_by_side(work: Callable, batches: list, num_threads: int) -> list:
    """Returns [work(batch) for batch in batches], computed on that many threads at most.

    JAX keeps some settings by thread; those of the caller hold in all.
    """
    num_threads = min(len(batches), num_threads)
    if num_threads == 1:
        return [work(batch) for batch in batches]
    config: Any = jax.config  # which has its settings as attributes that its type does not know
    wide, device = config.jax_enable_x64, config.jax_default_device
    products = config.jax_default_matmul_precision

    def run(batch):
        with (
            jax.enable_x64(wide),
            jax.default_device(device),
            jax.default_matmul_precision(products),
        ):
            return jax.block_until_ready(work(batch))

    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(run, batches))
