"""Runs without their lasting offsets, in which states are sought, and what their records count for.

What sets a run apart in every state alike makes states of groups of runs, where it is as large as
the states' own differences, and hides states of all runs. So states are sought in runs without it.
The map itself is of runs as they are recorded (`fits.fits_of_states`): an offset is known when a
run is over, and may tell of its convergence.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from seedmap.hmm.autoregressive.choice import Material, make_material
from seedmap.hmm.autoregressive.fits import Job, fits_of_states, make_fits
from seedmap.hmm.autoregressive.model import default_tempering
from seedmap.hmm.autoregressive.residuals import design_effect, motion_residuals
from seedmap.hmm.autoregressive.starts import draw_labels
from seedmap.hmm.features import Features
from seedmap.hmm.training_map.offsets import COMMON, lasting_offsets, run_means

NUM_STARTS = 5
_STATES = 3  # few, which all runs visit
_ITERATIONS = 60
_ALIGNMENT = 6  # what a key is for, see `hmm.autoregressive.choice`


@dataclass(frozen=True, eq=False)
class Aligned:
    """Runs less what sets each apart in every state alike.

    Attributes:
        features: the runs.
        material: the same as the engine takes them.
        tempering: tau = min(1/2, 33 / T, 1 / d), T the median number of records after the first and
            d the design effect of runs (`residuals.design_effect`) in a map of 3 states.
        num_common: states of that map that most runs visit; offsets take 2.
    """

    features: Features
    material: Material
    tempering: float
    num_common: int


def align_runs(
    features: Features,
    fitted: Int[np.ndarray, " index"],
    seed: int,
    report: Callable[[int], None] = lambda fits: None,
) -> Aligned:
    """Returns the runs without their lasting offsets.

    Offsets are predicted (`hmm.training_map.offsets.lasting_offsets`) from the states of a map of 3
    that at least 80 % of the fitted runs visit, by centres and variances of the fitted runs; they
    are zero where fewer than 2 such states are left, or offsets do not last.

    Args:
        features: the runs.
        fitted: int, indices of the runs to fit.
        seed: of the starts.
        report: called with 1 after every fit.
    """
    recorded = make_material(features, fitted)
    tempering = default_tempering(features.lengths[fitted])
    fits = make_fits(
        recorded.records,
        recorded.lengths,
        [
            Job(_STATES, labels, recorded.run_weights, tempering, _ITERATIONS)
            for labels in _starts(recorded, seed)
        ],
        report=report,
    )
    paths = max(fits, key=lambda fit: fit.score).paths
    spare = features.x.shape[1] - paths.shape[1]
    paths = np.pad(paths, ((0, 0), (0, spare)), constant_values=-1)
    offsets = _offsets(features, paths, fitted)
    x = np.where(features.present[:, :, None], features.x - offsets[:, None], 0.0)
    aligned = replace(features, x=x)
    material = make_material(aligned, fitted)
    states = Job(_STATES, paths, material.run_weights, tempering, 0)
    (fit,) = fits_of_states(material.records, material.lengths, [states])
    residuals = motion_residuals(fit.parameters, aligned, paths)[fitted]
    effect = design_effect(residuals, aligned.x[fitted], paths[fitted])
    counts = min(tempering, 1 / max(effect, 1.0))
    return Aligned(aligned, material, counts, len(_common(paths, fitted)))


def _starts(material: Material, seed: int) -> list[np.ndarray]:
    """Labels to start from."""
    keys = [(seed, _ALIGNMENT, start) for start in range(NUM_STARTS)]
    return [draw_labels(material.shares, _STATES, key) for key in keys]


def _common(paths: np.ndarray, fitted: Int[np.ndarray, " index"]) -> Int[np.ndarray, " state"]:
    """The states that most of the fitted runs visit."""
    visited = (paths[fitted, :, None] == np.arange(_STATES)).any(1)
    return np.flatnonzero(visited.mean(0) >= COMMON)


def _offsets(
    features: Features, paths: np.ndarray, fitted: Int[np.ndarray, " index"]
) -> Float[np.ndarray, "run component"]:
    """Offsets by the states that most fitted runs have in common."""
    there = np.where(features.present, paths, -1)
    means = run_means(features.x, there, (there[:, :, None] == np.arange(_STATES)).any(1))
    return lasting_offsets(means[:, _common(there, fitted)], fitted)
