"""ResNet18 against a plain one in PyTorch with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.experiments.networks.resnet import ResNet18, resnet_rule
from seedmap.trainer import PAPER_METRICS, weight_metrics
from seedmap.trainer.metrics.weights import sort_weights

torch = pytest.importorskip("torch")

VARIANTS = [(True, True), (False, False), (True, False)]


def make(batch_norm, residual, width=4, classes=5):
    """A network with weights and statistics of no special value, and a few images."""
    model = ResNet18(classes, width, batch_norm, residual)
    x = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if name == "kernel" else 10
        return rng.normal(0, fan_in**-0.5, leaf.shape).astype(np.float32)

    return model, jax.tree_util.tree_map_with_path(draw, shapes), x


def reached(tree, path):
    for name in path:
        tree = tree[name]
    return tree


class TorchResNet:
    """The network by torch's functions, one line per layer; keeps the statistics as it goes."""

    def __init__(self, variables, train):
        self.params = jax.tree.map(torch.tensor, variables["params"])
        self.stats = jax.tree.map(torch.tensor, variables.get("batch_stats", {}))
        self.train = train
        self.sizes = {}  # path to examples x rows x columns that a running variance is over

    def conv(self, x, kernel, stride=1):
        return torch.nn.functional.conv2d(
            x, kernel.permute(3, 2, 0, 1), stride=stride, padding=kernel.shape[0] // 2
        )

    def norm(self, x, *path):
        if path[-1] not in reached(self.params, path[:-1]):
            return x
        params, stats = reached(self.params, path), reached(self.stats, path)
        self.sizes[path] = x.numel() // x.shape[1]
        return torch.nn.functional.batch_norm(
            x, stats["mean"], stats["var"], params["scale"], params["bias"], self.train, 0.1, 1e-5
        )

    def logits(self, x, residual):
        x = torch.tensor(x).permute(0, 3, 1, 2)
        x = self.norm(self.conv(x, self.params["Convolution_0"]["kernel"]), "BatchNorm_0").relu()
        for number in range(8):
            name, stride = f"Block_{number}", 2 if number in (2, 4, 6) else 1
            block = self.params[name]
            h = self.conv(x, block["Convolution_0"]["kernel"], stride)
            h = self.norm(h, name, "BatchNorm_0").relu()
            h = self.norm(self.conv(h, block["Convolution_1"]["kernel"]), name, "BatchNorm_1")
            if residual and "shortcut" in block:
                h = h + self.norm(
                    self.conv(x, block["shortcut"]["kernel"], stride), name, "BatchNorm_2"
                )
            elif residual:
                h = h + x
            x = h.relu()
        return x.mean((2, 3)) @ self.params["Dense_0"]["kernel"] + self.params["Dense_0"]["bias"]


@pytest.mark.parametrize(("batch_norm", "residual"), VARIANTS)
def test_logits_agree_with_torch_by_running_statistics(batch_norm, residual):
    model, variables, x = make(batch_norm, residual)
    expected = TorchResNet(variables, train=False).logits(x, residual).numpy()
    found = jax.jit(lambda v: model.apply(v, x, train=False))(variables)
    differences = np.ptp(expected, axis=0)
    assert differences.min() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=0.02 * differences.min())


def test_training_agrees_with_torch():
    """Logits, a gradient through all layers, and the statistics after a step.

    Ours on a batch filled up with two rows that are not there, torch's without them.
    """
    model, variables, x = make(True, True)
    plain = TorchResNet(variables, train=True)
    stem = plain.params["Convolution_0"]["kernel"].requires_grad_()
    expected = plain.logits(x, residual=True)
    expected.square().sum().backward()

    filled, there = np.concatenate([x, x[:1], x[:1]]), np.arange(5) < 3

    def run(params):
        tree = variables | {"params": params}
        logits, changed = model.apply(tree, filled, True, there, mutable=["batch_stats"])
        return jnp.sum(jnp.square(logits[:3])), (logits[:3], changed["batch_stats"])

    grads, (logits, stats) = jax.jit(jax.grad(run, has_aux=True))(variables["params"])
    np.testing.assert_allclose(logits, expected.detach(), rtol=2e-3, atol=2e-4)
    largest = float(stem.grad.abs().max())
    np.testing.assert_allclose(
        grads["Convolution_0"]["kernel"], stem.grad, rtol=1e-2, atol=1e-3 * largest
    )
    assert len(plain.sizes) == 20
    for path, size in plain.sizes.items():
        trees = stats, variables["batch_stats"], plain.stats
        found, before, torch_stats = (reached(tree, path) for tree in trees)
        np.testing.assert_allclose(found["mean"], torch_stats["mean"], rtol=1e-3, atol=1e-4)
        # PyTorch's running variance has Bessel's correction.
        batch_var = (np.asarray(torch_stats["var"]) - 0.9 * before["var"]) * (size - 1) / size
        np.testing.assert_allclose(found["var"], 0.9 * before["var"] + batch_var, rtol=1e-3)


@pytest.mark.parametrize(
    ("classes", "batch_norm", "residual", "expected"),
    [
        (10, True, True, 11_173_962),  # the published ones for this network
        (100, True, True, 11_220_132),
        # 64 (27 + 9 x 64 x 4 + 9 x 128 (1 + 2 x 3) x 2 ...) by hand: convolutions alone, and head.
        (
            10,
            False,
            False,
            9 * (3 * 64 + 4 * 64**2 + 64 * 128 + 3 * 128**2 + 128 * 256 + 3 * 256**2)
            + 9 * (256 * 512 + 3 * 512**2)
            + 512 * 10
            + 10,
        ),
    ],
)
def test_parameter_counts(classes, batch_norm, residual, expected):
    model = ResNet18(classes, 64, batch_norm, residual)
    shapes = jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), train=False), jax.random.key(0)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == expected
    assert ("batch_stats" in shapes) == batch_norm


def test_initial_weights_have_the_spread_of_the_released_code():
    model = ResNet18(100, 32)
    uniform = [
        ("Convolution_0", "kernel", 27),
        ("Dense_0", "kernel", 256),
        ("Dense_0", "bias", 256),
    ]
    normal = [("Block_2", "Convolution_0", 9 * 64), ("Block_6", "shortcut", 256)]

    @jax.jit  # what is not returned is not computed
    def chosen(key):
        params = model.init(key, jnp.zeros((1, 32, 32, 3)), train=False)["params"]
        leaves = [params[module][leaf] for module, leaf, _ in uniform]
        return leaves, [params[block][layer]["kernel"] for block, layer, _ in normal]

    uniform_leaves, normal_leaves = chosen(jax.random.key(0))
    for (_, _, fan_in), leaf in zip(uniform, uniform_leaves, strict=True):
        size = np.abs(leaf)
        np.testing.assert_allclose(size.max(), fan_in**-0.5, rtol=0.03)
        np.testing.assert_allclose(size.mean(), fan_in**-0.5 / 2, rtol=0.15)
    for (_, _, fan_out), leaf in zip(normal, normal_leaves, strict=True):
        np.testing.assert_allclose(leaf.std(), (2 / fan_out) ** 0.5, rtol=0.02)
        assert np.abs(leaf).max() > 3 * (2 / fan_out) ** 0.5  # not truncated


def test_metrics_see_the_convolutions_and_the_head_and_no_shortcut():
    model = ResNet18(10, 2)
    params = jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), train=False), jax.random.key(0)
    )["params"]

    def by_role(params):
        return sort_weights(params, resnet_rule)

    weights = jax.eval_shape(by_role, params)
    assert len(weights.kernels) == 17
    assert not any("shortcut" in name for name in weights.kernels)
    assert list(weights.matrices) == ["Dense_0.kernel"]
    assert list(weights.biases) == ["Dense_0.bias"]
    found = jax.eval_shape(lambda params: weight_metrics(params, resnet_rule), params)
    assert set(found) == set(PAPER_METRICS)
