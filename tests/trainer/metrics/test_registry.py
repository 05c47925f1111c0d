"""Measures beyond the weights, and the choice by name, against NumPy in float64."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seedmap.trainer.metrics.registry import (
    MEASURES,
    choose,
    distance_from_init,
    gradient_norm,
    sharpness,
    update_norm,
)
from seedmap.trainer.metrics.weights import PAPER_METRICS, rank_measures, weight_metrics


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def tree(seed, scale=1.0):
    return {
        "params": {
            "Dense_0": {"kernel": scale * normal(seed, 4, 3), "bias": scale * normal(seed + 1, 3)},
            "Dense_1": {"kernel": scale * normal(seed + 2, 3, 2), "bias": jnp.ones(2)},
        }
    }


def flat(params):
    return np.concatenate(
        [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(params)]
    )


def network_loss(params):
    """A smooth network on fixed examples, so that its Hessian can be written out."""
    x, y = normal(10, 20, 4), normal(11, 20, 2)
    first, second = params["params"]["Dense_0"], params["params"]["Dense_1"]
    hidden = jnp.tanh(x @ first["kernel"] + first["bias"])
    return jnp.mean(jnp.square(hidden @ second["kernel"] + second["bias"] - y))


def test_norms_of_gradient_and_update():
    """The update of SGD with decay, by hand: -0.1 (g + 0.01 w)."""
    params = tree(0)
    grads = jax.grad(network_loss)(params)
    optimizer = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.1))
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    expected = np.linalg.norm(flat(grads))
    np.testing.assert_allclose(gradient_norm(grads)["gradient_norm"], expected, rtol=1e-6)
    expected = 0.1 * np.linalg.norm(flat(grads) + 0.01 * flat(params))
    np.testing.assert_allclose(update_norm(updates)["update_norm"], expected, rtol=1e-6)


def test_distance_from_initialisation():
    params, initial = tree(0), tree(5, 0.5)
    ours = distance_from_init(params, initial)
    distance = np.linalg.norm(flat(params) - flat(initial))
    np.testing.assert_allclose(ours["distance_from_init"], distance, rtol=1e-6)
    np.testing.assert_allclose(
        ours["relative_distance_from_init"], distance / np.linalg.norm(flat(initial)), rtol=1e-6
    )
    assert distance_from_init(initial, initial)["distance_from_init"] == 0


def hessian_eigenvalues(loss, params):
    vector, restore = jax.flatten_util.ravel_pytree(params)
    matrix = np.asarray(jax.hessian(lambda v: loss(restore(v)))(vector), np.float64)
    return np.linalg.eigvalsh((matrix + matrix.T) / 2)


def stack(*trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def test_sharpness_is_the_top_eigenvalue_of_the_full_hessian_for_many_replicas_at_once():
    replicas, keys = [tree(0), tree(3), tree(6)], jax.random.split(jax.random.key(0), 3)
    together = jax.jit(jax.vmap(lambda params, key: sharpness(params, network_loss, key)))
    ours = together(stack(*replicas), keys)
    expected = [hessian_eigenvalues(network_loss, params)[-1] for params in replicas]
    np.testing.assert_allclose(ours["sharpness"], expected, rtol=1e-4)
    assert (ours["sharpness_residual"] < 0.02 * np.array(expected)).all()
    alone = jax.jit(lambda params, key: sharpness(params, network_loss, key))
    for seed, params in enumerate(replicas):
        value = alone(params, keys[seed])["sharpness"]
        np.testing.assert_allclose(ours["sharpness"][seed], value, rtol=1e-4)


def hessian_of(eigenvalues):
    """A symmetric matrix with these eigenvalues, in a random basis."""
    size = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))[0]
    return np.asarray((basis * eigenvalues) @ basis.T, np.float32)


@partial(jax.jit, static_argnames="steps")
@partial(jax.vmap, in_axes=(None, 0, None))
def sharpness_of_quadratic(hessian, key, steps):
    """Of the loss x H x / 2 over a tree of two leaves."""

    def loss(params):
        vector = jnp.concatenate([params["a"], params["b"].ravel()])
        return vector @ hessian @ vector / 2

    params = {"a": jnp.ones(len(hessian) - 6), "b": jnp.zeros((2, 3))}
    return sharpness(params, loss, key, steps=steps)


QUADRATICS = {
    "positive": np.linspace(0, 5, 40),
    "dominant negative": np.r_[-100.0, np.linspace(-1, 2, 39)],
    "all negative": np.linspace(-9, -3, 40),
    "minus and plus the same": np.r_[-4.0, 4.0, np.zeros(38)],
    "one value": np.full(40, -2.0),
    "two values": np.r_[np.full(20, -7.0), np.full(20, 1.5)],
    "zero": np.zeros(40),
    "small, of 10": np.linspace(-3, 1, 10),
}


@pytest.mark.parametrize("name", QUADRATICS)
def test_sharpness_of_a_known_spectrum(name):
    """The largest algebraically, whatever is larger in magnitude; within the residual given."""
    eigenvalues = QUADRATICS[name]
    scale = np.abs(eigenvalues).max()
    keys = jax.random.split(jax.random.key(0), 3)
    ours = sharpness_of_quadratic(hessian_of(eigenvalues), keys, 20)
    assert (np.abs(ours["sharpness"] - eigenvalues.max()) <= 0.01 * scale).all()
    gaps = np.abs(ours["sharpness"][:, None] - eigenvalues).min(axis=1)
    assert (gaps <= ours["sharpness_residual"] + 1e-5 * scale).all()


def test_residual_is_that_of_the_vector_found():
    """Few steps, by hand in NumPy: Rayleigh-Ritz over the Krylov space, then ||H x - t x||."""
    hessian = hessian_of(np.linspace(-3, 5, 40))
    key = jax.random.key(4)
    krylov = [np.asarray(jax.random.normal(key, (40,)), np.float64)]
    for _ in range(4):
        krylov.append(hessian @ krylov[-1])
    basis = np.linalg.qr(np.stack(krylov, axis=1))[0]
    values, vectors = np.linalg.eigh(basis.T @ hessian @ basis)
    top, vector = values[-1], basis @ vectors[:, -1]
    ours = sharpness_of_quadratic(hessian, key[None], 5)
    np.testing.assert_allclose(ours["sharpness"], [top], rtol=1e-5)
    residual = np.linalg.norm(hessian @ vector - top * vector)
    np.testing.assert_allclose(ours["sharpness_residual"], [residual], rtol=1e-4)


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="steps is 1"):
        sharpness(tree(0), network_loss, jax.random.key(0), steps=1)


def test_ranks_of_known_spectra():
    """Identity: n and n. Values 2, 1, 1: 6 / 4 and 2^1.5 (entropy of 1/2, 1/4, 1/4)."""
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    known = jnp.asarray(rotation @ np.diag([2.0, 1.0, 1.0]), jnp.float32)
    ours = jax.jit(rank_measures)(
        {"Dense_0": {"kernel": jnp.eye(5)}, "Dense_1": {"kernel": known, "bias": jnp.ones(3)}}
    )
    expected = {
        "stable_rank.Dense_0.kernel": 5.0,
        "effective_rank.Dense_0.kernel": 5.0,
        "stable_rank.Dense_1.kernel": 1.5,
        "effective_rank.Dense_1.kernel": 2**1.5,
        "stable_rank": 3.25,
        "effective_rank": (5 + 2**1.5) / 2,
    }
    assert set(ours) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, err_msg=name)


def values_of(names, params):
    (function,) = choose(names)
    return jax.jit(function)(params)


def test_a_choice_holds_what_it_names():
    params = tree(0)
    everything = jax.jit(partial(weight_metrics, per_layer=True))(params)
    everything |= jax.jit(rank_measures)(params)

    def check(names, expected):
        ours = values_of(names, params)
        assert set(ours) == set(expected)
        for name in ours:
            np.testing.assert_allclose(ours[name], everything[name], rtol=1e-5, err_msg=name)

    ranks = [name for name in everything if "_rank" in name]
    check(["weights"], PAPER_METRICS)
    check(["weights/layers"], set(everything) - set(ranks))
    check(["rank_measures"], ranks)
    layers = ("mean_b.Dense_0.bias", "mean_b.Dense_1.bias")
    check(["l2", "mean_b/layers", "stable_rank"], ("l2", "mean_b", "stable_rank", *layers))


def test_what_reads_the_weights_is_one_function_and_others_keep_their_order():
    def own(params):
        return {"own": params["params"]["Dense_0"]["bias"][0]}

    functions = choose(["sharpness", "l2", own, "rank_measures", "gradient_norm", "weights"])
    others = [inspect.unwrap(function) for function in functions[1:]]  # of the checks of shapes
    assert others == [inspect.unwrap(sharpness), own, inspect.unwrap(gradient_norm)]
    recorded = jax.eval_shape(functions[0], tree(0))
    assert set(recorded) == {*PAPER_METRICS, *jax.eval_shape(rank_measures, tree(0))}
    assert choose([]) == ()
    assert len(choose(list(MEASURES))) == 5


def decompositions(names, spectrum="exact"):
    """LAPACK calls in the compiled program of a choice."""
    (function,) = choose(names, spectrum=spectrum)
    program = jax.jit(jax.vmap(function)).lower(jax.tree.map(lambda p: p[None], tree(0)))
    return program.compile().as_text().count('custom_call_target="lapack')


def test_only_what_is_chosen_is_computed_and_every_matrix_once():
    assert decompositions(["l1", "l2", "median_w", "var_b/layers"]) == 0
    assert decompositions(["spectral"]) == 2
    assert decompositions(["weights/layers", "rank_measures"]) == 2


def test_the_way_to_singular_values_is_passed_on():
    params = {"Dense_0": {"kernel": normal(0, 140, 150), "bias": jnp.ones(150)}}
    exact, estimate = (
        jax.jit(*choose(["mean_lambda"], spectrum=spectrum))(params)["mean_lambda"]
        for spectrum in ("exact", "lanczos")
    )
    assert exact != estimate
    np.testing.assert_allclose(estimate, exact, rtol=0.03)
    with pytest.raises(ValueError, match="spectrum is 'svd'"):
        choose(["l2"], spectrum="svd")[0](params)


@pytest.mark.parametrize("name", ["l3", "l2/Dense_0", "sharpness/layers", "", "l2/layers/layers"])
def test_unknown_names_are_named_in_one_line(name):
    with pytest.raises(ValueError, match=f"'{name}' is not known.*weights.*sharpness.*l1") as error:
        choose(["weights", name])
    assert "\n" not in str(error.value)


def test_a_bare_name_is_refused():
    with pytest.raises(ValueError, match=r"give a list of names, as \['weights'\]"):
        choose("weights")
