"""What a run's path through the states says about an outcome of the run.

Hu et al. 2023 (arXiv 2308.09543): the share of checkpoints a run spends in each state ("bag of
states") is regressed on its convergence time, and a detour is a state that some converged runs
avoid and that goes with later convergence.

Shares sum to one, so the model is ``outcome = sum_k b_k share_k``, which spans an intercept: its
fit is that of an intercept and any K - 1 of the shares.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from scipy import special

from seedmap.errors import UserError
from seedmap.hmm.training_map.prediction import predict_outcome

OVERFIT_GAP = 0.1
"""In-sample R^2 above the leave-one-out R^2 by more than this counts as overfitting."""

READABLE_PVALUE = 0.001
"""Coefficients are to be read only below this p-value of the F test (Hu et al. 2023)."""

# Relative size below which a singular value, or what is left of a unit vector, counts as zero.
# Shares are ratios of counts, so what is not rounding (1e-16) is far above it.
_TOLERANCE = 1e-9

# Spread of an outcome, relative to its size, that counts as constant.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Coefficient:
    """How much longer a run wholly in one state would take than the mean run: ``b_k - mean(y)``.

    Attributes:
        state: the state.
        value: the coefficient, in units of the outcome; None if the runs do not determine it.
        standard_error: of `value`; None without residual degrees of freedom.
        low: lower end of the confidence interval, from the t distribution.
        high: upper end.
    """

    state: int
    value: float | None
    standard_error: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Regression:
    """Ordinary least squares from bag of states to outcome. None stands for "undefined".

    Attributes:
        r2: share of the outcome's variance explained; None for a constant outcome.
        f_statistic: of the test that all b_k are equal; infinite for an exact fit.
        f_pvalue: of that test; None for a constant outcome or without degrees of freedom.
        degrees: (model, residual) degrees of freedom, (rank - 1, runs - rank).
        leave_one_out_r2: 1 - sum of squared leave-one-out errors / total sum of squares.
        num_runs: runs the regression uses.
        num_censored: runs whose outcome was missing, excluded or set to the cap.
        num_extrapolated: runs that alone determine some direction of the model (say, the only one
            to visit a state), for which the other runs predict by extrapolation when left out.
        censoring: "exclude", or "cap".
        confidence: of the intervals.
        coefficients: one for each state.
        warnings: sentences for the reader; empty if nothing is wrong.
    """

    r2: float | None
    f_statistic: float | None
    f_pvalue: float | None
    degrees: tuple[int, int]
    leave_one_out_r2: float | None
    num_runs: int
    num_censored: int
    num_extrapolated: int
    censoring: str
    confidence: float
    coefficients: tuple[Coefficient, ...]
    warnings: tuple[str, ...]


class _Decomposition(NamedTuple):
    """Thin singular value decomposition of the bag, zero singular values dropped."""

    left: np.ndarray  # [run, rank]
    singular: np.ndarray  # [rank]
    right: np.ndarray  # [rank, state]


def bag_of_states(
    paths: Int[np.ndarray, "run time"], num_states: int
) -> Float[np.ndarray, "run state"]:
    """Returns the share of each run's checkpoints spent in each state (Hu et al. 2023).

    Args:
        paths: int [run, time], decoded states, -1 on padding.
        num_states: K.

    Returns:
        float64 [run, state]; rows sum to 1.

    Raises:
        UserError: a state outside 0..K-1, or a run without checkpoints.

    Example:
        >>> bag_of_states(np.array([[0, 0, 1, 1], [0, 2, -1, -1]]), 3).tolist()
        [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]]
    """
    paths = np.asarray(paths)
    if paths.max(initial=-1) >= num_states or paths.min(initial=0) < -1:
        raise UserError(f"paths must hold states 0 to {num_states - 1}, and -1 on padding")
    counts = np.stack([(paths == state).sum(axis=1) for state in range(num_states)], axis=1)
    totals = counts.sum(axis=1, keepdims=True)
    if (totals == 0).any():
        raise UserError(f"run {int(np.argmin(totals))} has no checkpoints: leave it out")
    return counts / totals


def regress(
    bag: Real[np.ndarray, "run state"],
    outcome: Real[np.ndarray, " run"],
    confidence: float = 0.95,
    cap: float | None = None,
) -> Regression:
    """Fits ``outcome = sum_k b_k share_k`` by least squares and tests it (Hu et al. 2023).

    Squared sums are about the mean of the outcome, so R^2 and F are those of the fit with an
    intercept and K - 1 shares. A direction that the runs do not determine (a state none visits, two
    states always in one proportion) lowers the rank and leaves its coefficients None.

    Args:
        bag: float [run, state], rows sum to 1 (`bag_of_states`).
        outcome: float [run], any number measured on a run; NaN marks a censored run, one that did
            not converge.
        confidence: of the coefficients' intervals, between 0 and 1.
        cap: None leaves censored runs out; a number is taken as their outcome (for instance the
            length of training, as in the code of Hu et al.).

    Returns:
        The regression. Too few runs, or a constant outcome, give None where nothing is defined.

    Raises:
        UserError: shapes that do not match, rows that do not sum to 1, an infinite outcome, a cap
            below an observed outcome, or a confidence outside (0, 1).

    Example:
        >>> bag = np.array([[0.9, 0.1], [0.5, 0.5], [0.6, 0.4], [0.2, 0.8]])
        >>> round(regress(bag, np.array([1.0, 5.0, 4.0, 8.0])).r2, 6)
        1.0
    """
    if not 0 < confidence < 1:
        raise UserError(f"confidence must lie between 0 and 1, not {confidence}")
    bag, outcome, num_censored = _uncensored(bag, outcome, cap)
    svd = _decompose(bag)
    degrees = (max(len(svd.singular) - 1, 0), len(outcome) - len(svd.singular))
    centred = outcome - outcome.mean() if len(outcome) else outcome
    residual = centred - svd.left @ (svd.left.T @ centred)
    r2, f_statistic, f_pvalue = _f_test(_total(outcome), residual, degrees)
    leave_one_out_r2, num_extrapolated = _leave_one_out(bag, outcome, residual, svd)
    return Regression(
        r2=r2,
        f_statistic=f_statistic,
        f_pvalue=f_pvalue,
        degrees=degrees,
        leave_one_out_r2=leave_one_out_r2,
        num_runs=len(outcome),
        num_censored=num_censored,
        num_extrapolated=num_extrapolated,
        censoring="exclude" if cap is None else "cap",
        confidence=confidence,
        coefficients=_coefficients(bag, centred, residual, svd, degrees[1], confidence),
        warnings=_warnings(r2, leave_one_out_r2, f_pvalue, degrees),
    )


def permutation_pvalue(
    bag: Real[np.ndarray, "run state"],
    outcome: Real[np.ndarray, " run"],
    seed: int | np.random.Generator,
    num_permutations: int = 9999,
    cap: float | None = None,
) -> float | None:
    """Returns the p-value of R^2 against shuffled outcomes; assumes no normal errors.

    ``(1 + #{R^2 of a shuffle >= R^2}) / (1 + num_permutations)``, never 0 (Phipson & Smyth 2010).

    Args:
        bag: float [run, state], rows sum to 1.
        outcome: float [run]; NaN marks a censored run.
        seed: of the shuffles, or a numpy generator.
        num_permutations: number of shuffles.
        cap: as in `regress`.

    Returns:
        The p-value, or None where R^2 is undefined (fewer than two runs, a constant outcome).

    Raises:
        UserError: as `regress`.
    """
    bag, outcome, _ = _uncensored(bag, outcome, cap)
    if _total(outcome) == 0:
        return None
    centred = outcome - outcome.mean()
    shuffled = np.random.default_rng(seed).permuted(np.tile(centred, (num_permutations, 1)), axis=1)
    left = _decompose(bag).left
    # The total sum of squares is the same for every shuffle: compare explained sums instead of R^2.
    explained = ((centred @ left) ** 2).sum()
    as_large = ((shuffled @ left) ** 2).sum(axis=1) >= explained * (1 - _TOLERANCE)
    return float((1 + as_large.sum()) / (1 + num_permutations))


def detours(
    paths: Int[np.ndarray, "run time"],
    converged: Bool[np.ndarray, " _run"],
    regression: Regression,
    exclude_zero: bool = False,
) -> list[int]:
    """Returns the states that converged runs can avoid and that go with a larger outcome.

    The detours of Hu et al. 2023.

    Args:
        paths: int [run, time], decoded states, -1 on padding.
        converged: bool [run].
        regression: of convergence time on the bag of states of these runs.
        exclude_zero: False is the definition of Hu et al., a positive coefficient; True asks also
            that the coefficient's whole confidence interval be positive.

    Returns:
        The detour states, ascending.

    Raises:
        UserError: `converged` is not one flag per run.
    """
    paths, converged = np.asarray(paths), np.asarray(converged, dtype=bool)
    if converged.shape != paths.shape[:1]:
        raise UserError(f"converged must hold {len(paths)} flags, one per run")
    bounds = [c.low if exclude_zero else c.value for c in regression.coefficients]
    avoided = [not (paths[converged] == c.state).any(axis=1).all() for c in regression.coefficients]
    return [
        coefficient.state
        for coefficient, bound, is_avoided in zip(
            regression.coefficients, bounds, avoided, strict=True
        )
        if is_avoided and bound is not None and bound > 0
    ]


def _uncensored(
    bag: np.ndarray, outcome: np.ndarray, cap: float | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Check the input; leave censored runs out, or give them the cap."""
    bag, outcome = np.asarray(bag, dtype=float), np.asarray(outcome, dtype=float)
    if bag.ndim != 2 or outcome.shape != bag.shape[:1]:
        raise UserError(
            f"need a bag [run, state] and an outcome [run], not {bag.shape} and {outcome.shape}"
        )
    if not np.allclose(bag.sum(axis=1), 1, atol=1e-5):
        raise UserError("every row of the bag of states must sum to 1")
    if np.isinf(outcome).any():
        raise UserError("outcomes must be finite; use NaN for a run that did not converge")
    censored = np.isnan(outcome)
    if cap is None:
        return bag[~censored], outcome[~censored], int(censored.sum())
    if not np.isfinite(cap) or (outcome[~censored] > cap).any():
        raise UserError(f"the cap ({cap}) must be finite and not below any observed outcome")
    return bag, np.where(censored, cap, outcome), int(censored.sum())


def _decompose(bag: np.ndarray) -> _Decomposition:
    left, singular, right = np.linalg.svd(bag, full_matrices=False)
    kept = singular > _TOLERANCE * singular.max(initial=0)
    return _Decomposition(left[:, kept], singular[kept], right[kept])


def _total(outcome: np.ndarray) -> float:
    """Sum of squares about the mean; 0 if the outcome varies by no more than rounding."""
    if len(outcome) == 0:
        return 0.0
    total = float(((outcome - outcome.mean()) ** 2).sum())
    return total if total > (_ROUNDING * np.abs(outcome).max()) ** 2 else 0.0


def _f_test(
    total: float, residual: np.ndarray, degrees: tuple[int, int]
) -> tuple[float | None, float | None, float | None]:
    """R^2, F statistic and its p-value."""
    if total == 0:
        return None, None, None
    unexplained = float(residual @ residual)
    r2 = max(1 - unexplained / total, 0.0)
    if min(degrees) < 1:
        return r2, None, None
    explained = max(total - unexplained, 0.0) / degrees[0]
    f_statistic = explained * degrees[1] / unexplained if unexplained > 0 else float("inf")
    return r2, f_statistic, float(special.fdtrc(*degrees, f_statistic))


def _leave_one_out(
    bag: np.ndarray, outcome: np.ndarray, residual: np.ndarray, svd: _Decomposition
) -> tuple[float | None, int]:
    """Leave-one-out R^2 by the hat matrix, and the number of runs it cannot serve.

    The error of a left-out run is its residual / (1 - leverage). At leverage 1 the other runs do
    not determine the prediction and the quotient is 0/0; such a run is predicted by a refit.
    """
    total = _total(outcome)
    if total == 0:
        return None, 0
    slack = 1 - (svd.left**2).sum(axis=1)
    alone = slack < _TOLERANCE
    errors = residual / np.where(alone, 1, slack)
    for run in np.flatnonzero(alone).tolist():
        errors[run] = outcome[run] - _predict_from_others(bag, outcome, run)
    return float(1 - (errors**2).sum() / total), int(alone.sum())


def _predict_from_others(bag: np.ndarray, outcome: np.ndarray, run: int) -> float:
    """Prediction for a run by the smallest coefficients, about the mean, that fit the others best.

    Directions that the others do not determine add nothing: with nothing known, this is their mean.
    """
    others, known = np.delete(bag, run, axis=0), np.delete(outcome, run)
    return float(predict_outcome(others, known, bag[run : run + 1])[0])


def _coefficients(
    bag: np.ndarray,
    centred: np.ndarray,
    residual: np.ndarray,
    svd: _Decomposition,
    residual_degrees: int,
    confidence: float,
) -> tuple[Coefficient, ...]:
    """Coefficients ``b_k - mean(y) = (e_k - mean share) . b`` where the bag's rows span e_k."""
    estimable = 1 - (svd.right**2).sum(axis=0) < _TOLERANCE
    values = svd.right.T @ (svd.left.T @ centred / svd.singular)
    if residual_degrees < 1:
        return tuple(
            Coefficient(state, float(value) if known else None, None, None, None)
            for state, (value, known) in enumerate(zip(values, estimable, strict=True))
        )
    contrasts = (np.eye(bag.shape[1]) - bag.mean(axis=0)) @ svd.right.T / svd.singular
    variance = residual @ residual / residual_degrees
    errors = np.sqrt(variance * (contrasts**2).sum(axis=1))
    margins = special.stdtrit(residual_degrees, (1 + confidence) / 2) * errors
    rows = np.stack([values, errors, values - margins, values + margins], axis=1)
    return tuple(
        Coefficient(state, *(row.tolist() if known else [None] * 4))
        for state, (row, known) in enumerate(zip(rows, estimable, strict=True))
    )


def _warnings(
    r2: float | None,
    leave_one_out_r2: float | None,
    f_pvalue: float | None,
    degrees: tuple[int, int],
) -> tuple[str, ...]:
    warnings = []
    if sum(degrees) < 1:
        warnings.append("Fewer than two runs with an outcome: nothing to regress.")
    elif r2 is None:
        warnings.append("The outcome does not vary over the runs: R^2 is undefined.")
    elif degrees[0] < 1:
        warnings.append("All runs have the same bag of states: nothing to regress on.")
    elif f_pvalue is None:
        warnings.append(
            f"{sum(degrees) + 1} runs for {degrees[0] + 1} parameters: no p-value, no intervals."
        )
    elif f_pvalue >= READABLE_PVALUE:
        warnings.append(f"p is not below {READABLE_PVALUE}: the coefficients should not be read.")
    if r2 is None or leave_one_out_r2 is None or not degrees[0]:
        return tuple(warnings)
    if r2 - leave_one_out_r2 > OVERFIT_GAP:
        warnings.append(
            f"R^2 is {r2:.3f} in sample but {leave_one_out_r2:.3f} on left-out runs: it overfits."
        )
    return tuple(warnings)
