"""The compiled programs of fits and of decoding, with the shapes that a map calls them with."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from seedmap.hmm.autoregressive.em import advance, evaluate, log_emissions, settle, start
from seedmap.hmm.autoregressive.fits import LANES, padded_states
from seedmap.hmm.autoregressive.model import REGULARISATION, Question, Records
from seedmap.hmm.autoregressive.odd import SCREENING_STATES
from seedmap.hmm.autoregressive.records import records_shape
from seedmap.hmm.training_map.branches import searched_states


def lane_programs(
    states: Sequence[int], num_train: int, num_runs: int, num_records: int, num_components: int
) -> list[tuple[str, jax.stages.Wrapped, tuple]]:
    """Returns name, function and shapes of the arguments of every program that a map compiles.

    Numbers of states are padded, so that there are few; those of the search for branches are among
    them. The last one, of the most states asked for, is the filter by which forecasts read runs
    (`map_model.filter_runs`), whose number is not padded. Runs that are read by themselves, such as
    held-out ones, take smaller programs of the same kind, left out here. Call it within
    `fits.precision`.

    Args:
        states: numbers of states to try.
        num_train: runs to fit.
        num_runs: of these and the held-out ones together.
        num_records: of each run, the first one included.
        num_components: of a record.
    """
    records = records_shape(num_runs, num_records, num_components)
    searched = searched_states(num_train, num_train * (num_records - 1))
    mapped = {padded_states(number) for number in (SCREENING_STATES, *states)}
    programs: list[tuple[str, Any, tuple]] = []
    labels = jax.ShapeDtypeStruct((LANES, *records.mask.shape), jnp.int8)
    most, count = jax.ShapeDtypeStruct((LANES,), jnp.int32), jax.ShapeDtypeStruct((), jnp.int32)
    for size in sorted(mapped | {padded_states(number) for number in searched}):
        question = _question(records, size)
        first = (records, question, labels, REGULARISATION)
        progress = jax.eval_shape(start, *first)
        further = (records, question, REGULARISATION, progress, most, count)
        programs += [
            (f"EM start, {size} states", start, first),
            (f"EM, {size} states", advance, further),
        ]
        if size in mapped:  # the search for branches takes its states as they are found
            programs.append((f"given states, {size} states", settle, first))
        decoding = (records, question, progress.parameters)
        programs.append((f"decoding, {size} states", evaluate, decoding))
    return [*programs, _filter_program(records, labels, max(states))]


def _filter_program(records: Records, labels: jax.ShapeDtypeStruct, num_states: int) -> tuple:
    """The program of `fits.log_densities`; it takes one model, of as many states as it has."""
    first = (records, _question(records, num_states), labels, REGULARISATION)
    lanes = jax.eval_shape(start, *first).parameters
    model = jax.tree.map(lambda of: jax.ShapeDtypeStruct(of.shape[1:], of.dtype), lanes)
    tempering = jax.ShapeDtypeStruct((), records.products.dtype)
    return f"filter, {num_states} states", log_emissions, (records, model, tempering)


def _question(records: Records, size: int) -> Question:
    """Shapes of what the lanes are asked."""
    dtype, num_runs = records.products.dtype, records.mask.shape[1]
    return Question(
        jax.ShapeDtypeStruct((LANES, size), jnp.bool_),
        jax.ShapeDtypeStruct((LANES, num_runs), dtype),
        jax.ShapeDtypeStruct((LANES,), dtype),
    )
