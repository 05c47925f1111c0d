"""Measures of a run beyond its weights alone, and the choice of what to record by name.

A measure is a function from parts of a replica's state, matched by argument name, to a dict of
scalars: `params` (now), `initial` (at initialisation), `batch` (of the next step), `grads` (of the
mean loss on it), `updates` (what the optimiser will add), `loss` (params -> mean loss on that
batch) and `key` (a random key, the same for all replicas and records). One's own measure is a
function like any here:

    def weight_ratio(params, initial):
        return {"weight_ratio": length(params) / length(initial)}

    choose(["weights", "sharpness", weight_ratio])
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from seedmap.errors import UserError
from seedmap.metric_names import PAPER_METRICS
from seedmap.trainer.metrics.lanczos import HIGHEST, dense, tridiagonal
from seedmap.trainer.metrics.spectrum import Method
from seedmap.trainer.metrics.weights import (
    RANKS,
    Rule,
    flax_rule,
    rank_measures,
    weight_metrics,
    weight_values,
)

Measure = Callable[..., dict[str, Float[Array, ""]]]


def length(tree: Any) -> Float[Array, ""]:
    """Euclidean length of all leaves of a tree together."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def gradient_norm(grads: Any) -> dict[str, Float[Array, ""]]:
    """gradient_norm = ||g||_2 over all parameters, g the gradient of the mean loss on a batch."""
    return {"gradient_norm": length(grads)}


def update_norm(updates: Any) -> dict[str, Float[Array, ""]]:
    """update_norm = ||u||_2 over all parameters, u what the optimiser adds to them in a step."""
    return {"update_norm": length(updates)}


def distance_from_init(params: Any, initial: Any) -> dict[str, Float[Array, ""]]:
    """How far all parameters t have come from their initial values t_0.

    distance_from_init = ||t - t_0||_2 and relative_distance_from_init = ||t - t_0||_2 / ||t_0||_2
    (biases, embeddings and normalisations included; infinite or NaN where all start at zero).
    """
    distance = length(jax.tree.map(jnp.subtract, params, initial))
    return {
        "distance_from_init": distance,
        "relative_distance_from_init": distance / length(initial),
    }


def _top_eigenpair(matrix: Float[Array, "n n"]) -> tuple[Float[Array, ""], Float[Array, " n"]]:
    """Algebraically largest eigenvalue of a small symmetric matrix, and its unit vector.

    Shifted to be positive semidefinite (Gershgorin), then squared 20 times: power iteration of a
    million steps. No LAPACK call, which could not run beside those of other measures on the CPU.
    """
    radius = jnp.max(jnp.sum(jnp.abs(matrix), axis=-1))
    shifted = matrix + radius * jnp.eye(matrix.shape[-1], dtype=matrix.dtype)

    def square(_, power):
        power = power / jnp.maximum(jnp.max(jnp.abs(power)), jnp.finfo(power.dtype).tiny)
        return jnp.matmul(power, power, precision=HIGHEST)

    power = jax.lax.fori_loop(0, 20, square, shifted)
    lengths = jnp.linalg.norm(power, axis=0)
    column = jnp.argmax(lengths)
    unit = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)[0]  # of a zero matrix any vector is one
    vector = jnp.where(lengths[column] > 0, power[:, column] / lengths[column], unit)
    return jnp.vdot(
        vector, jnp.matmul(matrix, vector, precision=HIGHEST), precision=HIGHEST
    ), vector


def sharpness(
    params: Any, loss: Callable[[Any], Float[Array, ""]], key: Key[Array, ""], steps: int = 20
) -> dict[str, Float[Array, ""]]:
    """Sharpness: the largest eigenvalue of the Hessian H of the loss, algebraically.

    Lanczos from a random vector, `steps` products H v (forward over reverse differentiation, each
    about two gradients), no reorthogonalisation: memory of four parameter vectors. The largest
    eigenvalue is found though a negative one be larger in magnitude, which misleads plain power
    iteration. sharpness_residual = ||H x - sharpness x||, for the unit vector x found (in exact
    arithmetic): an eigenvalue of H lies within it of the sharpness given.

    Args:
        params: parameter tree of one network, floating leaves.
        loss: params -> scalar, twice differentiable almost everywhere.
        key: random key of the first vector.
        steps: products with the Hessian; where it has fewer parameters, that many.

    Returns:
        sharpness and sharpness_residual, scalars.

    Raises:
        UserError: fewer than 2 steps.

    Source: Cohen et al. 2021 (arXiv 2103.00065), section 2 and appendix; Paige 1980 for Lanczos
    in rounding; the residual is Golub and Van Loan, theorem 10.1.2.
    """
    if steps < 2:
        raise UserError(f"sharpness: steps is {steps}; it must be at least 2")
    flat, restore = ravel_pytree(params)
    gradient = jax.grad(lambda vector: loss(restore(vector)))

    def multiply(vectors):
        return jax.jvp(gradient, (flat,), (vectors[0],))[1][None]

    start = jax.random.normal(key, flat.shape, flat.dtype)
    start = (start / jnp.linalg.norm(start))[None]
    steps = min(steps, flat.size)
    diagonals, links = tridiagonal(multiply, start, steps, reorthogonalise=False)
    top, vector = _top_eigenpair(dense(diagonals[0], links[0, :-1]))
    return {"sharpness": top, "sharpness_residual": links[0, -1] * jnp.abs(vector[-1])}


MEASURES: dict[str, Measure] = {
    "weights": weight_metrics,
    "rank_measures": rank_measures,
    "gradient_norm": gradient_norm,
    "update_norm": update_norm,
    "distance_from_init": distance_from_init,
    "sharpness": sharpness,
}
"""Groups of measures by name. `choose` also takes single names of PAPER_METRICS and RANKS."""

_OF_WEIGHTS = {
    **{name: ((name,), ()) for name in (*PAPER_METRICS, *RANKS)},
    **{f"{name}/layers": ((name,), (name,)) for name in (*PAPER_METRICS, *RANKS)},
    "weights": (PAPER_METRICS, ()),
    "weights/layers": (PAPER_METRICS, PAPER_METRICS),
    "rank_measures": (RANKS, RANKS),
}


def choose(
    names: Sequence[str | Measure], rule: Rule = flax_rule, spectrum: Method = "exact"
) -> tuple[Measure, ...]:
    """The functions that record what is named.

    Args:
        names: keys of MEASURES, single names of PAPER_METRICS ("l2") and RANKS, any of these with
            "/layers" to have every layer's value as well ("l2/layers", "weights/layers"), and
            functions of one's own, which are passed on.
        rule: says which parameter leaf counts as what.
        spectrum: how singular values are found: "exact", "gram", "lanczos" or a
            `trainer.metrics.spectrum.Lanczos`.

    Returns:
        One function for all that is read of the weights (so that every matrix is decomposed
        once, and no two decompositions run side by side), then the others in their order.

    Raises:
        UserError: an unknown name, or a bare string instead of a list.

    Example:
        >>> [measure.__name__ for measure in choose(["l2", "spectral/layers", "gradient_norm"])]
        ['chosen_weight_values', 'gradient_norm']
    """
    if isinstance(names, str):
        raise UserError(f"metrics is {names!r}; give a list of names, as [{names!r}]")
    means: list[str] = []
    layers: list[str] = []
    functions: list[Measure] = []
    for name in names:
        if callable(name):
            functions.append(name)
        elif name in _OF_WEIGHTS:
            means += _OF_WEIGHTS[name][0]
            layers += _OF_WEIGHTS[name][1]
        elif name in MEASURES:
            functions.append(MEASURES[name])
        else:
            known = [*MEASURES, *PAPER_METRICS, *RANKS]
            raise UserError(
                f"record: {name!r} is not known; known are {', '.join(known)}, "
                "those of the weights also with /layers"
            )

    def chosen_weight_values(params: Any) -> dict[str, Float[Array, ""]]:
        return weight_values(params, means, layers, rule, spectrum)

    of_weights = (chosen_weight_values,) if means else ()
    return of_weights + tuple(dict.fromkeys(functions))
