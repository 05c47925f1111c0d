"""Runs that fit no state well, found before the map is made so that they do not shape it.

A model that saw a run may have given it a state of its own. So runs are judged by fits to
resamples that happen to leave them out.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from seedmap.hmm.autoregressive.alignment import predict_offsets, take_off
from seedmap.hmm.autoregressive.choice import Material, Plan
from seedmap.hmm.autoregressive.fits import Fitted, Job, make_fits
from seedmap.hmm.autoregressive.residuals import misfit, motion_residuals, place_residuals
from seedmap.hmm.autoregressive.starts import draw_labels
from seedmap.hmm.features import Features
from seedmap.hmm.training_map.bootstrap import resample_counts
from seedmap.hmm.training_map.branch_candidates import smallest_group

NUM_RESAMPLES = 12
SCREENING_STATES = 4
_ITERATIONS = 40
_FEWEST_RUNS = 10  # fewer say too little of each other
_FAR, _JUMPY = 10.0, 5.0  # mean squares of place or offset and of motion; about 1 is usual
_SCREENING = 4  # what a key is for, see `hmm.autoregressive.choice`


def find_odd_runs(
    features: Features,
    material: Material,
    plan: Plan,
    tempering: float,
    report: Callable[[int], None],
) -> Bool[np.ndarray, " run"]:
    """Returns which of the fitted runs fit no state well.

    A run is odd if its mean squared distance from its states' places, in units of their spread, is
    above 10 per component, or that of its motion above 5: both as it was recorded and less its
    lasting offset, as a run beside the usual path is not odd, unless that offset's own square is
    above 10 times the variance of those of the other runs. Counted is the median over the fits of 4
    states to resamples that leave the run out. As many odd runs as make a branch are none: they
    have something in common. Of fewer than 10 runs none is odd.

    Args:
        features: the runs.
        material: the same runs as the engine takes them.
        plan: gives the seed.
        tempering: tau.
        report: called with 1 after every fit.
    """
    fitted = np.flatnonzero(material.run_weights)
    if len(fitted) < _FEWEST_RUNS:
        return np.zeros(len(material.run_weights), bool)
    counts = np.zeros((NUM_RESAMPLES, len(material.run_weights)))
    counts[:, fitted] = resample_counts(len(fitted), NUM_RESAMPLES, plan.seed)
    jobs = [
        Job(
            SCREENING_STATES,
            draw_labels(material.shares, SCREENING_STATES, (plan.seed, _SCREENING, index)),
            weights,
            tempering,
            _ITERATIONS,
        )
        for index, weights in enumerate(counts)
    ]
    fits = make_fits(material.records, material.mask, jobs, report=report)
    odd = _misfits(features, fits, counts == 0) & (material.run_weights > 0)
    return odd if odd.sum() < smallest_group(len(fitted)) else np.zeros_like(odd)


def _misfits(
    features: Features, fits: Sequence[Fitted], unseen: Bool[np.ndarray, "fit run"]
) -> Bool[np.ndarray, " run"]:
    """By the median over the fits that have not seen a run; not odd where all have."""
    each = [
        _excess(fit, features, np.flatnonzero(~hidden))
        for fit, hidden in zip(fits, unseen, strict=True)
    ]
    by_fit: Float[np.ndarray, "fit run"] = np.where(unseen, each, np.nan)
    judged = np.flatnonzero(unseen.any(0))
    odd = np.zeros(unseen.shape[1], bool)
    odd[judged] = np.nanmedian(by_fit[:, judged], 0) > 1
    return odd


def _excess(
    fit: Fitted, features: Features, seen: Int[np.ndarray, " index"]
) -> Float[np.ndarray, " run"]:
    """How far runs are from their states, 1 at the bound: as recorded, or less a usual offset."""
    offsets = predict_offsets(features, fit.paths, seen)
    usual = offsets[seen].var(0)
    unusual = (offsets**2 / np.where(usual > 0, usual, 1.0)).mean(1)
    aligned = np.fmax(_distance(fit, take_off(features, offsets)), unusual / _FAR)
    return np.fmin(_distance(fit, features), aligned)


def _distance(fit: Fitted, features: Features) -> Float[np.ndarray, " run"]:
    """Of place or of motion, whichever is further, in units of its bound."""
    place = misfit(place_residuals(fit.parameters, features, fit.paths))
    motion = misfit(motion_residuals(fit.parameters, features, fit.paths))
    return np.fmax(place / _FAR, motion / _JUMPY)
