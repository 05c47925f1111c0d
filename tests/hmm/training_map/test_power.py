from dataclasses import replace

import numpy as np
import pytest

from helpers import branches
from seedmap.hmm.training_map.branches import states_with_branches
from seedmap.hmm.training_map.delay import Delay
from seedmap.hmm.training_map.power import (
    FOUND,
    RECORDS,
    RUNS,
    SHARES,
    branch_power,
    branch_sentence,
    records_per_phase,
)

DELAY = Delay(2.0, 1.5, 2.5, 0.001, 0.002, 0.9, 12, 28, 12, 28)
BRANCH = replace(
    branches.BRANCH,
    state=1,
    instead=None,
    visitors=("a",),
    skippers=("b",),
    z=3.0,
    resolved=9,
    needed=4,
    support=0.9,
    delay=DELAY,
    maps=((4, 1),),
)
PATHS = np.repeat([[0, 1, 2]], 40, axis=0).repeat(12, axis=1)


def test_power_on_the_grid_is_that_of_the_simulation():
    for i, runs in enumerate(RUNS):
        for j, records in enumerate(RECORDS):
            for k, share in enumerate(SHARES):
                if round(share * runs) >= max(3, 0.1 * runs):
                    found = branch_power(runs, records, share)
                    assert found == pytest.approx(FOUND[i][j][k])


def test_power_between_and_beyond_the_grid():
    low, high = branch_power(40, 8, 0.3), branch_power(40, 16, 0.3)
    assert branch_power(40, np.sqrt(8 * 16), 0.3) == pytest.approx((low + high) / 2)
    assert branch_power(10**4, 10**4, 0.3) == branch_power(80, 32, 0.3)
    assert branch_power(40, 16, 0.7) == pytest.approx(branch_power(40, 16, 0.3))
    assert branch_power(40, 16, 0.05) == 0.0
    assert branch_power(8, 16, 0.3) == 0.0  # 2 of 8 runs, where 3 are needed


def test_power_grows_with_runs_and_records():
    assert branch_power(40, 32) > branch_power(40, 4)
    assert branch_power(80, 16) > branch_power(20, 16)


def test_records_per_phase_leave_out_where_runs_end():
    paths = np.array([[0, 0, 0, 1, 2, 2], [0, 1, 1, 1, 1, -1]])
    assert records_per_phase(paths) == 1.0  # 3, 1 and 1
    assert records_per_phase(np.zeros((3, 7), int)) == 7.0


def test_sentences():
    found = "no fork found (a fork of 30 % of the runs would have been found in {} of such cases)"
    assert branch_power(40, 12) > 0.9
    assert branch_sentence([], PATHS) == found.format("more than 90 %")
    few = round(10 * branch_power(40, 4))
    assert branch_sentence([], PATHS[:, ::3]) == found.format(f"about {few}0 %")
    fewer = round(10 * branch_power(10, 4))  # than were simulated
    assert branch_sentence([], PATHS[:10, ::3]) == found.format(f"at most {fewer}0 %")
    unnamed = replace(BRANCH, named=False)
    assert branch_sentence([unnamed], PATHS) == branch_sentence([], PATHS)
    assert branch_sentence([], PATHS[:5]) == "forks not sought: 6 runs are needed, there are 5"
    assert branch_sentence([], PATHS[:8]) == (
        "forks not testable (too few runs: for a fork of 30 % of the runs 9 are needed, not 8)"
    )
    assert "would have been found" in branch_sentence([], PATHS[:9])
    assert branch_sentence([], PATHS[:, ::12]) == (
        "forks not testable (too few records: 2 in a state are needed, runs have 1 at the median)"
    )
    assert "would have been found" in branch_sentence([], PATHS[:, ::6])
    assert branch_sentence([BRANCH], PATHS) == "1 branch"
    detour = replace(BRANCH, detour=True)
    assert branch_sentence([detour, BRANCH], PATHS) == "2 branches, 1 a detour"
    assert branch_sentence([detour, detour], PATHS) == "2 branches, 2 of them detours"


def test_the_map_to_draw_is_the_smallest_with_most_branches():
    first = replace(BRANCH, maps=((4, 1), (6, 2), (8, 0)))
    other = replace(BRANCH, maps=((8, 3), (7, 3)))
    assert states_with_branches([], 3) == 3
    assert states_with_branches([first], 3) == 4
    assert states_with_branches([first], 5) == 6
    assert states_with_branches([first, other], 5) == 8
    assert states_with_branches([first, replace(other, named=False)], 5) == 6
    assert states_with_branches([first], 9) == 8  # in no map of more
    assert states_with_branches([replace(first, named=False)], 9) == 9
