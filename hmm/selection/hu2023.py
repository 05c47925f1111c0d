"""The procedure of the code released with Hu et al. 2023, where it is not that of the default.

One split of the runs, z-scores within each run, hmmlearn's Baum-Welch (`hmm.em.baum_welch`) from
k-means, of the restarts of a K the one of highest log-likelihood on the runs held out, and the K
whose BIC on them is lowest on average over restarts. Runs that never converge count with the last
record's time. What is corrected: p-values above 1, and the importance of a metric, where the
released code adds up the entries of a vector (`hmm.belief_gradient`).

Starts are our own draws, as scikit-learn's are not reproduced. Of 10 seedings of k-means++ the best
is kept as in hmmlearn, but judged after 10 iterations, and it alone is iterated further.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from seedmap.errors import UserError
from seedmap.hmm.autoregressive.fits import precision
from seedmap.hmm.em.baum_welch import Fitting, Gaussians, baum_welch, log_likelihoods
from seedmap.hmm.parameters import Parameters, num_parameters
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.cross_validation import robust
from seedmap.hmm.selection.fits import Fit, Sweep
from seedmap.hmm.sequences import Sequences

NAME = "hu2023"
HELD_OUT = 0.2
_LANES = 8  # fits side by side
_SEEDINGS = 10  # of k-means, as in hmmlearn
_REFINEMENTS = 40  # iterations of k-means from the best seeding on
_MIN_COVAR = 1e-3  # hmmlearn's, added to the variances that all states start with


def hu2023_split(num_runs: int) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " held_out"]]:
    """Returns the runs to train on and those held out, as the released code splits them.

    It calls scikit-learn's `train_test_split(test_size=0.2, random_state=0)`: the first fifth,
    rounded up, of NumPy's `RandomState(0).permutation`, is held out.
    """
    order = np.random.RandomState(0).permutation(num_runs)
    away = -int(-HELD_OUT * num_runs // 1)
    return order[away:], order[:away]


def fit_hu2023(
    train: Sequences,
    validation: Sequences,
    config: SweepConfig,
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Fits an HMM for every number of states and restart, as hmmlearn does.

    Args:
        train: z-scored training runs without missing values.
        validation: runs held out, likewise.
        config: states, restarts, iterations and covariance ("full" or "diagonal").
        seed: of the starts.
        callback: called with (fits done, fits in all), first before compilation.

    Returns:
        The sweep; a fit whose covariances could not be inverted is degenerate.

    Raises:
        UserError: another covariance, or missing values.
    """
    _check(train, validation, config)
    names = [(k, r) for k in config.states for r in range(config.restarts)]
    points = train.observations()
    fits: list[Fit] = []
    with precision():
        runs = [_as_arrays(each) for each in (train, validation)]
        for begin in range(0, len(names), _LANES):
            if callback:
                callback(len(fits), len(names))
            chunk = names[begin : begin + _LANES]
            padded = chunk + chunk[-1:] * (_LANES - len(chunk))
            active = np.arange(max(config.states)) < np.array([k for k, _ in padded])[:, None]
            start = _stack([_start(points, k, (seed, k, r), config) for k, r in padded], active)
            made = baum_welch(
                *runs[0], active, start, config.iterations, config.covariance == "diagonal"
            )
            scores = [log_likelihoods(*each, active, made.model) for each in runs]
            results = jax.device_get((made, *scores))
            fits += [
                _fit(config, train, validation, i, *chunk[i], *results) for i in range(len(chunk))
            ]
    if callback:
        callback(len(names), len(names))
    return Sweep(
        config,
        tuple(fits),
        train.metrics,
        train.runs,
        validation.runs,
        train.num_observations,
        validation.num_observations,
    )


def select_hu2023(sweep: Sweep) -> Fit:
    """Returns the fit of highest held-out score of the K whose mean held-out BIC is lowest.

    Raises:
        UserError: every fit is degenerate.
    """
    sound = [fit for fit in sweep.fits if not fit.degenerate]
    if not sound:
        raise UserError("every fit is degenerate: try fewer states or a diagonal covariance")
    sizes = sorted({fit.num_states for fit in sound})
    means = {k: np.mean([fit.bic for fit in sound if fit.num_states == k]) for k in sizes}
    chosen = min(sizes, key=lambda k: means[k])
    mine = [fit for fit in sound if fit.num_states == chosen]
    return max(mine, key=lambda fit: fit.validation_log_likelihood)


class VisitCorrelation(NamedTuple):
    """The released notebook's test of a detour: who visits a state, and when they converge.

    Attributes:
        state: the state.
        visitors: runs that visit it.
        runs: runs with a time.
        r: Pearson's correlation of visiting (0 or 1) with the time.
        pvalue: two-sided, by the t distribution.
    """

    state: int
    visitors: int
    runs: int
    r: float
    pvalue: float


def visit_correlations(
    paths: Int[np.ndarray, "run time"], times: Float[np.ndarray, " run"], num_states: int
) -> tuple[VisitCorrelation, ...]:
    """Returns the correlation of visiting with time for every state that some run skips.

    Where one run alone skips a state it decides: the published one of 39 in 40 has p = 0.017.

    Args:
        paths: int [run, time], -1 on padding.
        times: float [run], of convergence; NaN for a run that has no part.
        num_states: K.
    """
    from scipy import stats  # here, for it takes half a second that `import hmm` need not take

    known = np.isfinite(times)
    correlations = []
    for state in range(num_states):
        visits = (paths == state).any(1)[known].astype(float)
        if 0 < visits.sum() < len(visits) and len(visits) > 2 and np.ptp(times[known]):
            r, pvalue = stats.pearsonr(visits, times[known])
            correlations.append(
                VisitCorrelation(state, int(visits.sum()), len(visits), float(r), float(pvalue))
            )
    return tuple(correlations)


def _check(train: Sequences, validation: Sequences, config: SweepConfig) -> None:
    if config.covariance not in ("full", "diagonal"):
        raise UserError(f"method {NAME} has covariance full or diagonal; got {config.covariance!r}")
    if np.isnan(train.values).any() or np.isnan(validation.values).any():
        raise UserError(
            f"method {NAME} cannot use missing values (NaN), as hmmlearn cannot: leave out the "
            "metric or the run"
        )
    if max(config.states) > train.num_observations // 2:
        raise UserError(
            f"{max(config.states)} states are more than the data allow: {train.num_observations} "
            f"training checkpoints allow at most {train.num_observations // 2} (two for each state)"
        )


def _as_arrays(sequences: Sequences) -> tuple[jax.Array, jax.Array]:
    values = jnp.asarray(sequences.values.transpose(1, 0, 2), float)
    return values, jnp.asarray(sequences.mask.T)


def _start(points: np.ndarray, num_states: int, key: tuple[int, ...], config: SweepConfig):
    """Where hmmlearn starts: k-means centres, one covariance for all states, random rows."""
    rng = np.random.default_rng(key)
    centres = _best_centres(points, num_states, rng)
    covariance = np.atleast_2d(np.cov(points.T)) + _MIN_COVAR * np.eye(points.shape[1])
    if config.covariance == "diagonal":
        covariance = np.diag(np.diag(covariance))
    shares = np.full(num_states, 1 / num_states)
    return Gaussians(
        rng.dirichlet(shares),
        rng.dirichlet(shares, num_states),
        centres,
        np.repeat(covariance[None], num_states, 0),
    )


def _best_centres(
    points: Float[np.ndarray, "n metric"], num_clusters: int, rng: np.random.Generator
) -> Float[np.ndarray, "cluster metric"]:
    """Returns the centres of k-means, from the best of 10 seedings of k-means++."""
    from scipy.cluster import vq

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty cluster, which keeps its centre
        tried = [
            vq.kmeans2(points, num_clusters, minit="++", rng=rng)[0]
            for _ in range(_SEEDINGS if num_clusters > 1 else 1)
        ]
        best = min(tried, key=lambda centres: (vq.vq(points, centres)[1] ** 2).sum())
        return vq.kmeans2(points, best, iter=_REFINEMENTS, minit="matrix")[0]


def _stack(models: list[Gaussians], active: np.ndarray) -> Gaussians:
    """Models of several numbers of states as one batch."""
    most = active.shape[1]

    def pad(array: np.ndarray, axes: int) -> np.ndarray:
        spare = most - len(array)
        return np.pad(array, [(0, spare)] * axes + [(0, 0)] * (array.ndim - axes))

    each = zip(*models, strict=True)
    return Gaussians(
        *(
            np.stack([pad(array, axes) for array in arrays])
            for arrays, axes in zip(each, (1, 2, 1, 1), strict=True)
        )
    )


def _fit(
    config: SweepConfig,
    train: Sequences,
    validation: Sequences,
    index: int,
    num_states: int,
    restart: int,
    made: Fitting,
    on_train: np.ndarray,
    on_validation: np.ndarray,
) -> Fit:
    """One fit of a batch, its padding cut off."""
    model = Gaussians(*(np.asarray(array[index], float) for array in made.model))
    parameters = Parameters(
        model.initial[:num_states],
        model.transition[:num_states, :num_states],
        model.means[:num_states],
        model.covariances[:num_states],
    )
    mine, others = (scores[index].astype(float) for scores in (on_train, on_validation))
    free = num_parameters(num_states, train.num_metrics, config.covariance)
    size = validation.num_observations
    sound = all(np.isfinite(array).all() for array in (*parameters, mine, others))
    return Fit(
        num_states=num_states,
        restart=restart,
        parameters=parameters,
        train_log_likelihood=float(mine.sum()),
        validation_log_likelihood=float(others.sum()),
        train_run_log_likelihood=mine,
        validation_run_log_likelihood=others,
        penalised_log_likelihood=float(mine.sum()),
        num_parameters=free,
        aic=float(-2 * others.sum() + 2 * free),
        bic=float(-2 * others.sum() + free * np.log(size)),
        iterations=int(made.iterations[index]),
        converged=bool(made.converged[index]),
        degenerate=not sound,
        robust_log_likelihood=size * robust(others / validation.lengths),
    )
