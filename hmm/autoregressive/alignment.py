"""Runs without their lasting offsets, in which states are sought, and what their records count for.

What sets a run apart in every state alike makes states of groups of runs, where it is as large as
the states' own differences, and hides states of all runs. So states are sought in runs without it.
The map itself is of runs as they are recorded (`fits.fits_of_states`): an offset is known when a
run is over, and may tell of its convergence.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

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

    States are those of a map of 3, see `predict_offsets`.

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
        recorded.mask,
        [
            Job(_STATES, labels, recorded.run_weights, tempering, _ITERATIONS)
            for labels in _starts(recorded, seed)
        ],
        report=report,
    )
    paths = max(fits, key=lambda fit: fit.score).paths
    aligned = take_off(features, predict_offsets(features, paths, fitted))
    material = make_material(aligned, fitted)
    states = Job(_STATES, paths, material.run_weights, tempering, 0)
    (fit,) = fits_of_states(material.records, material.mask, [states])
    residuals = motion_residuals(fit.parameters, aligned, paths)[fitted]
    effect = design_effect(residuals, aligned.x[fitted], paths[fitted])
    counts = min(tempering, 1 / max(effect, 1.0))
    return Aligned(aligned, material, counts, len(_common(paths, fitted)))


def _starts(material: Material, seed: int) -> list[np.ndarray]:
    """Labels to start from."""
    keys = [(seed, _ALIGNMENT, start) for start in range(NUM_STARTS)]
    return [draw_labels(material.shares, _STATES, key) for key in keys]


def predict_offsets(
    features: Features, paths: Int[np.ndarray, "run time"], fitted: Int[np.ndarray, " index"]
) -> Float[np.ndarray, "run component"]:
    """Returns the lasting offset of every run.

    Offsets are predicted (`hmm.training_map.offsets.lasting_offsets`) from the states that at least
    80 % of the fitted runs visit, by centres and variances of the fitted runs; they are zero where
    fewer than 2 such states are left, or offsets do not last.

    Args:
        features: the runs.
        paths: int [run, time], states, -1 past a run's end.
        fitted: int, indices of the runs that centres and variances are of.
    """
    visible = np.where(features.present, paths, -1)
    means = run_means(features.x, visible, _visited(visible))
    return lasting_offsets(means[:, _common(visible, fitted)], fitted)


def take_off(features: Features, offsets: Float[np.ndarray, "run component"]) -> Features:
    """Returns the runs less an offset each."""
    x = np.where(features.present[:, :, None], features.x - offsets[:, None], 0.0)
    return replace(features, x=x)


def _visited(paths: np.ndarray) -> Bool[np.ndarray, "run state"]:
    return (paths[:, :, None] == np.arange(paths.max() + 1)).any(1)


def _common(paths: np.ndarray, fitted: Int[np.ndarray, " index"]) -> Int[np.ndarray, " state"]:
    """The states that most of the fitted runs visit."""
    return np.flatnonzero(_visited(paths)[fitted].mean(0) >= COMMON)
