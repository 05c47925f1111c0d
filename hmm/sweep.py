"""The model-selection sweep: every number of states x every restart in one compiled program."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hmm.e_step import chunk_size
from hmm.em import Progress, evaluate, iterate
from hmm.initialise import restart_keys, start, starting_factor
from hmm.model import Data, Layout, Model, Prior
from hmm.parameters import Parameters, check_covariance, num_parameters
from hmm.sequences import Sequences, check_num_runs

PRIORS = {"weak": Prior(scale=1e-4, count=1e-2)}
_ITERATIONS_PER_CALL = 4  # between two calls of the callback


@dataclass(frozen=True)
class SweepConfig:
    """What to fit.

    Attributes:
        states: Numbers of states K to try.
        restarts: Fits of each K, from k-means++ seeds (even numbers) or random segments of the runs
            (odd numbers); see `hmm.initialise.start`.
        iterations: EM iterations at most (paper A: 32).
        covariance: "full", "diagonal", "spherical" or "shared" (one for all states).
        prior: "weak", near maximum likelihood as in the paper: a prior scatter of 1e-4 squared
            standard deviations of the training data on each axis (Dynamax's default), so that the
            variances of a state with n checkpoints are at least 1e-4 / n, and a pseudo-count of
            0.01 for every transition and initial state, so that no run is impossible.
        tolerance: A fit has converged when an iteration raises its penalised log-likelihood by less
            than this share of it (or of the number of checkpoints, if that is larger).
    """

    states: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    restarts: int = 5
    iterations: int = 32
    covariance: str = "full"
    prior: str = "weak"
    tolerance: float = 1e-6

    def __post_init__(self):
        check_covariance(self.covariance)
        if self.prior not in PRIORS:
            raise ValueError(f"prior must be one of {', '.join(PRIORS)}; got {self.prior!r}")
        if not self.states or min(self.states) < 1 or len(set(self.states)) < len(self.states):
            raise ValueError(
                f"states must be different whole numbers from 1 up; got {list(self.states)}"
            )
        if self.restarts < 1 or self.iterations < 1:
            raise ValueError(
                f"restarts and iterations must be at least 1; got {self.restarts} and "
                f"{self.iterations}"
            )


@dataclass(frozen=True, eq=False)
class Fit:
    """One fitted HMM. Log-likelihoods are in nats, of the data in the units they were given in.

    Attributes:
        num_states: Number of states K.
        restart: Number of the restart, from 0.
        parameters: The model, float64.
        train_log_likelihood: Total over the training runs.
        validation_log_likelihood: Total over the validation runs.
        train_run_log_likelihood: float64 [training run].
        validation_run_log_likelihood: float64 [validation run].
        penalised_log_likelihood: Training log-likelihood plus log-prior: what EM maximises.
        num_parameters: Free parameters p, see `hmm.num_parameters`.
        aic: -2 validation_log_likelihood + 2 p.
        bic: -2 validation_log_likelihood + p log(number of validation checkpoints). Both criteria
            are taken on held-out runs, as in the code released with paper A.
        iterations: EM iterations made.
        converged: Whether the tolerance was met before the iterations ran out.
        degenerate: Whether the fit broke down (a non-finite update, a covariance that cannot be
            factorised, a state with less than one checkpoint); its parameters are the last good
            ones and selection leaves it out.
    """

    num_states: int
    restart: int
    parameters: Parameters
    train_log_likelihood: float
    validation_log_likelihood: float
    train_run_log_likelihood: np.ndarray
    validation_run_log_likelihood: np.ndarray
    penalised_log_likelihood: float
    num_parameters: int
    aic: float
    bic: float
    iterations: int
    converged: bool
    degenerate: bool


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
    """

    config: SweepConfig
    fits: tuple[Fit, ...]
    metrics: tuple[str, ...]
    train_runs: tuple[str, ...]
    validation_runs: tuple[str, ...]
    num_observations_train: int
    num_observations_validation: int


def fit_sweep(
    train: Sequences,
    validation: Sequences,
    config: SweepConfig,
    key: jax.Array,
    callback: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Fits an HMM for every number of states and restart, all in one compiled program.

    Inside, metrics are standardised by the training data's mean and standard deviation (one
    standard deviation for all metrics if the covariance is spherical), so the prior does not depend
    on units; everything returned is in the units of the input.

    Args:
        train: Training runs.
        validation: Held-out runs with the same metrics.
        config: What to fit.
        key: JAX key; restart r of K states uses fold_in(fold_in(key, K), r) and so does not depend
            on the rest of the sweep.
        callback: Called with (iterations done, iterations in all) from time to time, at last with
            both equal.

    Returns:
        The sweep.

    Raises:
        ValueError: With fewer than 5 runs in all or none on one side, different metrics, missing
            values, or more states than the data allow (half the number of training checkpoints).
    """
    _check(train, validation, config)
    scaling = _scaling(train, config.covariance)
    names = [(k, r) for k in config.states for r in range(config.restarts)]
    layout = Layout(tuple(k for k, _ in names), config.covariance)
    data = _data([train], scaling)
    factor = starting_factor(scaling.apply(train.observations()), config.covariance)
    model = start(layout, data, restart_keys(key, names), [r for _, r in names], factor)
    progress = _run_em(layout, data, config, _fresh(layout, model), callback)
    scores = evaluate(layout, _data([train, validation], scaling), _prior(config), progress.model)
    results = _results(names, layout, *jax.device_get((progress, *scores)))
    fits = tuple(_fit(result, train, validation, scaling, config) for result in results)
    return Sweep(
        config,
        fits,
        train.metrics,
        train.runs,
        validation.runs,
        train.num_observations,
        validation.num_observations,
    )


def _check(train: Sequences, validation: Sequences, config: SweepConfig) -> None:
    """Refuses what cannot be fitted, in one line each."""
    check_num_runs(train.num_runs + validation.num_runs)
    if not train.num_runs or not validation.num_runs:
        raise ValueError("need at least one training run and one validation run")
    if train.metrics != validation.metrics:
        raise ValueError(
            f"training runs have the metrics {', '.join(train.metrics)} but validation runs "
            f"{', '.join(validation.metrics)}: choose the same for both"
        )
    for sequences in (train, validation):
        if np.isnan(sequences.values).any():
            run, time, metric = np.argwhere(np.isnan(sequences.values))[0]
            raise ValueError(
                f"{sequences.metrics[metric]} of run {sequences.runs[run]} is missing (NaN) at "
                f"checkpoint {time}: leave out the metric, the run, or the checkpoints from there"
            )
    allowed = train.num_observations // 2
    if max(config.states) > allowed:
        raise ValueError(
            f"{max(config.states)} states are more than the data allow: {train.num_observations} "
            f"training checkpoints allow at most {allowed} (two for each state)"
        )


class _Scaling(NamedTuple):
    """Mean and standard deviation [metric] of the training data; see `fit_sweep`."""

    mean: np.ndarray
    std: np.ndarray

    def apply(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / self.std


def _scaling(train: Sequences, covariance: str) -> _Scaling:
    observations = train.observations()
    std = observations.std(0)
    if covariance == "spherical":  # other scales for other metrics would make it diagonal
        std = np.full_like(std, np.sqrt((std**2).mean()))
    return _Scaling(observations.mean(0), np.where(std > 0, std, 1.0))


def _data(parts: list[Sequences], scaling: _Scaling) -> Data:
    """All runs of `parts`, standardised, padded to one length that chunks divide, time first."""
    num_steps = max(part.lengths.max() for part in parts)
    size = chunk_size(num_steps, sum(part.num_runs for part in parts))
    padded = -(-num_steps // size) * size
    values, masks = [], []
    for part in parts:
        steps = part.lengths.max()
        mask = part.mask[:, :steps]
        scaled = np.where(mask[:, :, None], scaling.apply(part.values[:, :steps]), 0.0)
        values.append(np.pad(scaled, ((0, 0), (0, padded - steps), (0, 0))))
        masks.append(np.pad(mask, ((0, 0), (0, padded - steps))))
    values, mask = np.concatenate(values).transpose(1, 0, 2), np.concatenate(masks).T
    return Data(jnp.asarray(values, float), jnp.asarray(mask))


def _prior(config: SweepConfig) -> Prior:
    return Prior(*(jnp.asarray(value, float) for value in PRIORS[config.prior]))


def _fresh(layout: Layout, model: Model) -> Progress:
    """Progress before the first iteration."""
    num_fits = len(layout.num_states)
    return Progress(
        model,
        jnp.full(num_fits, -jnp.inf),
        jnp.zeros(num_fits, jnp.int32),
        jnp.zeros(num_fits, bool),
        jnp.zeros(num_fits, bool),
    )


def _run_em(layout, data, config: SweepConfig, progress: Progress, callback) -> Progress:
    """Runs EM a few iterations at a time, to report progress, until every fit has stopped."""
    done, total = 0, config.iterations
    while done < total and not (progress.converged | progress.degenerate).all():
        steps = min(_ITERATIONS_PER_CALL, total - done)
        progress = iterate(layout, data, _prior(config), config.tolerance, progress, steps)
        done += steps
        if callback and done < total:
            callback(done, total)
    if callback:
        callback(total, total)
    return progress


class _Result(NamedTuple):
    """One fit in standardised units, on the host."""

    num_states: int
    restart: int
    parameters: Parameters
    run_log_likelihood: np.ndarray  # training runs, then validation runs
    log_prior: float
    iterations: int
    converged: bool
    degenerate: bool


def _results(names, layout: Layout, progress: Progress, run_log_likelihoods, log_priors):
    """Splits the batched arrays into one `_Result` a fit, in float64, padding cut off."""
    model = jax.tree.map(lambda x: np.asarray(x, np.float64), progress.model)
    for i, (k, restart) in enumerate(names):
        factors = model.factors[layout.fit == i]
        initial, transition = model.initial[i, :k], model.transition[i, :k, :k]
        parameters = Parameters(
            initial / initial.sum(),
            transition / transition.sum(1, keepdims=True),
            model.means[layout.fit == i],
            factors @ factors.transpose(0, 2, 1),
        )
        yield _Result(
            k,
            restart,
            parameters,
            np.asarray(run_log_likelihoods[i], np.float64),
            float(log_priors[i]),
            int(progress.iterations[i]),
            bool(progress.converged[i]),
            bool(progress.degenerate[i]),
        )


def _fit(result: _Result, train, validation, scaling: _Scaling, config: SweepConfig) -> Fit:
    """The result in the units of the data, with its criteria."""
    lengths = np.concatenate([train.lengths, validation.lengths])
    by_run = result.run_log_likelihood - lengths * np.log(scaling.std).sum()
    on_train, on_validation = np.split(by_run, [train.num_runs])
    free = num_parameters(result.num_states, train.num_metrics, config.covariance)
    deviance = -2 * on_validation.sum()
    return Fit(
        num_states=result.num_states,
        restart=result.restart,
        parameters=_unscale(result.parameters, scaling),
        train_log_likelihood=float(on_train.sum()),
        validation_log_likelihood=float(on_validation.sum()),
        train_run_log_likelihood=on_train,
        validation_run_log_likelihood=on_validation,
        penalised_log_likelihood=float(on_train.sum() + result.log_prior),
        num_parameters=free,
        aic=float(deviance + 2 * free),
        bic=float(deviance + free * np.log(validation.num_observations)),
        iterations=result.iterations,
        converged=result.converged,
        degenerate=result.degenerate,
    )


def _unscale(parameters: Parameters, scaling: _Scaling) -> Parameters:
    return parameters._replace(
        means=parameters.means * scaling.std + scaling.mean,
        covariances=parameters.covariances * np.outer(scaling.std, scaling.std),
    )
