"""Expectation-maximisation for many Gaussian HMMs at once, as one compiled program (or a few).

All fits of a sweep (every number of states x every restart) advance together, large sweeps on a
CPU in a batch for each core (`hmm.em.threads`). Quantities of size
states x states live on padded axes [fit, state] with Kmax states; what is expensive (densities and
scatter matrices) lives on a flat axis of the states that exist, so that a fit with 2 states does
not pay for 8.

Covariances are carried as Cholesky factors L and all sums are taken over whitened residuals
y = L^-1 (x - mu), where they have unit scale: a new factor is L chol(cov(y)), so that a nearly
singular covariance is never formed and factorised in float32. The M step itself is Dynamax's
conjugate update, applied to y.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.hmm.em.e_step import expectation, run_scores
from seedmap.hmm.em.m_step import log_prior, maximisation
from seedmap.hmm.em.model import Data, Layout, Model, Prior
from seedmap.hmm.em.threads import (
    join_models,
    num_batches,
    num_threads,
    side_by_side,
    split,
    take,
    take_model,
)

_ITERATIONS_PER_CALL = 4  # between two reports


class Progress(NamedTuple):
    """Where every fit stands; a fit that has converged or degenerated no longer changes.

    Attributes:
        model: The parameters.
        objective: float [F], penalised log-likelihood before the last update tried, in nats.
        iterations: int32 [F], number of updates made.
        converged: bool [F].
        degenerate: bool [F], see `iterate`.
    """

    model: Model
    objective: jax.Array
    iterations: jax.Array
    converged: jax.Array
    degenerate: jax.Array


def _valid(layout: Layout, model: Model, weight: jax.Array) -> jax.Array:
    """Bool [F]: all parameters finite and at least one expected checkpoint in every state."""
    flat = jnp.isfinite(model.means).all(1) & jnp.isfinite(model.factors).all((1, 2))
    flat &= weight >= 1.0
    padded = jnp.isfinite(model.initial).all(1) & jnp.isfinite(model.transition).all((1, 2))
    return padded & layout.pad(flat, True).all(1)


def _choose(layout: Layout, update: jax.Array, new: Model, old: Model) -> Model:
    """The new parameters of the fits to update [F], the old ones of the others."""

    def pick(new, old, update):
        return jnp.where(update.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    flat = update[layout.fit]
    return jax.tree.map(pick, new, old, Model(update, update, flat, flat))


def _step(layout: Layout, data: Data, run_weights, prior: Prior, tolerance, progress: Progress):
    """One EM iteration of the fits that have not stopped."""
    statistics = expectation(layout, progress.model, data, run_weights)
    likelihood = (run_weights * statistics.log_likelihood).sum(1)
    objective = likelihood + log_prior(layout, progress.model, prior)
    proposal = maximisation(layout, progress.model, statistics, prior)
    running = ~(progress.converged | progress.degenerate)
    valid = _valid(layout, proposal, statistics.weight) & jnp.isfinite(objective)
    size = jnp.maximum(jnp.abs(objective), run_weights @ data.mask.sum(0))
    flat = objective - progress.objective < tolerance * size
    update = running & valid
    return Progress(
        _choose(layout, update, proposal, progress.model),
        jnp.where(running, objective, progress.objective),
        progress.iterations + update,
        progress.converged | (running & valid & flat),
        progress.degenerate | (running & ~valid),
    )


@partial(jax.jit, static_argnums=0)
def iterate(
    layout: Layout,
    data: Data,
    run_weights: jax.Array,
    prior: Prior,
    tolerance,
    progress: Progress,
    num_iterations,
) -> Progress:
    """Up to `num_iterations` EM iterations; fewer if every fit has stopped.

    A fit stops as converged when the penalised log-likelihood rises by less than
    tolerance * max(|penalised log-likelihood|, number of checkpoints). It stops as degenerate, with
    the last parameters that were good, when an update is not finite, when a covariance cannot be
    factorised, or when a state's expected number of checkpoints falls below one.

    Args:
        layout: The fits (static).
        data: The training runs.
        run_weights: float [F, run], how much a run counts in a fit; 0 holds it out.
        prior: The prior.
        tolerance: float [], see above.
        progress: Where the fits stand.
        num_iterations: int [], not static: every number shares one compilation.

    Returns:
        Where the fits stand afterwards.
    """

    def unfinished(carry):
        done, progress = carry
        return (done < num_iterations) & ~(progress.converged | progress.degenerate).all()

    def advance(carry):
        done, progress = carry
        return done + 1, _step(layout, data, run_weights, prior, tolerance, progress)

    with jax.default_matmul_precision("highest"):  # TF32 or bfloat16 products would ruin EM
        return jax.lax.while_loop(unfinished, advance, (0, progress))[1]


def unstarted(model: Model) -> Progress:
    """Fits before their first iteration."""
    num_fits, dtype = len(model.initial), model.means.dtype
    nothing, never = jnp.zeros(num_fits, jnp.int32), jnp.zeros(num_fits, bool)
    # without its dtype the objective would be of weak type, and `iterate` be compiled twice
    return Progress(model, jnp.full(num_fits, -jnp.inf, dtype), nothing, never, never)


@partial(jax.jit, static_argnums=0)
def evaluate(layout: Layout, data: Data, prior: Prior, model: Model):
    """What the final parameters are worth, in nats.

    Returns:
        Log-likelihoods of the runs [F, run], of the runs and their Viterbi paths [F, run], and
        log-priors [F].
    """
    with jax.default_matmul_precision("highest"):
        return *run_scores(layout, model, data), log_prior(layout, model, prior)


def run(
    layout: Layout,
    data: Data,
    run_weights: jax.Array,
    prior: Prior,
    tolerance: float,
    model: Model,
    num_iterations: int,
    report: Callable[[int], None],
) -> Progress:
    """`iterate` from a starting model to the end, a few iterations at a time, in batches.

    Args:
        layout: The fits.
        data: The training runs.
        run_weights: float [F, run].
        prior: The prior.
        tolerance: As in `iterate`.
        model: Where to start.
        num_iterations: Iterations at most.
        report: Called with the number of iterations done, at last with `num_iterations`.
    """
    threads = num_threads(data)
    slices = split(layout, data, num_batches(data))
    batches = [_batch(layout, run_weights, prior, model, fits) for fits in slices]
    done = 0
    while done < num_iterations and not all(_finished(batch.progress) for batch in batches):
        steps = min(_ITERATIONS_PER_CALL, num_iterations - done)

        def advance(batch: _Batch, steps=steps) -> _Batch:
            arguments = (data, batch.run_weights, batch.prior, tolerance, batch.progress, steps)
            return batch._replace(progress=iterate(batch.layout, *arguments))

        batches = side_by_side(advance, batches, threads)
        done += steps
        report(done)
    report(num_iterations)
    return _join(layout, jax.device_get([batch.progress for batch in batches]))


class _Batch(NamedTuple):
    """Consecutive fits that advance as one program, see `hmm.em.threads`."""

    layout: Layout
    run_weights: jax.Array
    prior: Prior
    progress: Progress


def _batch(layout: Layout, run_weights, prior: Prior, model: Model, fits: slice) -> _Batch:
    """Some fits before their first iteration."""
    progress = unstarted(take_model(layout, jax.device_get(model), fits))
    scale = jnp.asarray(np.asarray(prior.scale)[fits])
    weights = np.asarray(run_weights)[fits]
    arrays = jax.tree.map(jnp.asarray, (weights, prior._replace(scale=scale), progress))
    return _Batch(take(layout, fits), *arrays)


def _finished(progress: Progress) -> bool:
    """Whether every fit has stopped."""
    return bool((progress.converged | progress.degenerate).all())


def _join(layout: Layout, batches: list[Progress]) -> Progress:
    """Where all fits stand, from consecutive batches."""
    model = join_models(layout, [batch.model for batch in batches])
    rest = zip(*(batch[1:] for batch in batches), strict=True)
    return Progress(
        jax.tree.map(jnp.asarray, model), *(jnp.asarray(np.concatenate(field)) for field in rest)
    )
