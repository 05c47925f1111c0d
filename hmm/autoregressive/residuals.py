"""What a decoding leaves unexplained: by how much, by which runs, and for how long."""

import numpy as np
from jaxtyping import Float, Int

from seedmap.hmm.autoregressive.model import Parameters
from seedmap.hmm.features import Features

AUTOCORRELATED = 0.5  # lag 1, above which it is noted


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
    present = features.present & (paths >= 0)
    follows = present & np.pad(present, ((0, 0), (1, 0)))[:, :-1]
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
    present = features.present & (paths >= 0)
    out = np.full(features.x.shape, np.nan)
    whitening = np.linalg.inv(np.linalg.cholesky(parameters.spread))
    for k, location in enumerate(parameters.location):
        mine = present & (paths == k)
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


def design_effect(
    residuals: Float[np.ndarray, "run time component"],
    x: Float[np.ndarray, "run time component"],
    paths: Int[np.ndarray, "run time"],
) -> float:
    """Returns how many records of a run say as much as one that is independent of the others.

    The variance of the regressions of the motion by runs over that by records as if these were
    independent, tr(H^-1 J) / p: with u_t = [1, x_(t-1)], G_k the sum of u u', e_t the residuals in
    state k and S_k their covariance, the mean over states of the sum over runs of

        || G_k^(-1/2) sum_t u_t e_t' S_k^(-1/2) ||^2 / (D (D + 1)),

    times R / (R - 1) for the R runs in a state, as the residuals of all of them sum to zero. 1 for
    independent residuals, n for runs of n records that are all the same; the name is Kish's (1965).
    A composite likelihood to the power 1 / d is on the scale of a likelihood (Pauli, Racugno and
    Ventura 2011). States of one run or of fewer than 3 (D + 1) records have no part; 1 without any,
    and where the motion leaves nothing.

    Args:
        residuals: float [run, time, component], of `motion_residuals`, in any units.
        x: float [run, time, component], the runs.
        paths: int [run, time], states, -1 on padding.
    """
    inputs = np.concatenate([np.ones_like(x[:, :, :1]), np.roll(x, 1, axis=1)], 2)
    known, effects = np.isfinite(residuals).all(2), []
    for k in range(paths.max() + 1):
        mine = known & (paths == k)
        num_runs = mine.any(1).sum()
        if num_runs < 2 or mine.sum() < 3 * inputs.shape[2]:
            continue
        gram = inputs[mine].T @ inputs[mine]
        e = np.where(mine[:, :, None], residuals, 0.0)
        noise = np.einsum("rtd,rte->de", e, e) / mine.sum()
        scores = np.einsum("rti,rtd->rid", inputs * mine[:, :, None], e)
        inverses = np.linalg.pinv(gram, hermitian=True), np.linalg.pinv(noise, hermitian=True)
        effect = np.einsum("rid,ij,rje,de->", scores, inverses[0], scores, inverses[1])
        free = np.prod([np.linalg.matrix_rank(each, hermitian=True) for each in (gram, noise)])
        if free:
            effects.append(effect / free * num_runs / (num_runs - 1))
    return float(np.mean(effects)) if effects else 1.0


def misfit(residuals: Float[np.ndarray, "run time component"]) -> Float[np.ndarray, " run"]:
    """Returns each run's mean squared whitened residual per component: about 1 for a run that fits.

    NaN for a run without residuals.
    """
    squares = residuals**2
    count = np.isfinite(squares).sum((1, 2))
    return np.where(count > 0, np.nansum(squares, (1, 2)) / np.maximum(count, 1), np.nan)
