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
import numpy as np
from dynamax.utils.distributions import (
    InverseWishart,
    NormalInverseGamma,
    NormalInverseWishart,
    iw_posterior_update,
    nig_posterior_update,
    niw_posterior_update,
)

from hmm.linalg import cholesky, inverse_lower
from hmm.messages import forward, forward_backward


class Layout(NamedTuple):
    """Which fits there are; hashable, a static argument of every compiled function.

    Attributes:
        num_states: Number of states K of each fit, length F.
        covariance: "full", "diagonal", "spherical" or "shared".
    """

    num_states: tuple[int, ...]
    covariance: str

    @property
    def fit(self) -> np.ndarray:
        """Int [S]: the fit each flat state belongs to, S = sum of num_states."""
        return np.repeat(np.arange(len(self.num_states)), self.num_states)

    @property
    def slot(self) -> np.ndarray:
        """Int [S]: the label of each flat state within its fit."""
        return np.concatenate([np.arange(k) for k in self.num_states])

    @property
    def active(self) -> np.ndarray:
        """Bool [F, Kmax]: True where a fit has the state, False where it is padding."""
        return np.arange(max(self.num_states)) < np.array(self.num_states)[:, None]

    def pad(self, flat: jax.Array, fill: float | bool) -> jax.Array:
        """Moves the leading axis [S] to [F, Kmax], with `fill` where there is no state."""
        shape = (*self.active.shape, *flat.shape[1:])
        return jnp.full(shape, fill, flat.dtype).at[self.fit, self.slot].set(flat)


class Data(NamedTuple):
    """Training metrics, standardised, time first.

    Attributes:
        values: float [time, run, metric], zeros on padding; time is a multiple of the chunk that
            `chunk_size` gives.
        mask: bool [time, run], False on padding.
    """

    values: jax.Array
    mask: jax.Array


class Prior(NamedTuple):
    """Prior of the penalised likelihood; see `log_prior` for what it adds.

    Attributes:
        scale: float [], the prior scatter Psi = scale * I of every state, in squared standard
            deviations of the training data.
        count: float [], pseudo-count of every transition and of every initial state.
    """

    scale: jax.Array
    count: jax.Array


class Model(NamedTuple):
    """Parameters of all fits.

    Attributes:
        initial: float [F, Kmax], 0 in states a fit does not have.
        transition: float [F, Kmax, Kmax], 0 into states a fit does not have.
        means: float [S, D].
        factors: float [S, D, D], lower Cholesky factors of the covariances.
    """

    initial: jax.Array
    transition: jax.Array
    means: jax.Array
    factors: jax.Array


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


class Statistics(NamedTuple):
    """Expected sufficient statistics of all fits.

    Attributes:
        log_likelihood: float [F, run], in nats.
        initial: float [F, Kmax], expected number of runs that start in each state.
        transition: float [F, Kmax, Kmax], expected number of transitions.
        weight: float [S], expected number of checkpoints in each state.
        first: float [S, D], weighted sum of the whitened residuals y.
        second: float [S, D, D], weighted sum of y y^T.
    """

    log_likelihood: jax.Array
    initial: jax.Array
    transition: jax.Array
    weight: jax.Array
    first: jax.Array
    second: jax.Array


def chunk_size(num_steps: int, num_runs: int) -> int:
    """Number of time steps handled together: about 256 checkpoints, which stay in the cache."""
    return min(max(1, 256 // num_runs), num_steps)


def _chunks(data: Data) -> jax.Array:
    """Values as [chunk, metric, observation], the observations of a chunk time by time."""
    num_steps, num_runs, num_metrics = data.values.shape
    size = chunk_size(num_steps, num_runs)
    return data.values.reshape(-1, size * num_runs, num_metrics).transpose(0, 2, 1)


def _whitening(model: Model) -> tuple[jax.Array, jax.Array]:
    """Inverse factors [S, D, D] and whitened means [S, D]."""
    inverse = inverse_lower(model.factors)
    return inverse, jnp.einsum("sij,sj->si", inverse, model.means)


def _residuals(inverse: jax.Array, centre: jax.Array, values: jax.Array) -> jax.Array:
    """Whitened residuals y [S, D, n] of `values` [D, n], as one matrix product."""
    num_states, num_metrics = centre.shape
    whitened = inverse.reshape(-1, num_metrics) @ values - centre.reshape(-1, 1)
    return whitened.reshape(num_states, num_metrics, -1)


def _scaled_densities(layout: Layout, model: Model, data: Data) -> tuple[jax.Array, jax.Array]:
    """Emission densities divided by their maximum over the states, and log of that maximum.

    Returns:
        float [time, F, Kmax, run] in [0, 1], 1 on padding, 0 in states a fit does not have; and
        float [time, F, run], 0 on padding.
    """
    inverse, centre = _whitening(model)
    log_det = jnp.log(jnp.diagonal(model.factors, axis1=1, axis2=2)).sum(1)
    constant = log_det + 0.5 * model.means.shape[1] * jnp.log(2 * jnp.pi)

    def one_chunk(values_and_mask):
        values, mask = values_and_mask
        distance = (_residuals(inverse, centre, values) ** 2).sum(1)
        logs = layout.pad(-0.5 * distance - constant[:, None], -jnp.inf)
        logs = logs.reshape(*layout.active.shape, *mask.shape).transpose(2, 0, 1, 3)
        logs = jnp.where(mask[:, None, None] | ~layout.active[:, :, None], logs, 0.0)
        top = logs.max(2)
        return jnp.exp(logs - top[:, :, None]), top

    chunks = _chunks(data)
    mask = data.mask.reshape(len(chunks), -1, data.mask.shape[1])
    densities, top = jax.lax.map(one_chunk, (chunks, mask))
    return densities.reshape(-1, *densities.shape[2:]), top.reshape(-1, *top.shape[2:])


def run_log_likelihood(layout: Layout, model: Model, data: Data) -> jax.Array:
    """Log-likelihood of every run under every fit, float [F, run], in nats."""
    densities, top = _scaled_densities(layout, model, data)
    _, normalisers = forward(model.initial, model.transition, densities)
    return jnp.where(data.mask[:, None], top + jnp.log(normalisers), 0.0).sum(0)


def _scatter(layout: Layout, model: Model, data: Data, weights: jax.Array):
    """Weighted sums of 1, y and y y^T over all checkpoints; weights [time, F, Kmax, run]."""
    inverse, centre = _whitening(model)
    num_states, num_metrics = centre.shape

    def add_chunk(sums, values_and_weights):
        values, weights = values_and_weights
        residuals = _residuals(inverse, centre, values)
        flat = weights.transpose(1, 2, 0, 3)[layout.fit, layout.slot].reshape(num_states, -1)
        weighted = flat[:, None] * residuals
        second = jnp.einsum("sin,sjn->sij", weighted, residuals)
        return jax.tree.map(jnp.add, sums, (flat.sum(1), weighted.sum(2), second)), None

    chunks = _chunks(data)
    dtype = data.values.dtype
    zeros = (
        jnp.zeros(num_states, dtype),
        jnp.zeros((num_states, num_metrics), dtype),
        jnp.zeros((num_states, num_metrics, num_metrics), dtype),
    )
    weights = weights.reshape(len(chunks), -1, *weights.shape[1:])
    sums, _ = jax.lax.scan(add_chunk, zeros, (chunks, weights))
    return sums


def expectation(layout: Layout, model: Model, data: Data) -> Statistics:
    """E step: expected sufficient statistics of every fit under its current parameters."""
    densities, top = _scaled_densities(layout, model, data)
    messages = forward_backward(model.initial, model.transition, densities, data.mask)
    logs = jnp.where(data.mask[:, None], top + jnp.log(messages.normalisers), 0.0)
    weight, first, second = _scatter(layout, model, data, messages.smoothed)
    initial = messages.smoothed[0].sum(-1)
    return Statistics(logs.sum(0), initial, messages.transitions, weight, first, second)


def _full(scale, statistics: Statistics):
    """Whitened covariance [S, D, D] and mean [S, D], from the normal-inverse-Wishart posterior."""
    num_metrics = statistics.first.shape[1]

    def one(scale, *sums):
        prior = NormalInverseWishart(jnp.zeros(num_metrics), 0.0, num_metrics, scale)
        posterior = niw_posterior_update(prior, sums)
        return posterior.scale, posterior.loc

    scatter, mean = jax.vmap(one)(scale, statistics.first, statistics.second, statistics.weight)
    # Not the posterior's mode: that divides by n + df + D + 2, which would shrink the covariance of
    # a state with few checkpoints many times over. Dividing by n, the prior adds its scatter only.
    return scatter / statistics.weight[:, None, None], mean


def _diagonal(scale, statistics: Statistics):
    """Whitened variances [S, D] and mean [S, D], from the normal-inverse-gamma posterior."""

    def one(scale, *sums):
        prior = NormalInverseGamma(jnp.zeros_like(scale), 0.0, 0.0, scale / 2)
        posterior = nig_posterior_update(prior, sums)
        return 2 * posterior.scale, posterior.loc

    def diagonal(matrix):
        return jnp.diagonal(matrix, axis1=1, axis2=2)

    second = diagonal(statistics.second)
    scatter, mean = jax.vmap(one)(diagonal(scale), statistics.first, second, statistics.weight)
    return scatter / statistics.weight[:, None], mean  # by n, as in `_full`


def _shared(layout: Layout, scale, statistics: Statistics):
    """Whitened covariance, the same [D, D] in all states of a fit, and mean [S, D]."""
    num_fits, num_metrics = len(layout.num_states), statistics.first.shape[1]
    mean = statistics.first / statistics.weight[:, None]
    scatter = statistics.second - jnp.einsum("si,sj->sij", statistics.first, mean)
    pooled = jax.ops.segment_sum(scatter, layout.fit, num_fits)
    weight = jax.ops.segment_sum(statistics.weight, layout.fit, num_fits)
    starts = np.cumsum((0, *layout.num_states[:-1]))  # all states of a fit have the same scale

    def one(scale, *sums):
        return iw_posterior_update(InverseWishart(num_metrics, scale), sums).scale

    covariance = jax.vmap(one)(scale[starts], pooled, weight) / weight[:, None, None]
    return covariance[layout.fit], mean


def _whitened_posterior(layout: Layout, scale, statistics: Statistics):
    """Covariance [S, D, D] and mean [S, D] of y, of the layout's covariance type."""
    if layout.covariance == "full":
        return _full(scale, statistics)
    if layout.covariance == "shared":
        return _shared(layout, scale, statistics)
    variance, mean = _diagonal(scale, statistics)
    if layout.covariance == "spherical":
        variance = jnp.broadcast_to(variance.mean(1, keepdims=True), variance.shape)
    return jax.vmap(jnp.diag)(variance), mean


def _normalise(counts: jax.Array) -> jax.Array:
    return counts / counts.sum(-1, keepdims=True)


def maximisation(layout: Layout, model: Model, statistics: Statistics, prior: Prior) -> Model:
    """M step: the parameters that maximise expected log-likelihood plus `log_prior`."""
    inverse, _ = _whitening(model)
    scale = prior.scale * jnp.einsum("sij,skj->sik", inverse, inverse)
    covariance, mean = _whitened_posterior(layout, scale, statistics)
    # The jitter lets a variance fall by a factor of 1e6 (float32) in one step and no further, so
    # that rounding cannot make the matrix indefinite; at a fixed point it adds 1e-6 of itself.
    jitter = 10 * jnp.finfo(covariance.dtype).eps * jnp.eye(covariance.shape[1])
    factors = model.factors @ cholesky(covariance + jitter)
    means = model.means + jnp.einsum("sij,sj->si", model.factors, mean)
    initial = _normalise((statistics.initial + prior.count) * layout.active)
    transition = (statistics.transition + prior.count) * layout.active[:, None]
    return Model(initial, _normalise(transition), means, factors)


def log_prior(layout: Layout, model: Model, prior: Prior) -> jax.Array:
    """Log-prior of every fit up to a constant, float [F], in nats.

    count * (sum log initial + sum log transition) - 1/2 sum_k tr(Psi Sigma_k^-1), with the last sum
    over one covariance if it is shared. It is improper: in the covariance it is the Wishart factor
    without the power of the determinant, so that the M step only adds Psi to the scatter.
    """
    inverse, _ = _whitening(model)
    traces = layout.pad((inverse**2).sum((1, 2)), 0.0).sum(1)
    if layout.covariance == "shared":
        traces = traces / np.array(layout.num_states)
    active = layout.active
    pairs = active[:, :, None] & active[:, None]
    logs = jnp.log(jnp.where(pairs, model.transition, 1.0)).sum((1, 2))
    logs += jnp.log(jnp.where(active, model.initial, 1.0)).sum(1)
    return prior.count * logs - 0.5 * prior.scale * traces


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
