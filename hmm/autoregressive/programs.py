"""The compiled programs of fits and of decoding, with the shapes that a map calls them with."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from seedmap.hmm.autoregressive.em import advance, evaluate, settle, start
from seedmap.hmm.autoregressive.fits import LANES, padded_states
from seedmap.hmm.autoregressive.model import REGULARISATION, Question, Records
from seedmap.hmm.autoregressive.odd import SCREENING_STATES
from seedmap.hmm.autoregressive.records import records_shape


def lane_programs(
    num_runs: int, num_records: int, num_components: int, states: Sequence[int]
) -> list[tuple[str, jax.stages.Wrapped, tuple]]:
    """Returns name, function and shapes of the arguments of every program that a map compiles.

    Numbers of states are padded, so that there are few; call it within `fits.precision`.

    Args:
        num_runs: to fit.
        num_records: of each run, the first one included.
        num_components: of a record.
        states: numbers of states to try.
    """
    records = records_shape(num_runs, num_records, num_components)
    programs: list[tuple[str, Any, tuple]] = []
    labels = jax.ShapeDtypeStruct((LANES, *records.mask.shape), jnp.int8)
    most, count = jax.ShapeDtypeStruct((LANES,), jnp.int32), jax.ShapeDtypeStruct((), jnp.int32)
    for size in sorted({padded_states(number) for number in (SCREENING_STATES, *states)}):
        question = _question(records, size)
        first = (records, question, labels, REGULARISATION)
        progress = jax.eval_shape(start, *first)
        further = (records, question, REGULARISATION, progress, most, count)
        programs += [
            (f"EM start, {size} states", start, first),
            (f"EM, {size} states", advance, further),
            (f"given states, {size} states", settle, first),
            (f"decoding, {size} states", evaluate, (records, question, progress.parameters)),
        ]
    return programs


def _question(records: Records, size: int) -> Question:
    """Shapes of what the lanes are asked."""
    dtype, num_runs = records.products.dtype, records.mask.shape[1]
    return Question(
        jax.ShapeDtypeStruct((LANES, size), jnp.bool_),
        jax.ShapeDtypeStruct((LANES, num_runs), dtype),
        jax.ShapeDtypeStruct((LANES,), dtype),
    )
