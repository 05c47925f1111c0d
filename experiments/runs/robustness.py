"""How far a map depends on the prior, on the restart of EM and on which runs were trained."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import jax
import numpy as np

from seedmap import hmm
from seedmap.experiments.runs.analysis import Analysis
from seedmap.experiments.runs.settings import split
from seedmap.experiments.tasks.base import FitConfig
from seedmap.hmm.selection.sweep import num_iterations
from seedmap.hmm.training_map.bootstrap import bootstrap_map
from seedmap.hmm.training_map.stability import adjusted_rand_index, edge_inclusion, edge_recurrence


def fit_priors(
    sequences: hmm.Sequences,
    settings: hmm.SweepConfig,
    config: FitConfig,
    callback: Callable[[int, int], None] | None,
) -> tuple[hmm.Sweep, hmm.Sweep | None]:
    """The sweep that is asked for, and one under the other prior where a comparison is asked for.

    Both run the same compiled program, so the second costs a fraction of the first.
    """
    train_runs, held_out = split(sequences.runs, config)
    runs = sequences.select(train_runs), sequences.select(held_out)
    key = jax.random.key(config.fit_seed)
    if not config.compare_priors:
        return hmm.fit_sweep(*runs, settings, key, callback), None
    other = replace(settings, prior="weak" if settings.prior == "held-out" else "held-out")
    passes = num_iterations(settings), num_iterations(other)
    sweep = hmm.fit_sweep(*runs, settings, key, _of_all(callback, 0, sum(passes)))
    return sweep, hmm.fit_sweep(*runs, other, key, _of_all(callback, passes[0], sum(passes)))


def _of_all(
    callback: Callable[[int, int], None] | None, before: int, total: int
) -> Callable[[int, int], None] | None:
    """A callback that counts the iterations of one sweep among those of all."""
    return None if callback is None else lambda done, _: callback(before + done, total)


def prior_row(
    sweep: hmm.Sweep,
    chosen: hmm.Fit,
    criterion: str | None,
    sequences: hmm.Sequences,
    paths: np.ndarray,
) -> dict[str, Any]:
    """What a prior gives; log-likelihoods are in nats per checkpoint."""
    decoded = hmm.viterbi(chosen.parameters, sequences)
    return {
        "prior": sweep.config.prior,
        "criterion": criterion or hmm.default_criterion(sweep),
        "scale": chosen.prior_scale,
        "num_states": chosen.num_states,
        "train": chosen.train_log_likelihood / sweep.num_observations_train,
        "held_out_mean": chosen.validation_log_likelihood / sweep.num_observations_validation,
        "held_out_median": chosen.robust_log_likelihood / sweep.num_observations_validation,
        "adjusted_rand": adjusted_rand_index(paths, decoded),
    }


def restart_stability(
    sweep: hmm.Sweep, chosen: hmm.Fit, sequences: hmm.Sequences, paths: np.ndarray
) -> dict[str, Any]:
    """How alike the chosen number of states' other restarts decode the runs.

    Returns:
        `adjusted_rand`: of each other restart that did not degenerate with the chosen one, in the
        order of restarts; `edges`: [source, target], the share of these restarts that have each
        edge, states matched by their decodings; null where there is no other restart.
    """
    others = [
        hmm.viterbi(fit.parameters, sequences)
        for fit in sweep.fits
        if fit.num_states == chosen.num_states
        and fit.restart != chosen.restart
        and not fit.degenerate
    ]
    recurrence = edge_recurrence(paths, others, chosen.num_states) if others else None
    agreement = [adjusted_rand_index(paths, other) for other in others]
    return {"adjusted_rand": agreement, "edges": recurrence}


def refit_stability(
    sweep: hmm.Sweep,
    chosen: hmm.Fit,
    sequences: hmm.Sequences,
    paths: np.ndarray,
    config: FitConfig,
) -> dict[str, Any] | None:
    """What the chosen model says when it is refitted to resampled training runs.

    Returns:
        The fields of `hmm.training_map.bootstrap.Bootstrap`; None where no resamples are asked for.
    """
    if not config.resamples:
        return None
    return asdict(bootstrap_map(sweep, chosen, sequences, paths, config.resamples, config.fit_seed))


def stability(analysis: Analysis, found: dict[str, Any]) -> dict[str, Any]:
    """Agreement of restarts and of refits to resampled runs, and how often each edge comes back.

    Args:
        analysis: of the chosen HMM.
        found: content of `stability.json`.
    """
    inclusion = edge_inclusion(analysis.paths, analysis.training_map.num_states)
    recurrence, refits = found["edges"], found["refits"] or {}
    refitted = refits.get("edges")
    return {
        "adjusted_rand": found["adjusted_rand"],
        "refits": {name: value for name, value in refits.items() if name != "edges"} or None,
        "priors": found["priors"],
        "edges": [
            {
                "from": edge.source,
                "to": edge.target,
                "restarts": recurrence and recurrence[edge.source][edge.target],
                "bootstrap": inclusion[edge.source, edge.target],
                "refits": refitted and refitted[edge.source][edge.target],
            }
            for edge in analysis.training_map.edges
        ],
    }
