"""EM of a batch of fits to the same runs, each with states, run weights and tempering of its own.

The programs depend on the padded sizes only (fits of a batch, states, runs, records, components),
not on what the fits ask, so that a sweep, its halves and its resamples share one compilation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seedmap.hmm.autoregressive.emission import coefficients, maximise
from seedmap.hmm.autoregressive.model import Parameters, Question, Records, Regularisation
from seedmap.hmm.em.messages import best_path, forward, forward_backward

HEATED = 20  # iterations before the densities count in full
_COLDEST = 0.1  # power of the densities in the first iteration, rising to 1 geometrically
_STAY = 0.9  # of the starting transitions, the rest spread over all states
_TOLERANCE = 2e-4  # nats per record and unit of tempering


class Progress(NamedTuple):
    """Where each fit of a batch stands.

    Attributes:
        parameters: of the fits, a leading axis [F].
        score: float [F], tempered log-likelihood per record before the last update.
        iterations: int32 [F], updates made.
        done: bool [F], converged or out of iterations; such a fit no longer changes.
    """

    parameters: Parameters
    score: jax.Array
    iterations: jax.Array
    done: jax.Array


class Scores(NamedTuple):
    """What a batch of fits makes of all runs.

    Attributes:
        log_likelihood: float [F, run], tempered, in nats.
        path_log_likelihood: float [F, run], tempered, of a run together with its best path.
        paths: int8 [F, run, 1 + time], the best path of every record, the first one included;
            arbitrary on padding.
    """

    log_likelihood: jax.Array
    path_log_likelihood: jax.Array
    paths: jax.Array


@jax.jit
def start(
    records: Records,
    question: Question,
    labels: jax.Array,
    regularisation: Regularisation,
) -> Progress:
    """Returns fits before their first iteration, the parameters those of given states.

    Args:
        records: the runs.
        question: what the fits are asked.
        labels: int [F, time, run], a state for each record.
        regularisation: what is added.
    """
    num_fits, num_states = question.active.shape
    posterior = _given(records, question, labels)
    emission = maximise(_sums(records, posterior), records.num_components, regularisation)
    active = question.active.astype(posterior.dtype)
    initial = active / active.sum(-1, keepdims=True)
    rows = _STAY * jnp.eye(num_states) + (1 - _STAY) * initial[:, None]
    rows = rows * active[:, None]
    transition = rows / rows.sum(-1, keepdims=True)
    nothing = jnp.zeros(num_fits, jnp.int32)
    score = jnp.full(num_fits, -jnp.inf, posterior.dtype)
    parameters = Parameters(initial, transition, *emission)
    return Progress(parameters, score, nothing, jnp.zeros(num_fits, bool))


@jax.jit
def settle(
    records: Records,
    question: Question,
    labels: jax.Array,
    regularisation: Regularisation,
) -> Progress:
    """Returns fits whose states are given, transitions counted: one M step, and done.

    A state of no more records than a regression takes has the densities of all records: those of
    so few would be narrow, and take records from other states.

    Arguments as those of `start`.
    """
    posterior = _given(records, question, labels)
    few = posterior.sum((0, 3)) <= records.num_components + 1
    everything = posterior.sum(2, keepdims=True)
    shared = jnp.where(few[:, :, None], everything, posterior)
    emission = maximise(_sums(records, shared), records.num_components, regularisation)
    member = (posterior > 0).astype(posterior.dtype)
    moves = jnp.einsum("tfir,tfjr->fij", posterior[:-1], member[1:])
    chain = _chain(posterior[0].sum(-1), moves, question, regularisation)
    num_fits = len(question.active)
    score = jnp.full(num_fits, -jnp.inf, posterior.dtype)
    nothing = jnp.zeros(num_fits, jnp.int32)
    return Progress(Parameters(*chain, *emission), score, nothing, jnp.ones(num_fits, bool))


@jax.jit
def advance(
    records: Records,
    question: Question,
    regularisation: Regularisation,
    progress: Progress,
    most: jax.Array,
    num_iterations: jax.Array,
) -> Progress:
    """Up to `num_iterations` EM iterations; fewer if all fits are done.

    In its first `HEATED` iterations the densities of a fit are taken to a power that rises to 1.
    After them it is done when an iteration raises its score by less than the tolerance.

    Args:
        records: the runs.
        question: what the fits are asked.
        regularisation: what is added.
        progress: where the fits stand.
        most: int [F], iterations of a fit in all.
        num_iterations: int [], of this call.
    """

    def unfinished(carry):
        return (carry[0] < num_iterations) & ~carry[1].done.all()

    def step(carry):
        return carry[0] + 1, _step(records, question, regularisation, most, carry[1])

    return jax.lax.while_loop(unfinished, step, (0, progress))[1]


def _chain(begun, moves, question: Question, regularisation: Regularisation) -> tuple:
    """Initial and transition probabilities from counts [F, K] and [F, K, K]."""
    initial = (begun + regularisation.counts) * question.active
    transition = (moves + regularisation.counts) * question.active[:, None]
    return _normalise(initial), _normalise(transition)


def _given(records: Records, question: Question, labels: jax.Array) -> jax.Array:
    """Posteriors [time, F, K, run] that are sure of the labels [F, time, run], by runs' weights."""
    states = jnp.arange(question.active.shape[1])[:, None]
    member = labels[:, :, None] == states
    weights = records.mask[:, None] * question.run_weights[:, None, None]
    return (member * weights).transpose(1, 0, 2, 3)


def _step(records, question, regularisation, most, progress: Progress) -> Progress:
    """One EM iteration of the fits that are not done."""
    old = progress.parameters
    heat = _COLDEST ** jnp.maximum(1 - progress.iterations / HEATED, 0.0)
    densities, top = _densities(records, question, old, heat)
    messages = forward_backward(
        old.initial, old.transition, densities, records.mask, question.run_weights
    )
    logs = jnp.where(records.mask[:, None], top + jnp.log(messages.normalisers), 0.0).sum(0)
    counted = question.run_weights @ records.mask.sum(0)
    score = (question.run_weights * logs).sum(1) / counted
    emission = maximise(_sums(records, messages.smoothed), records.num_components, regularisation)
    begun = messages.smoothed[0].sum(-1)
    new = Parameters(*_chain(begun, messages.transitions, question, regularisation), *emission)
    cold = progress.iterations >= HEATED
    flat = jnp.abs(score - progress.score) < _TOLERANCE * question.tempering
    iterations = progress.iterations + ~progress.done
    stop = (cold & flat) | (iterations >= most)
    keep = progress.done
    parameters = jax.tree.map(lambda a, b: jnp.where(_like(keep, a), b, a), new, old)
    cold_score = jnp.where(cold, score, -jnp.inf)
    return Progress(
        parameters, jnp.where(keep, progress.score, cold_score), iterations, keep | stop
    )


@jax.jit
def evaluate(records: Records, question: Question, parameters: Parameters) -> Scores:
    """Scores and decodes all runs by every fit.

    The chain of states begins at the second record, as densities are conditional on the first. The
    first record's state is the most likely one given its own place and the state that follows.
    """
    densities, top = _densities(records, question, parameters, 1.0)
    probabilities = (parameters.initial, parameters.transition)
    _, normalisers = forward(*probabilities, densities)
    logs = jnp.where(records.mask[:, None], top + jnp.log(normalisers), 0.0).sum(0)
    joint, paths = best_path(*probabilities, densities, records.mask)
    paths = _with_first(records, question, parameters, paths.transpose(1, 2, 0))
    return Scores(logs, joint + top.sum(0), paths)


@jax.jit
def log_emissions(records: Records, parameters: Parameters, tempering: jax.Array) -> jax.Array:
    """Returns log e_k of every record under one model, float [run, 1 + time, K], 0 where absent."""
    rows = jnp.concatenate([records.first[None], records.products])
    return tempering * jnp.einsum("kc,trc->rtk", coefficients(parameters), rows)


def _with_first(records, question, parameters, paths) -> jax.Array:
    """Paths [F, run, 1 + time] with the state of the first record put before."""
    logs = jnp.einsum("fkc,rc->frk", coefficients(parameters), records.first)
    logs = jnp.where(question.active[:, None], question.tempering[:, None, None] * logs, -jnp.inf)
    onwards = jnp.log(parameters.transition).transpose(0, 2, 1)  # [F, next, K]
    follows = jax.vmap(lambda rows, states: rows[states])(onwards, paths[:, :, 0])
    follows = jnp.where(records.mask[0][:, None], follows, 0.0)
    first = (logs + follows).argmax(-1).astype(paths.dtype)
    return jnp.concatenate([first[..., None], paths], -1)


def _densities(records: Records, question: Question, parameters: Parameters, heat):
    """Densities [time, F, K, run] over their maximum over the states, and its log [time, F, run].

    0 in states a fit does not have; 1 in the others, and log 0, where nothing was recorded.
    """
    power = (question.tempering * heat)[:, None, None]
    logs = jnp.einsum("fkc,trc->tfkr", power * coefficients(parameters), records.products)
    logs = jnp.where(question.active[:, :, None], logs, -jnp.inf)
    top = logs.max(2)
    return jnp.exp(logs - top[:, :, None]), top


def _sums(records: Records, posterior: jax.Array) -> jax.Array:
    """Sums [F, K, column] of the products, weighted by posteriors [time, F, K, run]."""
    num_steps, num_fits, num_states, num_runs = posterior.shape
    flat = posterior.transpose(1, 2, 0, 3).reshape(num_fits * num_states, -1)
    sums = flat @ records.products.reshape(num_steps * num_runs, -1)
    return sums.reshape(num_fits, num_states, -1)


def _normalise(counts: jax.Array) -> jax.Array:
    return counts / counts.sum(-1, keepdims=True)


def _like(flags: jax.Array, array: jax.Array) -> jax.Array:
    """`flags` [F] with as many axes as the array."""
    return flags.reshape(-1, *(1,) * (array.ndim - 1))
