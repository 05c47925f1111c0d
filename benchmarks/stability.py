"""The map of a recorded run under other runs, other spacing of records, and odd runs added.

    python benchmarks/stability.py FOLDER stability.jsonl --splits 20
    python benchmarks/stability.py FOLDER stability.jsonl --report

A line of JSON is appended for every map; maps that the file has are not made again, so the work can
be done in pieces. Some 30 seconds a map of 40 runs of 200 records on 2 cores. Maps: of random 80 %
of the runs, each decoding all; of every, every 2nd and every 5th record; with one or two odd runs
added, which are runs of the folder mirrored at the mean of all records, twice as far from it.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

import seedmap as sm
from seedmap.hmm.training_map.stability import adjusted_rand_index

SPACINGS = (1, 2, 5)
ODD = (1, 2)
SHARE = 0.8


def thinned(runs: sm.Runs, every: int) -> sm.Runs:
    """Every n-th record of each run."""
    values = [
        values[:length:every]
        for values, length in zip(runs.sequences.values, runs.sequences.lengths, strict=True)
    ]
    return sm.from_arrays(values, metrics=runs.metrics, names=runs.names)


def with_odd_runs(runs: sm.Runs, count: int) -> sm.Runs:
    """The runs and, after them, `count` of them mirrored at the mean, twice as far from it."""
    mean = np.nanmean(runs.sequences.observations(), axis=0)
    values = [
        values[:length]
        for values, length in zip(runs.sequences.values, runs.sequences.lengths, strict=True)
    ]
    mirrored = [mean - 2 * (value - mean) for value in values[:count]]
    names = (*runs.names, *(f"odd{i}" for i in range(count)))
    return sm.from_arrays([*values, *mirrored], metrics=runs.metrics, names=names)


def maps(runs: sm.Runs, num_splits: int) -> Iterator[tuple[str, sm.Runs, sm.Runs]]:
    """Names of the maps to make, the runs to fit, and the runs to decode."""
    for split in range(num_splits):
        order = np.random.default_rng((1, split)).permutation(len(runs))
        chosen = np.sort(order[: round(SHARE * len(runs))])
        yield f"split {split}", runs.select(chosen), runs
    for every in SPACINGS:
        yield f"every {every}", thinned(runs, every), thinned(runs, every)
    for count in ODD:
        added = with_odd_runs(runs, count)
        yield f"odd {count}", added, added


def measured(name: str, fitted: sm.Runs, decoded: sm.Runs) -> dict:
    """One line of the file."""
    m = sm.fit_map(fitted, seed=0)
    leak = m.fit.leak
    return {
        "map": name,
        "num_states": m.num_states,
        "half": m.fit.made.half,
        "double": m.fit.made.double,
        "odd": list(m.odd),
        "named": sum(branch.named for branch in m.branches),
        "leak": None if leak is None else leak.excess,
        "paths": m.decode(decoded).tolist(),
    }


def report(rows: dict[str, dict]) -> None:
    """Prints the bars."""
    splits = [row for name, row in rows.items() if name.startswith("split")]
    states = [row["num_states"] for row in splits]
    modal = max(set(states), key=states.count)
    paths = [np.array(row["paths"]) for row in splits]
    pairs = [adjusted_rand_index(a, b) for a, b in combinations(paths, 2)]
    print(f"{len(splits)} splits: K = {modal} in {states.count(modal) / len(splits):.2f}")
    if pairs:
        print(f"pairwise ARI: mean {np.mean(pairs):.3f}, 10 % {np.quantile(pairs, 0.1):.3f}")
    for name, row in rows.items():
        if not name.startswith("split"):
            print(f"{name}: K = {row['num_states']}, odd {row['odd']}, {row['named']} branches")
    for count in ODD:
        reference, added = rows.get("every 1"), rows.get(f"odd {count}")
        if reference and added:
            alike = adjusted_rand_index(
                np.array(reference["paths"]), np.array(added["paths"])[: len(reference["paths"])]
            )
            print(f"{count} odd added: ARI of the others {alike:.3f}")


def main() -> None:
    """Measures what is not there yet, or reports."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="run folder")
    parser.add_argument("file", type=Path, help="JSON lines, appended to")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    lines = options.file.read_text().splitlines() if options.file.exists() else []
    rows = {row["map"]: row for row in map(json.loads, lines)}
    if options.report:
        report(rows)
        return
    for name, fitted, decoded in maps(sm.load(options.folder), options.splits):
        if name not in rows:
            row = measured(name, fitted, decoded)
            with options.file.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{name}: K = {row['num_states']}", flush=True)


if __name__ == "__main__":
    main()
