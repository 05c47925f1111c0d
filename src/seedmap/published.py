"""The published method, as the code released with Hu et al. 2023 has it."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from seedmap import hmm
from seedmap.errors import UserError
from seedmap.fitting import Fit, check_seed, split_by_name, whole_numbers, z_scores
from seedmap.hmm.selection.config import HMMLEARN
from seedmap.hmm.selection.hu2023 import NAME, fit_hu2023, hu2023_split, select_hu2023
from seedmap.hmm.sequences import check_num_runs
from seedmap.runs import Runs, check_is_runs
from seedmap.text import p_equals

CRITERION = "mean_bic"
CORRECTED = (
    f"method {NAME}, as released but for two slips of arithmetic, which are corrected: p-values "
    "stay below 1, and the importance of a metric is a vector, not its sum"
)


def check_method(method: str | None) -> None:
    """Raises UserError unless a method is one that there is."""
    if method not in (None, NAME):
        raise UserError(f"method must be {NAME}, or be left out; got {method!r}")


def fit_published(
    runs: Runs,
    *,
    states: int | Sequence[int] = range(1, 9),
    restarts: int = 5,
    iterations: int = 32,
    covariance: str = "full",
    validation_runs: Sequence[str] = (),
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
) -> Fit:
    """Fits and chooses an HMM as the released code does (`seedmap.hmm.selection.hu2023`).

    Args:
        runs: at least 5, without missing values.
        states: numbers of states to try, or the one to take.
        restarts: starts of EM for each number of states.
        iterations: EM iterations of each start at most.
        covariance: "full", or "diagonal" as the paper has it where runs are few.
        validation_runs: names of the runs to hold out, in place of the released split.
        seed: of the starts; the split does not depend on it.
        callback: called with (fits done, in all), first before compilation.

    Raises:
        UserError: an argument is out of its range, or the data allow no fit.
    """
    check_is_runs(runs)
    check_seed(seed)
    config = hmm.SweepConfig(
        whole_numbers("states", states), restarts, iterations, covariance, prior=HMMLEARN
    )
    check_num_runs(len(runs))
    train, held_out = hu2023_split(len(runs))
    if len(validation_runs):
        train, held_out = split_by_name(runs.names, 0.0, validation_runs, seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        sequences = z_scores(runs.sequences)
    split = (sequences.select(np.sort(train)), sequences.select(np.sort(held_out)))
    sweep = fit_hu2023(*split, config, seed, callback)
    chosen = select_hu2023(sweep)
    decoded = hmm.decode(chosen.parameters, sequences)
    notes = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    return Fit(
        runs=runs,
        sequences=sequences,
        sweep=sweep,
        chosen=chosen,
        criterion=CRITERION,
        parameters=decoded.parameters,
        paths=decoded.paths,
        notes=(*notes, CORRECTED),
    )


def visit_notes(paths: np.ndarray, times: np.ndarray, num_states: int) -> list[str]:
    """Returns what the released notebook tests of detours, a sentence for each state skipped."""
    return [
        f"state {visits.state}: {visits.visitors} of {visits.runs} runs visit it; correlation of "
        f"visiting with the time of convergence {visits.r:.2f}, {p_equals(visits.pvalue)}"
        for visits in hmm.visit_correlations(paths, times, num_states)
    ]
