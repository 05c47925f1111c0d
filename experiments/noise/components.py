"""Variance components of a study by source: what each source does to each measure, in general.

components_of(study, convergence, paths)      # a line for each source and measure

See `measures.components` for what they are.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from seedmap.experiments.noise.convergence import Convergence
from seedmap.experiments.noise.measures.components import (
    Component,
    Pairs,
    SourceComponent,
    censored_pairs,
    component,
    pairs_of_distances,
    pairs_of_values,
)
from seedmap.experiments.noise.measures.replicas import churn, weight_distances
from seedmap.experiments.noise.study import StudyResult
from seedmap.experiments.noise.variants import num_rows, rows_by_root
from seedmap.hmm.training_map.dissimilarity import pairwise_dissimilarity
from seedmap.hmm.training_map.regression import bag_of_states
from seedmap.results import to_json

ROOT = "root"
CONVERGENCE = "log_convergence_time"
Rows = Sequence[np.ndarray]
Measure = Callable[[Rows], Pairs | None]


def components_of(
    study: StudyResult,
    convergence: Convergence | None = None,
    states: np.ndarray | None = None,
    num_states: int = 0,
) -> list[SourceComponent]:
    """Estimates the components of every source and set of sources, and of the root.

    The component of the root is what the variant with the most sources leaves: examples, and what
    is not varied. Measures are the log of the convergence time, test accuracy and loss, churn, the
    distance of unit weights and, with a map, the dissimilarity of paths and the share of time in
    each state. Where roots are tested on examples of their own, churn is compared with that of the
    variant with the most sources, and none is said of the root.

    Args:
        study: of several roots.
        convergence: of its replicas; None: not asked for.
        states: decoded states of its replicas, int [replica, record], -1 where there is none.
        num_states: of the map.

    Returns:
        A line for each source and measure; none where there are fewer than two roots.
    """
    if study.roots < 2:
        return []
    varied = [v for v in study.variants if v.varied and not v.name.startswith("fork@")]
    if not varied:
        return []
    rows = rows_by_root(study.variants, study.roots)
    whole = max(varied, key=lambda variant: len(variant.varied)).name
    finite = study.diverged < 0
    lines = []
    for name, measure in _measures(study, convergence, states, num_states).items():
        usable = np.ones(len(finite), bool) if name == CONVERGENCE else finite
        pairs = {v.name: measure([own[usable[own]] for own in rows[v.name]]) for v in varied}
        lines += _lines(name, pairs, whole)
    return lines


def _lines(
    measure: str, of_variants: Mapping[str, Pairs | None], whole: str
) -> list[SourceComponent]:
    """Returns the lines of one measure."""
    nothing = Component(np.nan, np.nan, np.nan, np.nan)
    known = {name: pairs for name, pairs in of_variants.items() if pairs is not None}
    if not known:
        return [_line(name, measure, nothing) for name in of_variants]
    own_tests = np.isnan(next(iter(known.values())).between).all()
    if own_tests and whole not in known:
        return [_line(name, measure, nothing) for name in of_variants]
    betweens = [known[whole].between] if own_tests else [pairs.between for pairs in known.values()]
    if own_tests:  # no pair of two roots: the whole is that of all sources, within roots
        within = known[whole].within
        betweens = [(within[:, :, None] + within[:, None, :]) / 2]
    draws = max(len(pairs.within) for pairs in known.values())
    between = np.mean([_drawn(part, draws) for part in betweens], axis=0)
    found = {name: nothing for name in of_variants}
    for name, pairs in known.items():
        if np.isfinite(pairs.within[0]).sum() > 1:
            found[name] = component(_drawn(pairs.within, draws), between)
    lines = [_line(name, measure, part) for name, part in found.items()]
    rest = found[whole]
    if not own_tests and np.isfinite(rest.share):
        # Of the whole, what is left beside the component of all that was varied.
        left = 1 - rest.share
        variance = rest.variance * left / rest.share if rest.share > 0 else _whole(between)
        root = Component(variance, left, 1 - rest.high, 1 - rest.low)
        lines.append(_line(ROOT, measure, root))
    return lines


def _whole(between: np.ndarray) -> float:
    num = between.shape[-1]
    return float(between[:, ~np.eye(num, dtype=bool)].mean())


def _drawn(part: np.ndarray, draws: int) -> np.ndarray:
    """Repeats what has one imputation as often as what has several."""
    return np.broadcast_to(part, (draws, *part.shape[1:])) if len(part) == 1 else part


def _line(source: str, measure: str, found: Component) -> SourceComponent:
    return SourceComponent(source, measure, *to_json([float(value) for value in found]))


def _measures(
    study: StudyResult,
    convergence: Convergence | None,
    states: np.ndarray | None,
    num_states: int,
) -> dict[str, Measure]:
    """Returns the measures that the study has, each a function of the rows of every root."""
    predictions = study.predictions
    measures: dict[str, Measure] = {}
    if convergence is not None:
        measures[CONVERGENCE] = _log_time(convergence)
    measures["accuracy"] = _of_values(predictions.correct.mean(axis=1, dtype=np.float64))
    measures["loss"] = _of_values(predictions.loss.mean(axis=1, dtype=np.float64))
    finite = np.flatnonzero(study.diverged < 0)
    if predictions.classes is not None and len(finite) > 1:
        apart = churn(predictions.classes[finite])
        if not _same_tests(predictions.label):
            root = finite // num_rows(study.variants)
            apart = np.where(root[:, None] == root, apart, np.nan)
        measures["churn"] = _of_distances(apart, finite, len(study.diverged))
    if len(finite) > 1:
        params = jax.tree.map(lambda leaf: leaf[finite], study.params)
        l2 = weight_distances(params).l2_RxR
        measures["l2_distance"] = _of_distances(l2, finite, len(study.diverged))
    if states is not None:
        measures |= _of_map(states, num_states)
    return measures


def _same_tests(label: np.ndarray | None) -> bool:
    """Tells whether all roots are tested on the same examples, by their labels."""
    return label is not None and label.ndim == 2 and bool((label == label[0]).all())


def _log_time(convergence: Convergence) -> Measure:
    time, censored = np.log(convergence.time), ~convergence.observed
    return lambda rows: censored_pairs([time[own] for own in rows], [censored[own] for own in rows])


def _of_values(values: np.ndarray) -> Measure:
    return lambda rows: pairs_of_values([values[own] for own in rows])


def _of_distances(apart: np.ndarray, at: np.ndarray, count: int) -> Measure:
    """Takes distances between some rows, the others being of replicas that diverged."""
    place = np.full(count, -1)
    place[at] = np.arange(len(at))
    return lambda rows: pairs_of_distances(apart, [place[own] for own in rows])


def _of_map(states: np.ndarray, num_states: int) -> dict[str, Measure]:
    """Returns the measures of paths; replicas without a state have no part in them."""
    known = np.flatnonzero(states[:, 0] >= 0)
    bag = bag_of_states(states[known], num_states)
    place = np.full(len(states), -1)
    place[known] = np.arange(len(known))

    def only_known(measure: Measure) -> Measure:
        return lambda rows: measure([place[own][place[own] >= 0] for own in rows])

    apart = pairwise_dissimilarity(bag, "discrete")
    measures: dict[str, Measure] = {"path": lambda rows: pairs_of_distances(apart, rows)}
    for state in range(num_states):
        measures[f"time_in_state_{state}"] = _of_values(bag[:, state])
    return {name: only_known(measure) for name, measure in measures.items()}
