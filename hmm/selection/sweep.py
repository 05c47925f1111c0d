"""The model-selection sweep: every number of states x every restart, all fitted together."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from seedmap.errors import UserError
from seedmap.hmm.em.candidates import restart_keys, starting_factor
from seedmap.hmm.em.loop import Progress, evaluate, run
from seedmap.hmm.em.model import Data, Layout, Model, Prior
from seedmap.hmm.em.standardise import Scaling, as_data, scaling_of
from seedmap.hmm.em.start import best_start, thin
from seedmap.hmm.parameters import Parameters, num_parameters
from seedmap.hmm.selection.config import PRIORS, PSEUDO_COUNT, SweepConfig
from seedmap.hmm.selection.cross_validation import CrossValidation, best_scale, robust
from seedmap.hmm.selection.fits import Fit, Sweep
from seedmap.hmm.sequences import Sequences, check_num_runs


def fit_sweep(
    train: Sequences,
    validation: Sequences,
    config: SweepConfig,
    key: PRNGKeyArray,
    callback: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Fits an HMM for every number of states and restart, all together.

    Inside, metrics are standardised by the training data's mean and standard deviation (one
    standard deviation for all metrics if the covariance is spherical), so the prior does not depend
    on units; everything returned is in the units of the input.

    With the prior "held-out", one more pass over all fits for every candidate scale comes first,
    in the same compiled program: in it restart r is trained on the runs outside fold r (at least
    two folds), and the scale of each K is chosen by the runs held out, see
    `hmm.selection.cross_validation`. The validation runs have no part in it.

    A missing value (NaN) is integrated out exactly, see `hmm.em.missing`.

    Args:
        train: Training runs.
        validation: Held-out runs with the same metrics.
        config: What to fit.
        key: JAX key; restart r of K states uses fold_in(fold_in(key, K), r) and so does not depend
            on the rest of the sweep.
        callback: Called with (iterations done, iterations in all), at first with 0 done, at last
            with all; the passes of the cross-validation count.

    Returns:
        The sweep.

    Raises:
        UserError: With fewer than 5 runs in all or none on one side, different metrics, a single
            training run with the prior "held-out", or more states than the data allow (half the
            number of training checkpoints).
    """
    _check(train, validation, config)
    work = _prepare(train, validation, config, key, callback)
    scores = tuple(_cross_validate(work)) if config.prior == "held-out" else ()
    scales = {k: _scale(config, scores, k) for k in config.states}
    everyone = np.ones((len(work.names), train.num_runs))
    by_fit = np.array([scales[k] for k, _ in work.names])
    model = _start(work, everyone, by_fit)
    results = _run(work, everyone, by_fit, model, len(PRIORS[config.prior]) if scores else 0)
    fits = tuple(_fit(work, result) for result in results)
    return Sweep(
        config,
        tuple(fit for fit in fits if fit.restart < config.restarts),
        train.metrics,
        train.runs,
        validation.runs,
        train.num_observations,
        validation.num_observations,
        scores,
    )


def _check(train: Sequences, validation: Sequences, config: SweepConfig) -> None:
    """Refuses what cannot be fitted, in one line each."""
    check_num_runs(train.num_runs + validation.num_runs)
    if not train.num_runs or not validation.num_runs:
        raise UserError("need at least one training run and one validation run")
    if train.metrics != validation.metrics:
        raise UserError(
            f"training runs have the metrics {', '.join(train.metrics)} but validation runs "
            f"{', '.join(validation.metrics)}: choose the same for both"
        )
    if train.num_runs < 2 and config.prior == "held-out":
        raise UserError(
            "the prior 'held-out' is chosen by training runs left out in turn and needs at least "
            "2; there is 1: hold out fewer runs, or take the prior 'weak'"
        )
    allowed = train.num_observations // 2
    if max(config.states) > allowed:
        raise UserError(
            f"{max(config.states)} states are more than the data allow: {train.num_observations} "
            f"training checkpoints allow at most {allowed} (two for each state)"
        )


class _Work(NamedTuple):
    """What all passes of a sweep share."""

    config: SweepConfig
    key: PRNGKeyArray
    names: list[tuple[int, int]]  # number of states and restart of each fit
    layout: Layout
    train: Sequences
    validation: Sequences
    scaling: Scaling
    data: Data  # of the training runs
    thinned: Data  # some of their checkpoints
    both: Data  # of training and validation runs
    report: Callable[[int], None]  # takes the iterations done in all passes


def num_iterations(config: SweepConfig) -> int:
    """EM iterations of all passes of a sweep, as its callback counts them."""
    cross = config.prior == "held-out"
    return config.iterations * (len(PRIORS[config.prior]) + 1 if cross else 1)


def _prepare(train, validation, config: SweepConfig, key, callback) -> _Work:
    """Lays out the fits and the data, and reports that nothing is done yet."""
    names = [(k, r) for k in config.states for r in range(config.starts)]
    scaling = scaling_of(train, config.covariance)
    total = num_iterations(config)

    def report(done: int) -> None:
        if callback:
            callback(done, total)

    report(0)
    return _Work(
        config,
        key,
        names,
        Layout(tuple(k for k, _ in names), config.covariance),
        train,
        validation,
        scaling,
        as_data([train], scaling),
        as_data([thin(train)], scaling),
        as_data([train, validation], scaling),
        report,
    )


def _cross_validate(work: _Work) -> list[CrossValidation]:
    """Scores every K under every scale: restart r holds fold r out. A pass for each scale.

    All scales start from the same models, found under the middle one: only the scale differs.
    """
    scales = PRIORS[work.config.prior]
    num_runs, restarts = work.train.num_runs, [r for _, r in work.names]
    num_folds = min(num_runs, max(restarts) + 1)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(work.key, 0), num_runs))
    held_out = order % num_folds == np.array(restarts)[:, None] % num_folds  # [F, run]
    alike = np.ones(len(held_out))
    model = _start(work, ~held_out, scales[len(scales) // 2] * alike)
    states = np.array([k for k, _ in work.names])
    validations = []
    for index, scale in enumerate(scales):
        results = _run(work, ~held_out, scale * alike, model, index)
        scores = np.stack([_per_checkpoint(work, result)[:num_runs] for result in results])
        scores = np.where(held_out, scores, np.nan)
        validations += [
            CrossValidation(k, scale, np.nanmean(scores[states == k], axis=0))
            for k in work.config.states
        ]
    return validations


def _scale(config: SweepConfig, scores: tuple[CrossValidation, ...], num_states: int) -> float:
    """The scale of the prior for one K."""
    of_k = [score for score in scores if score.num_states == num_states]
    return best_scale(of_k) if of_k else PRIORS[config.prior][0]


def _prior(scales: np.ndarray) -> Prior:
    return Prior(jnp.asarray(scales, float), jnp.asarray(PSEUDO_COUNT, float))


def _start(work: _Work, run_weights: np.ndarray, scales: np.ndarray) -> Model:
    """Where all fits start, on the runs [F, run] and with the prior scales [F] given."""
    observations = np.nan_to_num(work.scaling.apply(work.train.observations()))
    factor = starting_factor(observations, work.config.covariance)
    keys, restarts = restart_keys(work.key, work.names), np.array([r for _, r in work.names])
    weights = jnp.asarray(run_weights, float)
    return best_start(work.layout, work.thinned, weights, _prior(scales), keys, restarts, factor)


def _run(
    work: _Work, run_weights: np.ndarray, scales: np.ndarray, model: Model, index: int
) -> list["_Result"]:
    """Pass `index`: EM of all fits, on the runs [F, run] and with the prior scales [F] given."""
    config, layout, prior = work.config, work.layout, _prior(scales)
    weights = jnp.asarray(run_weights, float)
    progress = run(
        *(layout, work.data, weights, prior, config.tolerance, model, config.iterations),
        lambda done: work.report(index * config.iterations + done),
    )
    scores = evaluate(layout, work.both, prior, progress.model)
    return list(_results(work, scales, *jax.device_get((progress, *scores))))


class _Result(NamedTuple):
    """One fit in standardised units, on the host."""

    num_states: int
    restart: int
    prior_scale: float
    parameters: Parameters
    run_log_likelihood: np.ndarray  # training runs, then validation runs
    path_log_likelihood: np.ndarray  # likewise
    log_prior: float
    iterations: int
    converged: bool
    degenerate: bool


def _results(work: _Work, scales, progress: Progress, run_scores, path_scores, log_priors):
    """Splits the batched arrays into one `_Result` a fit, in float64, padding cut off."""
    model = jax.tree.map(lambda x: np.asarray(x, np.float64), progress.model)
    for i, (k, restart) in enumerate(work.names):
        mine = work.layout.fit == i
        initial, transition = model.initial[i, :k], model.transition[i, :k, :k]
        parameters = Parameters(
            initial / initial.sum(),
            transition / transition.sum(1, keepdims=True),
            model.means[mine],
            model.factors[mine] @ model.factors[mine].transpose(0, 2, 1),
        )
        yield _Result(
            k,
            restart,
            float(scales[i]),
            parameters,
            np.asarray(run_scores[i], np.float64),
            np.asarray(path_scores[i], np.float64),
            float(log_priors[i]),
            int(progress.iterations[i]),
            bool(progress.converged[i]),
            bool(progress.degenerate[i]),
        )


def _log_volume(work: _Work) -> np.ndarray:
    """Log of the change of units of all values a run has, float64 [run], in nats."""
    logs = np.log(work.scaling.std)
    counts = [
        (runs.mask[:, :, None] & ~np.isnan(runs.values)).sum(1)
        for runs in (work.train, work.validation)
    ]
    return np.concatenate(counts) @ logs


def _per_checkpoint(work: _Work, result: _Result) -> np.ndarray:
    """Log-likelihood per checkpoint of every run, training runs first, in the data's units."""
    lengths = np.concatenate([work.train.lengths, work.validation.lengths])
    return (result.run_log_likelihood - _log_volume(work)) / lengths


def _fit(work: _Work, result: _Result) -> Fit:
    """The result in the units of the data, with its criteria."""
    num_train, num_held_out = work.train.num_runs, work.validation.num_observations
    volume = _log_volume(work)
    on_train, on_validation = np.split(result.run_log_likelihood - volume, [num_train])
    path_train, path_validation = np.split(result.path_log_likelihood - volume, [num_train])
    free = num_parameters(result.num_states, work.train.num_metrics, work.config.covariance)
    deviance = -2 * on_validation.sum()
    return Fit(
        num_states=result.num_states,
        restart=result.restart,
        parameters=work.scaling.undo(result.parameters),
        train_log_likelihood=float(on_train.sum()),
        validation_log_likelihood=float(on_validation.sum()),
        train_run_log_likelihood=on_train,
        validation_run_log_likelihood=on_validation,
        penalised_log_likelihood=float(on_train.sum() + result.log_prior),
        num_parameters=free,
        aic=float(deviance + 2 * free),
        bic=float(deviance + free * np.log(num_held_out)),
        iterations=result.iterations,
        converged=result.converged,
        degenerate=result.degenerate,
        prior_scale=result.prior_scale,
        robust_log_likelihood=num_held_out * robust(on_validation / work.validation.lengths),
        train_path_log_likelihood=float(path_train.sum()),
        validation_path_log_likelihood=float(path_validation.sum()),
    )
