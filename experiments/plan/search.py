"""The largest number of seeds that fits a device, by compiling at a few numbers."""

import math
from collections.abc import Callable

from seedmap.experiments.plan.results import Tried

MOST_TRIES = 7
_NEAR = 0.95  # of the usable memory: near enough to be the most
_TILE = 16  # seeds up to which chips pad arrays, so that fewer need no less
_LARGEST = 2**20  # seeds on a device: nobody asks for more


def most_that_fit(
    try_seeds: Callable[[int], Tried], usable: int, begun: list[Tried]
) -> list[Tried]:
    """Tries numbers of seeds until the largest that fits is known, or nearly.

    Memory is nearly linear in the number of seeds, so the next number is where the line through
    the last two meets what is usable; a number between what fits and what does not is tried where
    the line has misled.

    Args:
        try_seeds: tells whether so many seeds fit.
        usable: bytes.
        begun: numbers tried before, one at least.

    Returns:
        All that were tried, those of `begun` first. The largest that fits was compiled for.
    """
    tried = list(begun)
    while len(tried) < MOST_TRIES:
        seeds = _next(tried, usable)
        if seeds is None:
            break
        tried.append(try_seeds(seeds))
    return tried


def _next(tried: list[Tried], usable: int) -> int | None:
    """The number to try next; None where the answer is known well enough."""
    fitting = max((t for t in tried if t.fits), key=lambda t: t.seeds, default=None)
    too_many = min((t.seeds for t in tried if not t.fits), default=_LARGEST + 1)
    if fitting is None:
        return too_many // 4 or None if too_many > 1 else None
    if fitting.seeds + 1 >= too_many or fitting.bytes >= _NEAR * usable:
        return None
    reached = max(2 * fitting.seeds, _TILE)
    if len([t for t in tried if t.bytes]) > 1:
        reached = min(_on_the_line(tried, usable), too_many * 31 // 32)  # it was a bit too much
        if not any(each.fits for each in tried[-2:]):  # the line has misled
            reached = math.isqrt(fitting.seeds * too_many)
    if not fitting.seeds < reached < too_many:
        reached = (fitting.seeds + min(too_many, 4 * fitting.seeds)) // 2
    return reached if fitting.seeds < reached < too_many else None


def _on_the_line(tried: list[Tried], usable: int) -> int:
    """Where the line through the two largest numbers meets what is usable."""
    known = sorted((t for t in tried if t.bytes), key=lambda t: t.seeds)
    (low, high) = known[-2:]
    slope = (high.bytes - low.bytes) / (high.seeds - low.seeds)
    if slope <= 0:
        return min(_TILE * high.seeds, _LARGEST)
    return min(int(high.seeds + (usable - high.bytes) / slope), _LARGEST)
