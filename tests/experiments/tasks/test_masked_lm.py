"""The masked language model: BERT of another library, its masks counted, its presets tried."""

import json
import math
from dataclasses import replace
from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import xarray as xr
from transformers import BertConfig, BertForMaskedLM, get_linear_schedule_with_warmup

from helpers.command import seedmap
from seedmap.experiments.datasets.text import (
    CLS,
    MASK,
    SEP,
    SPECIAL,
    TokenRows,
    load_rows,
    unigram_entropy,
)
from seedmap.experiments.networks.bert import (
    block,
    init_params,
    logits_at,
    make_dropout,
    through_blocks,
)
from seedmap.experiments.runs.settings import schedule
from seedmap.experiments.tasks.masked_lm import (
    PAPER,
    QUICK,
    SMALL,
    Masked,
    make_optimizer,
    make_task,
    mask,
    mlm_rule,
    num_chosen,
    score,
    setup,
    shape_of,
)
from seedmap.trainer import Noise, make_streams, weight_metrics
from seedmap.trainer.metrics.weights import sort_weights
from seedmap.trainer.order import batch_rows

TINY = replace(QUICK, layers=2, width=12, heads=3, mlp_hidden=20, length=9, vocabulary=31)
KEEP_ALL = make_dropout(None, 0.0)


def random_params(config, seed=0):
    """Weights with no zeros, ones or equal scales, so that none can be left out unseen."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(
        lambda key: init_params(shape_of(config, config.vocabulary), key), jax.random.key(0)
    )
    return jax.tree.map(lambda leaf: rng.normal(0, 0.4, leaf.shape).astype(np.float32), shapes)


def random_rows(config, count, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(len(SPECIAL), config.vocabulary, (count, config.length))
    tokens[:, 0], tokens[:, -1] = CLS, SEP
    return tokens.astype(np.uint16)


def bert(config):
    """The same architecture of the library transformers."""
    return BertForMaskedLM(
        BertConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.mlp_hidden,
            max_position_embeddings=config.length,
            attn_implementation="eager",
        )
    ).eval()


def of_layer(net, i):
    return jax.tree.map(lambda leaf: leaf[i], net["layers"])


def as_torch(params):
    """Our parameters under the names of transformers."""
    net = params["params"]
    width = net["head"]["dense"]["kernel"].shape[0]
    found = {}

    def add(name, leaf):
        if "kernel" in leaf:
            outputs = leaf["bias"].size
            found[f"{name}.weight"] = leaf["kernel"].reshape(-1, outputs).T
        elif "scale" in leaf:
            found[f"{name}.weight"] = leaf["scale"]
        found[f"{name}.bias"] = leaf["bias"].ravel()

    embeddings, head = net["embeddings"], net["head"]
    for ours, theirs in (("token", "word"), ("position", "position"), ("segment", "token_type")):
        name = f"bert.embeddings.{theirs}_embeddings.weight"
        found[name] = embeddings[ours]["embedding"]
    add("bert.embeddings.LayerNorm", embeddings["LayerNorm"])
    for i in range(len(net["layers"]["LayerNorm_0"]["scale"])):
        layer, name = of_layer(net, i), f"bert.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            add(f"{name}.attention.self.{part}", layer["attention"][part])
        add(f"{name}.attention.output.dense", layer["attention"]["out"])
        add(f"{name}.attention.output.LayerNorm", layer["LayerNorm_0"])
        add(f"{name}.intermediate.dense", layer["mlp"]["hidden"])
        add(f"{name}.output.dense", layer["mlp"]["out"])
        add(f"{name}.output.LayerNorm", layer["LayerNorm_1"])
    add("cls.predictions.transform.dense", head["dense"])
    add("cls.predictions.transform.LayerNorm", head["LayerNorm"])
    found["cls.predictions.bias"] = head["decoder"]["bias"]
    found["cls.predictions.decoder.bias"] = head["decoder"]["bias"]
    found["cls.predictions.decoder.weight"] = embeddings["token"]["embedding"]
    assert found["cls.predictions.transform.dense.weight"].shape == (width, width)
    return {name: torch.from_numpy(np.array(leaf)) for name, leaf in found.items()}


def test_logits_and_scores_are_those_of_bert_in_transformers():
    params, tokens = random_params(TINY), random_rows(TINY, 6)
    positions = np.random.default_rng(1).permuted(np.tile(np.arange(9), (6, 1)), axis=1)[:, :4]
    model = bert(TINY)
    model.load_state_dict(as_torch(params), strict=True)
    labels = torch.full(tokens.shape, -100).numpy()
    chosen = np.take_along_axis(random_rows(TINY, 6, seed=2), positions, axis=1).astype(int)
    np.put_along_axis(labels, positions, chosen, axis=1)
    with torch.no_grad():
        out = model(input_ids=torch.tensor(tokens.astype(int)), labels=torch.tensor(labels))
    expected = np.take_along_axis(out.logits.numpy(), positions[..., None], axis=1)
    assert expected.std() > 0.5
    found = jax.jit(partial(logits_at, drop=KEEP_ALL))(params, tokens.astype(np.int32), positions)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    score_all = jax.jit(partial(score, drop=KEEP_ALL))
    loss, correct = score_all(params, Masked(tokens, positions, chosen))
    np.testing.assert_allclose(np.mean(loss), out.loss.item(), rtol=1e-5)
    right = expected.argmax(axis=-1) == chosen
    assert right.any()
    np.testing.assert_allclose(correct, right.mean(axis=1))


def test_bert_base_has_as_many_parameters_as_that_of_transformers():
    params = jax.eval_shape(
        lambda key: init_params(shape_of(PAPER, PAPER.vocabulary), key), jax.random.key(0)
    )
    with torch.device("meta"):
        expected = sum(parameter.numel() for parameter in bert(PAPER).parameters())
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected == 109_514_298


def test_initial_weights_are_normal_and_norms_do_nothing():
    net = init_params(shape_of(replace(QUICK, width=128, layers=2), 200), jax.random.key(0))[
        "params"
    ]
    flat = jnp.concatenate(
        [net["embeddings"]["token"]["embedding"].ravel(), net["head"]["dense"]["kernel"].ravel()]
    )
    np.testing.assert_allclose(flat.std(), 0.02, rtol=0.02)
    np.testing.assert_allclose(flat.mean(), 0, atol=5e-4)
    assert (net["head"]["LayerNorm"]["scale"] == 1).all()
    assert (net["layers"]["attention"]["query"]["bias"] == 0).all()
    of_layers = np.asarray(net["layers"]["mlp"]["hidden"]["kernel"][:, 0, 0])
    assert len(set(of_layers.tolist())) == len(of_layers) > 1  # each has its own


def test_metrics_see_every_head_and_neither_embeddings_nor_norms():
    weights = sort_weights(random_params(TINY), mlm_rule)
    shapes = sorted(matrix.shape for matrices in weights.matrices.values() for matrix in matrices)
    per_layer = 9 * [(12, 4)] + [(12, 12), (12, 20), (20, 12)]
    assert shapes == sorted(2 * per_layer + [(12, 12)])
    biases = sorted(bias.shape for bias in weights.biases.values())
    assert biases == sorted([*5 * [(24,)], (40,), (12,)])


def test_metrics_are_those_of_layers_in_leaves_of_their_own():
    """In the whole network and layer by layer."""
    params = random_params(TINY)
    net = {"params": {f"layer_{i}": of_layer(params["params"], i) for i in range(TINY.layers)}}
    net["params"]["head"] = {"dense": params["params"]["head"]["dense"]}
    found = jax.jit(partial(weight_metrics, rule=mlm_rule, per_layer=True))(params)
    expected = jax.jit(partial(weight_metrics, per_layer=True))(net)

    def ours(name):
        metric, layer, *path = name.split(".")
        if not layer.startswith("layer_"):
            return name
        return ".".join([metric, "layers", *path, layer.removeprefix("layer_")])

    of_layers = {name for name in expected if ".layer_" in name}
    assert len(of_layers) > 100
    assert {name if "." not in name else ours(name) for name in expected} == set(found)
    for name, value in expected.items():
        key = name if "." not in name else ours(name)
        np.testing.assert_allclose(found[key], value, rtol=2e-5, atol=2e-6, err_msg=name)


def test_masks_hide_as_many_tokens_of_each_row_as_bert_would():
    """Counts lie within five standard deviations of the binomial distribution."""
    config = replace(QUICK, length=64, vocabulary=1000)
    tokens = random_rows(config, 4000)
    masked = jax.jit(lambda key: mask(key, tokens, 10, 1000))(jax.random.key(0))
    assert num_chosen(config) == 10
    assert num_chosen(PAPER) == 77  # 0.15 * 512 = 76.8
    seen, positions, labels = (np.asarray(leaf) for leaf in masked)
    assert positions.shape == (4000, 10)
    assert (np.sort(positions)[:, 1:] > np.sort(positions)[:, :-1]).all()
    assert positions.min() == 1
    assert positions.max() == 62
    np.testing.assert_array_equal(labels, np.take_along_axis(tokens, positions, axis=1))
    untouched = np.ones(tokens.shape, bool)
    np.put_along_axis(untouched, positions, False, axis=1)
    np.testing.assert_array_equal(seen[untouched], tokens[untouched])

    shown = np.take_along_axis(seen, positions, axis=1)
    other = (shown != MASK) & (shown != labels)

    def close(count, of, share):
        assert abs(count - of * share) < 5 * math.sqrt(of * share * (1 - share))

    close((shown == MASK).sum(), 40_000, 0.8)
    close((shown == labels).sum(), 40_000, 0.1 + 0.1 / 995)
    close(other.sum(), 40_000, 0.1 * 994 / 995)
    assert shown[other].min() == len(SPECIAL)
    assert shown[other].max() == 999
    for place in np.bincount(positions.ravel(), minlength=64)[1:63]:
        close(place, 40_000, 1 / 62)


@pytest.mark.slow
def test_masks_differ_by_seed_and_step_and_stay_in_evaluation():
    """Also: dropout draws on its own stream, and evaluation has none."""
    config = replace(TINY, layers=1, dropout=0.3)
    rows = TokenRows(random_rows(TINY, 64), random_rows(TINY, 8), tuple(map(str, range(31))))
    task, params, streams = make_task(config, rows), random_params(config), make_streams([0, 1])

    @jax.jit
    def loss(augment, dropout):
        return task.train_score(params, task.pool.train, Noise(augment, dropout))[0]

    still = jax.random.key(7)
    steps = [(0, 0), (0, 1), (1, 0)]
    keys = [jax.random.fold_in(streams.augment[seed], step) for seed, step in steps]
    losses = [loss(key, still) for key in keys] + [loss(keys[0], jax.random.key(8))]
    for first, second in combinations(losses, 2):
        assert not np.array_equal(first, second)
    held_out = [task.make_data(key, task.pool).test for key in streams.data]
    assert held_out[0] is held_out[1]
    plain = score(params, held_out[0], KEEP_ALL)[0]
    np.testing.assert_allclose(task.score(params, held_out[0])[0], plain, rtol=1e-6)


def test_dropout_drops_its_share_and_keeps_the_mean():
    drop = make_dropout(jax.random.key(0), 0.25)
    x = drop(jnp.ones((300, 400)), 0)
    assert set(np.unique(x)) == {0.0, np.float32(1 / 0.75)}
    np.testing.assert_allclose((x == 0).mean(), 0.25, atol=5 * math.sqrt(0.25 * 0.75 / 120_000))
    assert not np.array_equal(x, drop(jnp.ones((300, 400)), 1))
    assert make_dropout(jax.random.key(0), 0.0)(x, 0) is x


def test_the_loop_over_blocks_is_blocks_one_after_the_other():
    """With masks of their own, and the gradient of each block's parameters."""
    net = random_params(replace(TINY, layers=3))["params"]
    x = np.random.default_rng(0).normal(size=(4, 7, TINY.width)).astype(np.float32)
    drop = make_dropout(jax.random.key(0), 0.3)

    def one_by_one(layers):
        out = x
        for i in range(3):
            out = block(of_layer({"layers": layers}, i), out, drop, 3 * i + 1)
        return jnp.sum(jnp.sin(out)), out

    def looped(layers, remat):
        out = through_blocks(layers, x, drop, remat)
        return jnp.sum(jnp.sin(out)), out

    wanted = jax.jit(jax.grad(one_by_one, has_aux=True))(net["layers"])
    for remat in (False, True):
        sides = (
            wanted,
            jax.jit(jax.grad(looped, has_aux=True), static_argnums=1)(net["layers"], remat),
        )
        for expected, found in zip(*map(jax.tree.leaves, sides), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_every_training_row_is_seen_once():
    task, *_ = setup(QUICK)
    steps, between = schedule(QUICK, task.num_train)
    assert between == QUICK.record_every
    assert steps * QUICK.batch_size == task.num_train
    rows = jax.jit(lambda key: batch_rows(key, 0, steps, task.num_train, QUICK.batch_size))
    orders = [np.asarray(rows(key)).ravel() for key in make_streams([0, 1]).order]
    for order in orders:
        assert sorted(order) == list(range(task.num_train))
    assert not np.array_equal(*orders)


def test_learning_rate_and_decay_are_those_of_bert():
    """The rate against transformers' schedule; the update against AdamW written out."""
    config = replace(TINY, layers=1, learning_rate=0.1, weight_decay=0.5, warmup_share=0.2)
    params = random_params(config)
    optimizer = make_optimizer(config, 20)
    torch_optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    rates = get_linear_schedule_with_warmup(torch_optimizer, 4, 20)
    update = jax.jit(optimizer.update)
    state = optimizer.init(params)
    grads = jax.tree.map(lambda leaf: 100 * leaf, params)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(grads)))
    first = second = jax.tree.map(np.zeros_like, params)
    for step in range(20):
        updates, state = update(grads, state, params)
        clipped = jax.tree.map(lambda grad: grad / norm, grads)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, clipped)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, clipped)
        rate = rates.get_last_lr()[0]

        def expected(path, param, m, v, step=step, rate=rate):
            m, v = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
            decay = 0.5 if path[-1].key in ("kernel", "embedding") else 0.0
            return -rate * (m / (np.sqrt(v) + 1e-6) + decay * param)

        wanted = jax.tree_util.tree_map_with_path(expected, params, first, second)
        for ours, theirs in zip(jax.tree.leaves(updates), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        torch_optimizer.step()
        rates.step()


def test_gradient_agrees_with_differences_of_the_loss():
    """Along a random direction in all parameters at once, in float64."""
    config = replace(TINY, layers=1)
    with jax.enable_x64(True):
        params, direction = (
            jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), random_params(config, seed))
            for seed in (0, 1)
        )
        masked = jax.jit(lambda key: mask(key, random_rows(TINY, 4), 2, 31))
        batch = masked(jax.random.key(0))

        def mean_loss(params):
            return jnp.mean(score(params, batch, KEEP_ALL)[0])

        def along(distance):
            return mean_loss(jax.tree.map(lambda p, d: p + distance * d, params, direction))

        grads, *sides = jax.jit(lambda: (jax.grad(mean_loss)(params), along(1e-6), along(-1e-6)))()
        slope = sum(
            np.vdot(g, d)
            for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(direction), strict=True)
        )
        np.testing.assert_allclose(slope, (sides[0] - sides[1]) / 2e-6, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(
            replace(PAPER, layers=1, length=64, width=96, mlp_hidden=384),
            id="paper, 1 layer of an eighth of the width, 64 tokens",
            marks=pytest.mark.slow,
        ),
        pytest.param(SMALL, id="cpu"),
        pytest.param(QUICK, id="quick", marks=pytest.mark.slow),
    ],
)
def test_gradients_of_the_presets_are_finite(config):
    rows = TokenRows(
        random_rows(config, 4), random_rows(config, 4), tuple(map(str, range(config.vocabulary)))
    )
    task = make_task(config, rows)

    @jax.jit
    def gradient(key):
        def mean_loss(params):
            return jnp.mean(task.train_score(params, rows.train_NxL, Noise(key, key))[0])

        return jax.value_and_grad(mean_loss)(task.init(key))

    loss, grads = gradient(jax.random.key(0))
    np.testing.assert_allclose(loss, math.log(config.vocabulary), rtol=0.05)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    zero = [path for path, leaf in jax.tree_util.tree_leaves_with_path(grads) if not leaf.any()]
    assert not zero


@pytest.mark.slow
def test_quick_preset_from_training_to_report(tmp_path):
    flags = ("--preset", "quick", "--resamples", 0, "--out", tmp_path / "run")
    assert seedmap("run", "mlm", *flags) == 0
    with xr.open_dataset(tmp_path / "run" / "metrics.nc") as run:
        assert np.isfinite(run.eval_loss).all()
        last = run.eval_loss.values[:, -1]
    block_rows = QUICK.batch_size * QUICK.record_every
    rows = load_rows("topics", QUICK.vocabulary, QUICK.length, QUICK.test_rows, block_rows)
    assert (last < 0.5 * unigram_entropy(rows)).all()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert "eval_loss" in json.dumps(summary)
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 2}, "epochs is 2"),
        ({"heads": 5}, r"multiple of heads \(5\)"),
        ({"width": 0}, "width is 0"),
        ({"mask_share": 0.01}, "mask_share is 0.01, 0 of a row of 16"),
        ({"mask_share": 1.0}, "between 1 and 14"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"warmup_share": -0.1}, "warmup_share is -0.1"),
        ({"length": 2}, "mask_share is 0.15, 0 of a row of 2"),
        ({"corpus": "nowhere"}, "'nowhere' does not exist"),
        ({"test_rows": 0}, "--test-rows is 0"),
    ],
)
def test_wrong_hyperparameters_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        setup(replace(QUICK, **change))
