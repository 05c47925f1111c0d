"""Hyperparameters and flags checked, and turned into what the engine and the split want."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from seedmap import hmm
from seedmap.errors import UserError
from seedmap.experiments.tasks.base import FitConfig, MapConfig, TrainingConfig
from seedmap.fitting import split_by_name
from seedmap.hmm.sequences import FIRST_RECORDS
from seedmap.map_fitting import check_emission
from seedmap.trainer.checks import MAX_SEED
from seedmap.trainer.metrics.registry import choose
from seedmap.trainer.order import batches_per_epoch

MIN_SEEDS = 5
MAX_STATES = 1000
AUTOREGRESSIVE = "autoregressive"
GAUSSIAN_SHARE = 0.2
GAUSSIAN_ONLY = ("covariance", "prior", "compare_priors", "criterion", "one_standard_error")


def check_training(config: TrainingConfig, fewest: int = MIN_SEEDS) -> None:
    """Raises UserError where the common hyperparameters are out of range, `fewest` seeds asked."""
    for name, value in asdict(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{_flag(name)} is {value}; it must be a finite number")
    if config.seeds < fewest:
        raise UserError(
            f"--seeds is {config.seeds}; the HMM needs at least {MIN_SEEDS} runs, some to train on "
            "and some held out"
        )
    if config.learning_rate <= 0:
        raise UserError(f"--learning-rate is {config.learning_rate}; it must be above 0")
    if config.weight_decay < 0:
        raise UserError(f"--weight-decay is {config.weight_decay}; it must not be negative")
    for name in ("epochs", "record_every", "batch_size", "seeds_at_once"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"{_flag(name)} is {value}; it must be at least 1")
    if not 0 <= config.first_seed <= MAX_SEED:
        raise UserError(f"--first-seed is {config.first_seed}; it must lie in 0 .. {MAX_SEED}")
    choose(config.record)  # refuses names it does not know
    if config.record_unit == "epochs" and config.epochs % config.record_every:
        raise UserError(
            f"--epochs {config.epochs} is not a multiple of --record-every {config.record_every}"
        )
    if config.record_unit == "epochs" and config.epochs // config.record_every < 2:
        raise UserError("--epochs must hold at least two records; lower --record-every")


def schedule(config: TrainingConfig, num_train: int) -> tuple[int, int]:
    """Returns the steps of training, up to the last whole record, and those between records.

    Raises:
        UserError: there would be fewer than two records.
    """
    per_epoch = batches_per_epoch(num_train, config.batch_size)
    between = config.record_every * (per_epoch if config.record_unit == "epochs" else 1)
    records = config.epochs * per_epoch // between
    if records < 2:
        raise UserError(
            f"--record-every is {config.record_every}; {config.epochs} epochs of {per_epoch} steps "
            "must hold at least two records: lower it"
        )
    return records * between, between


def check_saving(save_seconds: float) -> None:
    """Raises UserError unless these are seconds between save points."""
    if not save_seconds >= 0:
        raise UserError(f"--save-seconds is {save_seconds}; it must be 0 or more")


def check_threshold(threshold: float | None) -> None:
    """Raises UserError unless the threshold is a share of examples that can be passed."""
    if threshold is not None and not 0 <= threshold < 1:
        raise UserError(f"--threshold is {threshold}; it must be at least 0 and below 1")


def check_run(training: TrainingConfig, fit: FitConfig, asked: MapConfig) -> None:
    """Raises UserError where a later step would refuse what is asked of it."""
    check_training(training)
    check_threshold(asked.threshold)
    check_fit(fit)
    split(_runs(training), fit)


def check_states(training: TrainingConfig, fit: FitConfig, num_train: int) -> None:
    """Raises UserError where training would make too few records for the states asked for."""
    steps, between = schedule(training, num_train)
    states = max(parse_states(fit.states))
    records = min(steps // between, FIRST_RECORDS) - (emission_of(fit) == AUTOREGRESSIVE)
    observations = len(split(_runs(training), fit)[0]) * records
    if states > observations // 2:
        raise UserError(
            f"--states: {states} states are more than the data allow: {observations} training "
            f"checkpoints allow at most {observations // 2}"
        )


def _runs(training: TrainingConfig) -> list[str]:
    return [str(training.first_seed + i) for i in range(training.seeds)]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def parse_states(text: str) -> tuple[int, ...]:
    """Parses numbers of states from "1-8", "3" or "2,4,6".

    Raises:
        UserError: the text is none of these, or a number is under 1 or above 1000.
    """
    states: set[int] = set()
    for term in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", term)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high <= MAX_STATES:
            raise UserError(
                f"--states {text!r} is neither a rising range (1-8) nor a list (2,4,6) of numbers "
                f"from 1 to {MAX_STATES}"
            )
        states.update(range(low, high + 1))
    return tuple(sorted(states))


def emission_of(config: FitConfig) -> str:
    """Returns the emission that is meant: "autoregressive" or "gaussian".

    Raises:
        UserError: a setting contradicts another.
    """
    given = {name for name in GAUSSIAN_ONLY if getattr(config, name) not in (None, False)}
    if config.method is None:
        return check_emission(config.emission, config.scale, {_flag(name) for name in given})
    settled = given - {"covariance"}
    if config.validation_share is not None:
        settled |= {"validation_share"}
    if config.emission == AUTOREGRESSIVE:
        settled |= {"emission"}
    if config.scale == "common":
        settled |= {"scale"}
    if settled:
        raise UserError(f"{_flag(min(settled))} is settled by --method {config.method}; omit it")
    return "gaussian"


def check_fit(config: FitConfig) -> None:
    """Raises UserError where a setting of the fit is out of its range or contradicts another.

    All of `FitConfig` is checked here, so that nothing long is begun in vain.
    """
    share = config.validation_share
    if share is not None and not 0 < share < 1:
        raise UserError(f"--validation-share is {share}; it must be in (0, 1)")
    if not 0 <= config.fit_seed < 2**32:
        raise UserError(f"--fit-seed is {config.fit_seed}; it must lie in 0 .. 2**32 - 1")
    if config.resamples < 0:
        raise UserError(f"--resamples is {config.resamples}; it must be 0 (none) or more")
    if config.compare_methods and config.method:
        raise UserError("--compare-methods sets --method hu2023 beside another fit; omit --method")
    if emission_of(config) == AUTOREGRESSIVE:
        map_settings(config)
    else:
        sweep_config(config)


def map_settings(config: FitConfig) -> hmm.MapSettings:
    """Converts the flags to the settings of the map's engine.

    Raises:
        UserError: a flag is out of its range.
    """
    given = {} if config.iterations is None else {"iterations": config.iterations}
    return hmm.MapSettings(
        states=parse_states(config.states),
        restarts=config.restarts,
        final_restarts=max(config.restarts, hmm.MapSettings.final_restarts),
        resamples=config.resamples,
        seed=config.fit_seed,
        **given,
    )


def sweep_config(config: FitConfig) -> hmm.SweepConfig:
    """Converts the flags to the settings of a sweep of Gaussian HMMs.

    Raises:
        UserError: a flag is out of its range.
    """
    if config.criterion not in (None, *hmm.CRITERIA):
        raise UserError(
            f"--criterion {config.criterion!r} is unknown; choose one of {', '.join(hmm.CRITERIA)}"
        )
    if config.criterion == "kfold" and config.prior == "weak":
        raise UserError("--criterion kfold needs --prior held-out, which leaves folds out")
    given = {name: getattr(config, name) for name in ("iterations", "covariance", "prior")}
    return hmm.SweepConfig(
        states=parse_states(config.states),
        restarts=config.restarts,
        **{name: value for name, value in given.items() if value is not None},
    )


def validation_share(config: FitConfig) -> float:
    """Returns the share of the runs to hold out; 0 by default where no runs choose K."""
    if config.validation_share is not None:
        return config.validation_share
    return 0.0 if emission_of(config) == AUTOREGRESSIVE else GAUSSIAN_SHARE


def split(runs: Sequence[str], config: FitConfig) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices of the training runs and of the held-out ones, by a fit's settings.

    Raises:
        UserError: a run to hold out does not exist, or none is left to train on.
    """
    share = validation_share(config)
    if config.method and not config.validation_runs:
        return hmm.hu2023_split(len(runs))
    if not share and not config.validation_runs:
        return np.arange(len(runs)), np.arange(0)
    return split_by_name(runs, share, config.validation_runs, config.fit_seed)
