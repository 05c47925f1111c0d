"""Makes the table of power: how often a fork is found, by runs, records per phase and share.

    PYTHONPATH=tests python benchmarks/branch_power.py power.jsonl --sets 12
    PYTHONPATH=tests python benchmarks/branch_power.py power.jsonl --table

Sets are those of `fork` in `tests/helpers/phases.py` with 4 phases and as many records as the
slowest runs need. A line of JSON is appended for every set; sets that the file has are not measured
again. `--table` prints the table for `hmm/training_map/power.py`, smoothed by a logistic
regression.
"""

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np
from planted import SAME, SEARCH_ONLY, as_runs, branch_row, read
from scipy import optimize, special

import seedmap as sm
from helpers.phases import phases
from seedmap.hmm.training_map.branch_candidates import smallest_group
from seedmap.hmm.training_map.power import RECORDS, RUNS, SHARES

SEED = 3
MEDIAN_SPEED = 8**0.5


def planted_fork(num_runs: int, records: int, share: float, number: int):
    """A set of runs in which the median run spends `records` in a phase."""
    dwell = records * MEDIAN_SPEED
    return phases(
        "fork",
        (SEED, num_runs, records, round(100 * share), number),
        num_runs=num_runs,
        num_records=round(dwell * 3 / 0.9),
        share=share,
        num_phases=4,
        dwell=dwell,
    )


def is_possible(num_runs: int, share: float) -> bool:
    """Whether the branch has as many runs as the test needs."""
    return round(share * num_runs) >= smallest_group(num_runs)


def is_found(num_runs: int, records: int, share: float, number: int) -> bool:
    """Whether the planted fork is named."""
    planted = planted_fork(num_runs, records, share, number)
    branches = sm.fit_map(as_runs(planted), seed=number, **SEARCH_ONLY).branches
    rows = [branch_row(branch, planted.takers) for branch in branches]
    return any(row["named"] and row["overlap"] >= SAME for row in rows)


def smooth(rows: list[dict]) -> np.ndarray:
    """Shares found [runs, records, share] by a logistic regression on the logs of all three."""
    at = np.log([[row["runs"], row["records"], row["share"]] for row in rows])
    detected = np.array([row["found"] for row in rows])
    centre, spread = at.mean(0), at.std(0)

    def scores(where: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return weights[0] + (where - centre) / spread @ weights[1:]

    def loss(weights: np.ndarray) -> float:
        signed = np.where(detected, 1, -1) * scores(at, weights)
        return float(np.logaddexp(0, -signed).sum() + 0.1 * (weights[1:] ** 2).sum())

    weights = optimize.minimize(loss, np.zeros(4)).x
    grid = np.log(np.stack(np.meshgrid(RUNS, RECORDS, SHARES, indexing="ij"), -1))
    return special.expit(scores(grid, weights))


def table(rows: list[dict]) -> str:
    """The constants of `hmm/training_map/power.py`."""
    lines = [f"SETS = {len(rows)}", "FOUND = ("]
    for runs, block in zip(RUNS, smooth(rows).round(2).tolist(), strict=True):
        lines.append(f"    (  # {runs} runs")
        for records, row in zip(RECORDS, block, strict=True):
            lines.append(f"        {tuple(row)},  # {records} records per phase")
        lines.append("    ),")
    return "\n".join([*lines, ")"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="lines of JSON, appended to")
    parser.add_argument("--sets", type=int, default=12)
    parser.add_argument("--table", action="store_true", help="print the table, measure nothing")
    args = parser.parse_args()
    rows = read(args.file)
    if args.table:
        print(table([row for row in rows if is_possible(row["runs"], row["share"])]))
        return
    done = {(row["runs"], row["records"], row["share"], row["number"]) for row in rows}
    for number in range(args.sets):
        for cell in product(RUNS, RECORDS, SHARES):
            if (*cell, number) not in done and is_possible(cell[0], cell[2]):
                names = ("runs", "records", "share", "number", "found")
                line = dict(zip(names, (*cell, number, is_found(*cell, number)), strict=True))
                with args.file.open("a") as file:
                    file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
