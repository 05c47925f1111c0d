"""From metrics to a map: scale, odd runs, offsets, number of states, final fit, refits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from seedmap.errors import UserError
from seedmap.hmm.autoregressive.alignment import NUM_STARTS, align_runs
from seedmap.hmm.autoregressive.choice import (
    Material,
    Plan,
    SizeCandidate,
    choose,
    final_fit,
    make_material,
    sweep_states,
)
from seedmap.hmm.autoregressive.fits import Job, fits_of_states, precision
from seedmap.hmm.autoregressive.map_model import (
    FittedRuns,
    MapModel,
    decode_paths,
    paths_by_refits,
)
from seedmap.hmm.autoregressive.model import default_tempering
from seedmap.hmm.autoregressive.odd import NUM_RESAMPLES, find_odd_runs
from seedmap.hmm.autoregressive.records import records_of
from seedmap.hmm.autoregressive.refits import (
    agreement_of,
    matching,
    permute_states,
    refit_resamples,
)
from seedmap.hmm.autoregressive.residuals import AUTOCORRELATED, autocorrelation, motion_residuals
from seedmap.hmm.features import Features, apply_scale, fit_scale
from seedmap.hmm.parameters import canonical_order
from seedmap.hmm.sequences import Sequences, check_num_runs
from seedmap.hmm.training_map.stability import adjusted_rand_index, edge_recurrence
from seedmap.hmm.training_map.transitions import returns

_SCREENINGS = 2  # as the scale is another one without the odd runs
_NAMED = 8  # runs that a note names at most


@dataclass(frozen=True)
class MapSettings:
    """How to make a map.

    Attributes:
        states: numbers of states to try.
        restarts: starts of each in the sweep.
        final_restarts: starts of the chosen one in all.
        iterations: EM iterations of each fit at most, the first 20 heated.
        resamples: refits to resampled runs, which say how sure each state is.
        seed: of starts, halves and resamples.
    """

    states: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    restarts: int = 5
    final_restarts: int = 15
    iterations: int = 60
    resamples: int = 20
    seed: int = 0

    def __post_init__(self):
        counts = (*self.states, self.restarts, self.iterations, self.resamples)
        if not all(isinstance(value, int | np.integer) for value in counts):
            raise UserError(
                "states, restarts, iterations and resamples must be whole numbers; got "
                f"{list(counts)}"
            )
        if not self.states or min(self.states) < 1 or len(set(self.states)) < len(self.states):
            raise UserError(
                f"states must be different whole numbers from 1 up; got {list(self.states)}"
            )
        if self.restarts < 1 or self.iterations < 1 or self.resamples < 0:
            raise UserError(
                "restarts and iterations must be at least 1 and resamples at least 0; got "
                f"{self.restarts}, {self.iterations} and {self.resamples}"
            )

    @property
    def plan(self) -> Plan:
        """The sweep over all numbers of states."""
        return Plan(self.states, self.restarts, self.iterations, seed=self.seed)

    @property
    def short_plan(self) -> Plan:
        """The sweep that only asks which number of states another tempering would choose."""
        restarts = min(self.restarts, 2)
        return replace(self.plan, restarts=restarts, pairs=2, half_restarts=2, other_pairs=0)


@dataclass(frozen=True, eq=False)
class MapFit:
    """A map's model, its decoding of all runs, and what it was chosen among.

    Attributes:
        model: decodes any runs.
        features: all runs as the model sees them.
        paths: int32 [run, time], the likeliest by the model, -1 past a run's end.
        agreement: float64 [run, time], share of the refits that give that state, 0 on padding;
            NaN without refits.
        edges: float64 [source, target], share of the refits in which some run makes the transition.
        refit_agreement: float64 [refit], adjusted Rand index of each refit's decoding of the fitted
            runs with the map's.
        candidates: every number of states that was tried.
        chosen: the one that was chosen, as in the sweep.
        score: tempered log-likelihood per record of the runs as recorded, by the model.
        half: number of states at half the tempering.
        double: number of states at twice the tempering, at most 1.
        fitted: names of the runs that the model was fitted to.
        odd: names of the runs that fit no state well; the model was fitted without them.
        autocorrelation: float64 [component], lag 1, of the residuals within states, runs without
            their lasting offsets.
        notes: what a reader should know, a sentence each.
    """

    model: MapModel
    features: Features
    paths: Int[np.ndarray, "run time"]
    agreement: Float[np.ndarray, "run time"]
    edges: Float[np.ndarray, "source target"]
    refit_agreement: Float[np.ndarray, " refit"]
    candidates: tuple[SizeCandidate, ...]
    chosen: SizeCandidate
    score: float
    half: int
    double: int
    fitted: tuple[str, ...]
    odd: tuple[str, ...]
    autocorrelation: Float[np.ndarray, " component"]
    notes: tuple[str, ...]

    @property
    def num_states(self) -> int:
        """Number of states K."""
        return self.model.num_states

    @property
    def fitted_runs(self) -> FittedRuns:
        """The model and the runs it was fitted to."""
        return FittedRuns(self.model, self.features, self.fitted)


def make_map(
    sequences: Sequences,
    fitted: Int[np.ndarray, " index"],
    settings: MapSettings,
    callback: Callable[[int, int], None] | None = None,
) -> MapFit:
    """Makes the map of some runs and decodes all by it.

    Args:
        sequences: all runs, metrics as recorded, NaN where missing.
        fitted: int, indices of the runs to fit; the others are decoded only.
        settings: how.
        callback: called with (fits done, fits in all at most), first before compilation.

    Raises:
        UserError: fewer than 5 runs, more states than the data allow, or only constant metrics.
    """
    _check(sequences, fitted, settings)
    report = _Counter(settings, callback)
    with precision():
        kept, odd = _without_odd_runs(sequences, fitted, settings, report)
        scale = fit_scale(sequences.select(kept))
        features = apply_scale(scale, sequences)
        aligned = align_runs(features, kept, settings.seed, report)
        material, tempering = aligned.material, aligned.tempering
        candidates = sweep_states(material, settings.plan, tempering, report)
        chosen = choose(candidates)
        half, double = (
            _states_at(material, settings, other, report)
            for other in (tempering / 2, min(1.0, 2 * tempering))
        )
        final = final_fit(material, settings.plan, chosen, settings.final_restarts, report)
        k, recorded = chosen.num_states, records_of(features)
        states = [Job(k, final.paths, material.run_weights, tempering, 0)]
        (fit,) = fits_of_states(recorded, features.mask, states)
        resamples = settings.resamples if k > 1 else 0
        refits = refit_resamples(material, settings.plan, final, resamples, recorded, report)
        labelled = tuple(
            permute_states(each.parameters, matching(fit.paths, each.paths, k)) for each in refits
        )
        model = _in_order(MapModel(scale, tempering, fit.parameters, labelled), sequences, kept)
        paths, *others = paths_by_refits(model, sequences)
        by_refits = [each[kept] for each in others]
    residuals = motion_residuals(final.parameters, aligned.features, final.paths)[kept]
    result = MapFit(
        model=model,
        features=features,
        paths=paths,
        agreement=agreement_of(paths, others),
        edges=edge_recurrence(paths[kept], by_refits or [paths[kept]], k),
        refit_agreement=np.array([adjusted_rand_index(paths[kept], other) for other in by_refits]),
        candidates=candidates,
        chosen=chosen,
        score=fit.score,
        half=half,
        double=double,
        fitted=tuple(sequences.runs[i] for i in kept),
        odd=tuple(sequences.runs[i] for i in odd),
        autocorrelation=autocorrelation(residuals, final.paths[kept]),
        notes=(),
    )
    if callback:
        callback(report.total, report.total)
    return replace(result, notes=_notes(result, settings, aligned.num_common))


def _states_at(material: Material, settings: MapSettings, tempering: float, report) -> int:
    """The number of states that another tempering chooses."""
    if len(settings.states) == 1:
        return settings.states[0]
    return choose(sweep_states(material, settings.short_plan, tempering, report)).num_states


def _check(sequences: Sequences, fitted: np.ndarray, settings: MapSettings) -> None:
    """Refuses what cannot be fitted, in one line each."""
    check_num_runs(sequences.num_runs)
    if len(fitted) < 2:
        raise UserError(f"the map needs at least 2 runs to fit; got {len(fitted)}")
    records = int((sequences.lengths[fitted] - 1).sum())
    if max(settings.states) > records // 2:
        raise UserError(
            f"{max(settings.states)} states are more than the data allow: {records} records, the "
            f"first of each run left out, allow at most {records // 2} (two for each state)"
        )


class _Counter:
    """Counts fits and tells the callback; threads may call it."""

    def __init__(self, settings: MapSettings, callback: Callable[[int, int], None] | None):
        restarts, size = settings.restarts, len(settings.states)
        halves = 2 * Plan.half_restarts * (size * Plan.other_pairs + Plan.pairs)
        self.total = size * restarts + halves + 2 * (2 * size + 8)
        self.total += settings.final_restarts + 2 * settings.resamples
        self.total += NUM_RESAMPLES + NUM_STARTS
        self.done = 0
        self.callback = callback
        if callback:
            callback(0, self.total)

    def __call__(self, fits: int) -> None:
        self.done += fits
        if self.callback and self.done < self.total:
            self.callback(self.done, self.total)


def _without_odd_runs(sequences, fitted, settings: MapSettings, report):
    """Indices of the runs to fit and of the odd ones, which have no part in the scale either."""
    kept = np.asarray(fitted)
    for _ in range(_SCREENINGS):
        features = apply_scale(fit_scale(sequences.select(kept)), sequences)
        material = make_material(features, kept)
        tempering = default_tempering(features.lengths[kept])
        odd = find_odd_runs(features, material, settings.plan, tempering, report)
        kept = kept[~odd[kept]]
        if not odd.any():
            break
    return kept, np.setdiff1d(fitted, kept)


def _in_order(model: MapModel, sequences: Sequences, kept: np.ndarray) -> MapModel:
    """The same model with its states in the order in which the fitted runs visit them."""
    paths = decode_paths(model, sequences.select(kept))
    order = canonical_order(paths, model.num_states)
    refits = tuple(permute_states(each, order) for each in model.refits)
    return replace(model, parameters=permute_states(model.parameters, order), refits=refits)


def _first(names: Sequence[str]) -> str:
    """The first names of runs, in words."""
    more = ["..."] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more])


def _notes(fit: MapFit, settings: MapSettings, num_common: int) -> tuple[str, ...]:
    """What a reader should know; `num_common` of `Aligned`."""
    k, notes = fit.num_states, []
    if fit.odd:
        notes.append(
            f"{len(fit.odd)} runs fit no state well and are left off the map: {', '.join(fit.odd)}"
        )
    if not fit.chosen.eligible:
        notes.append(f"no number of states is stable: {fit.chosen.reason}")
    if k == max(settings.states) > min(settings.states):
        notes.append(f"the most states tried, {k}, were chosen: try more")
    if {fit.half, fit.double} != {k}:
        notes.append(
            f"the number of states is a resolution: {k} here, {fit.half} where records count half "
            f"and {fit.double} where they count twice as much"
        )
    unvisited = k - len(np.unique(fit.paths[fit.paths >= 0]))
    if unvisited:
        notes.append(f"{unvisited} of {k} states are visited by no run")
    back = [run for run, path in zip(fit.features.runs, fit.paths, strict=True) if returns(path)]
    if back:
        goes = "run goes" if len(back) == 1 else "runs go"
        notes.append(f"{len(back)} {goes} back to a state once left: {_first(back)}")
    strongest = float(np.abs(fit.autocorrelation).max())
    if strongest > AUTOCORRELATED:
        notes.append(
            f"residuals within states are autocorrelated ({strongest:.2f}): records are not "
            f"independent given their states, and count as {fit.model.tempering:.2g} of one each"
        )
    if num_common < 2:
        notes.append(
            "most runs have too few states in common to tell what sets each apart in all of them: "
            "groups of runs may have states of their own"
        )
    if fit.features.imputed.any():
        notes.append(
            f"{int(fit.features.imputed.sum())} records lack some metrics, which were filled in by "
            "those that are there"
        )
    absent = int((fit.features.mask & ~fit.features.present).sum())
    if absent:
        notes.append(f"{absent} records lack every metric and count for nothing")
    return tuple(notes)
