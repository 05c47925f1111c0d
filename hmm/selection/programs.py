"""The compiled programs of a sweep of Gaussian HMMs, with the shapes that it calls them with."""

from typing import Any

import jax
import jax.numpy as jnp

from seedmap.hmm.em.e_step import chunk_size
from seedmap.hmm.em.loop import evaluate, iterate, unstarted
from seedmap.hmm.em.model import Data, Layout, Model, Prior
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
    fits = [number for number in config.states for _ in range(config.restarts)]
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
    iteration = (layout, train, _shape(count, num_train), prior, config.tolerance, progress, 4)
    everyone = _data(num_runs, num_records, num_metrics)
    density = _shape(num_runs, num_records, most)
    mask: Any = jax.ShapeDtypeStruct((num_runs, num_records), jnp.bool_)
    return [
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
