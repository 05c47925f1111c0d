"""What a decoding leaves unexplained: by how much, by which runs, and for how long."""

import numpy as np
from jaxtyping import Float, Int

from seedmap.hmm.autoregressive.model import Parameters
from seedmap.hmm.features import Features


def motion_residuals(
    parameters: Parameters, features: Features, paths: Int[np.ndarray, "run time"]
) -> Float[np.ndarray, "run time component"]:
    """Returns x_t less what its state and the record before predict, whitened by the state's noise.

    Args:
        parameters: of the states of `paths`.
        features: the runs.
        paths: int [run, time], a state for each record, -1 on padding.

    Returns:
        float64, NaN where this record or the one before is not there.
    """
    before = np.roll(features.x, 1, axis=1)
    there = features.present & (paths >= 0)
    follows = there & np.pad(there, ((0, 0), (1, 0)))[:, :-1]
    out = np.full(features.x.shape, np.nan)
    whitening = np.linalg.inv(np.linalg.cholesky(parameters.noise))
    for k, motion in enumerate(parameters.motion):
        mine = follows & (paths == k)
        moved = features.x[mine] - before[mine] - motion[0] - before[mine] @ motion[1:]
        out[mine] = moved @ whitening[k].T
    return out


def place_residuals(
    parameters: Parameters, features: Features, paths: Int[np.ndarray, "run time"]
) -> Float[np.ndarray, "run time component"]:
    """Returns x_t less its state's location, whitened by the state's spread; NaN where absent.

    Arguments as those of `motion_residuals`.
    """
    there = features.present & (paths >= 0)
    out = np.full(features.x.shape, np.nan)
    whitening = np.linalg.inv(np.linalg.cholesky(parameters.spread))
    for k, location in enumerate(parameters.location):
        mine = there & (paths == k)
        out[mine] = (features.x[mine] - location) @ whitening[k].T
    return out


def autocorrelation(
    residuals: Float[np.ndarray, "run time component"], paths: Int[np.ndarray, "run time"]
) -> Float[np.ndarray, " component"]:
    """Returns the lag-1 autocorrelation of residuals over pairs of records in the same state.

    Records of an HMM are taken as independent given their states; this is how far they are not.
    """
    before, after = residuals[:, :-1], residuals[:, 1:]
    pairs = (paths[:, :-1] == paths[:, 1:]) & np.isfinite(before + after).all(2)
    first, second = before[pairs], after[pairs]
    power = np.sqrt((first**2).sum(0) * (second**2).sum(0))
    return (first * second).sum(0) / np.where(power > 0, power, 1.0)


def misfit(residuals: Float[np.ndarray, "run time component"]) -> Float[np.ndarray, " run"]:
    """Returns each run's mean squared whitened residual per component: about 1 for a run that fits.

    NaN for a run without residuals.
    """
    squares = residuals**2
    count = np.isfinite(squares).sum((1, 2))
    return np.where(count > 0, np.nansum(squares, (1, 2)) / np.maximum(count, 1), np.nan)
