"""The most seeds that fit, of machines whose memory is known."""

import pytest

from seedmap.experiments.plan.results import Tried
from seedmap.experiments.plan.search import MOST_TRIES, most_that_fit

USABLE = 1_000_000


def found(memory, first, tells=True):
    """What is tried on a machine: seeds to whether they fit."""

    def try_seeds(seeds):
        needed = memory(seeds)
        fits = needed <= USABLE
        return Tried(seeds, needed if fits or tells else None, fits)

    return most_that_fit(try_seeds, USABLE, [try_seeds(first)])


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("first", [1, 40, 900, 5000])
@pytest.mark.parametrize(
    "memory",
    [
        lambda seeds: 100_000 + 1000 * seeds,
        lambda seeds: 1000 * (-(-seeds // 8) * 8),
        lambda seeds: 50_000 + 900 * seeds + 0.05 * seeds**2,
    ],
)
def test_the_largest_that_fits_is_found_within_few_tries(memory, first, tells):
    tried = found(memory, first, tells)
    assert len(tried) <= MOST_TRIES
    best = max(t.seeds for t in tried if t.fits)
    truth = max(seeds for seeds in range(1, 2000) if memory(seeds) <= USABLE)
    assert 0.7 * truth <= best <= truth
    if tells:
        assert best >= 0.9 * truth


def test_a_straight_line_is_met_exactly():
    best = max(t.seeds for t in found(lambda seeds: 10_000 + 990 * seeds, 40) if t.fits)
    assert best == 1000


def test_one_that_does_not_fit_ends_the_search():
    tried = found(lambda seeds: USABLE + seeds, 4)
    assert [t.seeds for t in tried][-1] == 1
    assert not any(t.fits for t in tried)
