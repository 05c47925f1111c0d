"""Definition of an experiment: hyperparameters with presets, and its `setup` of a task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import optax
import tyro

from seedmap.errors import UserError
from seedmap.trainer import Rule, Streams, Task, flax_rule


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters that every experiment has; an experiment adds its own and its defaults."""

    seeds: int = 40
    """Number of seeds trained at once."""
    first_seed: int = 0
    """Number of the first seed; the others follow it."""
    epochs: int = 1000
    """Length of training, in passes over the training data."""
    record_every: int = 5
    """Time between two records of the metrics, in epochs or in steps."""
    record_unit: Literal["epochs", "steps"] = "epochs"
    """Unit of record_every; training ends with the last whole record of the epochs."""
    batch_size: int = 32
    """Examples per optimisation step; the last batch of an epoch holds what is left."""
    learning_rate: float = 0.1
    """Learning rate per step."""
    weight_decay: float = 0.01
    """Weight decay coefficient."""
    vary: tuple[str, ...] = Streams._fields
    """Random streams that differ between seeds, of init, data, order, augment and dropout; the
    others are the same for all."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Precision of products; tf32 and bfloat16 are faster on GPUs and TPUs, on CPU only rounded
    alike."""
    early_stop: Literal["never", "each", "all"] = "never"
    """Stop each seed once it has converged, or all once every one has."""
    record: tuple[str, ...] = ("weights",)
    """Metrics to record besides losses and accuracies: weights for the 14 of Hu et al. (2023),
    single ones of them, gradient_norm, update_norm, distance_from_init, sharpness, rank_measures,
    and any of the weights' with /layers."""
    spectrum: Literal["exact", "gram", "lanczos"] = "exact"
    """Method for singular values: exact, by the Gram matrix (error bounded), or estimated."""
    seeds_at_once: int | None = None
    """Seeds trained side by side on a device; None: on a CPU by the network's size, else as many as
    fit."""


@dataclass(frozen=True)
class FitConfig:
    """Settings of fitting and choosing the hidden Markov model."""

    states: str = "1-8"
    """Numbers of states to try, as a range (1-8) or a list (2 4 6)."""
    restarts: int = 5
    """Starts of EM for each number of states."""
    iterations: int | None = None
    """EM iterations of each start at most; None: 60, Gaussian 32."""
    method: Literal["hu2023"] | None = None
    """The published procedure as its released code has it, definitions of forks and detours
    included: Gaussian, its own split, prior, choice and caps."""
    compare_methods: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also fit by --method hu2023, and show both maps in the report."""
    emission: Literal["autoregressive", "gaussian"] | None = None
    """What a record is in a state: a motion from the one before, or one draw; None: autoregressive,
    but gaussian where --prior, --covariance or another setting of Gaussian HMMs is given."""
    scale: Literal["common", "run"] | None = None
    """What metrics are scaled by: all runs pooled, or (Gaussian only) each run; None: common, but
    run where the emission is gaussian, as in Hu et al. (2023)."""
    covariance: Literal["full", "diagonal", "spherical", "shared"] | None = None
    """Covariance of Gaussian emissions; shared is one for all states; None: full."""
    prior: Literal["held-out", "weak"] | None = None
    """Regularisation of covariances: held-out is chosen by runs left out, robustly; weak is near
    maximum likelihood; None: held-out."""
    compare_priors: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also fit under the other prior, and show its results in the report."""
    criterion: str | None = None
    """Criterion for the number of states of Gaussian HMMs: train_ or validation_ with bic, aic, icl
    or log_likelihood, robust_bic, robust_aic, robust_log_likelihood, or kfold; by default
    robust_bic under the prior held-out, validation_bic, that of Hu et al. (2023), under weak."""
    one_standard_error: tyro.conf.FlagCreatePairsOff[bool] = False
    """Take the fewest states within one standard error of the best."""
    validation_share: float | None = None
    """Share of the runs held out; None: none, of Gaussian HMMs 0.2 to choose the number of
    states."""
    validation_runs: tuple[str, ...] = ()
    """Runs to hold out, by seed number or file stem; by default a random share."""
    metrics: tuple[str, ...] = ()
    """Metrics the HMM sees; by default those of Hu et al. (2023) that are recorded."""
    resamples: int = 20
    """Bootstrap resamples of the training runs to refit the chosen model to; 0 for none."""
    fit_seed: int = 0
    """Seed of the split of the runs, of EM's random starts and of the resamples."""


QUICK_FIT = FitConfig(states="1-3", restarts=2, resamples=5)


@dataclass(frozen=True)
class MapConfig:
    """Settings of the training map."""

    threshold: float | None = None
    """A run has converged at its first record with evaluation accuracy above this share; by default
    the experiment's."""
    outcome: str = "convergence"
    """Outcome that the regression explains: convergence (its time), or the last value of a recorded
    variable such as eval_loss."""
    censored: Literal["exclude", "cap"] | None = None
    """Runs that never converge: exclude them from the regression, or cap their time at the end of
    training (as the code of Hu et al. (2023) does); None: exclude, but cap after --method
    hu2023."""


class Setup(NamedTuple):
    """Inputs of the trainer, made from an experiment's hyperparameters.

    Attributes:
        task: data, model and loss.
        optimizer: what changes the parameters.
        rule: which parameter counts as what in the metrics.
        groups: subgroups of the test examples by name, bool [test example]; for studies of noise.
    """

    task: Task
    optimizer: optax.GradientTransformation
    rule: Rule = flax_rule
    groups: Mapping[str, np.ndarray] = MappingProxyType({})


@dataclass(frozen=True)
class Preset:
    """A named set of hyperparameters for a whole run."""

    training: TrainingConfig
    fit: FitConfig = field(default_factory=FitConfig)
    map: MapConfig = field(default_factory=lambda: MapConfig(threshold=0.9))


@dataclass(frozen=True)
class Experiment:
    """An experiment: a task with its hyperparameters.

    Attributes:
        name: as on the command line.
        presets: name to Preset; the first is the default.
        setup: hyperparameters, and for a plan its data -> Setup.
        stand_in: hyperparameters -> data of the shape of those that `setup` would read, for a plan;
            None where they name data. None: nothing is read.
    """

    name: str
    presets: Mapping[str, Preset]
    setup: Callable[..., Setup]
    stand_in: Callable[[Any], Any] | None = None


def check_positive(config: Any, *names: str) -> None:
    """Raises UserError unless the named hyperparameters are above 0."""
    for name in names:
        if not getattr(config, name) > 0:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} is {getattr(config, name)}; it must be above 0")


def check_generated(config: Any, what: str) -> None:
    """Raises UserError unless generated data have sizes, and no folder to be read from."""
    if config.data_dir is not None or None in (config.train_size, config.test_size):
        raise UserError(
            f"{what} are generated, not read: give --train-size and --test-size, and no --data-dir"
        )
    check_positive(config, "train_size", "test_size")
