"""z-scores that do not look ahead."""

from dataclasses import replace

import numpy as np

from seedmap.errors import UserError
from seedmap.hmm.sequences import Sequences

MINIMUM = 5
"""Checkpoints of a run before its first forecast: fewer give no scale to speak of."""

_ROUNDING = 1e-9


def causal_z_score(sequences: Sequences, minimum: int = MINIMUM) -> Sequences:
    """Scales each checkpoint by its run's past: z_t = (x_t - mean(x_1..t)) / std(x_1..t).

    The standard deviation is without Bessel's correction, as in `hmm.z_score`, whose mean and
    deviation over the whole run tell how the run will go on. Both are updated as by Welford (1962):
    no cancellation.

    Args:
        sequences: raw metrics; missing values (NaN) stay missing.
        minimum: the first `minimum` - 1 checkpoints have no scale yet and are dropped.

    Returns:
        Sequences whose checkpoint i is checkpoint i + minimum - 1 of the input. A metric that has
        been constant so far is 0.

    Raises:
        UserError: `minimum` is below 2, or a run has fewer checkpoints than that.

    Example:
        >>> from seedmap.hmm import from_arrays
        >>> run = from_arrays([[[0.0], [2.0], [5.0], [1.0]]])
        >>> causal_z_score(run, minimum=2).values.round(2)
        array([[[ 1.  ],
                [ 1.3 ],
                [-0.53]]])
    """
    _check_lengths(sequences, minimum)
    values, known = sequences.values, sequences.mask[:, :, None] & ~np.isnan(sequences.values)
    filled = np.where(known, values, 0.0)
    count = np.maximum(known.cumsum(axis=1), 1)
    mean = filled.cumsum(axis=1) / count
    before = np.concatenate([np.zeros_like(mean[:, :1]), mean[:, :-1]], axis=1)
    std = np.sqrt(np.where(known, (filled - before) * (filled - mean), 0.0).cumsum(axis=1) / count)
    constant = std <= _ROUNDING * np.maximum.accumulate(np.abs(filled), axis=1)
    z = np.where(constant, 0.0, (filled - mean) / np.where(constant, 1.0, std))
    z = np.where(np.isnan(values), np.nan, np.where(sequences.mask[:, :, None], z, 0.0))
    first = minimum - 1
    return replace(sequences, values=z[:, first:], lengths=sequences.lengths - first)


def _check_lengths(sequences: Sequences, minimum: int) -> None:
    if minimum < 2:
        raise UserError(f"minimum is {minimum}; z-scores need at least 2 checkpoints")
    shortest = int(np.argmin(sequences.lengths))
    if sequences.lengths[shortest] < minimum:
        raise UserError(
            f"run {sequences.runs[shortest]} has {sequences.lengths[shortest]} checkpoints and a "
            f"forecast needs {minimum}: wait for more, or leave the run out"
        )
