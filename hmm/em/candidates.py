"""Candidates for the start of EM: means from k-means or random segments, and one covariance."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.hmm.em.emissions import covariance_family
from seedmap.hmm.em.model import Data, Layout, Model

_LLOYD_ITERATIONS = 20
_SEEDINGS = 10  # of the k-means of restart 0
_COVARIANCE_FLOOR = 1e-3  # hmmlearn's min_covar; keeps the start positive definite


def restart_keys(key: jax.Array, fits: list[tuple[int, int]]) -> jax.Array:
    """One key for each fit (num_states, restart), whatever other fits the sweep has."""
    states, restarts = np.array(fits, np.int32).T
    return _restart_keys(key, states, restarts)


@jax.jit
def _restart_keys(key, states, restarts):
    return jax.vmap(lambda k, r: jax.random.fold_in(jax.random.fold_in(key, k), r))(
        states, restarts
    )


@partial(jax.jit, static_argnums=0)
def start(
    layout: Layout,
    data: Data,
    run_weights: jax.Array,
    keys: jax.Array,
    restarts: jax.Array,
    factor: jax.Array,
    candidate=0,
) -> Model:
    """Models to start EM from; `hmm.em.start` chooses among candidates.

    Restart 0 starts from the best k-means of 10 seedings and uniform transitions, whatever the
    candidate. Of the others, every fourth candidate starts from one k-means and random transitions,
    which suits models whose states recur within a run; the rest from random responsibilities, which
    find better optima where runs move through their states in time, as training runs do: every run
    is cut at random times into K segments, a state for each, with uniform transitions. A missing
    value counts as the mean here; EM knows better.

    Args:
        layout: The fits.
        data: The training runs, or some of their checkpoints.
        run_weights: float [F, run], 0 for a run that a fit may not see, else 1.
        keys: One key a fit, see `restart_keys`.
        restarts: int [F], number of the restart.
        factor: float [D, D], Cholesky factor of the starting covariance (`starting_factor`).
        candidate: int [], number of the candidate; every one draws by a key of its own.
    """
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, candidate)
    restarts = jnp.asarray(restarts)
    by_time = (restarts > 0) & (candidate % 4 != 0)
    seedings = jnp.where(restarts == 0, _SEEDINGS, 1)
    centroids = _all_centroids(layout, data, run_weights, keys, by_time, seedings)
    means = centroids[layout.fit, layout.slot]
    factors = jnp.broadcast_to(jnp.asarray(factor, means.dtype), (len(means), *factor.shape))
    rows = _all_rows(layout, keys, by_time | (restarts == 0))
    return Model(rows[:, 0], rows[:, 1:], means, factors)


def starting_factor(observations: np.ndarray, covariance: str) -> np.ndarray:
    """Returns the Cholesky factor [D, D] of the data's covariance, in its family, plus 1e-3 I.

    Args:
        observations: float [n, D].
        covariance: name of the family.
    """
    scatter = np.cov(observations.T, bias=True).reshape(2 * [observations.shape[1]])
    scatter = covariance_family(covariance).restrict(scatter)
    return np.linalg.cholesky(scatter + _COVARIANCE_FLOOR * np.eye(len(scatter)))


def _all_rows(layout: Layout, keys: jax.Array, uniform: jax.Array) -> jax.Array:
    """Initial probabilities and transition rows [F, 1 + Kmax, Kmax]: uniform, or drawn so."""
    num_states = layout.active.shape[1]

    def rows_of_fit(key, active, uniform):
        columns = _fold(jax.random.fold_in(key, 1), num_states)
        # a loop: side by side, XLA inlines the draws in one another and compiles for seconds
        pairs = jax.lax.map(lambda column: _numbers(column, num_states + 1), columns).T
        weights = jnp.where(uniform, 1.0, -jnp.log(pairs)) * active  # Dirichlet(1, ..., 1)
        return weights / weights.sum(-1, keepdims=True)

    return jax.vmap(rows_of_fit)(keys, jnp.asarray(layout.active), uniform)


def _numbers(key: jax.Array, count: int) -> jax.Array:
    """Uniform numbers in (0, 1), [count]; the first ones do not depend on `count`."""
    return jax.vmap(_uniform)(_fold(key, count))


def _fold(key: jax.Array, count: int) -> jax.Array:
    """fold_in(key, i) for every i below `count`."""
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(count))


def _uniform(key: jax.Array) -> jax.Array:
    """One number in (0, 1), drawn in float32 so that it is the same one in float64."""
    return jax.random.uniform(key, dtype=jnp.float32, minval=1e-6).astype(float)


def _all_centroids(layout: Layout, data: Data, run_weights, keys, by_time, seedings) -> jax.Array:
    """Means [F, Kmax, D] of every fit, one fit after the other, each to its own convergence."""
    points = data.values.reshape(-1, data.values.shape[-1])

    def centroids_of_fit(inputs):
        key, active, by_time, seedings, run_weights = inputs
        weights = data.mask * run_weights
        return jax.lax.cond(
            by_time,
            lambda: _segment_means(key, active, data.values, weights),
            lambda: _best_kmeans(key, active, points, weights.reshape(-1), seedings),
        )

    with jax.default_matmul_precision("highest"):
        inputs = (keys, jnp.asarray(layout.active), by_time, seedings, run_weights)
        return jax.lax.map(centroids_of_fit, inputs)


def _segment_means(key, active, values, weights) -> jax.Array:
    """Means [Kmax, D] of the segments of runs cut at random, at other times in every run."""
    length = (weights > 0).sum(0)
    cuts = jax.vmap(_numbers, (0, None))(_fold(key, len(active) - 1), len(length))
    cuts = jnp.concatenate([jnp.zeros_like(length, float)[None], cuts])
    passed = jnp.arange(len(weights))[:, None, None] >= (cuts * length).T  # [time, run, cut]
    segment = (passed & active).sum(-1) - 1
    member = (segment == jnp.arange(len(active))[:, None, None]) * weights
    count = member.sum((1, 2))[:, None]
    return jnp.einsum("ktr,trd->kd", member, values) / jnp.maximum(count, 1)


def _best_kmeans(key, active, points, weights, seedings) -> jax.Array:
    """Centroids [Kmax, D] with the least sum of squared distances of several runs of k-means."""

    def again(i, best):
        centroids, inertia = _kmeans(jax.random.fold_in(key, i), active, points, weights)
        better = inertia < best[1]
        return jnp.where(better, centroids, best[0]), jnp.where(better, inertia, best[1])

    nothing = jnp.zeros((len(active), points.shape[1]), points.dtype)
    return jax.lax.fori_loop(0, seedings, again, (nothing, jnp.inf))[0]


def _kmeans(key, active, points, weights) -> tuple[jax.Array, jax.Array]:
    """Lloyd's algorithm from k-means++ seeds; Dynamax's kmeans has neither masks nor weights.

    Args:
        key: Key of the seeding.
        active: bool [Kmax], which centroids there are.
        points: float [n, D].
        weights: float [n], 0 on padding.

    Returns:
        Centroids [Kmax, D], of which those that are not active mean nothing, and the sum of squared
        distances to them less that to the origin.
    """

    def distances(centroids):
        squares = (centroids**2).sum(1)[:, None] - 2 * centroids @ points.T
        return jnp.where(active[:, None], squares, jnp.inf)

    def unfinished(carry):
        iteration, moved, _ = carry
        return moved & (iteration < _LLOYD_ITERATIONS)

    def move(carry):
        iteration, _, centroids = carry
        member = weights * (jnp.argmin(distances(centroids), 0) == jnp.arange(len(active))[:, None])
        count = member.sum(1, keepdims=True)
        new = jnp.where(count > 0, member @ points / jnp.maximum(count, 1), centroids)
        return iteration + 1, jnp.any(new != centroids), new

    seeds = _seed(key, len(active), points, weights)
    centroids = jax.lax.while_loop(unfinished, move, (0, True, seeds))[2]
    return centroids, weights @ distances(centroids).min(0)


def _seed(key, num_seeds, points, weights) -> jax.Array:
    """k-means++ (Arthur and Vassilvitskii, 2007): draw a point by its squared distance."""

    def draw(i, mass):
        # By inverse distribution function: one number a draw, so that padding changes no draw.
        cumulative = jnp.cumsum(mass)
        target = _uniform(jax.random.fold_in(key, i)) * cumulative[-1]
        return points[jnp.searchsorted(cumulative, target, side="right")]

    def step(closest, i):
        seed = draw(i, closest)
        distance = ((points - seed) ** 2).sum(1)
        return jnp.minimum(closest, weights * distance), seed

    first = draw(0, weights)
    closest = weights * ((points - first) ** 2).sum(1)
    _, others = jax.lax.scan(step, closest, jnp.arange(1, num_seeds))
    return jnp.concatenate([first[None], others])
