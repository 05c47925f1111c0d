"""Choosing the number of states from a sweep, and which held-out runs the choice rests on."""

import math
import warnings

import numpy as np

from hmm.sweep import Fit, Sweep

CRITERIA = ("validation_bic", "validation_aic", "validation_log_likelihood")


def best_restarts(sweep: Sweep) -> dict[int, Fit]:
    """For each K the restart of highest penalised training log-likelihood.

    Degenerate fits are left out; a K whose fits are all degenerate is absent. Held-out runs have
    no part in this choice.
    """
    best: dict[int, Fit] = {}
    for fit in sweep.fits:
        if fit.degenerate or not math.isfinite(fit.penalised_log_likelihood):
            continue
        old = best.get(fit.num_states)
        if old is None or fit.penalised_log_likelihood > old.penalised_log_likelihood:
            best[fit.num_states] = fit
    return best


def select(sweep: Sweep, criterion: str = "validation_bic") -> Fit:
    """The chosen fit: best K by `criterion`, its restart by penalised training log-likelihood.

    The criterion of a K is that of its restart from `best_restarts`, so the number that is compared
    belongs to the model that is returned. (The code released with paper A averages the BIC over
    restarts instead; `selection_table` has that mean too.)

    Args:
        sweep: The fits.
        criterion: "validation_bic" or "validation_aic" (lowest wins; `Fit` has the formulas), or
            "validation_log_likelihood" (highest wins).

    Returns:
        The chosen fit; of equal ones the one with fewer states.

    Raises:
        ValueError: If `criterion` is unknown or every fit is degenerate.
    """
    cost = {
        "validation_bic": lambda fit: fit.bic,
        "validation_aic": lambda fit: fit.aic,
        "validation_log_likelihood": lambda fit: -fit.validation_log_likelihood,
    }
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}; got {criterion!r}")
    best = sorted(best_restarts(sweep).values(), key=lambda fit: fit.num_states)
    if not best:
        raise ValueError(
            "every fit is degenerate: try fewer states, a diagonal covariance, or more runs"
        )
    return min(best, key=cost[criterion])


def selection_table(sweep: Sweep) -> list[dict]:
    """One row for each K, in the order of the sweep's states.

    Returns:
        Dicts with `num_states`, `num_parameters`, `num_degenerate`, `restart` (the one of
        `best_restarts`), its `train_log_likelihood`, `validation_log_likelihood`, `aic` and `bic`,
        `best_validation_log_likelihood` (highest over restarts), and the means over restarts
        `mean_train_log_likelihood`, `mean_validation_log_likelihood`, `mean_aic` and `mean_bic`.
        Degenerate fits count in `num_degenerate` only; where all are, the other values are None.
    """
    best = best_restarts(sweep)
    return [_row(sweep, k, best.get(k)) for k in sweep.config.states]


def _row(sweep: Sweep, num_states: int, best: Fit | None) -> dict:
    fits = [fit for fit in sweep.fits if fit.num_states == num_states]
    good = [fit for fit in fits if not fit.degenerate] if best else []
    scores = ("train_log_likelihood", "validation_log_likelihood", "aic", "bic")
    held_out = [fit.validation_log_likelihood for fit in good]
    return {
        "num_states": num_states,
        "num_parameters": fits[0].num_parameters,
        "num_degenerate": sum(fit.degenerate for fit in fits),
        "restart": best.restart if best else None,
        **{score: getattr(best, score) if best else None for score in scores},
        "best_validation_log_likelihood": max(held_out) if best else None,
        **{
            f"mean_{score}": float(np.mean([getattr(fit, score) for fit in good])) if best else None
            for score in scores
        },
    }


def dominant_validation_runs(sweep: Sweep, share: float = 0.8) -> tuple[str, ...]:
    """Warns if a few held-out runs decide how the numbers of states compare.

    The say of a run is the range of its log-likelihood over the candidates (`best_restarts`). The
    quarter of the runs with the most say (at least one run) dominates if it holds more than `share`
    of the total; with runs alike it would hold about a quarter.

    Args:
        sweep: The fits, over at least two numbers of states.
        share: Share of the total above which a few runs dominate.

    Returns:
        Names of the dominant runs, most say first; empty if none dominate, or if there are
        fewer than two validation runs or candidates to compare.
    """
    candidates = [fit.validation_run_log_likelihood for fit in best_restarts(sweep).values()]
    num_runs = len(sweep.validation_runs)
    if num_runs < 2 or len(candidates) < 2:
        return ()
    say = np.ptp(candidates, axis=0)
    few = np.argsort(-say)[: max(1, num_runs // 4)]
    if not say[few].sum() > share * say.sum():
        return ()
    names = tuple(sweep.validation_runs[i] for i in few)
    warnings.warn(
        f"model selection rests on {len(few)} of {num_runs} validation runs: "
        f"{', '.join(names)} hold {say[few].sum() / say.sum():.0%} of the variation of the "
        "held-out log-likelihood over the numbers of states",
        stacklevel=2,
    )
    return names
