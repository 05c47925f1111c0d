"""How often a branch of some share of the runs would have been found, had there been one.

"No fork found" says little by itself: with few runs, or few records in a phase, most are missed.
The shares found are those of a simulation (`benchmarks/branch_power.py`), interpolated.
"""

from collections.abc import Sequence
from itertools import count

import numpy as np
from jaxtyping import Int

from seedmap.hmm.training_map.branch_candidates import SMALLEST_GROUP, smallest_group
from seedmap.hmm.training_map.branches import Branch
from seedmap.hmm.training_map.visits import SHORTEST_STAY

USUAL_SHARE = 0.3
RUNS, RECORDS, SHARES = (20, 40, 80), (4, 8, 16, 32), (0.1, 0.2, 0.3, 0.5)
SETS = 65
FOUND = (
    (  # 20 runs
        (0.35, 0.51, 0.6, 0.71),  # 4 records per phase
        (0.56, 0.71, 0.78, 0.85),  # 8 records per phase
        (0.75, 0.85, 0.89, 0.93),  # 16 records per phase
        (0.87, 0.93, 0.95, 0.97),  # 32 records per phase
    ),
    (  # 40 runs
        (0.6, 0.74, 0.8, 0.87),  # 4 records per phase
        (0.77, 0.87, 0.9, 0.94),  # 8 records per phase
        (0.89, 0.94, 0.96, 0.97),  # 16 records per phase
        (0.95, 0.97, 0.98, 0.99),  # 32 records per phase
    ),
    (  # 80 runs
        (0.8, 0.88, 0.92, 0.95),  # 4 records per phase
        (0.9, 0.95, 0.96, 0.98),  # 8 records per phase
        (0.96, 0.98, 0.98, 0.99),  # 16 records per phase
        (0.98, 0.99, 0.99, 1.0),  # 32 records per phase
    ),
)
"""Share of forks found, by runs, records per phase and share; smoothed, from `SETS` sets in all."""


def branch_power(num_runs: int, records_per_phase: float, share: float = USUAL_SHARE) -> float:
    """Returns in what share of cases a fork of a share of the runs would have been found.

    Forks that come back and cost no time, in runs whose speeds differ eightfold. Linear between the
    simulated numbers of runs and of records (on log scales) and shares; beyond them, as at the end,
    which for fewer runs is more than there is.

    Args:
        num_runs: runs.
        records_per_phase: median number of records that runs spend in a state.
        share: of the runs that take the branch.

    Returns:
        From 0 to 1; 0 where the branch would have fewer runs than the test needs.
    """
    least = smallest_group(num_runs)
    if round(min(share, 1 - share) * num_runs) < least:
        return 0.0
    table = np.array(FOUND)
    for grid, value in (
        (np.log(RUNS), np.log(num_runs)),
        (np.log(RECORDS), np.log(max(records_per_phase, 1))),
        (np.array(SHARES), min(share, 1 - share)),
    ):
        table = _interpolate(grid, table, value)
    return float(table)


def _interpolate(grid, table, value):
    """The table at a value of its first axis, linear between grid points, constant beyond."""
    position = np.interp(value, grid, np.arange(len(grid)))
    low = min(int(position), len(grid) - 2)
    return table[low] * (low + 1 - position) + table[low + 1] * (position - low)


def records_per_phase(paths: Int[np.ndarray, "run time"]) -> float:
    """Returns the median number of records that a run spends in a state it goes on from.

    Args:
        paths: int [run, time], states, -1 past a run's end. Where no run leaves a state, the median
            length of the runs.
    """
    spent = [
        int((path == state).sum())
        for path in (path[path >= 0] for path in paths)
        for state in np.unique(path)
        if state != path[-1]
    ]
    return float(np.median(spent or (paths >= 0).sum(1)))


def branch_sentence(branches: Sequence[Branch], paths: Int[np.ndarray, "run time"]) -> str:
    """Returns what the search for branches says, in a few words for a headline.

    Args:
        branches: of `hmm.training_map.branches.find_branches`.
        paths: int [run, time], of the map that is drawn.
    """
    named = [branch for branch in branches if branch.named]
    least, num_runs = smallest_group(len(paths)), len(paths)
    if 2 * least > num_runs:
        return f"forks not sought: {2 * least} runs are needed, there are {num_runs}"
    if not named:
        return _why_none(num_runs, records_per_phase(paths)).replace("%", " %")
    detours = sum(branch.detour for branch in named)
    forks = "1 branch" if len(named) == 1 else f"{len(named)} branches"
    if not detours:
        return forks
    return f"{forks}, {'1 a detour' if detours == 1 else f'{detours} of them detours'}"


def _why_none(num_runs: int, records: float) -> str:
    """That no fork was found, and how often one would have been; or what the test lacks."""
    needed = next(n for n in count(2 * SMALLEST_GROUP) if branch_power(n, records) > 0)
    fork = f"a fork of {USUAL_SHARE:.0%} of the runs"
    if num_runs < needed:
        return f"forks not testable (too few runs: for {fork} {needed} are needed, not {num_runs})"
    if records < SHORTEST_STAY:
        return (
            f"forks not testable (too few records: {SHORTEST_STAY} in a state are needed, runs "
            f"have {records:g} at the median)"
        )
    power = branch_power(num_runs, records)
    often = "more than 90%" if power > 0.9 else f"about {round(power, 1):.0%}"
    if num_runs < RUNS[0]:
        often = f"at most {round(power, 1):.0%}"  # that of the fewest runs simulated
    return f"no fork found ({fork} would have been found in {often} of such cases)"
