"""What the HMM is compared with: clustering without time, fewer metrics, fewer checkpoints.

The comparisons of Hu et al. 2023 (arXiv 2308.09543). Each baseline gives paths, and paths go
through the same bag of states and the same regression as the HMM's.

The regression on the whole run is partly circular. Where runs enter a state at about the time T of
convergence, they spend 1 - T / length of their checkpoints there, and the regression reads the
outcome back from the bag. Nothing is foreseen. `early_bag_regression` is the check: it looks at the
first checkpoints only, of runs that had not converged by then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int, Real

from seedmap.errors import UserError
from seedmap.hmm.decoding import Decoded, fit_and_decode
from seedmap.hmm.forecasting.causal import MINIMUM, causal_z_score
from seedmap.hmm.inference import viterbi
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.sequences import Sequences, split_runs, z_score
from seedmap.hmm.training_map.build import TrainingMap, build_map
from seedmap.hmm.training_map.regression import Regression, bag_of_states, regress

NORM = "l2"
"""The one metric of HMM-1."""

RESTARTS = 20
"""Restarts of k-means for each number of clusters."""


@dataclass(frozen=True, eq=False)
class Clustering:
    """Checkpoints of all runs in k-means clusters, read as paths.

    Attributes:
        num_states: number of clusters.
        paths: int32 [run, time], cluster of each checkpoint, -1 on padding.
        bic: held-out BIC of every number of clusters tried.
    """

    num_states: int
    paths: Int[np.ndarray, "run time"]
    bic: dict[int, float]


def kmeans(
    sequences: Sequences,
    train: Int[np.ndarray, " fitted"] | Sequence[int],
    held_out: Int[np.ndarray, " held_out"] | Sequence[int],
    states: Sequence[int] = tuple(range(1, 9)),
    seed: int = 0,
) -> Clustering:
    """Clusters checkpoints by k-means, K chosen by BIC on held-out runs.

    A clustering is scored as the mixture of equal spherical Gaussians that k-means fits, each point
    in its nearest cluster (Pelleg & Moore 2000, "X-means"). With the training points' shares pi_k,
    centres mu_k and mean squared distance D sigma^2 to their centres, n held-out points of D
    metrics have

        log L = sum_i log pi_k(i) - D/2 log(2 pi sigma^2) - |x_i - mu_k(i)|^2 / (2 sigma^2)
        BIC   = -2 log L + K (D + 1) log n.

    K (D + 1) counts K - 1 shares, K D coordinates and one variance. As for the HMM, the runs that
    choose K are not those fitted.

    Args:
        sequences: z-scores of all runs.
        train: indices of the runs to fit.
        held_out: indices of the runs to choose K by.
        states: numbers of clusters to try.
        seed: of the restarts.

    Returns:
        The clustering with the lowest BIC.

    Raises:
        UserError: missing values, or fewer different training checkpoints than clusters.
    """
    if np.isnan(sequences.values).any():
        raise UserError("k-means cannot use missing values (NaN): leave out the metric or the run")
    points, others = (sequences.select(runs).observations() for runs in (train, held_out))
    distinct = len(np.unique(points, axis=0))
    if max(states) >= distinct:
        raise UserError(
            f"{max(states)} clusters of {distinct} different training checkpoints: try fewer"
        )
    centres = {k: _centres(points, k, seed) for k in states}
    bic = {k: _spherical_bic(centres[k], points, others) for k in states}
    chosen = min(bic, key=lambda k: bic[k])
    paths = np.full(sequences.mask.shape, -1, dtype=np.int32)
    paths[sequences.mask] = _nearest(sequences.observations(), centres[chosen])[0]
    return Clustering(chosen, paths, bic)


def _centres(points: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Centres [cluster, metric] of the best of all restarts, without any that lost its points."""
    from scipy.cluster import vq

    centres, _ = vq.kmeans(points, num_clusters, iter=RESTARTS, seed=seed)
    return centres[np.unique(_nearest(points, centres)[0])]


def _nearest(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centre of every point, and its distance."""
    from scipy.cluster import vq  # here, for it takes 0.3 s that `import hmm` need not

    return vq.vq(points, centres)


def _spherical_bic(centres: np.ndarray, points: np.ndarray, others: np.ndarray) -> float:
    """BIC of `others` [n, metric], see `kmeans`; shares and variance are those of `points`."""
    num_metrics = points.shape[1]
    labels, distances = _nearest(points, centres)
    counts = np.bincount(labels)
    variance = (distances**2).mean() / num_metrics
    labels, distances = _nearest(others, centres)
    log_likelihood = (
        np.log(counts / len(points))[labels]
        - 0.5 * num_metrics * np.log(2 * np.pi * variance)
        - 0.5 * distances**2 / variance
    ).sum()
    return float(-2 * log_likelihood + centres.size * (1 + 1 / num_metrics) * np.log(len(others)))


def only_metrics(sequences: Sequences, metrics: Sequence[str]) -> Sequences:
    """Returns the same runs with these metrics only, in this order.

    Raises:
        UserError: if the sequences have no such metric.
    """
    missing = [name for name in metrics if name not in sequences.metrics]
    if missing:
        raise UserError(
            f"there is no metric {missing[0]}; there are {', '.join(sequences.metrics)}"
        )
    columns = [sequences.metrics.index(name) for name in metrics]
    return replace(sequences, values=sequences.values[:, :, columns], metrics=tuple(metrics))


def rank_metrics(tmap: TrainingMap) -> list[str]:
    """Returns the metrics that describe the map's edges, most important first.

    A metric scores, for each edge that has it among its top features, the number of runs that take
    the edge; equal scores go by its mean rank among them. A metric that describes none is absent.
    """
    score: dict[str, int] = {}
    ranks: dict[str, list[int]] = {}
    for edge in tmap.edges:
        for rank, (metric, _) in enumerate(edge.top_features):
            score[metric] = score.get(metric, 0) + edge.num_runs
            ranks.setdefault(metric, []).append(rank)
    return sorted(score, key=lambda metric: (-score[metric], np.mean(ranks[metric]), metric))


def early_bag_regression(
    paths: Int[np.ndarray, "run time"],
    steps: Real[np.ndarray, " step"],
    outcome: Real[np.ndarray, " run"],
    upto: float,
) -> Regression:
    """Regresses the outcome on the bag of the checkpoints up to a step, before any of it has come.

    One step for all runs, and only runs whose outcome lies after it. To cut each run at its own
    convergence would not do: the length of what is left is the outcome.

    The paths must not look ahead either. Decode them from the checkpoints up to the step, scaled by
    those alone (`hmm.forecasting.causal`): a whole run's mean and standard deviation tell how it
    goes on.

    Args:
        paths: int [run, time], decoded states, -1 on padding.
        steps: [time], step of each checkpoint, increasing.
        outcome: float [run], in units of the steps; NaN for a run that did not converge.
        upto: the step.

    Returns:
        The regression over the runs with an outcome after the step.

    Raises:
        UserError: no checkpoint up to the step, or no run with a checkpoint there and an outcome
            after it.
    """
    paths, outcome = np.asarray(paths), np.asarray(outcome, dtype=float)
    seen = int(np.searchsorted(steps, upto, side="right"))
    later = outcome > upto  # False for NaN
    if not seen or not later.any():
        raise UserError(
            f"nothing to foresee at step {upto:g}: checkpoints begin at step {steps[0]:g} and "
            f"{int(later.sum())} runs have their outcome later"
        )
    bag = bag_of_states(paths[later, :seen], int(paths.max()) + 1)
    return regress(bag, outcome[later])


def compare_baselines(
    sequences: Sequences,
    outcome: Real[np.ndarray, " run"],
    steps: Real[np.ndarray, " time"],
    config: SweepConfig,
    seed: int = 0,
    best: Sequence[int] = (1, 3, 5),
    upto: Sequence[float] | Real[np.ndarray, " step"] = (),
    held_out: Sequence[int] | Int[np.ndarray, " held_out"] | None = None,
    criterion: str | None = None,
    one_standard_error: bool = False,
) -> list[dict[str, Any]]:
    """Regresses the outcome on the states of the HMM, of the baselines and the ablations.

    Args:
        sequences: raw metrics of all runs.
        outcome: float [run]; NaN for a run that did not converge.
        steps: [time], step of each checkpoint, increasing.
        config: the sweep, for every HMM; k-means tries the same numbers of states.
        seed: of the split into runs to fit and to choose K by, if it is not given, and of all
            restarts.
        best: numbers of metrics, the most important of the HMM's map, to fit HMMs on.
        upto: steps for `early_bag_regression`. Its paths are of one HMM, fitted to causal z-scores.
        held_out: indices of the runs to choose K by, the others being fitted; default: a fifth of
            them at random.
        criterion: what chooses K of every HMM, as in `select`; k-means has its own.
        one_standard_error: as in `select`.

    Returns:
        Dicts with `name` ("HMM", "k-means", "HMM-1 (l2)", "best 3 (l2, ...)", "up to step 100"),
        `num_states`, `num_runs`, `r2`, `leave_one_out_r2` and `f_pvalue`. There is no row for more
        best metrics than describe the map, and none for HMM-1 without the metric `l2`.

    Raises:
        UserError: as `kmeans`, `fit_and_decode` and `early_bag_regression`.
    """
    if held_out is None:
        _, held_out = split_runs(sequences.num_runs, seed=seed)
    train, z = np.setdiff1d(np.arange(sequences.num_runs), held_out), z_score(sequences)

    def decode(scaled: Sequences) -> Decoded:
        return fit_and_decode(scaled, train, held_out, config, seed, criterion, one_standard_error)

    decoded = decode(z)
    clusters = kmeans(z, train, held_out, config.states, seed)
    rows = [_row("HMM", decoded, outcome), _row("k-means", clusters, outcome)]
    if NORM in z.metrics:
        rows.append(_row(f"HMM-1 ({NORM})", decode(only_metrics(z, [NORM])), outcome))
    ranked = rank_metrics(build_map(decoded.parameters, z, decoded.paths))
    for count in (count for count in best if count <= len(ranked)):
        name = f"best {count} ({', '.join(ranked[:count])})"
        rows.append(_row(name, decode(only_metrics(z, ranked[:count])), outcome))
    return rows + (_early_rows(sequences, outcome, steps, decode, upto) if len(upto) else [])


def _early_rows(sequences, outcome, steps, decode, upto) -> list[dict[str, Any]]:
    """Rows of the regressions on the first checkpoints."""
    causal = causal_z_score(sequences)
    steps = np.asarray(steps)[MINIMUM - 1 :]
    parameters = decode(causal).parameters
    rows = []
    for step in upto:
        seen = np.searchsorted(steps, step, side="right")
        paths = viterbi(parameters, _first(causal, int(seen)))
        regression = early_bag_regression(paths, steps, outcome, step)
        rows.append(_values(f"up to step {step:g}", len(parameters.means), regression))
    return rows


def _first(sequences: Sequences, count: int) -> Sequences:
    """The first checkpoints of every run."""
    lengths = np.minimum(sequences.lengths, count)
    return replace(sequences, values=sequences.values[:, :count], lengths=lengths)


def _row(name: str, states: Decoded | Clustering, outcome: np.ndarray) -> dict[str, Any]:
    return explained_by(name, states.paths, states.num_states, outcome)


def explained_by(
    name: str,
    paths: Int[np.ndarray, "run time"],
    num_states: int,
    outcome: Real[np.ndarray, " run"],
) -> dict[str, Any]:
    """Returns what the bag of states of any decoding explains, a row of `compare_baselines`.

    Args:
        name: of the row.
        paths: int [run, time], -1 on padding.
        num_states: K.
        outcome: float [run]; NaN for a run that did not converge.
    """
    return _values(name, num_states, regress(bag_of_states(paths, num_states), outcome))


def _values(name: str, num_states: int, regression: Regression) -> dict[str, Any]:
    return {
        "name": name,
        "num_states": num_states,
        "num_runs": regression.num_runs,
        "r2": regression.r2,
        "leave_one_out_r2": regression.leave_one_out_r2,
        "f_pvalue": regression.f_pvalue,
    }
