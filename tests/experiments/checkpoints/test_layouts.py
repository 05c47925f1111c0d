"""What the tensors of known models count as, against attention computed head by head in torch."""

import json
import math
import re
import tracemalloc
import weakref
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from helpers import checkpoint_models as models
from seedmap.experiments.checkpoints import rules as rules_module
from seedmap.experiments.checkpoints.formats import Checkpoint, open_checkpoint
from seedmap.experiments.checkpoints.layouts import LAYOUTS, detect, find_layout
from seedmap.experiments.checkpoints.rules import Leaf, Rule, assign, number_of_heads, read_rules
from seedmap.experiments.checkpoints.streaming import measure_checkpoint
from seedmap.experiments.recording.parameters import as_checkpoint
from seedmap.trainer import PAPER_METRICS, Role, weight_metrics

HEADS, WIDTH, LAYERS = models.HEADS, models.WIDTH, models.LAYERS
EACH = WIDTH // HEADS


def in_memory(tensors, settings=None):
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    return Checkpoint(
        Path("memory"), shapes, lambda name: arrays[name].astype(np.float32), settings or {}
    )


def found(tensors, layout=None, heads=HEADS):
    """The matrices, kernels and biases that a layout finds, by name."""
    checkpoint = in_memory(tensors)
    layout = LAYOUTS[layout] if layout else detect(checkpoint.shapes, checkpoint.path)
    matrices, kernels, biases = {}, {}, {}
    for leaf in assign(checkpoint, layout, heads):
        array = checkpoint.read(leaf.name)
        if leaf.rule.role == "matrix":
            matrices[leaf.name] = leaf.matrices(array)
        elif leaf.rule.role == "kernels":
            kernels[leaf.name] = leaf.slices(array)
        else:
            biases[leaf.name] = array
    return layout, matrices, kernels, biases


def state(model, folder):
    """Names and tensors as `save_pretrained` writes them."""
    model.save_pretrained(folder)
    with open_checkpoint(folder) as checkpoint:
        floating = [name for name in checkpoint.shapes if not name.endswith("batches_tracked")]
        return {name: checkpoint.read(name) for name in floating}


def measured(tensors, layout=None, heads=HEADS):
    checkpoint = in_memory(tensors)
    layout = LAYOUTS[layout] if layout else detect(checkpoint.shapes, checkpoint.path)
    return measure_checkpoint(checkpoint, assign(checkpoint, layout, heads)).values


@jax.jit
def in_graph(tree):
    return weight_metrics(
        tree, rule=lambda path, _: Role(path[0], 0 if path[0] == "matrix" else None)
    )


def oracle(tensors, layout=None, heads=HEADS):
    """The in-graph metrics in float64, over the same matrices with an own leaf for each."""
    _, matrices, kernels, biases = found(tensors, layout, heads)
    with jax.enable_x64(True):
        tree = {
            "matrix": {n: jnp.asarray(array, float) for n, array in matrices.items()},
            "kernels": {n: jnp.asarray(a.T[:, None, None, :], float) for n, a in kernels.items()},
            "bias": {n: jnp.asarray(array, float) for n, array in biases.items()},
        }
        values = in_graph({kind: leaves for kind, leaves in tree.items() if leaves})
        return {name: float(value) for name, value in values.items()}


def agree(tensors, layout=None, heads=HEADS):
    values, expected = measured(tensors, layout, heads), oracle(tensors, layout, heads)
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, rel=1e-5, abs=1e-12), name


def test_bert_matrices_are_those_of_the_attention_and_dense_layers(tmp_path):
    model = models.train(models.bert(0), 2)
    tensors = state(model, tmp_path / "a")
    layout, matrices, kernels, biases = found(tensors)
    assert layout.name == "bert"
    assert not kernels
    # per layer: q, k, v per head, the attention's output, two of the MLP; pooler, transform, NSP
    assert sum(len(array) for array in matrices.values()) == LAYERS * (3 * HEADS + 3) + 3
    assert len(biases) == LAYERS * 6 + 3
    assert not any(re.search("embed|LayerNorm|decoder|predictions.bias", n) for n in matrices)
    layer = model.bert.encoder.layer[1].attention.self
    x = torch.randn(5, WIDTH)
    for name in ("query", "key", "value"):
        heads = matrices[f"bert.encoder.layer.1.attention.self.{name}.weight"]
        assert heads.shape == (HEADS, EACH, WIDTH)
        module = getattr(layer, name)
        per_head = (module(x) - module.bias).view(5, HEADS, EACH).detach().numpy()
        np.testing.assert_allclose(x.numpy() @ heads[2].T, per_head[:, 2], atol=1e-5)
    agree(tensors)


def test_neox_fused_matrix_is_divided_as_the_attention_divides_it(tmp_path):
    """The queries that the real attention computes, caught where it uses them."""
    model = models.train(models.gpt_neox(0), 2)
    tensors = state(model, tmp_path / "a")
    layout, matrices, _, biases = found(tensors)
    assert layout.name == "gpt-neox"
    assert sum(len(array) for array in matrices.values()) == LAYERS * (3 * HEADS + 3)
    assert len(biases) == LAYERS * 4
    attention = model.gpt_neox.layers[0].attention
    caught = {}
    from transformers.models.gpt_neox import modeling_gpt_neox as code

    def catch(module, query, key, value, *_, **__):
        caught.update(query=query, key=key, value=value)
        return value.transpose(1, 2), None

    x = torch.randn(1, 3, WIDTH)
    plain = code.apply_rotary_pos_emb
    try:
        code.apply_rotary_pos_emb = lambda q, k, *_: (q, k)
        code.ALL_ATTENTION_FUNCTIONS._global_mapping["caught"] = catch
        attention.config._attn_implementation = "caught"
        with torch.no_grad():
            attention.query_key_value.bias.zero_()
            attention(x, attention_mask=None, position_embeddings=(None, None))
    finally:
        code.apply_rotary_pos_emb = plain
        del code.ALL_ATTENTION_FUNCTIONS._global_mapping["caught"]
    heads = matrices["gpt_neox.layers.0.attention.query_key_value.weight"]
    parts = heads.reshape(HEADS, 3, EACH, WIDTH)
    for i, name in enumerate(("query", "key", "value")):
        for head in range(HEADS):
            ours = x[0].numpy() @ parts[head, i].T
            np.testing.assert_allclose(ours, caught[name][0, head].numpy(), atol=1e-5)
    agree(tensors)


def test_order_of_the_heads_does_not_matter_but_their_division_does(tmp_path):
    tensors = state(models.train(models.gpt_neox(1), 2), tmp_path / "a")
    name = "gpt_neox.layers.0.attention.query_key_value.weight"
    fused = tensors[name].reshape(HEADS, 3, EACH, WIDTH)
    permuted = tensors | {name: fused[[2, 0, 3, 1]].reshape(-1, WIDTH)}
    other = tensors | {name: tensors[name][np.random.default_rng(0).permutation(3 * WIDTH)]}
    values = measured(tensors)
    assert measured(permuted) == pytest.approx(values, rel=1e-9)
    assert measured(other)["spectral"] != pytest.approx(values["spectral"], rel=1e-4)


def test_fused_and_unfused_weights_give_the_same(tmp_path):
    """NeoX's fused matrix taken apart into BERT's three gives the same metrics."""
    tensors = state(models.train(models.gpt_neox(2), 2), tmp_path / "a")
    apart = {}
    for name, tensor in tensors.items():
        if "query_key_value" not in name:
            if found(tensors)[1].keys() | found(tensors)[3].keys() & {name}:
                apart[name] = tensor
            continue
        split = tensor.reshape((HEADS, 3, EACH, *tensor.shape[1:]))
        for i, part in enumerate(("query", "key", "value")):
            rest = tensor.shape[1:]
            apart[name.replace("query_key_value", part)] = split[:, i].reshape(-1, *rest)
    written = rules_module.Layout(
        "apart",
        "",
        (
            Rule(r"norm|embed", "ignore"),
            Rule(r"(query|key|value)\.weight", "matrix", ("heads", "width")),
            Rule(r"weight", "matrix"),
            Rule(r"bias", "bias"),
        ),
    )
    checkpoint = in_memory(apart)
    values = measure_checkpoint(checkpoint, assign(checkpoint, written, HEADS)).values
    assert values == pytest.approx(measured(tensors), rel=1e-9)


def test_vit_of_transformers_timm_and_torchvision(tmp_path):
    tensors = state(models.train(models.vit(0), 2), tmp_path / "a")
    layout, matrices, kernels, _ = found(tensors)
    assert layout.name == "vit"
    expected = LAYERS * (3 * HEADS + 3) + 1
    assert sum(len(array) for array in matrices.values()) == expected
    assert not kernels  # patches to embeddings
    agree(tensors)
    # Names in memory differ from those in files.
    in_use = {name: tensor.numpy() for name, tensor in models.vit(0).state_dict().items()}
    saved = state(models.vit(0), tmp_path / "b")
    assert measured(in_use) == pytest.approx(measured(saved), rel=1e-12)
    timm, torchvision = models.timm_vit(), models.torchvision_vit()
    assert found(timm)[0].name == "vit-timm"
    assert found(torchvision)[0].name == "vit-torchvision"
    assert sum(len(array) for array in found(timm)[1].values()) == expected
    agree(timm)
    assert measured(torchvision) == pytest.approx(measured(timm), rel=1e-12)


def test_torch_divides_in_proj_as_the_rule_does():
    """torch.nn.MultiheadAttention with all but one head's values zero gives that head alone."""
    attention = torch.nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=True)
    weight = attention.in_proj_weight.detach().numpy()
    rule = next(r for r in LAYOUTS["vit-torchvision"].rules if "in_proj_weight" in r.name)
    parts = Leaf("w", rule, (3, HEADS, EACH)).matrices(weight).reshape(3, HEADS, EACH, WIDTH)
    x = torch.randn(1, 5, WIDTH)
    one = x[0].numpy()
    outputs = []
    for q, k, v in zip(*parts, strict=True):
        scores = (one @ q.T) @ (one @ k.T).T / math.sqrt(EACH)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        outputs.append(shares / shares.sum(-1, keepdims=True) @ (one @ v.T))
    ours = np.concatenate(outputs, axis=-1) @ attention.out_proj.weight.detach().numpy().T
    np.testing.assert_allclose(ours, attention(x, x, x)[0][0].detach().numpy(), atol=1e-5)


def test_resnets_count_their_kernels_slice_by_slice(tmp_path):
    tensors = state(models.train(models.resnet(0), 2), tmp_path / "a")
    layout, matrices, kernels, biases = found(tensors)
    assert layout.name == "resnet-hf"
    assert (len(matrices), len(biases)) == (1, 1)
    first = tensors["resnet.embedder.embedder.convolution.weight"]
    slices = kernels["resnet.embedder.embedder.convolution.weight"]
    np.testing.assert_array_equal(slices[3 * 1 + 2], first[1, 2].ravel())
    agree(tensors)
    state_dict = models.torchvision_resnet()
    layout, matrices, kernels, _ = found(state_dict)
    assert layout.name == "resnet"
    assert (len(matrices), len(kernels)) == (1, 9)  # the shortcut is left out
    agree(state_dict)


class FlaxNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3))(x)
        x = nn.BatchNorm(use_running_average=True)(x)
        x = nn.Embed(3, 8)(jnp.zeros(x.shape[:1], int))[:, None] + nn.Dense(8)(
            x.reshape(len(x), -1, 4)
        )
        x = nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))
        return nn.Dense(2)(x)


def test_flax_layout_is_the_rule_of_the_trainer():
    params = jax.jit(FlaxNet().init)(jax.random.key(0), np.ones((2, 4, 4, 3)))["params"]
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + np.float32(0.01) * np.arange(leaf.size).reshape(leaf.shape),
        params,
    )
    leaves = jax.tree_util.tree_leaves_with_path(params)
    tensors = {".".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        expected = {name: float(value) for name, value in jax.jit(weight_metrics)(wide).items()}
    values = measured(tensors, heads=None)
    assert find_layout(None, None, in_memory(tensors)).name == "flax"
    assert values.keys() == expected.keys() == set(PAPER_METRICS)
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, rel=1e-5), name


def test_gpt2_is_divided_as_the_attention_divides_it(tmp_path):
    model = models.train(models.gpt2(0), 2)
    tensors = state(model, tmp_path / "a")
    layout, matrices, _, biases = found(tensors)
    assert layout.name == "gpt2"
    assert sum(len(array) for array in matrices.values()) == LAYERS * (3 * HEADS + 3)
    assert len(biases) == LAYERS * 4
    attention = model.transformer.h[1].attn
    x = torch.randn(5, WIDTH)
    joined = (attention.c_attn(x) - attention.c_attn.bias).split(WIDTH, dim=-1)
    heads = matrices["transformer.h.1.attn.c_attn.weight"]
    for i, projected in enumerate(joined):
        per_head = projected.view(5, HEADS, EACH).detach().numpy()
        for head in range(HEADS):
            expected = x.numpy() @ heads[i * HEADS + head].T
            np.testing.assert_allclose(expected, per_head[:, head], atol=1e-5)
    agree(tensors)
    with open_checkpoint(tmp_path / "a") as checkpoint:
        assert number_of_heads(checkpoint, None) == HEADS


def test_nanogpt_has_gpt2s_names_the_other_way_round(tmp_path):
    tensors = state(models.gpt2(0), tmp_path / "a")
    turned = {name: array.T if array.ndim == 2 else array for name, array in tensors.items()}
    layout, matrices, _, _ = found(turned)
    assert layout.name == "nanogpt"
    for name, array in found(tensors)[1].items():
        other = matrices[name] if "c_attn" in name else matrices[name].transpose(0, 2, 1)
        np.testing.assert_array_equal(other, array)


@pytest.mark.parametrize("kind", models.DECODERS)
def test_keys_and_values_that_heads_share_are_divided_by_their_own_number(kind, tmp_path):
    model = models.decoder(kind, 0)
    tensors = state(model, tmp_path / "a")
    shared = models.KV_HEADS
    with open_checkpoint(tmp_path / "a") as checkpoint:
        layout = find_layout(None, None, checkpoint)
        leaves = assign(checkpoint, layout, number_of_heads(checkpoint, None))
        sizes = {leaf.name: len(leaf.matrices(checkpoint.read(leaf.name))) for leaf in leaves
                 if leaf.rule.role == "matrix"}  # fmt: skip
    assert layout.name == "llama"
    assert sum(sizes.values()) == LAYERS * (HEADS + 2 * shared + 4)
    x, attention = torch.randn(5, WIDTH), model.model.layers[1].self_attn
    _, matrices, _, biases = found(tensors)  # without config.json, by the shapes
    assert {name: len(of) for name, of in matrices.items()} == sizes
    assert len(biases) == (3 * LAYERS if kind == "qwen2" else 0)
    for name, number in (("q_proj", HEADS), ("k_proj", shared), ("v_proj", shared)):
        module = getattr(attention, name)
        heads = matrices[f"model.layers.1.self_attn.{name}.weight"]
        bias = 0 if module.bias is None else module.bias
        per_head = (module(x) - bias).view(5, number, EACH).detach().numpy()
        for head in range(number):
            np.testing.assert_allclose(x.numpy() @ heads[head].T, per_head[:, head], atol=1e-5)
    agree(tensors)


def test_a_tied_tensor_counts_once(tmp_path):
    linear = torch.nn.Linear(3, 3)
    tied = {"a.weight": linear.weight.data, "a.bias": linear.bias.data}
    tied |= {"b.weight": linear.weight.data, "b.bias": torch.zeros(3)}
    torch.save(tied, tmp_path / "a.pt")
    with open_checkpoint(tmp_path / "a.pt") as checkpoint:
        assert checkpoint.tied == {"b.weight": "a.weight"}
        layout = find_layout(None, None, checkpoint)
        names = [leaf.name for leaf in assign(checkpoint, layout, None)]
        assert names == ["a.weight", "a.bias", "b.bias"]
        ignoring = rules_module.Layout("x", "", (Rule("^a", "ignore"), Rule("w", "matrix"),
                                                 Rule("b", "bias")))  # fmt: skip
        assert [leaf.name for leaf in assign(checkpoint, ignoring, None)] == ["b.weight", "b.bias"]
    held = as_checkpoint(tied, Path("here"))
    assert held.tied == {"b.weight": "a.weight"}
    array = np.eye(2)
    assert as_checkpoint({"x": array, "y": array, "z": array.copy()}, Path("here")).tied == {
        "y": "x"
    }


def test_a_tied_head_that_the_index_names_and_no_shard_holds(tmp_path):
    model = models.gpt2(0)
    tensors = state(model, tmp_path / "a")
    model.save_pretrained(tmp_path / "b", max_shard_size="8KB")
    (index,) = (tmp_path / "b").glob("*.index.json")
    listed = json.loads(index.read_text())
    assert "lm_head.weight" not in listed["weight_map"]
    listed["weight_map"]["lm_head.weight"] = listed["weight_map"]["transformer.wte.weight"]
    index.write_text(json.dumps(listed))
    with open_checkpoint(tmp_path / "b") as checkpoint:
        assert list(checkpoint.absent) == ["lm_head.weight"]
        layout = find_layout(None, None, checkpoint)
        values = measure_checkpoint(checkpoint, assign(checkpoint, layout, HEADS)).values
    assert values == measured(tensors)


def test_a_tensor_that_only_the_index_has_is_refused_where_it_counts():
    shapes = {"fc.weight": (2, 2), "fc.bias": (2,)}
    rules = (Rule("head", "ignore"), Rule("weight", "matrix"), Rule("bias", "bias"))
    layout = rules_module.Layout("any", "", rules)
    for name, counts in (("head.weight", False), ("more.weight", True), ("scale", True)):
        checkpoint = Checkpoint(Path("a"), shapes, dict, {}, absent={name: "no such tensor"})
        if not counts:
            assert len(assign(checkpoint, layout, None)) == 2
            continue
        with pytest.raises(ValueError, match="no such tensor"):
            assign(checkpoint, layout, None)


PLAIN = {
    "a batch's normalisation": (
        torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(),
                            torch.nn.Linear(8, 3)),
        {"0.weight": "kernels", "0.bias": "bias", "3.weight": "matrix", "3.bias": "bias"},
    ),
    "an encoder": (
        torch.nn.ModuleDict({"tok_emb": torch.nn.Embedding(5, 4),
                             "block": torch.nn.TransformerEncoderLayer(4, 2, 6)}),
        {"block.self_attn.in_proj_weight": "matrix", "block.self_attn.in_proj_bias": "bias",
         "block.self_attn.out_proj.weight": "matrix", "block.self_attn.out_proj.bias": "bias",
         "block.linear1.weight": "matrix", "block.linear1.bias": "bias",
         "block.linear2.weight": "matrix", "block.linear2.bias": "bias"},
    ),
    "a layer without bias by its name": (
        torch.nn.ModuleDict({"fc": torch.nn.Linear(4, 3, bias=False)}), {"fc.weight": "matrix"},
    ),
    "what may be an embedding": (torch.nn.Sequential(torch.nn.Embedding(5, 4)), None),
    "a recurrent layer": (torch.nn.LSTM(3, 4), None),
}  # fmt: skip


@pytest.mark.parametrize("what", PLAIN)
def test_plain_layers_are_told_by_their_tensors_together(what):
    model, expected = PLAIN[what]
    checkpoint = as_checkpoint(model.state_dict(), Path("here"))
    if expected is None:
        with pytest.raises(ValueError, match="no known layout"):
            find_layout(None, None, checkpoint)
        with pytest.raises(ValueError, match="tensors of other than plain layers"):
            find_layout("plain", None, checkpoint)
        return
    layout = find_layout(None, None, checkpoint)
    leaves = assign(checkpoint, layout, 2)
    assert {leaf.name: leaf.rule.role for leaf in leaves} == expected
    assert find_layout("plain", None, checkpoint) == layout
    attention = [leaf for leaf in leaves if "in_proj_weight" in leaf.name]
    assert all(leaf.parts == (3, 2, 2) for leaf in attention)


def test_names_that_older_files_have():
    """Buffers of old Pythia files, gamma and beta, a prefix by DataParallel."""
    neox = {
        "gpt_neox.embed_in.weight": np.ones((9, 4)),
        "gpt_neox.layers.0.attention.query_key_value.weight": np.ones((12, 4)),
        "gpt_neox.layers.0.attention.query_key_value.bias": np.ones(12),
        "gpt_neox.layers.0.attention.bias": np.ones((1, 1, 8, 8)),
        "gpt_neox.layers.0.attention.masked_bias": np.ones(()),
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": np.ones(2),
        "embed_out.weight": np.ones((9, 4)),
    }
    _, matrices, _, biases = found(neox, heads=2)
    assert len(matrices) == len(biases) == 1
    bert = {f"module.{name}": np.ones((4, 4)) for name in (
        "bert.encoder.layer.0.attention.self.query.weight",
        "bert.encoder.layer.0.output.dense.weight",
    )} | {
        "module.bert.embeddings.position_ids": np.arange(3),
        "module.bert.encoder.layer.0.output.LayerNorm.gamma": np.ones(4),
    }  # fmt: skip
    _, matrices, _, _ = found(bert, heads=2)
    assert len(matrices) == 2


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-4, 4, width=32) | st.sampled_from([0.0, -0.0, 1e-42, 1.0]),
    )
)
def test_mean_median_and_variance_are_those_of_all_entries(array):
    layout = rules_module.Layout("any", "", (Rule("w", "matrix"), Rule("b", "bias")))
    half = len(array) // 2
    tensors = {"w1": array[: half or 1], "b": array[0]} | ({"w2": array[half:]} if half else {})
    checkpoint = in_memory(tensors)
    values = measure_checkpoint(checkpoint, assign(checkpoint, layout, None)).values
    exact = array.astype(np.float64)
    assert values["median_w"] == np.median(exact)
    assert values["median_b"] == np.median(exact[0])
    assert values["mean_w"] == pytest.approx(exact.mean(), rel=1e-12, abs=1e-15)
    assert values["var_w"] == pytest.approx(exact.var(), rel=1e-9, abs=1e-18)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_finite_metrics(bad):
    tensors = {"fc.weight": np.full((3, 2), bad), "layer1.0.conv1.weight": np.ones((1, 1, 3, 3))}
    values = measured(tensors, "resnet")
    assert not np.isfinite([values["l1"], values["mean_w"], values["spectral"]]).any()


def test_one_tensor_is_alive_at_a_time_and_memory_is_that_of_the_largest():
    size, count = 500, 30
    names = [f"w{i}" for i in range(count)]
    alive, most = weakref.WeakSet(), []

    class Watched(np.ndarray):
        """Weak references need a subclass."""

    def read(name):
        most.append(len(alive))
        array = np.random.default_rng(int(name[1:])).normal(size=(size, size))
        array = array.astype(np.float32).view(Watched)
        alive.add(array)
        return array

    Watched.__hash__ = object.__hash__
    Watched.__eq__ = object.__eq__
    checkpoint = Checkpoint(Path("a"), dict.fromkeys(names, (size, size)), read, {})
    layout = rules_module.Layout("any", "", (Rule("w", "matrix"),))
    leaves = assign(checkpoint, layout, None)
    tracemalloc.start()
    try:
        measure_checkpoint(checkpoint, leaves)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(most) == 2 * count  # each is read twice
    assert max(most) == 0
    largest = 4 * size * size
    # The float64 original of the test's own reader is twice as large, the Gram matrix too.
    assert peak < 7 * largest + 8e6 < count * largest


def test_unexpected_names_come_with_the_nearest_rules():
    tensors = models.timm_vit() | {"blocks.0.attn.qqq.weight": np.ones((4, 4)), "extra": np.ones(2)}
    with pytest.raises(ValueError, match="2 of 36 tensors are covered by no rule") as caught:
        found(tensors)
    message = str(caught.value)
    assert "'blocks.0.attn.qqq.weight' [4, 4] (nearest: " in message
    assert r"attn\\.qkv\\.weight" in message.split("extra")[0]
    assert "ignore" in message
    assert "\n" not in message


def test_a_layout_is_recognised_or_asked_for():
    with pytest.raises(ValueError, match=r"names of no known layout .*'a', 'b'.*--layout"):
        detect({"a": (2, 2), "b": (2,)}, Path("x"))
    both = in_memory(models.timm_vit() | models.torchvision_vit()).shapes
    with pytest.raises(ValueError, match="vit-timm and of vit-torchvision"):
        detect(both, Path("x"))
    checkpoint = in_memory(models.timm_vit())
    assert find_layout(None, None, checkpoint).name == "vit-timm"
    assert find_layout("bert", None, checkpoint).name == "bert"
    with pytest.raises(ValueError, match="--layout 'gpt' is unknown; known are bert"):
        find_layout("gpt", None, checkpoint)
    with pytest.raises(ValueError, match="exclude each other"):
        find_layout("bert", Path("a"), checkpoint)


def test_heads_must_be_known_and_divide():
    tensors = models.timm_vit()
    with pytest.raises(ValueError, match="give --heads"):
        found(tensors, heads=None)
    with pytest.raises(ValueError, match="axis 0 of length 48 cannot be divided by 3 x 5"):
        found(tensors, heads=5)
    for parts in (("heads", 3), ("heads", "width"), ("heads", "heads")):
        layout = rules_module.Layout("any", "", (Rule("w", "matrix", parts),))
        with pytest.raises(ValueError, match="give --heads"):
            assign(in_memory({"w": np.zeros((6, 2))}), layout, None)
    told = in_memory(tensors, {"num_attention_heads": 4})
    assert number_of_heads(told, None) == number_of_heads(told, 4) == 4
    with pytest.raises(ValueError, match=r"--heads is 2, but config.json of .* says 4"):
        number_of_heads(told, 2)
    with pytest.raises(ValueError, match="must be at least 1"):
        number_of_heads(told, 0)


def example():
    """The rule file at the top of the module that reads it."""
    lines = rules_module.__doc__.splitlines()
    return "\n".join(line[4:] for line in lines if line.startswith("    ") or not line)


def test_the_documented_rule_file_does_what_it_says(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(example())
    layout = read_rules(path)
    shapes = {
        "a.norm.weight": (4,),
        "a.attn.q_proj.weight": (6, 5),
        "a.attn.qkv.weight": (18, 5),
        "attention.query.kernel": (5, 2, 3),
        "conv1.weight": (4, 3, 2, 2),
        "Conv_0.kernel": (2, 2, 3, 4),
        "a.mlp.weight": (7, 5),
        "a.mlp.bias": (7,),
    }
    checkpoint = in_memory({name: models.numbers(*shape).numpy() for name, shape in shapes.items()})
    counts = {}
    for leaf in assign(checkpoint, layout, 2):
        array = checkpoint.read(leaf.name)
        if leaf.rule.role == "matrix":
            counts[leaf.name] = leaf.matrices(array).shape
        elif leaf.rule.role == "kernels":
            counts[leaf.name] = leaf.slices(array).shape
    assert counts == {
        "a.attn.q_proj.weight": (2, 3, 5),
        "a.attn.qkv.weight": (6, 3, 5),
        "attention.query.kernel": (2, 5, 3),
        "conv1.weight": (12, 4),
        "Conv_0.kernel": (12, 4),
        "a.mlp.weight": (1, 7, 5),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rule = 3", "holds 'rule'"),
        ("[[rule]", "cannot be read as TOML"),
        ("[[rule]]\nname = 'a'", "rule 1 has name; expected name and role"),
        ("[[rule]]\nname = 'a'\nrole = 'matrix'\nhead = 1", "rule 1 has name, role, head"),
        ("[[rule]]\nname = '('\nrole = 'matrix'", "no regular expression"),
        ("[[rule]]\nname = 'a'\nrole = 'weight'", "role is 'weight'; it must be one of matrix"),
        ("[[rule]]\nname = 'a'\nrole = 'kernels'\nspatial = 'mid'", "spatial is 'mid'"),
        ("[[rule]]\nname = 'a'\nrole = 'matrix'\naxis = -1", "axis is -1"),
        ("[[rule]]\nname = 'a'\nrole = 'matrix'\nparts = ['head']", r"parts is \['head'\]"),
        ("[[rule]]\nname = 'a'\nrole = 'bias'\nparts = ['heads']", "parts is"),
    ],
)
def test_a_rule_file_that_is_not_understood_is_refused(tmp_path, text, words):
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        read_rules(tmp_path / "rules.toml")
    assert "rules.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        (Rule("w", "matrix"), (3,)),
        (Rule("w", "kernels"), (3, 3)),
        (Rule("w", "bias"), ()),
        (Rule("w", "matrix", ("heads",), axis=2), (3, 3)),
        (Rule("w", "matrix"), (0, 3)),
    ],
)
def test_a_tensor_of_another_shape_than_its_rule_expects_is_refused(rule, shape):
    checkpoint = in_memory({"w": np.zeros(shape)})
    with pytest.raises(ValueError, match=f"'w' .* cannot be {rule.role} by rule 'w'"):
        assign(checkpoint, rules_module.Layout("any", "", (rule,)), None)
