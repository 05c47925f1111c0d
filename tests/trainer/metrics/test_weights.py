"""The 14 metrics against an independent float64 computation in NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from seedmap.trainer import PAPER_METRICS, Role, flax_rule, weight_metrics
from seedmap.trainer.metrics.median import _count, median
from seedmap.trainer.metrics.weights import sort_weights


def reference(matrices, biases):
    """Straight from the paper's formulas, in float64, one matrix at a time."""
    matrices = [np.asarray(m, np.float64) for m in matrices]
    l1 = [np.abs(m).sum() for m in matrices]
    l2 = [np.sqrt((m**2).sum()) for m in matrices]
    trace = [sum(m[i, i] for i in range(min(m.shape))) for m in matrices]
    lambdas = [np.linalg.svd(m, compute_uv=False) for m in matrices]
    w = np.concatenate([m.ravel() for m in matrices])
    b = np.concatenate([np.asarray(v, np.float64).ravel() for v in biases])
    return {
        "l1": np.mean(l1),
        "l2": np.mean(l2),
        "code_sparsity": np.mean(np.divide(l1, l2)),
        "mean_w": w.mean(),
        "median_w": np.median(w),
        "var_w": w.var(),
        "mean_b": b.mean(),
        "median_b": np.median(b),
        "var_b": b.var(),
        "trace": np.mean(trace),
        "spectral": np.mean([s[0] for s in lambdas]),
        "computational_sparsity": np.mean([t / s[0] for t, s in zip(trace, lambdas, strict=True)]),
        "mean_lambda": np.mean([s.mean() for s in lambdas]),
        "var_lambda": np.mean([s.var() for s in lambdas]),
    }


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Operation by operation JAX compiles a program for each.
by_layer = jax.jit(partial(weight_metrics, per_layer=True))
medians = jax.jit(jax.vmap(median))


def mlp_params():
    """Non-square matrices, one of them a single column, and an even number of weights."""
    return {
        "Dense_0": {"kernel": normal(0, 40, 17), "bias": normal(1, 17)},
        "Dense_1": {"kernel": normal(2, 17, 6), "bias": normal(3, 6)},
        "Dense_2": {"kernel": normal(4, 6, 1), "bias": normal(5, 1)},
    }


def test_a_convolution_counts_slice_by_slice_in_the_norms_and_has_no_spectrum():
    kernel, head, bias = normal(6, 3, 2, 4, 5), normal(7, 20, 6), normal(8, 6)
    params = {
        "Conv_0": {"kernel": kernel, "bias": normal(9, 5)},
        "Dense_0": {"kernel": head, "bias": bias},
    }
    slices = [kernel[:, :, i, o] for i in range(4) for o in range(5)]
    of_slices, of_head = reference(slices, [bias]), reference([head], [bias])
    everything = reference([kernel.reshape(6, 20), head], [bias, params["Conv_0"]["bias"]])
    ours = jax.jit(weight_metrics)(params)
    for name in PAPER_METRICS:
        if name in ("l1", "l2", "code_sparsity"):
            expected = (of_slices[name] + of_head[name]) / 2
        elif name[-2:] in ("_w", "_b"):
            expected = everything[name]
        else:
            expected = of_head[name]
        np.testing.assert_allclose(ours[name], expected, rtol=1e-5, atol=1e-7, err_msg=name)
    per_layer = by_layer(params)
    np.testing.assert_allclose(
        per_layer["l2.Conv_0.kernel"], np.mean([np.linalg.norm(part) for part in slices]), rtol=1e-6
    )


def test_convolutions_of_several_layers_in_one_leaf_count_one_by_one():
    kernels, head = normal(6, 3, 3, 2, 4, 5), normal(7, 20, 6)

    def rule(path, leaf):
        return Role("kernels", layers=True) if leaf.ndim == 5 else flax_rule(path, leaf)

    together = {"Conv": {"kernel": kernels}, "Dense_0": {"kernel": head}}
    apart = {f"Conv_{i}": {"kernel": kernel} for i, kernel in enumerate(kernels)}
    found = jax.jit(partial(weight_metrics, rule=rule, per_layer=True))(together)
    expected = by_layer(apart | {"Dense_0": {"kernel": head}})
    for name, value in expected.items():
        metric, layer = name.split(".")[0], name.split(".")[1:]
        ours = f"{metric}.Conv.kernel.{layer[0][-1]}" if layer and "Conv" in name else name
        np.testing.assert_allclose(found[ours], value, rtol=1e-5, atol=1e-7, err_msg=name)
    assert len(found) == len(expected)


def check(params, matrices, biases, rule=flax_rule):
    ours = jax.jit(lambda p: weight_metrics(p, rule))(params)
    expected = reference(matrices, biases)
    assert set(ours) == set(PAPER_METRICS)
    for name in PAPER_METRICS:
        np.testing.assert_allclose(ours[name], expected[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_mlp_agrees_with_numpy():
    params = mlp_params()
    layers = params.values()
    check(params, [p["kernel"] for p in layers], [p["bias"] for p in layers])


def test_rank_deficient_matrix_agrees_with_numpy():
    params = {"Dense_0": {"kernel": normal(0, 30, 2) @ normal(1, 2, 20), "bias": normal(2, 20)}}
    check(params, [params["Dense_0"]["kernel"]], [params["Dense_0"]["bias"]])


def attention_params():
    heads = {"kernel": normal(1, 12, 3, 4), "bias": normal(2, 3, 4)}
    return {
        "Embed_0": {"embedding": normal(0, 9, 12)},
        "attention": {
            "query": heads,
            "key": jax.tree.map(lambda a: a * 2, heads),
            "value": jax.tree.map(lambda a: a - 1, heads),
            "out": {"kernel": normal(3, 3, 4, 12), "bias": normal(4, 12)},
        },
        "LayerNorm_0": {"scale": normal(5, 12), "bias": 100 + normal(6, 12)},
    }


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_measured_in_float32(dtype):
    rng = np.random.default_rng(1)
    half = {"Dense_0": {"kernel": rng.normal(size=(6, 5)), "bias": rng.normal(size=5)}}
    half = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), half)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half)
    found = jax.jit(weight_metrics)(half)
    for name, value in jax.jit(weight_metrics)(single).items():
        assert found[name].dtype == jnp.float32
        np.testing.assert_array_equal(found[name], value)


def test_each_attention_head_is_a_matrix_and_embeddings_and_norms_are_left_out():
    params = attention_params()
    attention = params["attention"]
    matrices = [
        np.asarray(attention[name]["kernel"])[:, head]
        for name in ("query", "key", "value")
        for head in range(3)
    ]
    matrices.append(np.asarray(attention["out"]["kernel"]).reshape(12, 12))
    check(params, matrices, [part["bias"] for part in attention.values()])


def test_a_rule_of_ones_own():
    params = {"a": normal(0, 5, 7), "b": normal(1, 3), "head": normal(2, 2, 5, 7)}
    roles = {"a": Role("matrix"), "b": Role("bias"), "head": Role("matrix", head_axis=0)}
    matrices = [params["a"], *np.asarray(params["head"])]
    check(params, matrices, [params["b"]], lambda path, leaf: roles[path[0]])


def test_a_network_without_biases_has_no_metrics_of_them():
    kernel = normal(0, 5, 7)
    ours = jax.jit(weight_metrics)({"Dense_0": {"kernel": kernel}})
    assert set(PAPER_METRICS) - set(ours) == {"mean_b", "median_b", "var_b"}
    expected = reference([kernel], [np.zeros(1)])
    for name in ours:
        np.testing.assert_allclose(ours[name], expected[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_no_matrix_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="no weight matrix"):
        sort_weights({"Dense_0": {"bias": jnp.ones(2)}})


FLOATS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, st.sampled_from([1, 2, 5, 8]), elements=FLOATS))
def test_median_is_numpys(values):
    ours = np.asarray(medians(values[None]))[0]
    low, high = np.sort(values)[[(values.size - 1) // 2, values.size // 2]]
    if low == high:
        assert ours == low
    else:  # XLA flushes a half below the smallest normal float to zero
        tiny = 2 * np.finfo(np.float32).tiny
        np.testing.assert_allclose(ours, np.median(values.astype(float)), rtol=1e-6, atol=tiny)


@pytest.mark.parametrize("value", [np.finfo(np.float32).tiny, 3e38, -0.0])
def test_median_of_equal_values_is_that_value(value):
    for size in (3, 4):
        assert medians(np.full((1, size), value, np.float32)) == np.float32(value)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("size", [1, 2, 1001, 1002])
def test_median_is_that_of_jax_to_the_bit(dtype, size):
    values = normal(size, 3, size).astype(dtype)
    values[0, ::2] = 0.0  # ties, as zero biases give
    theirs = jax.jit(partial(jnp.median, axis=-1))(values)
    np.testing.assert_array_equal(medians(values), theirs)


def test_more_flags_than_floats_count_exactly_are_counted():
    for size in (2**24, 2**24 + 1):
        assert _count(jnp.ones(size, bool)) == size


def test_median_with_a_nan_is_nan():
    assert np.isnan(medians(np.float32([[1.0, np.nan, 2.0]])))


def test_values_of_every_layer_agree_with_numpy():
    """Each matrix by itself, the mean over heads where there are several, each bias by itself."""
    params = {"params": attention_params()}
    ours = by_layer(params)
    expected, attention = {}, params["params"]["attention"]
    for name, part in attention.items():
        kernel = np.asarray(part["kernel"])
        heads = [kernel[:, h] for h in range(3)] if name != "out" else [kernel.reshape(12, 12)]
        for metric, value in reference(heads, [part["bias"]]).items():
            leaf = "bias" if metric.endswith("_b") else "kernel"
            expected[f"{metric}.attention.{name}.{leaf}"] = value
    assert set(ours) == {*PAPER_METRICS, *expected}
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, rtol=2e-5, atol=2e-6, err_msg=name)
    whole = jax.jit(weight_metrics)(params)
    for name in PAPER_METRICS:
        np.testing.assert_allclose(ours[name], whole[name], rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("spectrum", ["gram", "lanczos"])
def test_cheaper_ways_change_what_reads_singular_values_alone(spectrum):
    params = {"Dense_0": {"kernel": normal(0, 150, 310), "bias": normal(1, 310)}}
    exact = jax.jit(weight_metrics)(params)
    ours = jax.jit(lambda p: weight_metrics(p, spectrum=spectrum))(params)
    of_spectrum = {"spectral", "computational_sparsity", "mean_lambda", "var_lambda"}
    for name in PAPER_METRICS:
        if name not in of_spectrum:
            np.testing.assert_allclose(ours[name], exact[name], rtol=1e-6, err_msg=name)
            continue
        tolerances = {"mean_lambda": 0.015, "var_lambda": 0.2}  # 2 mean^2 / variance = 14 times
        rtol = tolerances.get(name, 1e-3) if spectrum == "lanczos" else 1e-5
        np.testing.assert_allclose(ours[name], exact[name], rtol=rtol, err_msg=name)
