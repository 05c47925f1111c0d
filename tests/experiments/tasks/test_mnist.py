"""MNIST: both networks against plain NumPy, their sizes, and the command from end to end."""

import json
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers.command import seedmap
from helpers.image_files import arrays, fake_libraries, write_mnist
from seedmap.experiments import load_experiment
from seedmap.experiments.datasets.images import Images
from seedmap.experiments.networks.logits import score_logits
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.tasks import mnist
from seedmap.trainer import PAPER_METRICS, Variables, make_streams, make_trainer, weight_metrics
from seedmap.trainer.task import Noise

PRESETS = load_experiment("mnist").presets


def random_images(sizes=(30, 12)):
    found = arrays(sizes, (28, 28))
    return Images(*((x[..., None].astype(np.uint8), y.astype(np.int32)) for x, y in found.values()))


@pytest.fixture
def few_images(monkeypatch):
    images = random_images()
    monkeypatch.setattr(mnist, "load", lambda config: images)
    return images


def spread(tree, seed=0):
    """Weights with no zeros, ones or equal scales, so that none can be left out unseen.

    Matrices shrink with the number of their rows: logits differ by a few nats.
    """
    rng = np.random.default_rng(seed)

    def draw(leaf):
        scale = 2 * np.prod(leaf.shape[:-1]) ** -0.5 if leaf.ndim > 1 else 1.0
        return (0.3 * (leaf.ndim == 1) + scale * rng.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree.map(draw, tree)


def numpy_loss(logits, labels):
    total = np.logaddexp.reduce(logits, axis=1)
    return total - logits[np.arange(len(labels)), labels], logits.argmax(axis=1) == labels


def check_scores(scored, logits, labels):
    loss, correct = numpy_loss(logits, labels)
    assert loss.std() > 0.5
    np.testing.assert_allclose(scored[0], loss, rtol=2e-4, atol=2e-4)
    np.testing.assert_array_equal(scored[1], correct)


def test_scores_of_logits():
    logits = np.random.default_rng(0).normal(0, 3, (50, 4)).astype(np.float32)
    labels = np.arange(50) % 4
    check_scores(score_logits(jnp.asarray(logits), labels), logits.astype(float), labels)
    far = score_logits(jnp.array([[1e4, 0.0]]), jnp.array([1]))
    assert (float(far[0][0]), float(far[1][0])) == (1e4, 0.0)


def test_perceptron_agrees_with_numpy(few_images):
    task = mnist.setup(replace(mnist.PAPER, hidden=20)).task
    params = spread(task.init(jax.random.key(0)))
    x, labels = few_images.train
    first, second = (params["params"][name] for name in ("Dense_0", "Dense_1"))
    hidden = x.reshape(30, -1).astype(float) / 255 @ first["kernel"] + first["bias"]
    logits = np.maximum(hidden, 0) @ second["kernel"] + second["bias"]
    check_scores(task.score(params, (jnp.asarray(x), labels)), logits, labels)


def numpy_convolution(x, layer):
    kernel = layer["kernel"].astype(float)
    out = np.zeros((len(x), x.shape[1] - 4, x.shape[2] - 4, kernel.shape[3])) + layer["bias"]
    for i, j in np.ndindex(out.shape[1:3]):
        out[:, i, j] += np.einsum("bhwc,hwco->bo", x[:, i : i + 5, j : j + 5], kernel)
    return out


def numpy_pool(x):
    out = np.zeros((len(x), x.shape[1] // 2, x.shape[2] // 2, x.shape[3]))
    for i, j in np.ndindex(out.shape[1:3]):
        out[:, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max(axis=(1, 2))
    return out


def numpy_lenet(params, state, images, train):
    """Logits, and the running statistics after."""
    x = (images.astype(float) / 255 - 0.1307) / 0.3081
    after = {}
    for i in range(2):
        x = numpy_convolution(x, params[f"Convolution_{i}"])
        norm, running = params[f"BatchNorm_{i}"], state[f"BatchNorm_{i}"]
        batch = {"mean": x.mean(axis=(0, 1, 2)), "var": x.var(axis=(0, 1, 2))}
        after[f"BatchNorm_{i}"] = {k: 0.9 * running[k] + 0.1 * batch[k] for k in batch}
        used = batch if train else running
        x = (x - used["mean"]) / np.sqrt(used["var"] + 1e-5) * norm["scale"] + norm["bias"]
        x = numpy_pool(np.maximum(x, 0))
    x = np.moveaxis(x, 3, 1).reshape(len(x), -1)
    for i in range(3):
        layer = params[f"Dense_{i}"]
        x = x @ layer["kernel"].astype(float) + layer["bias"]
        x = np.maximum(x, 0) if i < 2 else x
    return x, after


@pytest.fixture
def lenet(few_images):
    config = replace(mnist.PAPER, model="lenet5", batch_size=8)
    task = mnist.setup(config).task
    start = jax.jit(task.init)(jax.random.key(0))
    params = spread(start.params)
    state = jax.tree.map(np.abs, spread(start.state, seed=1))
    return task, Variables(params, state)


@pytest.mark.parametrize("train", [False, True])
def test_lenet_agrees_with_numpy(lenet, few_images, train):
    task, variables = lenet
    x, labels = (leaf[:6] for leaf in task.pool.train)
    logits, after = numpy_lenet(variables.params, variables.state, np.asarray(x), train)
    if not train:
        check_scores(jax.jit(task.score)(variables, (x, labels)), logits, labels)
        return
    key = jax.random.key(0)
    *scored, state = jax.jit(task.train_score)(variables, (x, labels), Noise(key, key))
    check_scores(scored, logits, labels)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), state, after)


def test_lenet_trains_on_enlarged_images(lenet, few_images):
    from PIL import Image

    task, _ = lenet
    assert task.num_train == len(task.pool.train[1]) == 30
    assert len(task.pool.test[1]) == 12
    assert task.pool.train[0].dtype == jnp.uint8
    first = Image.fromarray(few_images.train[0][0, ..., 0]).convert("F")
    expected = np.asarray(first.resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(task.pool.train[0][0, ..., 0], expected, atol=1.01)


@pytest.mark.parametrize(("model", "count"), [("mlp", 636_010), ("lenet5", 61_750)])
def test_parameters_counted_by_hand(few_images, model, count):
    """784 * 800 + 800 + 8010; 156 + 2416 + 44 of the norms + 48 120 + 10 164 + 850."""
    task = mnist.setup(replace(mnist.PAPER, model=model, batch_size=10)).task
    made = jax.eval_shape(task.init, jax.random.key(0))
    params = made.params if model == "lenet5" else made
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_initial_weights_have_the_spread_of_the_released_code(few_images):
    """Uniform within ± sqrt(6 / (in + out)); LeNet-5's within ± 1 / sqrt(in), biases too."""
    config = replace(mnist.PAPER, batch_size=10)
    params = jax.jit(mnist.setup(config).task.init)(jax.random.key(0))["params"]
    for name, fans in (("Dense_0", 784 + 800), ("Dense_1", 800 + 10)):
        np.testing.assert_allclose(
            np.abs(params[name]["kernel"]).max(), (6 / fans) ** 0.5, rtol=1e-2
        )
        np.testing.assert_array_equal(params[name]["bias"], 0.0)
    task = mnist.setup(replace(config, model="lenet5")).task
    params = jax.jit(task.init)(jax.random.key(0)).params
    fans = {
        "Convolution_0": 25,
        "Convolution_1": 150,
        "Dense_0": 400,
        "Dense_1": 120,
        "Dense_2": 84,
    }
    for name, fan in fans.items():
        for leaf in params[name].values():
            assert 0.6 * fan**-0.5 < np.abs(leaf).max() <= fan**-0.5
            assert abs(leaf.mean()) < 3 * fan**-0.5 / leaf.size**0.5


def test_metrics_see_convolutions_and_no_norms(few_images):
    task = mnist.setup(replace(mnist.PAPER, model="lenet5", batch_size=10)).task
    variables = jax.eval_shape(task.init, jax.random.key(0))
    found = jax.eval_shape(lambda p: weight_metrics(p, per_layer=True), variables.params)
    assert set(PAPER_METRICS) <= set(found)
    layers = {name.split(".")[1] for name in found if "." in name}
    assert layers == {"Convolution_0", "Convolution_1", "Dense_0", "Dense_1", "Dense_2"}


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("model", ["mlp", "lenet5"])
def test_gradients_are_finite_in_all_presets(few_images, preset, model):
    """And a step of AdamW is PyTorch's: decoupled decay of every parameter, scales included."""
    config = replace(PRESETS[preset].training, model=model, batch_size=10, weight_decay=0.5)
    task, optimizer, *_ = mnist.setup(config)
    made = jax.jit(task.init)(jax.random.key(0))
    params, state = made if model == "lenet5" else (made, None)
    batch = jax.tree.map(lambda leaf: leaf[:10], task.pool.train)
    key = jax.random.key(0)

    @jax.jit
    def gradient(params):
        def loss(params):
            if state is None:
                return jnp.mean(task.score(params, batch)[0])
            return jnp.mean(task.train_score(Variables(params, state), batch, Noise(key, key))[0])

        return jax.grad(loss)(params)

    grads = gradient(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    named = jax.tree_util.tree_leaves_with_path(grads)
    # Batch norm takes away the biases of the convolution ahead of it.
    assert all(
        np.abs(leaf).max() > 0
        for path, leaf in named
        if "Convolution" not in str(path) or "kernel" in str(path)
    )
    updates, _ = optimizer.update(grads, optimizer.init(params), params)

    def check(update, grad, param):
        step = grad / (np.abs(grad) + 1e-8) + 0.5 * param  # Adam's first step is the sign
        np.testing.assert_allclose(update, -1e-3 * step, rtol=1e-3, atol=1e-8)

    jax.tree.map(check, updates, grads, params)


def test_images_are_on_the_device_once_however_many_the_seeds(few_images):
    task, optimizer, *_ = mnist.setup(replace(mnist.PAPER, hidden=4, batch_size=10))
    trainer = make_trainer(task, optimizer, 10, 2, metrics=lambda params: {})
    state = trainer.init(make_streams(range(3)))
    program = trainer.advance.lower(state, task.pool).compile().as_text()
    assert "u8[30,28,28,1]" in program
    assert "[3,30,28,28,1]" not in program
    assert "f32[30,28,28,1]" not in program


@pytest.mark.slow
def test_quick_preset_from_the_command_line(tmp_path, capsys):
    out = tmp_path / "run"
    assert seedmap("run", "mnist", "--preset", "quick", "--out", out) == 0
    assert "converged      6 of 6 seeds" in capsys.readouterr().out
    dataset = run_folder.read_dataset(out)
    assert dataset.step.values.tolist() == list(range(20, 151, 20))
    assert np.isfinite(dataset[[*PAPER_METRICS, "train_loss", "eval_loss"]].to_array()).all()
    assert (dataset.eval_accuracy[:, -1] > 0.8).all()
    assert (out / "report.html").is_file()
    config = json.loads((out / "config.json").read_text())
    assert config["hyperparameters"]["data"] == "digits"


def test_idx_files_from_the_command_line(tmp_path, capsys):
    folder = tmp_path / "data"
    folder.mkdir()
    write_mnist(folder, arrays((30, 12), (28, 28)), compressed=("train-images-idx3-ubyte",))
    flags = "--seeds 5 --seeds-at-once 5 --hidden 4 --batch-size 10 --epochs 2 --record-every 2"
    train = ["train", "mnist", "--data-dir", folder, *flags.split(), "--record", "l2"]
    assert seedmap(*train, "--train-size", 28, "--out", tmp_path / "run") == 0
    assert run_folder.read_dataset(tmp_path / "run").step.values.tolist() == [2, 4, 6]
    capsys.readouterr()
    for flags, message in (
        (("--train-size", 31), "train_size is 31; the data set allows 1 to 30"),
        (("--hidden", 0), "--hidden is 0; it must be above 0"),
        (("--batch-size", 0), "--batch-size is 0; it must be at least 1"),
        (
            ("--model", "lenet5", "--train-size", 9),
            "--batch-size is 10; .* the 9 training",
        ),
        (("--data", "digits"), "--data-dir goes with --data mnist"),
        (("--data-dir", tmp_path / "no"), "no: expected a folder of idx files"),
    ):
        assert seedmap(*train, *flags, "--out", tmp_path / "refused") == 2
        refusal = capsys.readouterr().err
        assert refusal.count("\n") == 1
        assert re.search(message, refusal), refusal
    assert not (tmp_path / "refused").exists()


def test_without_data_the_message_says_what_to_put_where(monkeypatch, tmp_path, capsys):
    fake_libraries(monkeypatch, error=ConnectionError("refused"))
    assert seedmap("train", "mnist", "--out", tmp_path / "run") == 2
    refusal = capsys.readouterr().err
    assert refusal.count("\n") == 1
    for part in ("ConnectionError, refused", "t10k-labels-idx1-ubyte", ".gz", "--data-dir"):
        assert part in refusal
