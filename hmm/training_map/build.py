"""The training map: which states runs pass through, and what changes on the way.

Hu et al. 2023 (arXiv 2308.09543): the states of the HMM are vertices, its transitions edges; edges
that no decoded run uses are left out; an edge is described by the change of the emission mean in
the three metrics that matter most for entering its target.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from seedmap.errors import UserError
from seedmap.hmm.inference import filtered
from seedmap.hmm.parameters import Parameters
from seedmap.hmm.sequences import Sequences
from seedmap.hmm.training_map.entries import Entries, decoded_entries, smoothed_entries
from seedmap.hmm.training_map.transitions import Transitions, returns, transitions_made

if TYPE_CHECKING:
    import networkx

NUM_TOP_FEATURES = 3
"""Metrics that describe an edge (Hu et al. 2023)."""


@dataclass(frozen=True)
class Edge:
    """A transition between two different states that some decoded run makes.

    Attributes:
        source: state left.
        target: state entered.
        probability: the HMM's transition probability, per checkpoint.
        num_runs: runs whose decoded path makes it.
        count: times it is made, over all runs.
        top_features: (metric, mean of target - mean of source), in z units, for the metrics most
            important for entering the target, the most important first.
    """

    source: int
    target: int
    probability: float
    num_runs: int
    count: int
    top_features: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class TrainingMap:
    """The pruned state graph of a set of runs.

    Attributes:
        num_states: K.
        num_runs: runs decoded.
        edges: by source, then target; self loops left out.
        occupancy: float64 [state], share of all checkpoints.
        visits: int [state], runs that ever visit.
        first_visit: float64 [state], mean checkpoint index of the first visit over the runs that
            visit; NaN if none does.
        forking: whether two runs meet new states in different orders (neither order of first visits
            begins the other).
        num_returning: runs that come back to a state they had left.
    """

    num_states: int
    num_runs: int
    edges: tuple[Edge, ...]
    occupancy: Float[np.ndarray, " state"]
    visits: Int[np.ndarray, " state"]
    first_visit: Float[np.ndarray, " state"]
    forking: bool
    num_returning: int

    @property
    def order(self) -> str:
        """What the decoded paths say of order, in a few words (Hu et al. 2023 for forks)."""
        order = "runs fork" if self.forking else "one order of first visits"
        return "; ".join(filter(None, (order, self.returning)))

    @property
    def returning(self) -> str:
        """How many runs go back, in a few words; empty where none does."""
        if not self.num_returning:
            return ""
        goes = "goes" if self.num_returning == 1 else "go"
        return f"{self.num_returning} of {self.num_runs} runs {goes} back"

    def graph(self) -> "networkx.DiGraph":
        """The map as a directed graph.

        Returns:
            Nodes 0..K-1 with attributes occupancy, visits and first_visit; edges with probability,
            num_runs, share (of all runs), count and top_features.
        """
        import networkx  # here, as `import hmm` need not wait for it

        graph = networkx.DiGraph()
        for state in range(self.num_states):
            graph.add_node(
                state,
                occupancy=float(self.occupancy[state]),
                visits=int(self.visits[state]),
                first_visit=float(self.first_visit[state]),
            )
        for edge in self.edges:
            graph.add_edge(
                edge.source,
                edge.target,
                probability=edge.probability,
                num_runs=edge.num_runs,
                share=edge.num_runs / self.num_runs,
                count=edge.count,
                top_features=edge.top_features,
            )
        return graph

    def table(self) -> list[dict]:
        """The edges as rows of plain Python values, ready for JSON or a data frame.

        Returns:
            A dict per edge: from, to, probability, num_runs, share (of all runs), count and
            top_features, a list of [metric, change in z units].
        """
        return [
            {
                "from": edge.source,
                "to": edge.target,
                "probability": edge.probability,
                "num_runs": edge.num_runs,
                "share": edge.num_runs / self.num_runs,
                "count": edge.count,
                "top_features": [list(feature) for feature in edge.top_features],
            }
            for edge in self.edges
        ]


def build_map(
    parameters: Parameters,
    sequences: Sequences,
    paths: Int[np.ndarray, "_run _time"],
    *,
    as_decoded: bool = False,
) -> TrainingMap:
    """Builds the map of decoded runs (Hu et al. 2023).

    Args:
        parameters: of the HMM, states in the order of `paths`.
        sequences: the runs, in the z units the HMM was fitted in.
        paths: int [run, time], decoded states (`hmm.inference.viterbi`), -1 on padding.
        as_decoded: whether the importance of metrics is that at the decoded record of entry alone
            (Hu et al. 2023). Default: the mean over the records at which the entry may have been
            (`hmm.training_map.entries`).

    Returns:
        The map. A metric that was missing each time an edge was used does not describe it.

    Raises:
        UserError: `paths` does not fit the sequences or the HMM's states.
    """
    paths, num_states = np.asarray(paths), len(parameters.means)
    _check_paths(paths, sequences, num_states)
    visited = paths[..., None] == np.arange(num_states)
    visits = visited.any(axis=1)
    first = np.where(visits, visited.argmax(axis=1), 0).sum(axis=0)
    return TrainingMap(
        num_states=num_states,
        num_runs=len(paths),
        edges=_edges(parameters, sequences, paths, as_decoded),
        occupancy=visited.sum(axis=(0, 1)) / visited.sum(),
        visits=visits.sum(axis=0),
        first_visit=np.where(visits.any(axis=0), first / np.maximum(visits.sum(axis=0), 1), np.nan),
        forking=_forks(paths),
        num_returning=int(sum(map(returns, paths))),
    )


def importance(
    parameters: Parameters, sequences: Sequences
) -> Float[np.ndarray, "run time state metric"]:
    """Returns how much each metric of a checkpoint moves the belief in each state.

    ``|d log p(s_t = k | z_1:t) / d z_t|``, entry by entry (Hu et al. 2023). The importance for
    entering k at checkpoint t of a run is the row ``[run, t, k]``.

    Args:
        parameters: of the HMM.
        sequences: the runs, in the z units the HMM was fitted in.

    Returns:
        float64 [run, time, state, metric]; NaN on padding and for missing metrics.
    """
    mask = sequences.mask
    beliefs = filtered(parameters, sequences)[mask]
    result = np.full((*mask.shape, *parameters.means.shape), np.nan)
    result[mask] = np.abs(belief_gradient(parameters, sequences.observations(), beliefs))
    return result


def belief_gradient(
    parameters: Parameters,
    observations: Float[np.ndarray, "observation metric"],
    beliefs: Float[np.ndarray, "observation state"],
) -> Float[np.ndarray, "observation state metric"]:
    """Returns the gradient of the filtered log-posterior by the observation it ends with.

    With g_h = Sigma_h^-1 (mu_h - z_t), the gradient of log p(s_t = h, z_t | z_1:t-1), it is
    ``g_k - sum_h p(s_t = h | z_1:t) g_h``: a vector over metrics for each state k. (The code
    released with the paper adds up the entries of the sum too; autodiff says otherwise.) Missing
    metrics are marginalised: means and covariances are those of the observed ones.

    Args:
        parameters: of the HMM.
        observations: float [n, metric], NaN where missing.
        beliefs: float [n, state], p(s_t | z_1:t).

    Returns:
        float64 [n, state, metric], NaN for missing metrics.
    """
    means = np.asarray(parameters.means, dtype=float)
    covariances = np.asarray(parameters.covariances, dtype=float)
    observations, beliefs = np.asarray(observations, float), np.asarray(beliefs, float)
    scores = np.full((len(observations), *means.shape), np.nan)
    patterns, members = np.unique(~np.isnan(observations), axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        rows, seen = np.flatnonzero(members.ravel() == index), np.flatnonzero(pattern)
        deviations = means[:, seen, None] - observations[np.ix_(rows, seen)].T
        solved = np.linalg.solve(covariances[:, seen[:, None], seen], deviations)
        scores[rows[:, None], :, seen] = solved.transpose(2, 1, 0)
    return scores - np.einsum("nk,nkd->nd", beliefs, scores)[:, None, :]


def _check_paths(paths: np.ndarray, sequences: Sequences, num_states: int) -> None:
    if paths.shape != sequences.values.shape[:2]:
        raise UserError(
            f"paths must be [run, time] like the sequences, {sequences.values.shape[:2]}, "
            f"not {paths.shape}"
        )
    if ((paths >= 0) != sequences.mask).any() or paths.max() >= num_states:
        raise UserError(f"paths must hold states 0 to {num_states - 1}, and -1 on padding only")


def _edges(
    parameters: Parameters, sequences: Sequences, paths: np.ndarray, as_decoded: bool
) -> tuple[Edge, ...]:
    """The used transitions, by source, then target."""
    made = transitions_made(paths)
    runs, _, sources, targets = made
    if as_decoded:
        entries = decoded_entries(made)
    else:
        entries = smoothed_entries(parameters, sequences, paths, made)
    importances = _importance_at(parameters, sequences, made, entries)
    edges = []
    for source, target in sorted(set(zip(sources.tolist(), targets.tolist(), strict=True))):
        used = (sources == source) & (targets == target)
        change = parameters.means[target] - parameters.means[source]
        own = used[entries.transitions]
        top = _top_features(importances[own], entries.weights[own], change, sequences.metrics)
        edges.append(
            Edge(
                source=source,
                target=target,
                probability=float(parameters.transition[source, target]),
                num_runs=len(np.unique(runs[used])),
                count=int(used.sum()),
                top_features=top,
            )
        )
    return tuple(edges)


def _importance_at(
    parameters: Parameters, sequences: Sequences, made: Transitions, entries: Entries
) -> np.ndarray:
    """Importance [entry, metric] for the state entered, at every record of `entries`."""
    runs, targets = made.runs[entries.transitions], made.targets[entries.transitions]
    beliefs = filtered(parameters, sequences)[runs, entries.times]
    gradients = belief_gradient(parameters, sequences.values[runs, entries.times], beliefs)
    return np.abs(gradients[np.arange(len(runs)), targets])


def _top_features(
    importances: np.ndarray, weights: np.ndarray, change: np.ndarray, metrics: tuple[str, ...]
) -> tuple[tuple[str, float], ...]:
    """The metrics of largest mean importance [entry, metric], with their change of mean."""
    observed = weights @ ~np.isnan(importances)
    average = weights @ np.nan_to_num(importances) / np.maximum(observed, 1e-300)
    order = np.argsort(-average, kind="stable")
    top = [index for index in order if observed[index]][:NUM_TOP_FEATURES]
    return tuple((metrics[index], float(change[index])) for index in top)


def _forks(paths: np.ndarray) -> bool:
    orders = {tuple(dict.fromkeys(path[path >= 0].tolist())) for path in paths}
    return any(_diverge(a, b) for a, b in itertools.combinations(orders, 2))


def _diverge(first: Iterable[int], other: Iterable[int]) -> bool:
    return any(a != b for a, b in zip(first, other, strict=False))
