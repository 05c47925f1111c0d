"""The CIFAR experiments: augmentation against NumPy, batches, presets, messages, end to end."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedmap.experiments import load_experiment
from seedmap.experiments.tasks.cifar import (
    CHANNELS,
    QUICK,
    augment,
    crop_and_flip,
    load,
    normalise,
    setup,
)
from seedmap.trainer import Noise, Variables, choose, make_streams, make_trainer, train
from seedmap.trainer.step import mean_batch_loss
from seedmap.trainer.task import init_model

SIZES = ("seeds", "seeds_at_once", "learning_rate", "data", "test_size", "epochs", "record_every")
NAMES = ("cifar10", "cifar10-destabilised", "cifar100", "cifar100-destabilised")
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)


def test_crops_and_flips_agree_with_numpy():
    rng = np.random.default_rng(1)
    offsets, flipped = rng.integers(0, 9, (40, 2)), rng.integers(0, 2, 40).astype(bool)
    offsets[:2] = (0, 0), (8, 8)  # the corners
    found = np.asarray(crop_and_flip(IMAGES, jnp.asarray(offsets), jnp.asarray(flipped)))
    assert found.dtype == np.uint8
    for image, (row, column), flip, out in zip(IMAGES, offsets, flipped, found, strict=True):
        rows = np.abs(np.arange(32) + row - 4)  # -1 is 1, -2 is 2: the edge is not repeated
        columns = np.abs(np.arange(32) + column - 4)
        rows, columns = (np.where(at > 31, 62 - at, at) for at in (rows, columns))
        expected = image[rows][:, columns]
        np.testing.assert_array_equal(out, np.fliplr(expected) if flip else expected)
    untouched = crop_and_flip(IMAGES, jnp.full((40, 2), 4), jnp.zeros(40, bool))
    np.testing.assert_array_equal(untouched, IMAGES)


def test_augmentation_is_uniform_over_offsets_and_flips():
    """Images whose pixels tell where they were: offsets 0 .. 8 each, half of them flipped."""
    at = np.stack(np.meshgrid(range(32), range(32), indexing="ij"), axis=-1)
    image = np.concatenate([at, at[..., :1]], axis=-1).astype(np.uint8)
    found = np.asarray(augment(jax.random.key(0), np.repeat(image[None], 4000, axis=0)))
    centre = found[:, 15:17, 15:17].astype(int)
    flipped = centre[:, 0, 0, 1] > centre[:, 0, 1, 1]
    column = np.where(flipped, centre[:, 0, 1, 1], centre[:, 0, 0, 1]) - 15 + 4
    for offset in (centre[:, 0, 0, 0] - 15 + 4, column):
        counts = np.bincount(offset, minlength=9)
        assert len(counts) == 9
        np.testing.assert_allclose(counts / 4000, 1 / 9, atol=5 * (8 / 81 / 4000) ** 0.5)
    np.testing.assert_allclose(flipped.mean(), 0.5, atol=5 * 0.5 / 4000**0.5)


def test_augmentation_differs_between_seeds_and_steps_and_not_between_equal_keys():
    first, second = (make_streams([seed]).augment[0] for seed in (0, 1))
    keys = [jax.random.fold_in(key, step) for key in (first, second) for step in (0, 1)]
    drawn = [np.asarray(augment(key, IMAGES)) for key in [*keys, keys[0]]]
    for index, images in enumerate(drawn[:4]):
        assert all(not np.array_equal(images, other) for other in drawn[index + 1 : 4])
    np.testing.assert_array_equal(drawn[0], drawn[4])


@pytest.mark.parametrize("classes", [10, 100])
def test_pixels_are_normalised(classes):
    mean, deviation = (np.array(part) for part in CHANNELS[classes])
    np.testing.assert_allclose(
        normalise(IMAGES, classes), (IMAGES / 255 - mean) / deviation, rtol=1e-4, atol=1e-5
    )


def test_paper_presets_state_the_papers_settings():
    for name, classes, threshold in (("cifar100", 100, 0.6), ("cifar100-destabilised", 100, 0.4)):
        preset = load_experiment(name).presets["paper"]
        config = preset.training
        assert (config.width, config.batch_size, config.learning_rate) == (64, 256, 1e-3)
        assert (config.record_every, config.record_unit, config.seeds) == (20, "steps", 40)
        assert (config.train_size, config.test_size) == (None, None)
        assert preset.map.threshold == threshold
        assert config.batch_norm == config.residual == (name == "cifar100")
        assert load_experiment(name).setup.keywords == {"num_classes": classes}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10", "cifar10-destabilised"])
def test_gradients_are_finite_in_every_preset(name):
    """On a few generated images and narrow, which leaves one network of all three presets."""
    reduced = {
        replace(
            preset.training,
            **{field: getattr(QUICK, field) for field in SIZES},
            train_size=8,
            batch_size=8,
            width=2,
        )
        for preset in load_experiment(name).presets.values()
    }
    assert len(reduced) == 1
    made = load_experiment(name).setup(reduced.pop())
    shapes = jax.eval_shape(lambda: init_model(made.task, jax.random.key(0)))
    rng = np.random.default_rng(0)  # JAX's own initial weights take longer to compile
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape), shapes.params)
    model = Variables(
        jax.tree.map(jnp.float32, params),
        jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes.state),
    )
    noise = Noise(*jax.random.split(jax.random.key(1)))

    def loss(params):
        return mean_batch_loss(
            made.task, model._replace(params=params), made.task.pool.train, jnp.arange(8), noise
        )[0]

    grads = jax.tree.leaves(jax.jit(jax.grad(loss))(model.params))
    assert all(np.isfinite(grad).all() for grad in grads)
    assert all(np.abs(grad).max() > 0 for grad in grads)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_quick_preset_trains_end_to_end(name):
    """The stable network learns in its 30 steps; the destabilised one need not, and only moves."""
    config = load_experiment(name).presets["quick"].training
    made = load_experiment(name).setup(config)
    run = train(
        made.task,
        made.optimizer,
        range(config.seeds),
        batch_size=config.batch_size,
        steps=config.epochs * 5,
        record_every=config.record_every,
        seeds_at_once=config.seeds_at_once,
        metrics=choose(config.record, made.rule, config.spectrum),
    )
    assert (run.diverged == -1).all()
    assert np.isfinite(run.dataset.to_array()).all()
    assert (run.dataset.l2[:, -1] != run.dataset.l2[:, 0]).all()
    loss = run.dataset.train_loss
    if not name.endswith("-destabilised"):
        assert (loss[:, -1] < loss[:, 0]).mean() > 0.5


def test_images_are_bytes_on_the_device_once_for_all_seeds():
    config = replace(QUICK, train_size=20, test_size=10, batch_size=10)
    made = setup(config, num_classes=10)
    assert made.task.pool.train[0].dtype == jnp.uint8
    data = made.task.make_data(jax.random.key(0), made.task.pool)
    assert data.train[0] is made.task.pool.train[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "cifar"}, r"no CIFAR-10 without --data-dir: name a folder with the unpacked"),
        ({"data_dir": "somewhere"}, "--data patterns are generated, not read"),
        ({"train_size": None}, "give --train-size and --test-size"),
        ({"train_size": 0}, "--train-size is 0"),
        ({"data": "cifar", "data_dir": "no-such-folder"}, "no-such-folder: expected the unpacked"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_wrong_settings_are_named_in_one_line(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        setup(replace(QUICK, **change), num_classes=10)
    assert "\n" not in str(caught.value)


def test_generated_images_are_the_same_every_time():
    first, second = load(QUICK, 10), load(QUICK, 10)
    jax.tree.map(np.testing.assert_array_equal, first.train, second.train)
    assert load(QUICK, 100).train[1].max() == 99


@pytest.mark.slow
def test_the_trainer_traces_both_variants():
    """All of a training step and its metrics, by shapes alone, at the paper's width."""
    for name in ("cifar10-destabilised", "cifar100"):
        config = replace(load_experiment(name).presets["quick"].training, width=64)
        made = load_experiment(name).setup(config)
        trainer = make_trainer(made.task, made.optimizer, 50, 2, choose(config.record, made.rule))
        state = jax.eval_shape(trainer.init, make_streams(range(2)))
        _, record = jax.eval_shape(trainer.advance, state, made.task.pool)
        assert record["eval_loss"].shape == (2,)
