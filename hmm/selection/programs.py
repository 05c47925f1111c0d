"""The compiled programs of a sweep of Gaussian HMMs, with the shapes that it calls them with."""

from typing import Any

import jax
import jax.numpy as jnp

from seedmap.hmm.em.candidates import start
from seedmap.hmm.em.e_step import chunk_size
from seedmap.hmm.em.loop import evaluate, iterate, unstarted
from seedmap.hmm.em.model import Data, Layout, Model, Prior
from seedmap.hmm.em.start import SHORT_ITERATIONS, thinned_length
from seedmap.hmm.inference import best_paths
from seedmap.hmm.selection.config import SweepConfig


def sweep_programs(
    config: SweepConfig, num_train: int, num_runs: int, num_records: int, num_metrics: int
) -> list[tuple[str, Any, tuple]]:
    """Returns name, function and shapes of the arguments of a sweep's programs, and of decoding.

    Args:
        config: what is fitted.
        num_train: runs to fit.
        num_runs: of these and the held-out ones together.
        num_records: of each.
        num_metrics: of a record.
    """
    fits = [number for number in config.states for _ in range(config.starts)]
    layout, most = Layout(tuple(fits), config.covariance), max(fits)
    count, states = len(fits), sum(fits)
    model = Model(
        _shape(count, most),
        _shape(count, most, most),
        _shape(states, num_metrics),
        _shape(states, num_metrics, num_metrics),
    )
    prior = Prior(_shape(count), _shape())
    train = _data(num_train, num_records, num_metrics)
    progress = jax.eval_shape(unstarted, model)
    weights = _shape(count, num_train)
    iteration = (layout, train, weights, prior, config.tolerance, progress, 4)
    thinned = _data(num_train, thinned_length(num_train, num_records), num_metrics)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))
    restarts: Any = jax.ShapeDtypeStruct((count,), jnp.int32)
    starting = (layout, thinned, weights, keys, restarts, _shape(num_metrics, num_metrics), 0)
    short = (layout, thinned, weights, prior, config.tolerance, progress, SHORT_ITERATIONS)
    everyone = _data(num_runs, num_records, num_metrics)
    density = _shape(num_runs, num_records, most)
    mask: Any = jax.ShapeDtypeStruct((num_runs, num_records), jnp.bool_)
    return [
        ("EM start", start, starting),
        *([("EM of short runs", iterate, short)] if thinned != train else []),
        ("EM", iterate, iteration),
        ("EM scores", evaluate, (layout, everyone, prior, model)),
        ("decoding", best_paths, (_shape(most), _shape(most, most), density, mask)),
    ]


def _data(num_runs: int, num_records: int, num_metrics: int) -> Data:
    size = chunk_size(num_records, num_runs)
    padded = -(-num_records // size) * size
    mask: Any = jax.ShapeDtypeStruct((padded, num_runs), jnp.bool_)
    return Data(_shape(padded, num_runs, num_metrics), mask)


def _shape(*sizes: int) -> Any:
    return jax.ShapeDtypeStruct(sizes, jnp.zeros((), float).dtype)
