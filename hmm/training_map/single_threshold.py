"""What one threshold of one metric explains of an outcome: the measure beside a bag of states.

Runs that converge at about the time they enter a state spend the rest of their records there, so
shares of records explain the time of convergence with no map at all. A bag of states says
something only as far as it explains more than the share of records in which a single metric lies
below a single threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from seedmap.errors import UserError

NUM_THRESHOLDS = 39
LEAST_RUNS = 4


@dataclass(frozen=True)
class SingleThreshold:
    """The metric and threshold whose share of records explains the outcome best.

    Attributes:
        metric: its name.
        threshold: in units of the metric.
        r2: of the least-squares line from the share of a run's records below the threshold to the
            outcome, as the bag of states' is: on the runs it was found with.
        left_out_r2: the same with each run predicted from the others, metric and threshold chosen
            without it.
        runs: runs with an outcome.
    """

    metric: str
    threshold: float
    r2: float
    left_out_r2: float
    runs: int


def best_threshold(
    values: Real[np.ndarray, "run time metric"],
    outcome: Real[np.ndarray, " run"],
    metrics: Sequence[str],
) -> SingleThreshold:
    """Returns the single threshold of a single metric that explains the outcome best.

    Args:
        values: float [run, time, metric], what the states were found in, NaN where missing or past
            a run's end.
        outcome: float [run], NaN for a run without one, which has no part.
        metrics: names.

    Returns:
        The best of 39 quantiles of each metric over all records.

    Raises:
        UserError: fewer than 4 runs have an outcome, or it does not vary.
    """
    known = np.isfinite(outcome)
    values, outcome = values[known], np.asarray(outcome, float)[known]
    if len(outcome) < LEAST_RUNS or np.ptp(outcome) == 0:
        raise UserError(
            f"outcome must vary over at least {LEAST_RUNS} runs; got {len(outcome)} with one"
        )
    levels = np.arange(1, NUM_THRESHOLDS + 1) / (NUM_THRESHOLDS + 1)
    thresholds = np.nanquantile(values, levels, axis=(0, 1)).T.ravel()
    shares = _shares(values, thresholds)
    r2 = _explained(shares, outcome)
    best = int(r2.argmax())
    return SingleThreshold(
        metric=metrics[best // NUM_THRESHOLDS],
        threshold=float(thresholds[best]),
        r2=float(r2[best]),
        left_out_r2=_left_out_r2(shares, outcome),
        runs=len(outcome),
    )


def _shares(values, thresholds) -> Float[np.ndarray, "run choice"]:
    """Share of each run's records below each threshold, metric by metric."""
    repeated = np.repeat(values, NUM_THRESHOLDS, axis=2)
    exists = ~np.isnan(repeated)
    return (repeated < thresholds).sum(1) / np.maximum(exists.sum(1), 1)


def _explained(shares, outcome):
    """Squared correlation of each column of shares with the outcome."""
    x, y = shares - shares.mean(0), outcome - outcome.mean()
    return _ratio(y @ x, (x**2).sum(0), (y**2).sum())


def _ratio(products, x_squares, y_squares):
    """Squared correlation by the sums of products and squares; 0 where one is constant."""
    spread = x_squares * y_squares
    known = (x_squares > 1e-12) & (y_squares > 0)
    return np.where(known, products**2 / np.where(known, spread, 1.0), 0.0)


def _left_out_r2(shares, outcome):
    """1 - sum of squared errors of runs left out / sum of squares about the mean.

    What a run takes out of the sums over all runs is known, so that each choice without a run, and
    its line, takes the time of one row: with x and y about their means over n runs, sums over the
    others about theirs are those over all less n / (n - 1) times the run's own products.
    """
    x, y = shares - shares.mean(0), outcome - outcome.mean()
    without = len(y) / (len(y) - 1)
    products = y @ x - without * y[:, None] * x
    x_squares = (x**2).sum(0) - without * x**2
    y_squares = (y**2).sum() - without * y**2
    best = _ratio(products, x_squares, y_squares[:, None]).argmax(1)
    run = np.arange(len(y))
    slope = products[run, best] / np.maximum(x_squares[run, best], 1e-12)
    errors = without * (y - slope * x[run, best])  # about the others' means, n / (n - 1) as far
    return float(1 - (errors**2).sum() / (y**2).sum())
