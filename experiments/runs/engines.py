"""The engines that fit a run: the map's own, and Gaussian HMMs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seedmap import hmm
from seedmap.experiments.runs.robustness import (
    Callback,
    FitStability,
    RefitEdges,
    fit_priors,
    fit_stability,
    pass_callbacks,
    restart_stability,
)
from seedmap.experiments.runs.settings import (
    AUTOREGRESSIVE,
    emission_of,
    map_settings,
    split,
    sweep_config,
)
from seedmap.experiments.tasks.base import FitConfig
from seedmap.fitting import Fit
from seedmap.hmm.autoregressive.map_sweep import MapSweep, map_sweep, save_map_sweep
from seedmap.hmm.io import SavedHMM
from seedmap.hmm.sequences import FIRST_RECORDS
from seedmap.hmm.sweep_io import save_sweep
from seedmap.map_fitting import MapFit, fit_on_common_scale
from seedmap.published import fit_published
from seedmap.results import from_json, to_json
from seedmap.runs import Runs


class GaussianSweep(NamedTuple):
    """What a Gaussian HMM was chosen among.

    Attributes:
        sweep: all fits.
        chosen: the one that was chosen.
    """

    sweep: hmm.Sweep
    chosen: hmm.Fit


AnySweep = GaussianSweep | MapSweep


@dataclass(frozen=True, eq=False)
class Made:
    """A fit before it has an id.

    Attributes:
        sequences: metrics [run, time, metric] in the units of the HMM's means.
        paths: int32 [run, time], decoded states, -1 past a run's end.
        saved: the HMM.
        sweep: what it was chosen among.
        stability: content of `stability.json`.
        decodings: by number of states, int32 [run, time], paths of other numbers of states; none
            of Gaussian HMMs.
        agreement: float64 [run, time], share of the refits that give each record its state; None of
            Gaussian HMMs.
        notes: what a reader should know of the fit, a sentence each.
    """

    sequences: hmm.Sequences
    paths: np.ndarray
    saved: SavedHMM
    sweep: AnySweep
    stability: FitStability
    decodings: Mapping[int, np.ndarray]
    agreement: np.ndarray | None
    notes: tuple[str, ...]

    def with_id(self, fit_id: str) -> "Made":
        """Returns the same fit with its id in all that is saved."""
        sweep = self.sweep
        if isinstance(sweep, MapSweep):
            sweep = replace(sweep, fit_id=fit_id)
        return replace(
            self,
            saved=replace(self.saved, fit_id=fit_id),
            sweep=sweep,
            stability=replace(self.stability, fit_id=fit_id),
        )


def make_fit(runs: Runs, config: FitConfig, callback: Callback | None) -> Made:
    """Fits an HMM to runs by the settings of a run folder.

    Args:
        runs: what to fit to.
        config: how.
        callback: called with (fits or EM iterations done, in all), first before compilation.

    Raises:
        UserError: a setting is out of range, or the data allow no fit.
    """
    if config.method is not None:
        return _published(runs, config, callback)
    if emission_of(config) == AUTOREGRESSIVE:
        return _autoregressive(runs, config, callback)
    return _gaussian(runs, config, callback)


def fit_beside(runs: Runs, config: FitConfig) -> SavedHMM | None:
    """Returns the HMM by the published method where methods are to be compared.

    Its settings are the published ones but for the seed.

    Args:
        runs: what to fit to.
        config: of the fit that it stands beside.
    """
    if not config.compare_methods:
        return None
    return _published(runs, FitConfig(method="hu2023", fit_seed=config.fit_seed), None).saved


def _published(runs: Runs, config: FitConfig, callback: Callback | None) -> Made:
    settings = sweep_config(config)
    fitted = fit_published(
        runs,
        states=settings.states,
        restarts=settings.restarts,
        iterations=settings.iterations,
        covariance=settings.covariance,
        validation_runs=config.validation_runs,
        seed=config.fit_seed,
        callback=callback,
    )
    alone = {"refits": None, "priors": [], "fit_id": None}
    return _made(fitted, from_json(FitStability, to_json(restart_stability(fitted) | alone)))


def _gaussian(runs: Runs, config: FitConfig, callback: Callback | None) -> Made:
    callbacks = pass_callbacks(config, callback)
    fitted, other = fit_priors(runs, config, callbacks)
    return _made(fitted, fit_stability(fitted, other, config, callbacks))


def _made(fitted: Fit, stability: FitStability) -> Made:
    """A Gaussian HMM as it is saved."""
    return Made(
        sequences=fitted.sequences,
        paths=fitted.paths,
        saved=SavedHMM.from_sweep(fitted.sweep, fitted.parameters, fitted.scale),
        sweep=GaussianSweep(fitted.sweep, fitted.chosen),
        stability=stability,
        decodings={},
        agreement=None,
        notes=fitted.notes,
    )


def _autoregressive(runs: Runs, config: FitConfig, callback: Callback | None) -> Made:
    settings = map_settings(config)
    _, held_out = split(runs.names, config)
    fitted = fit_on_common_scale(
        runs,
        states=settings.states,
        restarts=settings.restarts,
        iterations=settings.iterations,
        resamples=settings.resamples,
        validation_runs=[runs.names[i] for i in held_out],
        seed=settings.seed,
        callback=callback,
    )
    made = fitted.made
    sweep = map_sweep(made, settings, hmm.first_records(runs.sequences))
    saved = SavedHMM(
        parameters=fitted.parameters,
        metrics=runs.metrics,
        covariance="full",
        z_score={"first": FIRST_RECORDS, "per": "common"},
        train_runs=tuple(sweep.train_runs),
        validation_runs=tuple(sweep.validation_runs),
        config=asdict(settings),
        selection=to_json(sweep.sizes),
        scale=made.model.scale,
        model=made.model,
    )
    return Made(
        sequences=fitted.sequences,
        paths=fitted.paths,
        saved=saved,
        sweep=sweep,
        stability=_stability(fitted),
        decodings=fitted.decodings,
        agreement=fitted.agreement,
        notes=fitted.notes,
    )


def _stability(fitted: MapFit) -> FitStability:
    """What refits to resampled runs say of a map."""
    made, refits = fitted.made, None
    if len(made.model.refits):
        agreement = made.refit_agreement.tolist()
        refits = RefitEdges(len(agreement), 0, agreement, made.edges.tolist())
    return FitStability(
        adjusted_rand=[],
        edges=None,
        refits=refits,
        priors=[],
        autocorrelation=made.autocorrelation.tolist(),
    )


def save_any_sweep(path: Path, sweep: AnySweep, fit_id: str | None) -> None:
    """Writes what an HMM was chosen among, with the id of its fit."""
    if isinstance(sweep, MapSweep):
        save_map_sweep(path, sweep, fit_id)
    else:
        save_sweep(path, *sweep, fit_id)


def held_out_scores(saved: SavedHMM, sweep: AnySweep, sequences: hmm.Sequences) -> dict[str, float]:
    """Returns the log-likelihood per record of each run held out, in nats.

    Args:
        saved: the HMM.
        sweep: what it was chosen among.
        sequences: the runs.
    """
    lengths = dict(zip(sequences.runs, sequences.lengths, strict=True))
    if isinstance(sweep, MapSweep):
        scores = np.array(sweep.validation_run_log_likelihood)
        counted = [lengths[run] - 1 for run in saved.validation_runs]
    else:
        scores = sweep.chosen.validation_run_log_likelihood
        counted = [lengths[run] for run in saved.validation_runs]
    each = zip(saved.validation_runs, scores, counted, strict=True)
    return {run: float(score / count) for run, score, count in each}
