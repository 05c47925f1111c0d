"""All that a decoded HMM says about its runs: the map, the regression, detours, dissimilarity."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from seedmap.errors import UserError
from seedmap.hmm.parameters import Parameters
from seedmap.hmm.sequences import Sequences
from seedmap.hmm.training_map.build import TrainingMap, build_map
from seedmap.hmm.training_map.dissimilarity import dissimilarity
from seedmap.hmm.training_map.regression import (
    READABLE_PVALUE,
    Regression,
    bag_of_states,
    detours,
    permutation_pvalue,
    regress,
)


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a decoded HMM says about a set of runs.

    Attributes:
        sequences: the z-scored metrics.
        paths: int [run, time], decoded states, -1 past a run's end.
        training_map: the pruned map.
        bag: float64 [run, state], share of checkpoints in each state.
        outcome: float64 [run], what the regression explains; NaN for a run that has no part in it.
        regression: the outcome on the bag of states.
        permutation_pvalue: of the regression's R^2, over 9999 shuffles of the outcome; None where
            R^2 is undefined.
        detours: detour states, where the coefficients may be read: the outcome is convergence and
            the regression's p-value is small enough; else none.
        firm_detours: those whose coefficient's interval excludes 0.
        dissimilarity: mean over pairs of runs, by ground metric ("index", "discrete", "means").
    """

    sequences: Sequences
    paths: Int[np.ndarray, "run time"]
    training_map: TrainingMap
    bag: Float[np.ndarray, "run state"]
    outcome: Real[np.ndarray, " run"]
    regression: Regression
    permutation_pvalue: float | None
    detours: list[int]
    firm_detours: list[int]
    dissimilarity: dict[str, float]


def analyse(
    parameters: Parameters,
    sequences: Sequences,
    paths: Int[np.ndarray, "run time"],
    outcome: Real[np.ndarray, " _run"],
    *,
    converged: Bool[np.ndarray, " _run"] | None = None,
    complete: Bool[np.ndarray, " _run"] | None = None,
    cap: float | None = None,
    readable: float = READABLE_PVALUE,
    as_decoded: bool = False,
) -> Analysis:
    """Builds the map, the regression on the bag of states, and the dissimilarities.

    Source: Hu et al. 2023, section 3.

    Args:
        parameters: of the HMM, states in the order of `paths`.
        sequences: the runs, in the z units the HMM was fitted in.
        paths: int [run, time], decoded states, -1 on padding.
        outcome: float [run], any number measured on a run; NaN for a run without one (censored).
        converged: bool [run], whether the run converged, where the outcome is the time of it.
            Default: the outcome is something else, and there are no detours.
        complete: bool [run], False for a run that was cut where it diverged: its shares are of
            another length, so it has no part in the regression. Default: all are complete.
        cap: outcome to give to complete runs without one, for instance the length of training;
            None leaves them out.
        readable: p-value of the F test below which coefficients are read.
        as_decoded: as of `build_map`.

    Returns:
        The analysis.

    Raises:
        UserError: shapes that do not match, or as `build_map` and `regress`.

    Example:
        decoded = decode(fit.parameters, sequences)
        analyse(decoded.parameters, sequences, decoded.paths, loss).regression.r2
    """
    bag = bag_of_states(paths, len(parameters.means))
    complete = np.full(len(bag), True) if complete is None else np.asarray(complete, bool)
    outcome = np.asarray(outcome, float)
    if not complete.shape == outcome.shape == (len(bag),):
        raise UserError(
            f"outcome and complete must hold {len(bag)} values, one per run; got shapes "
            f"{outcome.shape} and {complete.shape}"
        )
    outcome = np.where(complete, outcome, np.nan)
    regression = regress(bag[complete], outcome[complete], cap=cap)
    pvalue = regression.f_pvalue
    if converged is None or pvalue is None or not pvalue < readable:
        any_detours, firm_detours = [], []
    else:
        decided = (paths[complete], np.asarray(converged, bool)[complete], regression)
        any_detours, firm_detours = detours(*decided), detours(*decided, exclude_zero=True)
    censored = complete & np.isnan(outcome)
    return Analysis(
        sequences=sequences,
        paths=paths,
        training_map=build_map(parameters, sequences, paths, as_decoded=as_decoded),
        bag=bag,
        outcome=outcome if cap is None else np.where(censored, cap, outcome),
        regression=regression,
        permutation_pvalue=permutation_pvalue(bag[complete], outcome[complete], seed=0, cap=cap),
        detours=any_detours,
        firm_detours=firm_detours,
        dissimilarity={
            "index": dissimilarity(bag, "index"),
            "discrete": dissimilarity(bag, "discrete"),
            "means": dissimilarity(bag, "means", parameters.means),
        },
    )
