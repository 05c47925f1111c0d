"""The number of states: a sweep over K, each K's stability between halves, and the choice.

K is chosen by BIC (Schwarz 1978) among the K that two halves of the runs agree on:

    BIC = -2 L + p log(tau N),

with L the tempered log-likelihood and N the number of records, of which the share tau counts as
independent. ICL (Biernacki, Celeux and Govaert 2000) has the likelihood of the runs together with
their best paths in place of L. It is given beside BIC and not used: it charges a state for every
record at which it is not certain when a run enters it, and so stops early where BIC is as
reproducible (`benchmarks/RESULTS.md`). One state is always a candidate.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from seedmap.hmm.autoregressive.fits import Fitted, Job, make_fits
from seedmap.hmm.autoregressive.model import Records, num_parameters
from seedmap.hmm.autoregressive.records import records_of
from seedmap.hmm.autoregressive.starts import draw_labels, progress_along_the_way
from seedmap.hmm.features import Features
from seedmap.hmm.training_map.stability import adjusted_rand_index

AGREEMENT = 0.7  # of halves, below which a number of states is no candidate
_ITERATIONS, _HALF_ITERATIONS = 60, 40
_NULL_DRAWS = 20
_SWEEP, _HALVES, _NULL = range(3)  # what a key is for


def _silent(fits_done: int) -> None:
    """Reports nothing."""


@dataclass(frozen=True)
class Plan:
    """What a sweep makes.

    Attributes:
        states: numbers of states to try.
        restarts: starts of each.
        iterations: EM iterations of each at most, the first 20 heated.
        pairs: pairs of halves of the runs by which a K is judged.
        half_restarts: starts of each half; with a single one, halves disagree where EM has ended in
            another optimum (planted runs at the true K: 0.82 with one start, 0.86 with two, 0.92
            with three).
        other_pairs: pairs fitted for each K that the choice does not come to, to show.
        seed: of starts and halves.
    """

    states: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    restarts: int = 5
    iterations: int = _ITERATIONS
    pairs: int = 5
    half_restarts: int = 3
    other_pairs: int = 1
    seed: int = 0


@dataclass(frozen=True, eq=False)
class SizeCandidate:
    """A number of states, its best fit, and what speaks for and against it.

    Attributes:
        num_states: K.
        fit: the start of highest score, to runs without their lasting offsets in a map's sweep.
        num_parameters: p.
        bic: tempered, in nats; low is good.
        icl: likewise, of the best paths; the choice does not use it.
        halves: float64 [pair], adjusted Rand index of the decodings of all runs by the fits to
            two halves of them; empty for K = 1, and where none were fitted.
        chance: the mean of that index over segmentations drawn at random from the starts.
        scores: float64 [restart], of every start, nats per record.
        starts: of every start, best first, the decoding of all runs, int8 [run, time].
        reason: a sentence of why it was chosen or not.
    """

    num_states: int
    fit: Fitted
    num_parameters: int
    bic: float
    icl: float
    halves: Float[np.ndarray, " pair"]
    chance: float
    scores: Float[np.ndarray, " restart"]
    starts: tuple[Int[np.ndarray, "run time"], ...]
    reason: str

    @property
    def agreement(self) -> float:
        """Mean agreement of halves; 1 for one state, NaN where none were fitted."""
        if self.num_states == 1:
            return 1.0
        return float(self.halves.mean()) if len(self.halves) else float("nan")

    @property
    def eligible(self) -> bool:
        """Whether halves agree enough."""
        return self.agreement >= AGREEMENT


@dataclass(frozen=True, eq=False)
class Material:
    """Runs as a sweep takes them.

    Attributes:
        records: the runs.
        mask: bool [run, time], False on padding.
        shares: float64 [run, time], of `progress_along_the_way`.
        run_weights: float64 [run], 1 for a run to fit, 0 for one held out.
    """

    records: Records
    mask: Bool[np.ndarray, "run time"]
    shares: Float[np.ndarray, "run time"]
    run_weights: Float[np.ndarray, " run"]

    @property
    def num_counted(self) -> float:
        """Records that the likelihood counts: all of the fitted runs but the first of each."""
        return float(self.run_weights @ self.mask[:, 1:].sum(1))


def make_material(features: Features, fitted: Int[np.ndarray, " index"]) -> Material:
    """Returns runs as a sweep takes them, those at `fitted` to be fitted; within `precision`."""
    weights = np.zeros(features.num_runs)
    weights[fitted] = 1.0
    shares = progress_along_the_way(features)
    return Material(records_of(features), features.mask, shares, weights)


def sweep_states(
    material: Material, plan: Plan, tempering: float, report: Callable[[int], None] = _silent
) -> tuple[SizeCandidate, ...]:
    """Returns the candidates, in the order of the plan's states, one of them chosen.

    Halves are fitted for the K of lowest BIC first, and on until they agree: that K is the choice.
    Of the others as many pairs of halves are fitted as the plan says.

    Args:
        material: the runs.
        plan: what to make.
        tempering: tau.
        report: called with 1 after every fit.
    """
    restarts = {k: plan.restarts if k > 1 else 1 for k in plan.states}
    jobs = [
        _job(material, plan, k, tempering, (_SWEEP, restart))
        for k in plan.states
        for restart in range(restarts[k])
    ]
    fits = iter(make_fits(material.records, material.mask, jobs, report=report))
    candidates = {k: _candidate(material, plan, k, fits, restarts[k]) for k in plan.states}
    for k in sorted(plan.states, key=lambda k: (candidates[k].bic, k)):
        candidates[k] = _judged(material, plan, [candidates[k]], plan.pairs, report)[0]
        if candidates[k].eligible:
            break
    rest = [c for c in candidates.values() if c.num_states > 1 and not len(c.halves)]
    for candidate in _judged(material, plan, rest, plan.other_pairs, report):
        candidates[candidate.num_states] = candidate
    return _with_reasons(list(candidates.values()))


def _job(material: Material, plan: Plan, k: int, tempering: float, purpose, run_weights=None):
    """A fit of K states to all fitted runs, or to the runs of `run_weights`."""
    labels = draw_labels(material.shares, k, (plan.seed, *purpose))
    weights = material.run_weights if run_weights is None else run_weights
    most = plan.iterations if run_weights is None else min(plan.iterations, _HALF_ITERATIONS)
    return Job(k, labels, weights, tempering, most)


def _judged(
    material: Material, plan: Plan, candidates: list[SizeCandidate], pairs: int, report
) -> list[SizeCandidate]:
    """The candidates with the agreement of halves of the runs; one state needs none."""
    halves = draw_halves(material.run_weights, pairs, plan.seed)
    names = [(c, i) for c in candidates for i in range(len(halves)) if c.num_states > 1]
    starts = range(plan.half_restarts)
    jobs = [
        _job(material, plan, c.num_states, c.fit.tempering, (_HALVES, i, start), halves[i])
        for c, i in names
        for start in starts
    ]
    fits = iter(make_fits(material.records, material.mask, jobs, report=report))
    paths = {
        name: max(islice(fits, len(starts)), key=lambda fit: fit.score).paths for name in names
    }

    def agreement(candidate: SizeCandidate) -> np.ndarray:
        if candidate.num_states == 1:
            return np.ones(0)
        each = [(paths[candidate, 2 * i], paths[candidate, 2 * i + 1]) for i in range(pairs)]
        return np.array([adjusted_rand_index(*pair) for pair in each])

    return [replace(candidate, halves=agreement(candidate)) for candidate in candidates]


def candidate_row(candidate: SizeCandidate) -> dict[str, Any]:
    """Returns what speaks for and against a candidate as plain values, its model left out.

    Returns:
        `num_states`, `num_parameters`, `bic`, `icl`, `log_likelihood` per record and `scores` of
        every start (both divided by tau), `iterations`, `agreement`, `halves`, `chance`,
        `eligible` and `reason`; None where a number is not there.
    """
    fit, agreement = candidate.fit, candidate.agreement
    return {
        "num_states": candidate.num_states,
        "num_parameters": candidate.num_parameters,
        "bic": candidate.bic,
        "icl": candidate.icl,
        "log_likelihood": fit.score / fit.tempering,
        "scores": (candidate.scores / fit.tempering).tolist(),
        "iterations": fit.iterations,
        "agreement": None if np.isnan(agreement) else agreement,
        "halves": candidate.halves.tolist(),
        "chance": candidate.chance,
        "eligible": candidate.eligible,
        "reason": candidate.reason,
    }


def draw_halves(
    run_weights: Float[np.ndarray, " run"], pairs: int, seed: int
) -> Float[np.ndarray, "half run"]:
    """Returns run weights of halves of the fitted runs: halves 2 i and 2 i + 1 share no run."""
    generator = np.random.default_rng((seed, _HALVES))
    fitted = np.flatnonzero(run_weights)
    halves = np.zeros((2 * pairs, len(run_weights)))
    for pair in range(pairs):
        order = generator.permutation(fitted)
        halves[2 * pair, order[: len(order) // 2]] = 1
        halves[2 * pair + 1, order[len(order) // 2 :]] = 1
    return halves


def choose(candidates: Sequence[SizeCandidate]) -> SizeCandidate:
    """Returns the eligible candidate of lowest BIC; the one halves agree on most if none is.

    Of equal ones that with fewer states.
    """
    eligible = [c for c in candidates if c.eligible]
    if not eligible:
        judged = [c for c in candidates if len(c.halves)]
        return max(judged, key=lambda c: (c.agreement, -c.num_states))
    return min(eligible, key=lambda c: (c.bic, c.num_states))


def final_fit(
    material: Material,
    plan: Plan,
    candidate: SizeCandidate,
    restarts: int,
    report: Callable[[int], None] = _silent,
) -> Fitted:
    """Returns the best fit of a number of states after as many starts more as make `restarts`."""
    k = candidate.num_states
    jobs = [
        _job(material, plan, k, candidate.fit.tempering, (_SWEEP, restart))
        for restart in range(len(candidate.scores), restarts if k > 1 else 1)
    ]
    fits = make_fits(material.records, material.mask, jobs, report=report)
    return max([candidate.fit, *fits], key=lambda fit: fit.score)


def _candidate(material: Material, plan: Plan, k: int, fits: Iterator[Fitted], restarts: int):
    """One K, not yet judged, from the next `restarts` fits."""
    mine = list(islice(fits, restarts))
    ranked = sorted(mine, key=lambda fit: -fit.score)
    best = ranked[0]
    free = num_parameters(k, int(material.records.num_components))
    penalty = free * np.log(best.tempering * material.num_counted)
    return SizeCandidate(
        num_states=k,
        fit=best,
        num_parameters=free,
        bic=float(penalty - 2 * material.run_weights @ best.run_log_likelihood),
        icl=float(penalty - 2 * material.run_weights @ best.path_log_likelihood),
        halves=np.ones(0),
        chance=_chance(material, plan, k),
        scores=np.array([fit.score for fit in mine]),
        starts=tuple(fit.paths for fit in ranked),
        reason="",
    )


def _chance(material: Material, plan: Plan, k: int) -> float:
    """Mean agreement of pairs of segmentations drawn at random, which share the order of time."""
    if k == 1:
        return 1.0
    draws = [
        np.where(material.mask, draw_labels(material.shares, k, (plan.seed, _NULL, i)), -1)
        for i in range(2 * _NULL_DRAWS)
    ]
    return float(np.mean([adjusted_rand_index(*draws[i : i + 2]) for i in range(0, len(draws), 2)]))


def _with_reasons(candidates: list[SizeCandidate]) -> tuple[SizeCandidate, ...]:
    """The candidates, each with why it is the chosen one or not."""
    chosen = choose(candidates)

    def reason(candidate: SizeCandidate) -> str:
        unstable = (
            f"two halves of the runs agree to {candidate.agreement:.2f} (adjusted Rand index), "
            f"which is below {AGREEMENT}"
        )
        if candidate is chosen:
            stable = "lowest BIC of the numbers of states that halves of the runs agree on"
            return stable if candidate.eligible else f"halves agree on it most; {unstable}"
        if candidate.bic < chosen.bic:
            return unstable
        return f"BIC is {candidate.bic - chosen.bic:.0f} nats above that of the chosen one"

    return tuple(replace(candidate, reason=reason(candidate)) for candidate in candidates)
