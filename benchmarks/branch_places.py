"""Whether a branch that a part of the runs names is a second place, or the tail of one.

    python benchmarks/branch_places.py FOLDER FRESH --split 2

The branch of a split of `benchmarks/stability.py` (80 % of the runs of FOLDER) is looked at again:
its groups tested among all runs, and all runs and those of FRESH (other seeds of the same
recording) placed along the direction that tells its groups apart, in deviations of its larger
group. Places are those recorded, lasting offsets in them. Two places leave a gap; a tail does not.
Two minutes on 2 cores.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

import seedmap as sm
from seedmap.hmm import apply_scale
from seedmap.hmm.training_map import branch_tests
from seedmap.hmm.training_map.branch_candidates import BranchCandidate, candidates, smallest_group
from seedmap.hmm.training_map.place import Whitening, closest_points, separation, whiten
from seedmap.hmm.training_map.visits import find_visits

SHARE = 0.8  # of the runs in a split, as in `benchmarks/stability.py`


class Found(NamedTuple):
    """The candidates of a map of some number of states, with what places are measured in."""

    fit: sm.Map
    names: np.ndarray  # of the runs fitted
    points: np.ndarray  # [run, time, component], whitened
    whitening: Whitening
    candidates: list[BranchCandidate]


def candidates_of(m: sm.Map, num_states: int) -> Found:
    made = m.fit.made
    rows = made.fitted_runs.rows
    x = np.where(made.features.present[:, :, None], made.features.x, np.nan)[rows]
    paths = m.fit.decodings[num_states][rows]
    visits = find_visits(paths, num_states)
    whitening = whiten(x, paths, visits.visited)
    found = candidates(paths, visits, smallest_group(len(rows)))
    return Found(m, np.array(made.fitted), x @ whitening.matrix, whitening, found)


def places(found: Found, candidate: BranchCandidate, points, begin) -> np.ndarray:
    """The places of runs: where they are closest to the branch, and to the state instead."""
    states = [s for s in (candidate.state, candidate.instead) if s >= 0]
    centres = found.whitening.centres[states]
    return np.concatenate([closest_points(points, c, begin)[0] for c in centres], axis=1)


def same_groups(found: Found, visitors: set[str]) -> list[tuple]:
    """State, z, resolved and needed skippers of the same groups, at every candidate state."""
    least, rows = smallest_group(len(found.names)), []
    for candidate in found.candidates:
        order = np.argsort(~np.isin(found.names[candidate.runs], list(visitors)), kind="stable")
        group = np.isin(found.names[candidate.runs], list(visitors))[order]
        if group.all() or not group.any():
            continue
        moved = candidate._replace(
            runs=candidate.runs[order],
            visitor=group,
            begin=candidate.begin[order],
            leave=candidate.leave[order],
        )
        centres, rng = found.whitening.centres, np.random.default_rng(0)
        _, z, resolved = branch_tests.place_test(moved, found.points, centres, least, rng)
        rows.append((candidate.state, round(z, 2), resolved, least))
    return rows


def along(found: Found, candidate: BranchCandidate, runs: sm.Runs) -> list[tuple[str, float]]:
    """Where runs are along the branch's direction, in deviations of its larger group."""
    own = places(found, candidate, found.points[candidate.runs], candidate.begin)
    direction = separation(own, candidate.visitor)[1]
    larger = candidate.visitor if candidate.visitor.mean() > 0.5 else ~candidate.visitor
    line = own[larger] @ direction
    features = apply_scale(found.fit.fit.scale, runs.sequences)
    x = np.where(features.present[:, :, None], features.x, np.nan) @ found.whitening.matrix
    start = np.zeros(len(x), int)
    begin = closest_points(x, found.whitening.centres[candidate.previous], start)[1]
    at = (places(found, candidate, x, begin) @ direction - line.mean()) / line.std()
    return sorted(zip(runs.names, at.round(1).tolist(), strict=True), key=lambda pair: pair[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("fresh", type=Path)
    parser.add_argument("--split", type=int, default=2)
    options = parser.parse_args()
    runs, fresh = sm.load(options.folder), sm.load(options.fresh)
    order = np.random.default_rng((1, options.split)).permutation(len(runs))
    part = sm.fit_map(runs.select(np.sort(order[: round(SHARE * len(runs))])), seed=0)
    named = [branch for branch in part.branches if branch.named]
    if not named:
        parser.exit(message=f"split {options.split} names no branch\n")
    branch = named[0]
    print(f"named: state {branch.state} of {branch.num_states}, z {branch.z:.2f}")
    print(f"visitors {branch.visitors}\nskippers {branch.skippers}")
    found = candidates_of(part, branch.num_states)
    candidate = next(c for c in found.candidates if c.state == branch.state)
    for title, others in (("all runs", runs), ("fresh runs", fresh)):
        at = along(found, candidate, others)
        print(f"{title}: {at[:8]} ... {at[-3:]}")
    whole = sm.fit_map(runs, seed=0)
    print(f"all runs: {[(b.state, b.num_states, b.z, b.named) for b in whole.branches]}")
    members = {*branch.skippers}
    everyone = {*runs.names} - members
    same = same_groups(candidates_of(whole, branch.num_states), everyone)
    print(f"the same groups among all (state, z, resolved, needed): {same}")
    m = sm.fit_map(fresh, seed=0)
    print(f"fresh runs: {[(b.state, b.num_states, b.z, b.named, b.skippers) for b in m.branches]}")


if __name__ == "__main__":
    main()
