"""Expectation-maximisation for many Gaussian HMMs at once, as one compiled program.

All fits of a sweep (every number of states x every restart) advance together. Quantities of size
states x states live on padded axes [fit, state] with Kmax states; what is expensive (densities and
scatter matrices) lives on a flat axis of the states that exist, so that a fit with 2 states does
not pay for 8.

Covariances are carried as Cholesky factors L and all sums are taken over whitened residuals
y = L^-1 (x - mu), where they have unit scale: a new factor is L chol(cov(y)), so that a nearly
singular covariance is never formed and factorised in float32. The M step itself is Dynamax's
conjugate update, applied to y.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hmm.e_step import expectation, run_log_likelihood
from hmm.m_step import log_prior, maximisation
from hmm.model import Data, Layout, Model, Prior


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


def _step(layout: Layout, data: Data, prior: Prior, tolerance, progress: Progress) -> Progress:
    """One EM iteration of the fits that have not stopped."""
    statistics = expectation(layout, progress.model, data)
    objective = statistics.log_likelihood.sum(1) + log_prior(layout, progress.model, prior)
    proposal = maximisation(layout, progress.model, statistics, prior)
    running = ~(progress.converged | progress.degenerate)
    valid = _valid(layout, proposal, statistics.weight) & jnp.isfinite(objective)
    size = jnp.maximum(jnp.abs(objective), data.mask.sum())
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
    layout: Layout, data: Data, prior: Prior, tolerance, progress: Progress, num_iterations
) -> Progress:
    """Up to `num_iterations` EM iterations; fewer if every fit has stopped.

    A fit stops as converged when the penalised log-likelihood rises by less than
    tolerance * max(|penalised log-likelihood|, number of checkpoints). It stops as degenerate, with
    the last parameters that were good, when an update is not finite, when a covariance cannot be
    factorised, or when a state's expected number of checkpoints falls below one.

    Args:
        layout: The fits (static).
        data: The training runs.
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
        return done + 1, _step(layout, data, prior, tolerance, progress)

    with jax.default_matmul_precision("highest"):  # TF32 or bfloat16 products would ruin EM
        return jax.lax.while_loop(unfinished, advance, (0, progress))[1]


@partial(jax.jit, static_argnums=0)
def evaluate(layout: Layout, data: Data, prior: Prior, model: Model):
    """Log-likelihoods [F, run] and log-priors [F] of the final parameters, in nats."""
    with jax.default_matmul_precision("highest"):
        return run_log_likelihood(layout, model, data), log_prior(layout, model, prior)
