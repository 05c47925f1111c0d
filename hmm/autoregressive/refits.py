"""Refits to resampled runs: how sure the map's state is at every record.

A resample draws as many runs as there are, with replacement (Efron 1979). Each refit's states get
the labels of the map's, one to one, for most records in common (Hungarian assignment).
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from seedmap.hmm.autoregressive.choice import Material, Plan
from seedmap.hmm.autoregressive.fits import Fitted, Job, fits_of_states, make_fits
from seedmap.hmm.autoregressive.model import Parameters, Records
from seedmap.hmm.autoregressive.starts import draw_labels
from seedmap.hmm.training_map.bootstrap import resample_counts

_RESAMPLE = 3  # what a key is for, see `hmm.autoregressive.choice`
_ITERATIONS = 40


def refit_resamples(
    material: Material,
    plan: Plan,
    chosen: Fitted,
    num_resamples: int,
    recorded: Records,
    report: Callable[[int], None],
) -> list[Fitted]:
    """Returns the fits of the chosen number of states to resamples of the fitted runs.

    Each resample is fitted from the map's own states and from a fresh start; the states of the
    likelier fit are those of the refit.

    Args:
        material: the runs without their lasting offsets.
        plan: gives the seed.
        chosen: the map's fit to these runs.
        num_resamples: how many.
        recorded: the runs as they are, which the densities of the refits are of.
        report: called with 1 after every fit.
    """
    if not num_resamples:
        return []
    k = len(chosen.parameters.initial)
    fitted = np.flatnonzero(material.run_weights)
    counts = np.zeros((num_resamples, len(material.run_weights)))
    counts[:, fitted] = resample_counts(len(fitted), num_resamples, plan.seed)
    jobs = []
    for index, weights in enumerate(counts):
        fresh = draw_labels(material.shares, k, (plan.seed, _RESAMPLE, index))
        for labels in (chosen.paths, fresh):
            jobs.append(Job(k, labels, weights, chosen.tempering, _ITERATIONS))
    fits = make_fits(material.records, material.mask, jobs, report=report)
    pairs = zip(fits[::2], fits[1::2], strict=True)
    likelier = [max(pair, key=lambda fit: fit.score) for pair in pairs]
    given = [
        Job(k, fit.paths, weights, chosen.tempering, 0)
        for fit, weights in zip(likelier, counts, strict=True)
    ]
    return fits_of_states(recorded, material.mask, given)


def matching(
    reference: Int[np.ndarray, "run time"], other: Int[np.ndarray, "run time"], num_states: int
) -> Int[np.ndarray, " state"]:
    """Returns the order that gives another decoding's states the reference's labels.

    Args:
        reference: int [run, time], the decoding whose labels count, -1 on padding.
        other: int [run, time], a decoding of the same runs by as many states.
        num_states: K.

    Returns:
        int [K]: state i of the reference is state order[i] of the other, for most records in
        common.
    """
    from scipy.optimize import linear_sum_assignment  # here, as `import hmm` need not wait for it

    counts = np.zeros((num_states, num_states))
    real = reference >= 0
    np.add.at(counts, (reference[real], other[real]), 1)
    return linear_sum_assignment(counts, maximize=True)[1]


def permute_states(parameters: Parameters, order: Int[np.ndarray, " state"]) -> Parameters:
    """Returns the parameters whose state i is the old state order[i]; the model stays the same."""
    initial, transition, *emission = parameters
    rows = transition[np.ix_(order, order)]
    return Parameters(initial[order], rows, *(array[order] for array in emission))


def agreement_of(
    paths: Int[np.ndarray, "run time"], others: Sequence[Int[np.ndarray, "run time"]]
) -> Float[np.ndarray, "run time"]:
    """Returns the share of other decodings that give each record the state that `paths` gives it.

    Args:
        paths: int [run, time], -1 on padding.
        others: decodings of the same runs with the same labels; without any, nothing is known.

    Returns:
        float64, 0 on padding; NaN where there are no others.
    """
    if not others:
        return np.full(paths.shape, np.nan)
    same = np.mean([other == paths for other in others], 0)
    return np.where(paths >= 0, same, 0.0)
