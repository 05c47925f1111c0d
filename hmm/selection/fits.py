"""What a sweep gives: its fits and their scores."""

from dataclasses import dataclass
from math import nan

import numpy as np
from jaxtyping import Float

from seedmap.hmm.parameters import Parameters
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.cross_validation import CrossValidation


@dataclass(frozen=True, eq=False)
class Fit:
    """One fitted HMM. Log-likelihoods are in nats, of the data in the units they were given in.

    Attributes:
        num_states: Number of states K.
        restart: Number of the restart, from 0.
        parameters: The model, float64; None in a sweep read from its file, which has no models.
        train_log_likelihood: Total over the training runs.
        validation_log_likelihood: Total over the validation runs.
        train_run_log_likelihood: float64 [training run].
        validation_run_log_likelihood: float64 [validation run].
        penalised_log_likelihood: Training log-likelihood plus log-prior: what EM maximises.
        num_parameters: Free parameters p, see `hmm.num_parameters`.
        aic: -2 validation_log_likelihood + 2 p.
        bic: -2 validation_log_likelihood + p log(number of validation checkpoints). Both criteria
            are taken on held-out runs, as in the code of Hu et al. 2023.
        iterations: EM iterations made.
        converged: Whether the tolerance was met before the iterations ran out.
        degenerate: Whether the fit broke down (a non-finite update, a covariance that cannot be
            factorised, a state with less than one checkpoint); its parameters are the last good
            ones and selection leaves it out.
        prior_scale: Scatter that the prior added, see `SweepConfig.prior`.
        robust_log_likelihood: num_observations_validation times the median over the validation runs
            of the log-likelihood per checkpoint: `validation_log_likelihood` as it would be if all
            runs were like the median one.
        train_path_log_likelihood: Total over the training runs of log p(run, its Viterbi path).
        validation_path_log_likelihood: The same over the validation runs.
    """

    num_states: int
    restart: int
    parameters: Parameters
    train_log_likelihood: float
    validation_log_likelihood: float
    train_run_log_likelihood: Float[np.ndarray, " train"]
    validation_run_log_likelihood: Float[np.ndarray, " validation"]
    penalised_log_likelihood: float
    num_parameters: int
    aic: float
    bic: float
    iterations: int
    converged: bool
    degenerate: bool
    prior_scale: float = nan  # this and the rest: NaN in a file of an older version
    robust_log_likelihood: float = nan
    train_path_log_likelihood: float = nan
    validation_path_log_likelihood: float = nan


@dataclass(frozen=True, eq=False)
class Sweep:
    """All fits of a sweep, in the order of `config.states`, restart by restart.

    Attributes:
        config: What was fitted.
        fits: The fits.
        metrics: Names of the metrics.
        train_runs: Names of the training runs.
        validation_runs: Names of the validation runs.
        num_observations_train: Number of training checkpoints.
        num_observations_validation: Number of validation checkpoints.
        cross_validation: With the prior "held-out", the scores of every scale and K.
    """

    config: SweepConfig
    fits: tuple[Fit, ...]
    metrics: tuple[str, ...]
    train_runs: tuple[str, ...]
    validation_runs: tuple[str, ...]
    num_observations_train: int
    num_observations_validation: int
    cross_validation: tuple[CrossValidation, ...] = ()
