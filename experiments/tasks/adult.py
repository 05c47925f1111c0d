"""Income of the Adult census by a small network; for the noise of subgroups (Zhuang et al. 2022).

    seedmap run adult --data-dir FOLDER_OR_FILE
    seedmap run adult --preset quick                  # generated people, some seconds

Zhuang et al. 2022 ask how randomness in training moves the errors of subgroups, on CelebA; this
asks it of data that train in minutes on a CPU, and of which the groups are small enough for it to
matter. The formats read, and how people become numbers, are in `experiments.datasets.adult`. Sex
and race are among the 107 features. Groups of the test people: by sex; by race; by age under 30, 30
to 49, and 50 and over (Adult has no young and old of its own as CelebA does). The smallest, race
"Other", has 135 of 16 281 people: a part of its accuracy's variation is that of a small test set.

Two layers of 64 ReLU units, Adam at 1e-3, batch 256, 10 epochs (1280 steps) of all 32 561 training
people. A step of a seed takes 0.33 ms on 2 CPU cores, whatever the number of seeds side by side
(jax 0.10.2, 2026-11-21); a record, for which all test people are looked at, by count as much as 21
steps. Beside other work on these cores 40 seeds took 44 s, compilation and metrics included. Their
test accuracy is 0.843 after half an epoch, 0.850 after one, and at the end 0.8525 ± 0.0018 (mean
and standard deviation over seeds; always "up to 50 000": 0.764).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from seedmap.errors import UserError
from seedmap.experiments.datasets.adult import People, encode, make_people, read_adult
from seedmap.experiments.networks.logits import score_logits
from seedmap.experiments.tasks.base import (
    QUICK_FIT,
    Experiment,
    FitConfig,
    MapConfig,
    Preset,
    Setup,
    TrainingConfig,
    check_positive,
)
from seedmap.trainer import Data, Task

FEATURES = 107  # that the official files are encoded as
MADE_TRAIN, MADE_TEST = 800, 400


@dataclass(frozen=True)
class AdultConfig(TrainingConfig):
    """Hyperparameters of Adult."""

    epochs: int = 10
    """Length of training, in passes over the training data."""
    record_every: int = 64
    """Time between two records of the metrics, in epochs or in steps."""
    record_unit: Literal["epochs", "steps"] = "steps"
    """Unit of record_every; training ends with the last whole record of the epochs."""
    batch_size: int = 256
    """Examples per optimisation step; the last batch of an epoch holds what is left."""
    learning_rate: float = 1e-3
    """Learning rate per step."""
    weight_decay: float = 0.0
    """Weight decay coefficient (AdamW)."""
    hidden: int = 64
    """Units of each of the two hidden layers."""
    data: Literal["adult", "made"] = "adult"
    """People: those of the census, or generated ones."""
    data_dir: str | None = None
    """Folder or file of the census: its official files, a .parquet or a .csv."""
    train_size: int | None = None
    """Number of training people, the first of the file; None: all."""


class MLP(nn.Module):
    """Two hidden ReLU layers; Glorot uniform weights, zero biases. [person, feature] -> logits."""

    hidden: int

    @nn.compact
    def __call__(self, x_BxD: jax.Array) -> jax.Array:
        """Computes logits [person, 2], of an income up to and above 50 000 dollars."""
        glorot = nn.initializers.glorot_uniform()
        for _ in range(2):
            x_BxD = nn.relu(nn.Dense(self.hidden, kernel_init=glorot)(x_BxD))
        return nn.Dense(2, kernel_init=glorot)(x_BxD)


def load(config: AdultConfig) -> tuple[People, People]:
    """Loads training and test people.

    Raises:
        UserError: they are not there, or not what they should be, or fewer than asked for.
        OSError: a file cannot be read.
    """
    if config.data == "made":
        if config.data_dir is not None:
            raise UserError("--data made people are generated, not read: leave --data-dir out")
        train, test = make_people(MADE_TRAIN, 0), make_people(MADE_TEST, 1)
    elif config.data_dir is None:
        raise UserError(
            "no Adult census without --data-dir: name a folder with adult.data and adult.test, "
            "adult.parquet.brotli, adult.parquet or adult.csv, or such a file"
        )
    else:
        train, test = read_adult(Path(config.data_dir))
    total, size = len(train["age"]), config.train_size
    if size is not None and not 1 <= size <= total:
        raise UserError(f"--train-size is {size}; there are 1 to {total} people, or None for all")
    train = {name: column[:size] for name, column in train.items()}
    return encode(train, train), encode(train, test)


def stand_in(config: AdultConfig) -> tuple[People, People] | None:
    """Returns nobody's features where the census is not named, of as many as are in its files."""
    if config.data == "made" or config.data_dir is not None:
        return None

    def blank(size: int) -> People:
        return People(np.zeros((size, FEATURES), np.float32), np.zeros(size, np.int32), {})

    return blank(config.train_size or 32_561), blank(16_281)


def make_task(config: AdultConfig, train: People, test: People) -> Task:
    """Makes the task: cross-entropy of two classes; right where the label's logit is larger."""
    model = MLP(config.hidden)
    features = train.x_NxD.shape[1]

    def classify(params, batch):
        return model.apply(params, batch[0]), batch[1]

    return Task(
        init=lambda key: model.init(key, jnp.zeros((1, features))),
        make_data=lambda key, pool: pool,
        score=lambda params, batch: score_logits(*classify(params, batch)),
        num_train=len(train.label_N),
        pool=Data(*((jnp.asarray(of.x_NxD), jnp.asarray(of.label_N)) for of in (train, test))),
        classify=classify,
        cpu_group=5,  # 8 groups of 40 seeds, for as many cores
    )


def setup(config: AdultConfig, people: tuple[People, People] | None = None) -> Setup:
    """Returns task, optimiser and the groups of the test people.

    Raises:
        UserError: a size is out of range, or the people are not there or not what they should be.
        OSError: a file cannot be read.
    """
    check_positive(config, "hidden", "batch_size")
    train, test = people or load(config)
    optimizer = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)
    return Setup(make_task(config, train, test), optimizer, groups=test.groups)


CPU = AdultConfig()
QUICK = replace(
    CPU, seeds=6, seeds_at_once=3, data="made", hidden=16, batch_size=40, epochs=8, record_every=8
)

EXPERIMENT = Experiment(
    name="adult",
    presets={
        "cpu": Preset(CPU, FitConfig(states="1-6"), MapConfig(threshold=0.85)),
        "quick": Preset(
            QUICK,
            QUICK_FIT,
            MapConfig(threshold=0.75),
        ),
    },
    setup=setup,
    stand_in=stand_in,
)
