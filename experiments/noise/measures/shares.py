"""A source's share of what all sources do, over training: does one bit reach all of it, and when?

Disagreement with replica 0 of the same root, and the distance of weights to it, are recorded on the
way. At each record the share is the sum over roots of the mean over a source's replicas, divided by
that of the variant with the most sources; its interval is of a ratio over roots (Cochran 1977,
section 6.4), on the logarithm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from seedmap.experiments.noise.estimates import Estimate, estimate
from seedmap.experiments.noise.measures.intervals import Interval

LEAST_WHOLE = 0.5
"""Share that the lower end of an interval reaches at least where it counts as all."""
_NOTHING = Estimate(None, None, None)


@dataclass(frozen=True)
class ShareCurve:
    """A source's share of what all sources do, record by record, in `noise.json`.

    Attributes:
        source: the variant's name.
        measure: `churn`, or `distance` of weights to replica 0.
        steps: of the records.
        share: at each; None where all sources do nothing yet, or a replica has no record.
        low: lower end of its 95 % interval; None where fewer than three roots show any.
        high: upper end; None likewise.
        whole_at: step of the first record from which on, to the end, every interval holds 1 and
            none reaches below a half: the source does all that all sources do. None where there is
            none.
    """

    source: str
    measure: str
    steps: list[int]
    share: list[float | None]
    low: list[float | None]
    high: list[float | None]
    whole_at: int | None


def shares_along(curve: ShareCurve) -> list[Estimate]:
    """Returns the share at every record as an estimate."""
    ends = zip(curve.share, curve.low, curve.high, strict=True)
    return [Estimate(share, low, high) for share, low, high in ends]


def ratio_over_roots(
    own: Float[np.ndarray, " root"], other: Float[np.ndarray, " root"]
) -> Estimate | None:
    """Returns sum(own) / sum(other), paired by root, with its interval.

    Open to all values above 0 where fewer than three roots have anything, since they cannot say how
    much roots differ; a bare ratio of one root.
    """
    if not len(own) or other.sum() <= 0:
        return None
    ratio = float(own.sum() / other.sum())
    if ratio == 0 and len(own) > 1:
        return Estimate(0.0, 0.0, 0.0)
    if min((own > 0).sum(), (other > 0).sum()) < 3:
        return Estimate(ratio, None if len(own) == 1 else 0.0, None)
    error = np.std(own - ratio * other, ddof=1) / np.sqrt(len(own)) / other.mean() / ratio
    reach = np.exp(stats.t.ppf(0.975, len(own) - 1) * error)
    return estimate(Interval(ratio, ratio / reach, ratio * reach))


def share_curve(
    source: str,
    measure: str,
    steps: Int[np.ndarray, " record"],
    own: Sequence[Float[np.ndarray, "_replica record"]],
    reference: Sequence[Float[np.ndarray, "_other record"]],
) -> ShareCurve:
    """Returns a source's share of what all sources do, at every record.

    Args:
        source: name of the variant.
        measure: what is measured.
        steps: of the records.
        own: of each root, of the source's replicas but number 0, float [replica, record], NaN where
            there is no record; those that diverged are left out.
        reference: likewise, of the variant with the most sources.
    """
    pairs = [(a, b) for a, b in zip(own, reference, strict=True) if len(a) and len(b)]
    shares = [
        _share([(a[:, i].mean(), b[:, i].mean()) for a, b in pairs]) for i in range(len(steps))
    ]
    return ShareCurve(
        source,
        measure,
        [int(step) for step in steps],
        [share.value for share in shares],
        [share.low for share in shares],
        [share.high for share in shares],
        _whole_at(steps, shares),
    )


def _share(means: Sequence[tuple[float, float]]) -> Estimate:
    """The share at one record, from the means of each root."""
    values = np.array(means).reshape(-1, 2)
    if not len(values) or not np.isfinite(values).all():
        return _NOTHING
    return ratio_over_roots(*values.T) or _NOTHING


def _whole_at(steps: Sequence[int], shares: Sequence[Estimate]) -> int | None:
    """The first step from which on every interval says that the share is 1."""
    since = None
    for step, share in zip(steps, shares, strict=True):
        known = share.low is not None and share.high is not None
        if not known or not LEAST_WHOLE <= share.low <= 1 <= share.high:
            since = None
        elif since is None:
            since = int(step)
    return since
