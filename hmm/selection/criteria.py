"""Choosing the number of states from a sweep, and which held-out runs the choice rests on."""

import math
import warnings

import numpy as np

from seedmap.errors import UserError
from seedmap.hmm.selection.cross_validation import robust, robust_error
from seedmap.hmm.selection.fits import Fit, Sweep

CRITERIA = (
    *(f"{half}_{kind}" for half in ("train", "validation") for kind in ("bic", "aic", "icl")),
    *("train_log_likelihood", "validation_log_likelihood"),
    *("robust_bic", "robust_aic", "robust_log_likelihood", "kfold"),
)


def default_criterion(sweep: Sweep) -> str:
    """Returns what `select` goes by: "validation_bic" under the weak prior, else "robust_bic"."""
    return "robust_bic" if sweep.config.prior == "held-out" else "validation_bic"


def criterion_value(sweep: Sweep, fit: Fit, criterion: str) -> float:
    """Returns the criterion of one fit, in nats; see `select`.

    Raises:
        UserError: If `criterion` is unknown, or is "kfold" and the sweep has no cross-validation.
    """
    half, _, kind = criterion.partition("_")
    if criterion not in CRITERIA:
        raise UserError(f"criterion must be one of {', '.join(CRITERIA)}; got {criterion!r}")
    if criterion == "kfold":
        return robust(_left_out(sweep, fit))
    total = _log_likelihood(fit, half, kind == "icl")
    if kind == "log_likelihood":
        return total
    size = sweep.num_observations_train if half == "train" else sweep.num_observations_validation
    price = 2.0 if kind == "aic" else math.log(size)
    return -2 * total + price * fit.num_parameters


def _log_likelihood(fit: Fit, half: str, with_path: bool) -> float:
    if with_path:
        return getattr(fit, f"{half}_path_log_likelihood")
    return getattr(fit, f"{half}_log_likelihood")


def _left_out(sweep: Sweep, fit: Fit) -> np.ndarray:
    """Scores [run] of the training runs left out, at the fit's K and prior scale."""
    for score in sweep.cross_validation:
        if (score.num_states, score.prior_scale) == (fit.num_states, fit.prior_scale):
            return score.run_log_likelihood
    raise UserError("the criterion 'kfold' needs a sweep with the prior 'held-out'")


def best_restarts(sweep: Sweep) -> dict[int, Fit]:
    """Returns for each K the restart of highest penalised training log-likelihood.

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


def select(sweep: Sweep, criterion: str | None = None, one_standard_error: bool = False) -> Fit:
    """Chooses a fit: best K by `criterion`, its restart by penalised training log-likelihood.

    The criterion of a K is that of its restart from `best_restarts`, so the number that is compared
    belongs to the model that is returned. (The code of Hu et al. 2023 averages the BIC over
    restarts instead; `selection_table` has that mean too.)

    With p = `hmm.num_parameters`, and L and n the log-likelihood and the number of checkpoints of
    the training runs ("train_...") or of the held-out runs ("validation_..."):

    - "..._aic" = -2 L + 2 p and "..._bic" = -2 L + p log n; "validation_bic" is theirs.
    - "..._icl" = -2 L* + p log n, with L* = log p(runs, their Viterbi paths) (Biernacki, Celeux and
      Govaert, 2000): states that overlap cost more than in the BIC.
    - "..._log_likelihood" = L.
    - "robust_...": as "validation_...", with L = n times the median over the held-out runs of the
      log-likelihood per checkpoint, so that no single run decides.
    - "kfold": the median over the training runs of the log-likelihood per checkpoint under the fits
      that left them out (`Sweep.cross_validation`), at the K's chosen prior scale.

    AIC, BIC and ICL are best when low, the others when high.

    Args:
        sweep: The fits.
        criterion: One of `CRITERIA`. Default: "robust_bic" under the prior "held-out",
            "validation_bic" under "weak".
        one_standard_error: Take the fewest states whose criterion is within one standard error of
            the best one (Breiman et al., 1984). The error is that of the best K's log-likelihood as
            a sum over independent runs; of a median, sqrt(pi / 2) 1.4826 MAD / sqrt(runs).

    Returns:
        The chosen fit; of equal ones the one with fewer states.

    Raises:
        UserError: If `criterion` is unknown or every fit is degenerate.
    """
    criterion = criterion or default_criterion(sweep)
    lower = criterion.endswith(("aic", "bic", "icl"))
    fits = sorted(best_restarts(sweep).values(), key=lambda fit: fit.num_states)
    costs = [(1 if lower else -1) * criterion_value(sweep, fit, criterion) for fit in fits]
    if not fits:
        raise UserError(
            "every fit is degenerate: try fewer states, a diagonal covariance, or more runs"
        )
    best = int(np.argmin(costs))
    if not one_standard_error:
        return fits[best]
    limit = costs[best] + (2 if lower else 1) * _standard_error(sweep, fits[best], criterion)
    return next(fit for fit, cost in zip(fits, costs, strict=True) if cost <= limit)


def _standard_error(sweep: Sweep, fit: Fit, criterion: str) -> float:
    """Standard error of the log-likelihood that a criterion rests on, in nats; 0 with one run."""
    if criterion == "kfold":
        return robust_error(_left_out(sweep, fit))
    if criterion.startswith("robust"):
        totals = fit.validation_run_log_likelihood
        size = sweep.num_observations_validation / len(totals)
        return len(totals) * robust_error(totals / size) * size
    half = criterion.partition("_")[0]
    totals = getattr(fit, f"{half}_run_log_likelihood")
    return math.sqrt(len(totals)) * float(np.std(totals, ddof=1)) if len(totals) > 1 else 0.0


def selection_table(sweep: Sweep) -> list[dict]:
    """Returns one row for each K, in the order of the sweep's states.

    Returns:
        Dicts with `num_states`, `num_parameters`, `num_degenerate`, `restart` (the one of
        `best_restarts`), its `prior_scale`, its `aic` and `bic` (those of the validation runs) and
        every one of `CRITERIA` under its name (`kfold` where the sweep has a cross-validation);
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
    criteria = [name for name in CRITERIA if name != "kfold" or sweep.cross_validation]
    held_out = [fit.validation_log_likelihood for fit in good]
    return {
        "num_states": num_states,
        "num_parameters": fits[0].num_parameters,
        "num_degenerate": sum(fit.degenerate for fit in fits),
        "restart": best.restart if best else None,
        "prior_scale": best.prior_scale if best else None,
        **{name: criterion_value(sweep, best, name) if best else None for name in criteria},
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
    judged = "model selection rests"
    if default_criterion(sweep).startswith("robust"):
        judged = "model selection goes by the median run, as the total rests"
    warnings.warn(
        f"{judged} on {len(few)} of {num_runs} validation runs: "
        f"{', '.join(names)} hold {say[few].sum() / say.sum():.0%} of the variation of the "
        "held-out log-likelihood over the numbers of states",
        stacklevel=2,
    )
    return names
