"""Dependence of a map on the prior, on the restart of EM and on the runs trained."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from seedmap import hmm
from seedmap.experiments.runs.analysis import Analysis
from seedmap.experiments.runs.settings import sweep_config, validation_share
from seedmap.experiments.runs.stability_summary import EdgeStability, PriorRow, Refits, Stability
from seedmap.experiments.tasks.base import FitConfig
from seedmap.fitting import Fit, fit
from seedmap.hmm.autoregressive.residuals import autocorrelation
from seedmap.hmm.selection.sweep import num_iterations
from seedmap.hmm.training_map.bootstrap import bootstrap_map
from seedmap.hmm.training_map.stability import adjusted_rand_index, edge_inclusion, edge_recurrence
from seedmap.results import ABSENT, Absent, from_json, to_json
from seedmap.runs import Runs

Callback = Callable[[int, int], None]


@dataclass(frozen=True)
class RefitEdges(Refits):
    """Refits, and in what share of them some run makes each transition [source][target].

    `edges` is None where every refit broke down.
    """

    edges: list[list[float | None]] | None


@dataclass(frozen=True)
class FitStability:
    """The content of `stability.json`: what is measured of a fit, before there is a map.

    Attributes:
        adjusted_rand: agreement of the other restarts that did not degenerate.
        edges: share of them that have each transition [source][target]; None without any.
        refits: to resampled runs; None where none were asked for.
        priors: results under the prior asked for, and under the other one where it was fitted; none
            of the default engine.
        autocorrelation: of the residuals within states, lag 1, by component, of Gaussian HMMs
            by metric; absent in older files.
        fit_id: which all files of the fit carry.
    """

    adjusted_rand: list[float | None]
    edges: list[list[float | None]] | None
    refits: RefitEdges | None
    priors: list[PriorRow]
    autocorrelation: list[float | None] | Absent = ABSENT
    fit_id: str | None = None


def pass_callbacks(config: FitConfig, callback: Callback | None) -> dict[str, Callback | None]:
    """Makes callbacks for a fit's passes of EM: one count over all of them.

    Args:
        config: the fit: "asked", perhaps "other" (prior), perhaps "refits".
        callback: called with (EM iterations done, in all), over all passes.

    Returns:
        For each pass what it is to call with its own count.
    """
    settings = sweep_config(config)
    sizes = {"asked": num_iterations(settings)}
    if config.compare_priors:
        sizes["other"] = num_iterations(_other_prior(settings))
    if config.resamples:
        sizes["refits"] = settings.iterations
    if callback is None:
        return dict.fromkeys(sizes)
    total, before, callbacks = sum(sizes.values()), 0, {}
    for name, size in sizes.items():
        callbacks[name] = lambda done, _, before=before: callback(before + done, total)
        before += size
    return callbacks


def _other_prior(settings: hmm.SweepConfig) -> hmm.SweepConfig:
    return replace(settings, prior="weak" if settings.prior == "held-out" else "held-out")


def fit_priors(
    runs: Runs, config: FitConfig, callbacks: Mapping[str, Callback | None]
) -> tuple[Fit, Fit | None]:
    """Fits under the prior asked for, and under the other one where a comparison is asked for.

    Both run the same compiled program, so the second costs a fraction of the first.

    Args:
        runs: what to fit to.
        config: how.
        callbacks: of the passes, as `pass_callbacks` makes them.
    """
    settings = sweep_config(config)
    asked = _fit(runs, config, settings, callbacks["asked"])
    if not config.compare_priors:
        return asked, None
    by_default = replace(config, criterion=None, one_standard_error=False)
    return asked, _fit(runs, by_default, _other_prior(settings), callbacks["other"])


def _fit(
    runs: Runs,
    config: FitConfig,
    settings: hmm.SweepConfig,
    callback: Callback | None,
) -> Fit:
    return fit(
        runs,
        states=settings.states,
        restarts=settings.restarts,
        iterations=settings.iterations,
        covariance=settings.covariance,
        prior=settings.prior,
        criterion=config.criterion,
        one_standard_error=config.one_standard_error,
        scale=config.scale or "run",
        validation_share=validation_share(config),
        validation_runs=config.validation_runs,
        seed=config.fit_seed,
        callback=callback,
    )


def prior_row(fitted: Fit, paths: np.ndarray) -> dict[str, Any]:
    """Returns a prior's fit, nats per checkpoint, and how alike it decodes the runs to `paths`."""
    sweep, chosen = fitted.sweep, fitted.chosen
    return {
        "prior": sweep.config.prior,
        "criterion": fitted.criterion,
        "scale": chosen.prior_scale,
        "num_states": chosen.num_states,
        "train": chosen.train_log_likelihood / sweep.num_observations_train,
        "held_out_mean": chosen.validation_log_likelihood / sweep.num_observations_validation,
        "held_out_median": chosen.robust_log_likelihood / sweep.num_observations_validation,
        "adjusted_rand": adjusted_rand_index(paths, fitted.paths),
    }


def restart_stability(fitted: Fit) -> dict[str, Any]:
    """Measures how alike other restarts with the chosen number of states decode the runs.

    Returns:
        `adjusted_rand`: of each other restart that did not degenerate with the chosen one, in the
        order of restarts; `edges`: [source, target], the share of these restarts that have each
        edge, states matched by their decodings; null where there is no other restart.
    """
    chosen, paths = fitted.chosen, fitted.paths
    others = [
        hmm.viterbi(candidate.parameters, fitted.sequences)
        for candidate in fitted.sweep.fits
        if candidate.num_states == chosen.num_states
        and candidate.restart != chosen.restart
        and not candidate.degenerate
    ]
    recurrence = edge_recurrence(paths, others, chosen.num_states) if others else None
    agreement = [adjusted_rand_index(paths, other) for other in others]
    return {"adjusted_rand": agreement, "edges": recurrence}


def refit_stability(
    fitted: Fit, config: FitConfig, callback: Callback | None
) -> dict[str, Any] | None:
    """Refits the chosen model to resampled training runs and measures its stability.

    Returns:
        The fields of `hmm.training_map.bootstrap.Bootstrap`; None where no resamples are asked for.
    """
    if not config.resamples:
        return None
    return asdict(
        bootstrap_map(
            fitted.sweep,
            fitted.chosen,
            fitted.sequences,
            fitted.paths,
            config.resamples,
            config.fit_seed,
            callback,
        )
    )


def _level_autocorrelation(fitted: Fit) -> list[float]:
    """Of the metrics less their states' means, lag 1, by metric."""
    values, paths = fitted.sequences.values, fitted.paths
    means = fitted.chosen.parameters.means
    residuals = np.where(paths[:, :, None] >= 0, values - means[paths], np.nan)
    return autocorrelation(residuals, paths).tolist()


def fit_stability(
    fitted: Fit,
    other: Fit | None,
    config: FitConfig,
    callbacks: Mapping[str, Callback | None],
) -> FitStability:
    """Measures the stability of a fit.

    Args:
        fitted: by the prior asked for.
        other: by the other prior; None where it was not fitted.
        config: how.
        callbacks: of the passes, as `pass_callbacks` makes them.
    """
    content = restart_stability(fitted) | {
        "refits": refit_stability(fitted, config, callbacks.get("refits")),
        "priors": [prior_row(each, fitted.paths) for each in (fitted, other) if each is not None],
        "autocorrelation": _level_autocorrelation(fitted),
        "fit_id": None,
    }
    return from_json(FitStability, to_json(content))


def stability(analysis: Analysis, measured: FitStability) -> Stability:
    """Returns agreement of restarts and refits, and how often each edge recurs.

    Args:
        analysis: of the chosen HMM.
        measured: of its fit.
    """
    inclusion = edge_inclusion(analysis.paths, analysis.training_map.num_states)
    refits = measured.refits
    return Stability(
        adjusted_rand=measured.adjusted_rand,
        refits=refits and Refits(refits.num_resamples, refits.num_degenerate, refits.adjusted_rand),
        priors=measured.priors,
        autocorrelation=measured.autocorrelation,
        edges=[
            EdgeStability(
                source=int(edge.source),
                target=int(edge.target),
                restarts=_share(measured.edges, edge),
                bootstrap=float(inclusion[edge.source, edge.target]),
                refits=_share(refits and refits.edges, edge),
            )
            for edge in analysis.training_map.edges
        ],
    )


def _share(edges: list[list[float | None]] | None, edge: hmm.Edge) -> float | None:
    return None if edges is None else edges[edge.source][edge.target]
