"""The arrays that EM works on: which fits there are, data, parameters, expected statistics."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.hmm.em.linalg import inverse_lower


class Layout(NamedTuple):
    """Which fits there are; hashable, a static argument of every compiled function.

    Attributes:
        num_states: Number of states K of each fit, length F.
        covariance: name of the emission family, see `hmm.em.emissions`.
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


class Missing(NamedTuple):
    """The checkpoints where some metric is missing, gathered; rows beyond the last are padding.

    Attributes:
        values: float [row, D], zeros where missing.
        absent: bool [pattern, D], the different sets of missing metrics.
        pattern: int32 [row], which of them a row has.
        time: int32 [row], its time; past the last time on padding, so that indexing drops it.
        run: int32 [row], its run.
    """

    values: jax.Array
    absent: jax.Array
    pattern: jax.Array
    time: jax.Array
    run: jax.Array


class Data(NamedTuple):
    """Metrics, standardised, time first.

    Attributes:
        values: float [time, run, metric], zeros on padding and where missing; time is a multiple of
            the chunk that `chunk_size` gives.
        mask: bool [time, run], False on padding.
        missing: The checkpoints with missing metrics; None compiles a program that knows of none.
    """

    values: jax.Array
    mask: jax.Array
    missing: Missing | None = None


class Prior(NamedTuple):
    """Prior of the penalised likelihood; see `log_prior` for what it adds.

    Attributes:
        scale: float [F], the prior scatter Psi = scale * I of every state of a fit, in squared
            standard deviations of the training data.
        pseudo_count: float [], pseudo-count of every transition and of every initial state.
    """

    scale: jax.Array
    pseudo_count: jax.Array


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


def whitening(model: Model) -> tuple[jax.Array, jax.Array]:
    """Inverse factors [S, D, D] and whitened means [S, D]."""
    inverse = inverse_lower(model.factors)
    return inverse, jnp.einsum("sij,sj->si", inverse, model.means)
