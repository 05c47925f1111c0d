"""Starting points of EM: k-means++ means, one covariance, uniform probabilities."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from hmm.em import Data, Layout, Model

_LLOYD_ITERATIONS = 20
_COVARIANCE_FLOOR = 1e-3  # hmmlearn's min_covar; keeps the start positive definite


def restart_keys(key: jax.Array, fits: list[tuple[int, int]]) -> jax.Array:
    """One key for each fit (num_states, restart), whatever other fits the sweep has."""
    return jnp.stack([jax.random.fold_in(jax.random.fold_in(key, k), r) for k, r in fits])


def start(layout: Layout, data: Data, keys: jax.Array, factor: np.ndarray) -> Model:
    """Model to start EM from: k-means means, the same covariance everywhere, uniform rows.

    Args:
        layout: The fits.
        data: The training runs.
        keys: One key a fit, see `restart_keys`.
        factor: float [D, D], Cholesky factor of the starting covariance (`starting_factor`).
    """
    means = _all_centroids(layout, data, keys)[layout.fit, layout.slot]
    factors = jnp.broadcast_to(jnp.asarray(factor, means.dtype), (len(means), *factor.shape))
    initial = jnp.asarray(layout.active / layout.active.sum(1, keepdims=True), means.dtype)
    transition = jnp.broadcast_to(initial[:, None], (*initial.shape, initial.shape[1]))
    return Model(initial, transition, means, factors)


def starting_factor(observations: np.ndarray, covariance: str) -> np.ndarray:
    """Cholesky factor [D, D] of the covariance of all observations [n, D], plus 1e-3 I."""
    scatter = np.cov(observations.T, bias=True).reshape(2 * [observations.shape[1]])
    if covariance == "diagonal":
        scatter = np.diag(np.diag(scatter))
    if covariance == "spherical":
        scatter = np.eye(len(scatter)) * np.diag(scatter).mean()
    return np.linalg.cholesky(scatter + _COVARIANCE_FLOOR * np.eye(len(scatter)))


@partial(jax.jit, static_argnums=0)
def _all_centroids(layout: Layout, data: Data, keys: jax.Array) -> jax.Array:
    """Centroids [F, Kmax, D] of every fit, one fit after the other, each to its own convergence."""
    points = data.values.reshape(-1, data.values.shape[-1])
    weights = data.mask.reshape(-1).astype(points.dtype)
    with jax.default_matmul_precision("highest"):
        return jax.lax.map(
            lambda key_and_active: _kmeans(*key_and_active, points, weights),
            (keys, jnp.asarray(layout.active)),
        )


def _kmeans(key, active, points, weights) -> jax.Array:
    """Lloyd's algorithm from k-means++ seeds; Dynamax's kmeans has neither masks nor weights.

    Args:
        key: Key of the seeding.
        active: bool [Kmax], which centroids there are.
        points: float [n, D].
        weights: float [n], 0 on padding.

    Returns:
        Centroids [Kmax, D]; those that are not active mean nothing.
    """

    def assign(centroids):
        distances = (centroids**2).sum(1)[:, None] - 2 * centroids @ points.T
        return jnp.argmin(jnp.where(active[:, None], distances, jnp.inf), 0)

    def unfinished(carry):
        iteration, moved, _ = carry
        return moved & (iteration < _LLOYD_ITERATIONS)

    def move(carry):
        iteration, _, centroids = carry
        member = weights * (assign(centroids) == jnp.arange(len(active))[:, None])
        count = member.sum(1, keepdims=True)
        new = jnp.where(count > 0, member @ points / jnp.maximum(count, 1), centroids)
        return iteration + 1, jnp.any(new != centroids), new

    seeds = _seed(key, len(active), points, weights)
    return jax.lax.while_loop(unfinished, move, (0, True, seeds))[2]


def _seed(key, num_seeds, points, weights) -> jax.Array:
    """k-means++ (Arthur and Vassilvitskii, 2007): draw a point by its squared distance."""

    def draw(i, mass):
        # By inverse distribution function: one number a draw, so that padding changes no draw.
        cumulative = jnp.cumsum(mass)
        target = jax.random.uniform(jax.random.fold_in(key, i)) * cumulative[-1]
        return points[jnp.searchsorted(cumulative, target, side="right")]

    def step(closest, i):
        seed = draw(i, closest)
        distance = ((points - seed) ** 2).sum(1)
        return jnp.minimum(closest, weights * distance), seed

    first = draw(0, weights)
    closest = weights * ((points - first) ** 2).sum(1)
    _, others = jax.lax.scan(step, closest, jnp.arange(1, num_seeds))
    return jnp.concatenate([first[None], others])
