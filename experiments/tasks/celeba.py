"""CelebA, one binary attribute by ResNet18; for the noise of subgroups (Zhuang et al. 2022).

    seedmap run celeba --data-dir FOLDER --attribute Smiling
    seedmap run celeba --preset quick                 # drawn images, some seconds

FOLDER is in the published layout (`experiments.datasets.celeba`). From Zhuang et al. (2022):
ResNet18 on images of 128x128; subgroups Male, Female, Young and Old of the test faces; 10 models of
each variant. From their released code (training_script/resnet_celeba.py): Adam at 1e-3, a tenth of
it from the middle of 10 epochs on, batch 128, no augmentation, no weight decay; the whole face
shrunk to 128x128; a 3x3 stem without pooling. Unlike that code:

- One attribute is predicted, by two logits; the code predicts all 40 at once, by 40 sigmoids. Which
  one is `--attribute`; the default, Blond_Hair, is ours: it is rare among men.
- The mean is over the whole last image (16x16); the code takes means over 4x4 and has 16 times as
  many weights in its last layer.
- Pixels are in [-1, 1]; the code leaves them in 0 .. 255.
- Initial weights and batch norm as in `experiments.networks.resnet`; the code has Keras's.
- Pillow's bilinear filter looks at all pixels it shrinks; TensorFlow's at four.

Images stand in memory as bytes, 49 152 a face, twice (as read, and on the device; on a GPU once in
each memory): all of CelebA's training and test faces need 18 GB, and a machine with less refuses
them. `--train-size` and `--test-size` take the first so many of each set; 20 000 and 5000 are 2.5
GB. The `paper` preset is meant for a GPU and has not been run on CelebA; its threshold is ours.
`--preset quick` is width 2 on drawn images (`--data made`), 40 to train and 24 to test.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seedmap.errors import UserError
from seedmap.experiments.datasets.celeba import GROUPS, SIZE, Faces, read_celeba
from seedmap.experiments.datasets.images import Images, blank_images
from seedmap.experiments.networks.resnet import ResNet18, resnet_rule
from seedmap.experiments.tasks.base import (
    QUICK_FIT,
    Experiment,
    MapConfig,
    Preset,
    Setup,
    TrainingConfig,
    check_generated,
    check_positive,
)
from seedmap.experiments.tasks.images import image_task
from seedmap.trainer.order import batches_per_epoch


@dataclass(frozen=True)
class CelebAConfig(TrainingConfig):
    """Hyperparameters of CelebA; the defaults are those of Zhuang et al. (2022)."""

    seeds: int = 10
    """Number of seeds trained at once."""
    epochs: int = 10
    """Length of training, in passes over the training data."""
    record_every: int = 200
    """Time between two records of the metrics, in epochs or in steps."""
    record_unit: Literal["epochs", "steps"] = "steps"
    """Unit of record_every; training ends with the last whole record of the epochs."""
    batch_size: int = 128
    """Examples per optimisation step; the last batch of an epoch holds what is left."""
    learning_rate: float = 1e-3
    """Learning rate per step; a tenth of it in the second half of training."""
    weight_decay: float = 0.0
    """Weight decay coefficient (AdamW)."""
    attribute: str = "Blond_Hair"
    """Attribute to predict, by its name in list_attr_celeba.txt."""
    width: int = 64
    """Channels of the first stage; the others have 2, 4 and 8 times as many."""
    data: Literal["celeba", "made"] = "celeba"
    """Faces: CelebA's, or drawn images with marks for the attribute and the groups."""
    data_dir: str | None = None
    """Folder of CelebA in its published layout."""
    train_size: int | None = None
    """Number of training faces, the first of the list; None: all."""
    test_size: int | None = None
    """Number of test faces, the first of the list; None: all."""


def draw_faces(train_size: int, test_size: int) -> Faces:
    """Draws noise, bright at the top where the attribute is present; groups are independent."""
    rng = np.random.default_rng(0)

    def draw(size: int):
        label_N = rng.integers(0, 2, size).astype(np.int32)
        images = rng.integers(0, 100, (size, SIZE, SIZE, 3), dtype=np.uint8)
        images[label_N == 1, : SIZE // 2] += 120
        return images, label_N

    images = Images(draw(train_size), draw(test_size))
    groups = {}
    for without, having in GROUPS.values():
        has = np.arange(test_size) % 2 == 0 if having == "Male" else rng.random(test_size) < 0.5
        groups |= {without: ~has, having: has}
    return Faces(images, groups)


def load(config: CelebAConfig) -> Faces:
    """Loads the faces asked for.

    Raises:
        UserError: they are not there, or not what they should be.
        OSError: a file cannot be read.
    """
    if config.data == "made":
        check_generated(config, "--data made faces")
        return draw_faces(config.train_size, config.test_size)
    if config.data_dir is None:
        raise UserError(
            "no CelebA without --data-dir: name a folder with img_align_celeba, "
            "list_attr_celeba.txt and list_eval_partition.txt"
        )
    return read_celeba(Path(config.data_dir), config.attribute, config.train_size, config.test_size)


def stand_in(config: CelebAConfig) -> Faces | None:
    """Returns blank faces where CelebA is not named, as many as there are in its splits."""
    if config.data == "made" or config.data_dir is not None:
        return None
    sizes = config.train_size or 162_770, config.test_size or 19_962
    return Faces(blank_images((SIZE, SIZE, 3), *sizes), {})


def scale(x_BxHxWxC: jax.Array) -> jax.Array:
    """Scales uint8 pixels to float32 in [-1, 1]."""
    return x_BxHxWxC / jnp.float32(127.5) - 1


def setup(config: CelebAConfig, faces: Faces | None = None) -> Setup:
    """Returns task, optimiser, the rule of the metrics, and the groups of the test faces.

    Raises:
        UserError: a size is out of range, or the faces are not there or not what they should be.
        OSError: a file cannot be read.
    """
    check_positive(config, "width", "batch_size", "epochs")
    faces = faces or load(config)
    task = image_task(ResNet18(2, config.width), faces.images, scale)
    half = config.epochs * batches_per_epoch(task.num_train, config.batch_size) // 2
    rate = optax.piecewise_constant_schedule(config.learning_rate, {half: 0.1})
    optimizer = optax.adamw(rate, weight_decay=config.weight_decay)
    return Setup(task, optimizer, resnet_rule, faces.groups)


PAPER = CelebAConfig()
QUICK = replace(
    PAPER,
    seeds=6,
    seeds_at_once=1,
    learning_rate=1e-2,
    data="made",
    width=2,
    train_size=40,
    test_size=24,
    batch_size=10,
    epochs=4,
    record_every=2,
)

EXPERIMENT = Experiment(
    name="celeba",
    presets={
        "paper": Preset(PAPER, map=MapConfig(threshold=0.95)),
        "quick": Preset(
            QUICK,
            QUICK_FIT,
            MapConfig(threshold=0.7),
        ),
    },
    setup=setup,
    stand_in=stand_in,
)
