"""The most seeds that fit, of machines whose memory is known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from seedmap.experiments.plan.results import Plan, Tried
from seedmap.experiments.plan.search import (
    MOST_TRIES,
    SEARCH_SECONDS,
    Bracket,
    left_open,
    most_that_fit,
)
from seedmap.experiments.plan.summary import summary_text
from seedmap.results import from_json

USABLE = 1_000_000
MNIST_TOLD = [
    (10, 419900416),
    (20, 679674880),
    (98, 3748596736),
    (456, 16973023232),
    (471, 17575014912),
    (487, 19340207104),
    (589, 18686474240),
]
KEPT = Path(__file__).parents[3] / "benchmarks" / "plans"


def found(memory, first, tells=True, usable=USABLE):
    """What is tried on a machine: seeds to whether they fit."""

    def try_seeds(seeds):
        needed = int(memory(seeds))
        fits = needed <= usable
        return Tried(seeds, needed if fits or tells else None, fits)

    return most_that_fit(try_seeds, usable, [try_seeds(first)])


def largest(tried):
    return max(t.seeds for t in tried if t.fits)


LINEAR = {
    "a line": lambda seeds: 100_000 + 1000 * seeds,
    "tiles": lambda seeds: 1000 * (-(-seeds // 8) * 8),
    "a bit more than a line": lambda seeds: 50_000 + 900 * seeds + 0.05 * seeds**2,
    "few seeds": lambda seeds: 90_000 * seeds,
    "one seed": lambda seeds: 700_000 * seeds,
}
JUMPING = {
    "steeper from 30": lambda seeds: 1700 * seeds + 700 * max(0, seeds - 30),
    "more from 200": lambda seeds: 1000 * seeds + 300_000 * (seeds >= 200),
    "five times as much from 400": lambda seeds: (500 if seeds < 400 else 2500) * seeds,
    "flat up to 700": lambda seeds: 400_000 if seeds < 700 else 2_000_000,
}
FALLING = {
    "less from 600": lambda seeds: (1000 if seeds < 600 else 750) * seeds,
    "less in every other fifty": lambda seeds: (1500, 1200)[seeds // 50 % 2] * seeds,
}


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("first", [1, 2, 40, 900, 5000])
@pytest.mark.parametrize("name", LINEAR | JUMPING)
def test_the_largest_that_fits_is_found_within_few_tries(name, first, tells):
    """To 10 %, and within 8 compilations where memory is nearly linear and its size is told."""
    memory = (LINEAR | JUMPING)[name]
    tried = found(memory, first, tells)
    truth = max(seeds for seeds in range(1, 2000) if memory(seeds) <= USABLE)
    assert math.floor(truth / 1.1) <= largest(tried) <= truth
    assert left_open(tried, USABLE) is None
    assert len({t.seeds for t in tried}) == len(tried) <= MOST_TRIES
    if tells and name in LINEAR:
        assert len(tried) <= 8


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("first", [1, 40, 900, 5000])
@pytest.mark.parametrize("name", FALLING)
def test_where_memory_falls_the_most_fits_and_has_reason(name, first, tells):
    """More may fit beyond a number that does not; memory is nearly full, or 10 % more do not."""
    tried = found(FALLING[name], first, tells)
    best = largest(tried)
    assert FALLING[name](best) <= USABLE
    refused = min((t.seeds for t in tried if not t.fits), default=math.inf)
    assert refused <= 1.1 * best or FALLING[name](best) >= 0.95 * USABLE
    assert best < refused


def test_a_straight_line_is_met_exactly():
    assert largest(found(lambda seeds: 10_000 + 990 * seeds, 40)) == 1000


def test_one_that_does_not_fit_ends_the_search():
    tried = found(lambda seeds: USABLE + seeds, 4)
    assert [t.seeds for t in tried][-1] == 1
    assert not any(t.fits for t in tried)
    assert left_open(tried, USABLE) is None


def kept(name):
    """A plan of `benchmarks/plans`."""
    return from_json(Plan, json.loads((KEPT / name).read_text()))


def test_mnist_on_a_tpu_is_found_by_the_memory_that_its_compiler_told():
    """Between the numbers told on 2026-11-30 on straight lines: 487 seeds take more than 589 do."""
    seeds, needed = zip(*MNIST_TOLD, strict=True)
    usable = kept("mnist-tpu-v5e-2x2.json").hardware.usable
    tried = found(lambda count: np.interp(count, seeds, needed), 10, usable=usable)
    truth = np.interp(usable, needed[:4], seeds[:4])
    assert 98 < truth / 1.1 <= largest(tried) <= truth < 456
    assert len(tried) <= 8


@pytest.mark.parametrize("first", [1, 10])
def test_where_the_limit_ends_the_search_it_is_said_between_what_the_answer_lies(first):
    def doubling(seeds):
        return 1000 * 2 ** math.ceil(math.log2(seeds))

    tried = found(doubling, first)
    assert len(tried) == MOST_TRIES
    refused = min(t.seeds for t in tried if not t.fits)
    assert 1.1 * largest(tried) < refused < 1.5 * largest(tried)
    assert left_open(tried, USABLE) == Bracket(largest(tried), refused)
    grown = [Tried(seeds, 10 * seeds, True) for seeds in (1, 16)]
    assert left_open(grown, USABLE) == Bracket(16, None)


def test_no_number_is_far_beyond_what_fits():
    """Of 3 seeds of a few bytes the line leads to a million: minutes of compiling, for nothing."""

    def tiny_at_first(seeds):
        return seeds if seeds <= 3 else 2000 * seeds

    tried = found(tiny_at_first, 1)
    numbers = [t.seeds for t in tried]
    for before, seeds in enumerate(numbers[1:], start=1):
        assert seeds <= max(8 * max(t.seeds for t in tried[:before] if t.fits), 16)
    assert 500 / 1.1 <= largest(tried) <= 500


def search_by_the_clock(memory, first, each):
    """The search where every compilation takes `each` seconds."""
    now = [0.0]

    def try_seeds(seeds):
        now[0] += each
        return Tried(seeds, memory(seeds), memory(seeds) <= USABLE)

    return most_that_fit(try_seeds, USABLE, [try_seeds(first)], lambda: now[0])


def test_a_slow_search_ends_in_time_and_says_what_is_left_open():
    tried = search_by_the_clock(lambda seeds: 100 * seeds, 1, each=SEARCH_SECONDS / 2)
    assert [t.seeds for t in tried] == [1, 16, 128]
    assert left_open(tried, USABLE) == Bracket(128, None)


def test_a_slow_search_goes_on_until_one_fits():
    tried = search_by_the_clock(lambda seeds: 400_000 * seeds, 4000, each=SEARCH_SECONDS)
    assert [t.seeds for t in tried] == [4000, 1000, 250, 62, 15, 3, 1]
    assert left_open(tried, USABLE) == Bracket(1, 3)


@pytest.mark.parametrize("name", sorted(path.name for path in KEPT.glob("*.json")))
def test_every_kept_plan_is_read_and_shown(name):
    plan = kept(name)
    assert plan.experiment in summary_text(plan)


def test_a_kept_plan_of_a_search_that_ended_early_says_so():
    said = summary_text(kept("cifar10-tpu-v5e-2x2.json"))
    assert "at least 1 a device" in said
    assert "406 a device, 1624 in all" in summary_text(kept("mnist-tpu-v5e-2x2.json"))
    assert "789 a device, 3156 in all" in summary_text(kept("modular-stabilised-tpu-v5e-2x2.json"))
