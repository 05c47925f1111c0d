"""Variance components of a study by source: what each source does to each measure, in general.

components_of(study, convergence)      # a line for each source and measure
commitment_of(study, convergence)      # how much of it is fixed by step k

See `measures.components` for what they are.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from seedmap.experiments.noise.convergence import Convergence
from seedmap.experiments.noise.measures.components import (
    Commitment,
    Component,
    Pairs,
    SourceComponent,
    censored_pairs,
    completed,
    component,
    pairs_of_distances,
    pairs_of_values,
    squared_correlation,
)
from seedmap.experiments.noise.measures.replicas import churn, weight_distances
from seedmap.experiments.noise.study import StudyResult
from seedmap.experiments.noise.variants import Variant, rows_by_root
from seedmap.hmm.training_map.dissimilarity import pairwise_dissimilarity
from seedmap.hmm.training_map.regression import bag_of_states
from seedmap.results import to_json

ROOT = "root"
CONVERGENCE = "log_convergence_time"
BRANCH, SPEED = "branch", "log_convergence_time_within_branch"
LOSS = "loss"  # at a step, in place of a source
Rows = Sequence[np.ndarray]


def components_of(
    study: StudyResult,
    convergence: Convergence | None = None,
    states: np.ndarray | None = None,
    num_states: int = 0,
    branches: Sequence[int] = (),
) -> list[SourceComponent]:
    """Estimates the components of every source and set of sources, and of the root.

    The component of the root is what the variant with the most sources leaves: examples, and what
    is not varied. Measures are the log of the convergence time, test accuracy and loss, churn, the
    distance of unit weights and, with a map, the dissimilarity of paths, the share of time in each
    state, and where the map has branches the branch taken and the convergence time of replicas that
    take the same one: whether a source changes the branch or the speed. Where roots are tested on
    examples of their own, churn is compared with that of the variant with the most sources, and
    none is said of the root.

    Args:
        study: of several roots.
        convergence: of its replicas; None: not asked for.
        states: decoded states of its replicas, int [replica, record], -1 where there is none.
        num_states: of the map.
        branches: its states that are named branches.

    Returns:
        A line for each source and measure; none where there are fewer than two roots.
    """
    varied = [v.name for v in study.variants if v.varied and not v.forks]
    if study.roots < 2 or not varied:
        return []
    reference = most_sources(study.variants).name
    lines = []
    for measure in _measures(study, convergence, states, num_states, branches):
        estimates = measure.components(study, varied, varied)
        lines += [_line(name, measure.name, estimate) for name, estimate in estimates.items()]
        rest = estimates[reference]
        # Where all sources together do nothing, all variance may be one odd replica elsewhere.
        if rest.share > 0 and measure.between_roots:
            lines.append(_line(ROOT, measure.name, _rest(rest)))
    return lines


def _rest(reference: Component) -> Component:
    """Returns what the variant with the most sources leaves of the variance."""
    share, rest = 1 - reference.share, max(reference.total - reference.variance, 0.0)
    return Component(rest, share, 1 - reference.high, 1 - reference.low, reference.total)


def commitment_of(
    study: StudyResult,
    convergence: Convergence | None = None,
    states: np.ndarray | None = None,
    num_states: int = 0,
    branches: Sequence[int] = (),
) -> list[Commitment]:
    """Estimates how much of the convergence time, and of the branch, is fixed by step k.

    Replicas that share their first k steps and all but one source leave open that source's
    component; the rest, 1 less its share, is fixed. Beside it stands what the test loss at step k
    says of the convergence time: the squared correlation of their logarithms over replicas of the
    variant with the most sources.

    Args:
        study: of several roots, with `NoiseConfig.commit_steps`.
        convergence: as of `components_of`, like the others.
        states: decoded states.
        num_states: of the map.
        branches: its states that are named branches.

    Returns:
        A line for each source, step and measure.
    """
    commits = [v for v in study.variants if v.commits]
    if study.roots < 2 or not commits:
        return []
    varied = [v.name for v in study.variants if v.varied and not v.forks]
    known = {v.varied[0] for v in commits}
    begins = [v for v in study.variants if v.name in known]  # from step 0 on
    if study.ulp_step:
        begins = [v for v in begins if v.name != "ulp"]
    lines = []
    for measure in _measures(study, convergence, states, num_states, branches):
        if measure.name not in (CONVERGENCE, BRANCH):
            continue
        asked = [v.name for v in (*begins, *commits)]
        estimates = measure.components(study, varied, asked)
        lines += [
            _commitment(v.varied[0], v.fork, measure.name, _rest(estimates[v.name]))
            for v in (*begins, *commits)
        ]
    if convergence is not None:
        steps = sorted({v.fork for v in commits})
        lines += [_by_loss(study, convergence, step) for step in steps]
    return lines


def _commitment(source: str, step: int, measure: str, estimate: Component) -> Commitment:
    ends = to_json([float(estimate.share), float(estimate.low), float(estimate.high)])
    return Commitment(source, int(step), measure, *ends)


def _by_loss(study: StudyResult, convergence: Convergence, step: int) -> Commitment:
    """Returns how much the test loss at a step says of the convergence time."""
    rows = rows_by_root(study.variants, study.roots)[most_sources(study.variants).name]
    record = int(np.flatnonzero(study.dataset.step.values == step)[0])
    loss = study.dataset.eval_loss.values[rows, record].astype(float)
    time, censored = np.log(convergence.time[rows]), ~convergence.observed[rows]
    if not (np.isfinite(loss) & (loss > 0)).all():
        return Commitment(LOSS, int(step), CONVERGENCE, None, None, None)
    drawn = completed(list(time), list(censored))
    if drawn is None:
        return Commitment(LOSS, int(step), CONVERGENCE, None, None, None)
    correlation = squared_correlation(np.log(loss), drawn.reshape(len(drawn), *rows.shape))
    return Commitment(LOSS, int(step), CONVERGENCE, *to_json(list(map(float, correlation))))


def most_sources(variants: Sequence[Variant]) -> Variant:
    """Returns the variant with the most sources, from the first step on."""
    return max(variants, key=lambda variant: (len(variant.varied), -variant.fork))


class _Measure(NamedTuple):
    """A number of replicas, or of two, and how it is looked at.

    Attributes:
        name: in `noise.json`.
        pairs: from the rows of every root to their differences.
        usable: bool [replica], those that have it.
        between_roots: whether replicas of different roots can be compared.
    """

    name: str
    pairs: Callable[[Rows], Pairs | None]
    usable: np.ndarray
    between_roots: bool = True

    def components(
        self, study: StudyResult, varied: Sequence[str], asked: Sequence[str]
    ) -> dict[str, Component]:
        """Returns the components of the variants asked for; NaN where they are not determined.

        All variance is that between roots, the mean over all variants that vary something; where
        roots cannot be compared, that of the variant with the most sources.
        """
        rows = rows_by_root(study.variants, study.roots)
        of = {
            name: self.pairs([own[self.usable[own]] for own in rows[name]])
            for name in dict.fromkeys([*varied, *asked])
        }
        nothing = Component(np.nan, np.nan, np.nan, np.nan, np.nan)
        known = {name: pairs for name, pairs in of.items() if pairs is not None}
        reference = most_sources(study.variants).name
        if not self.between_roots:
            if reference not in known:
                return dict.fromkeys(asked, nothing)
            within = known[reference].within
            totals = [(within[:, :, None] + within[:, None, :]) / 2]
        else:
            totals = [known[name].between for name in varied if name in known]
        if not totals:
            return dict.fromkeys(asked, nothing)
        draws = max(len(pairs.within) for pairs in known.values())
        total = np.mean([_drawn(between, draws) for between in totals], axis=0)
        return {
            name: component(_drawn(known[name].within, draws), total)
            if name in known and np.isfinite(known[name].within[0]).sum() > 1
            else nothing
            for name in asked
        }


def _drawn(squares: np.ndarray, draws: int) -> np.ndarray:
    """Repeats what has one imputation as often as what has several."""
    return np.broadcast_to(squares, (draws, *squares.shape[1:])) if len(squares) == 1 else squares


def _line(source: str, measure: str, estimate: Component) -> SourceComponent:
    return SourceComponent(source, measure, *to_json([float(value) for value in estimate[:4]]))


def _measures(
    study: StudyResult,
    convergence: Convergence | None,
    states: np.ndarray | None,
    num_states: int,
    branches: Sequence[int],
) -> list[_Measure]:
    """Returns the measures that the study has."""
    predictions, finite = study.predictions, study.diverged < 0
    measures = []
    if convergence is not None:
        every = np.ones(len(finite), bool)
        measures.append(_Measure(CONVERGENCE, _log_time(convergence), every))
    for name, values in (("accuracy", predictions.correct), ("loss", predictions.loss)):
        means = values.mean(axis=1, dtype=np.float64)
        measures.append(_Measure(name, _of_values(means), finite))
    if predictions.classes is not None and finite.sum() > 1:
        distances = _spread_out(churn(predictions.classes[finite]), finite)
        same = _same_tests(predictions.label)
        measures.append(_Measure("churn", _of_distances(distances), finite, same))
    if finite.sum() > 1:
        params = jax.tree.map(lambda leaf: leaf[finite], study.params)
        distances = _spread_out(weight_distances(params).l2_RxR, finite)
        measures.append(_Measure("l2_distance", _of_distances(distances), finite))
    if states is not None:
        measures += _of_map(states, num_states, branches, convergence)
    return measures


def _spread_out(distances: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns distances [replica, replica] of those of some replicas, NaN of the others."""
    spread = np.full((len(known), len(known)), np.nan)
    spread[np.ix_(known, known)] = distances
    return spread


def _same_tests(label: np.ndarray | None) -> bool:
    """Tells whether all roots are tested on the same examples, by their labels."""
    return label is not None and label.ndim == 2 and bool((label == label[0]).all())


def _log_time(convergence: Convergence) -> Callable[[Rows], Pairs | None]:
    time, censored = np.log(convergence.time), ~convergence.observed
    return lambda rows: censored_pairs([time[own] for own in rows], [censored[own] for own in rows])


def _of_values(values: np.ndarray) -> Callable[[Rows], Pairs | None]:
    return lambda rows: pairs_of_values([values[own] for own in rows])


def _of_distances(distances: np.ndarray) -> Callable[[Rows], Pairs]:
    return lambda rows: pairs_of_distances(distances, rows)


def _of_map(
    states: np.ndarray,
    num_states: int,
    branches: Sequence[int],
    convergence: Convergence | None,
) -> list[_Measure]:
    """Returns the measures of paths; replicas without a state have no part in them."""
    known = states[:, 0] >= 0
    bag = np.full((len(states), num_states), np.nan)
    bag[known] = bag_of_states(states[known], num_states)
    distances = _spread_out(pairwise_dissimilarity(bag[known], "discrete"), known)
    measures = [_Measure("path", _of_distances(distances), known)]
    measures += [
        _Measure(f"time_in_state_{state}", _of_values(bag[:, state]), known)
        for state in range(num_states)
    ]
    if not branches:
        return measures
    differs = branch_differs(states, branches)
    measures.append(_Measure(BRANCH, _of_distances(differs), known))
    if convergence is not None:
        time = np.log(convergence.time)
        speed = np.where(differs > 0, np.nan, (time[:, None] - time) ** 2 / 2)

        def of_speed(rows: Rows) -> Pairs | None:
            # What a censored time would add is not known, and none is left out.
            observed = all(convergence.observed[own].all() for own in rows)
            return pairs_of_distances(speed, rows) if observed else None

        measures.append(_Measure(SPEED, of_speed, known))
    return measures


def branch_differs(states: np.ndarray, branches: Sequence[int]) -> np.ndarray:
    """Tells which replicas take different branches: 1.0 where they do, [replica, replica].

    Args:
        states: int [replica, record], -1 where there is none.
        branches: states that are branches; replicas differ where one of them visits one that the
            other does not.
    """
    visits = np.stack([(states == branch).any(axis=1) for branch in branches], axis=1)
    return (visits[:, None] != visits).any(axis=-1).astype(float)
