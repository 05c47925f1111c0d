"""The largest number of seeds that fits a device, by compiling at a few numbers."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from seedmap.experiments.plan.results import Tried

MOST_TRIES = 12
"""Numbers compiled for at most: one may take a minute, of a TPU."""
SEARCH_SECONDS = 300
"""After so long no further number is compiled for, once one fits."""
_NEAR = 0.95  # of the usable memory: near enough to be the most
_CLOSE = 1.1  # ratio of a number refused and one that fits: near enough, too
_TILE = 16  # seeds up to which chips pad arrays, so that fewer need no less
_GROWTH = 8  # times the largest that fits: compilers take long over programs far too large
_LARGEST = 2**20  # seeds on a device: nobody asks for more


class Bracket(NamedTuple):
    """Between which numbers of seeds the most that fits lies.

    Attributes:
        fits: the largest number that was found to fit.
        refused: the smallest one that was found not to; None where none was.
    """

    fits: int
    refused: int | None


def most_that_fit(
    try_seeds: Callable[[int], Tried],
    usable: int,
    begun: list[Tried],
    clock: Callable[[], float] = time.monotonic,
) -> list[Tried]:
    """Tries numbers of seeds until the largest that fits is known, or nearly.

    It is where it takes 95 % of what is usable, or a number up to 10 % above it does not fit.
    Memory is nearly linear in the number of seeds, so the next number is where the line between
    what fits and what does not meets what is usable. Where memory jumps the line misleads: where
    two numbers in turn come out alike, the geometric middle is next. The search ends at
    `MOST_TRIES`, or after `SEARCH_SECONDS` once one fits; `left_open` says what is not known then.

    Args:
        try_seeds: tells whether so many seeds fit.
        usable: bytes.
        begun: numbers tried before, one at least.
        clock: tells the time, in seconds.

    Returns:
        All that were tried, those of `begun` first. The largest that fits was compiled for.
    """
    tried = list(begun)
    start = clock()
    while len(tried) < MOST_TRIES:
        late = clock() - start >= SEARCH_SECONDS and _fitting(tried) is not None
        seeds = None if late else _next(tried, usable)
        if seeds is None:
            break
        tried.append(try_seeds(seeds))
    return tried


def left_open(tried: list[Tried], usable: int) -> Bracket | None:
    """Returns where the most that fits lies if the search ended before it was nearly known.

    Args:
        tried: all that were, one that fits among them.
        usable: bytes.

    Returns:
        None where it is.
    """
    fitting, refused = _fitting(tried), _refused(tried)
    if fitting is None or _is_known(fitting, refused, usable):
        return None
    return Bracket(fitting.seeds, refused)


def _fitting(tried: list[Tried]) -> Tried | None:
    return max((t for t in tried if t.fits), key=lambda t: t.seeds, default=None)


def _refused(tried: list[Tried]) -> int | None:
    return min((t.seeds for t in tried if not t.fits), default=None)


def _is_known(fitting: Tried, refused: int | None, usable: int) -> bool:
    """Whether the most is that which fits, or nearly."""
    too_many = refused or _LARGEST + 1
    close = too_many <= max(fitting.seeds + 1, _CLOSE * fitting.seeds)
    return close or fitting.bytes >= _NEAR * usable


def _next(tried: list[Tried], usable: int) -> int | None:
    """The number to try next; None where the answer is known well enough."""
    fitting, refused = _fitting(tried), _refused(tried)
    if fitting is None:
        return max(refused // 4, 1) if refused > 1 else None
    if _is_known(fitting, refused, usable):
        return None
    # A line that has led a bit too far is not followed as far again.
    reached = _on_the_line(tried, usable if tried[-1].fits else (1 + _NEAR) / 2 * usable)
    if refused is None:
        farthest = max(_GROWTH * fitting.seeds, _TILE)
        return min(max(reached, fitting.seeds + 1), farthest, _LARGEST)
    alike = len(tried) > 2 and tried[-1].fits == tried[-2].fits
    if alike or not fitting.seeds < reached < refused:
        reached = max(math.isqrt(fitting.seeds * refused), fitting.seeds + 1)
    return reached


def _on_the_line(tried: list[Tried], aim: float) -> int:
    """Where memory is `aim` bytes on the line through what fits and what does not.

    Where nothing is refused, or its memory is not known, through the two largest that fit.
    """
    by_seeds = sorted((t for t in tried if t.bytes), key=lambda t: t.seeds)
    fitting = [t for t in by_seeds if t.fits]
    known = (fitting + [t for t in by_seeds if not t.fits][:1])[-2:]
    if len(known) < 2:
        return max(2 * fitting[-1].seeds, _TILE)
    (low, high) = known
    slope = (high.bytes - low.bytes) / (high.seeds - low.seeds)
    if slope <= 0:
        return _TILE * high.seeds
    return int(low.seeds + (aim - low.bytes) / slope)
