"""The map on runs with planted phases: number of states, agreement with the truth, branches.

    PYTHONPATH=tests python benchmarks/planted.py planted.jsonl --case fork --sets 40
    PYTHONPATH=tests python benchmarks/planted.py planted.jsonl --report

A line of JSON is appended for every set of runs; sets that the file has are not measured again, so
the work can be done in any pieces and in any order. `--report` prints each bar with counts and
exact binomial intervals. Sets are those of `tests/helpers/phases.py`, 40 runs of 200 records; those
of `--seeds tuning` are for changing the method, those of `fresh` for judging it. All cases with
their sets are listed by `--help`.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import stats

import seedmap as sm
from helpers.phases import BRANCHING, SINGLE, Planted, phases
from seedmap.hmm.training_map.stability import adjusted_rand_index

SEEDS = {"tuning": 1, "fresh": 51}
CASES = {
    "states": 40,
    "steady": 20,
    "odd_added": 20,
    **{family: 60 for family in SINGLE},
    **{family: 40 for family in BRANCHING},
    "detour": 60,
    "late_end": 60,
}
SEARCH_ONLY = {"states": 4, "restarts": 3, "resamples": 0}
"""Of the cases of branches: few starts, no refits of the chosen map; others have the defaults."""
SAME = 0.5
"""Overlap (Jaccard), among a branch's runs, of a side of it with those who take the planted one."""
NO_DELAY = ("fork", "ends", "late_end", "dead_end")
"""Cases with a branch that is no detour: it costs no time, or it is an end."""


def as_runs(planted: Planted) -> sm.Runs:
    """The runs as a user has them."""
    return sm.from_arrays(planted.values, steps=planted.steps, convergence=planted.convergence)


def truth_of(planted: Planted) -> np.ndarray:
    """True phases [run, time] with labels 0, 1, ..., -1 past a run's end."""
    labels = np.unique(planted.states[planted.states >= 0])
    return np.where(planted.states < 0, -1, np.searchsorted(labels, planted.states))


def branch_row(branch, takers: np.ndarray) -> dict:
    """What counts of a branch, with its overlap with the planted one."""
    visitors, skippers = {*branch.visitors}, {*branch.skippers}
    taken = {str(run) for run in np.flatnonzero(takers)} & (visitors | skippers)
    overlaps = [len(taken & side) / len(taken | side) for side in (visitors, skippers)]
    return {
        "named": bool(branch.named),
        "detour": bool(branch.detour),
        "z": float(branch.z),
        "support": branch.support,
        "goes_on": bool(branch.goes_on),
        "pvalue": None if branch.delay is None else float(branch.delay.pvalue),
        "overlap": max(overlaps),
    }


def measure_branches(family: str, seeds: tuple[int, int]) -> dict:
    """The branches of one set."""
    planted = phases(family, seeds)
    fitted = sm.fit_map(as_runs(planted), seed=seeds[1], **SEARCH_ONLY)
    return {"branches": [branch_row(branch, planted.takers) for branch in fitted.branches]}


def measure_states(seeds: tuple[int, int]) -> dict:
    """The chosen number of states, agreement with the truth, and of maps of disjoint halves."""
    planted = phases("single", seeds)
    runs, truth = as_runs(planted), truth_of(planted)
    fitted = sm.fit_map(runs, seed=seeds[1])
    order = np.random.default_rng(seeds).permutation(len(runs))
    halves = [sm.fit_map(runs.select(order[side::2]), seed=seeds[1]) for side in (0, 1)]
    return {
        "K": fitted.num_states,
        "true_K": int(truth.max()) + 1,
        "truth": adjusted_rand_index(truth, fitted.paths),
        "halves": adjusted_rand_index(*(half.decode(runs) for half in halves)),
        "named": num_named(fitted),
    }


def measure_steady(seeds: tuple[int, int]) -> dict:
    """The chosen number of states of runs that have none."""
    fitted = sm.fit_map(as_runs(phases("drift", seeds)), seed=seeds[1])
    return {"K": fitted.num_states, "named": num_named(fitted)}


def num_named(fitted: sm.Map) -> int:
    """Branches that a map by all of the default settings names."""
    return sum(branch.named for branch in fitted.branches)


def measure_odd(seeds: tuple[int, int]) -> dict:
    """The map with and without one or two odd runs."""
    planted = phases("odd", seeds)
    runs, usual = as_runs(planted), ~planted.odd
    with_odd, without = (
        sm.fit_map(runs, seed=seeds[1]),
        sm.fit_map(runs.select(usual), seed=seeds[1]),
    )
    flagged = {*with_odd.odd}
    return {
        "K": [with_odd.num_states, without.num_states],
        "named": num_named(with_odd),
        "others": adjusted_rand_index(with_odd.paths[usual], without.paths),
        "odd": int(planted.odd.sum()),
        "flagged": sum(runs.names[run] in flagged for run in np.flatnonzero(planted.odd)),
        "wrongly": sum(runs.names[run] in flagged for run in np.flatnonzero(usual)),
    }


def measure(case: str, seeds: tuple[int, int]) -> dict:
    """One line of the file."""
    started = time.perf_counter()
    if case == "states":
        row = measure_states(seeds)
    elif case == "steady":
        row = measure_steady(seeds)
    elif case == "odd_added":
        row = measure_odd(seeds)
    else:
        row = measure_branches(case, seeds)
    return {"case": case, "seeds": list(seeds), **row, "seconds": time.perf_counter() - started}


def share(hits: int, number: int) -> str:
    """A share with its counts and exact 95 % interval.

    Example:
        >>> share(1, 20)
        '.05 (1 of 20, .00 to .25)'
    """
    if number == 0:
        return "none"
    ends = stats.binomtest(hits, number).proportion_ci(method="exact")
    text = f"{hits / number:.2f} ({hits} of {number}, {ends.low:.2f} to {ends.high:.2f})"
    return text.replace("0.", ".")


def named(row: dict, right: bool) -> list[dict]:
    """The named branches of a set that are the planted one, or that are not."""
    return [b for b in row["branches"] if b["named"] and (b["overlap"] >= SAME) == right]


def report_states(rows: list[dict]) -> Iterator[tuple[str, str, str]]:
    """Bars on the number of states: what, bar, measured."""
    near = sum(abs(row["K"] - row["true_K"]) <= 1 for row in rows)
    yield "planted: K within 1", ">= .80", share(near, len(rows))
    for key, bar in (("truth", ".80"), ("halves", ".85")):
        values = [row[key] for row in rows]
        text = f"mean {np.mean(values):.2f}, 10 % quantile {np.quantile(values, 0.1):.2f}"
        yield f"planted: ARI, {key}", f">= {bar}", text


def report_steady(rows: list[dict]) -> Iterator[tuple[str, str, str]]:
    """Bar on the number of states of runs without any."""
    yield "drift: K = 1", ">= .90", share(sum(row["K"] == 1 for row in rows), len(rows))


def report_odd(rows: list[dict]) -> Iterator[tuple[str, str, str]]:
    """Bars on odd runs that are added."""
    yield "odd runs: K equal", ">= .90", share(sum(len({*r["K"]}) == 1 for r in rows), len(rows))
    yield (
        "odd runs: ARI of the others",
        ">= .95",
        f"mean {np.mean([r['others'] for r in rows]):.2f}",
    )
    flagged, odd = (sum(row[key] for row in rows) for key in ("flagged", "odd"))
    yield "odd runs: flagged", ">= .90", share(flagged, odd)
    yield "usual runs: flagged", "", f"{sum(row['wrongly'] for row in rows)} in {len(rows)} sets"


def report_single(by_case: dict[str, list[dict]]) -> Iterator[tuple[str, str, str]]:
    """Bars on branches that are not there."""
    false, number = 0, 0
    for case in (case for case in SINGLE if case in by_case):
        rows = by_case[case]
        hits = sum(bool(named(row, False)) for row in rows)
        false, number = false + hits, number + len(rows)
        yield f"false branch: {case}", "<= .05", share(hits, len(rows))
    yield "false branch: all of these", "<= .02", share(false, number)
    default = [row for case in ("states", "steady", "odd_added") for row in by_case.get(case, [])]
    hits = sum(row["named"] > 0 for row in default)
    yield "false branch: default settings", "", share(hits, len(default))


def report_branching(by_case: dict[str, list[dict]]) -> Iterator[tuple[str, str, str]]:
    """Bars on branches and detours that are there."""
    bars = {"fork": ".60", "detour": ".85", "ends": ".95"}
    wrong, number = 0, 0
    for case in (case for case in BRANCHING if case in by_case):
        rows = by_case[case]
        bar = f">= {bars[case]}" if case in bars else ""
        yield f"power: {case}", bar, share(sum(bool(named(r, True)) for r in rows), len(rows))
        wrong += sum(bool(named(row, False)) for row in rows)
        number += len(rows)
    yield "wrong branch", "<= .03", share(wrong, number)
    delayed = [b for row in by_case.get("detour", []) for b in named(row, True)]
    others = [b for case in NO_DELAY for row in by_case.get(case, []) for b in named(row, True)]
    for level in (0.002, 0.005, 0.01, 0.03, 0.1):
        detours = [sum(is_detour(b, level) for b in group) for group in (delayed, others)]
        shares = f"{share(detours[0], len(delayed))} / {share(detours[1], len(others))}"
        bar = ">= .50 / <= .05" if level == 0.01 else ""
        yield f"detours at p < {level:g}: power / false", bar, shares


def is_detour(branch: dict, level: float) -> bool:
    """Whether the branch would be a detour at another level, its visitors going on as they do."""
    return bool(branch["goes_on"]) and branch["pvalue"] is not None and branch["pvalue"] < level


def report(rows: list[dict]) -> None:
    """Prints a table of the bars."""
    by_case: dict[str, list[dict]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row)
    lines = [
        *(report_states(by_case["states"]) if "states" in by_case else ()),
        *(report_steady(by_case["steady"]) if "steady" in by_case else ()),
        *(report_odd(by_case["odd_added"]) if "odd_added" in by_case else ()),
        *report_single(by_case),
        *report_branching(by_case),
    ]
    print("| | bar | measured |\n|---|---|---|")
    for line in lines:
        print(f"| {' | '.join(line)} |")


def read(path: Path) -> list[dict]:
    """The lines that the file has."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    cases = ", ".join(f"{case} ({number})" for case, number in CASES.items())
    parser = argparse.ArgumentParser(description=f"{__doc__.splitlines()[0]} Cases: {cases}.")
    parser.add_argument("file", type=Path, help="lines of JSON, appended to")
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--sets", type=int, help="of each case; default: as listed")
    parser.add_argument("--seeds", choices=SEEDS, default="fresh")
    parser.add_argument("--report", action="store_true", help="print the bars, measure nothing")
    args = parser.parse_args()
    base, rows = SEEDS[args.seeds], read(args.file)
    if args.report:
        report([row for row in rows if row["seeds"][0] == base])
        return
    done = {(row["case"], *row["seeds"]) for row in rows}
    for number in range(args.sets or max(CASES.values())):
        for case in args.case:
            if (case, base, number) in done or number >= (args.sets or CASES[case]):
                continue
            line = json.dumps(measure(case, (base, number)))
            with args.file.open("a") as file:
                file.write(line + "\n")
            print(line, flush=True)


if __name__ == "__main__":
    main()
