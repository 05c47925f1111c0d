"""Runs with planted phases whose states, branches and times of convergence are known.

A run relaxes towards the centre of one phase after another in 4 dimensions, seen through 14
collinear metrics:

    x(t+1) = x(t) + r_k (c_k + o - x(t)) + 0.05 e,    values = x L + 0.02 noise.

Centres c_k of 3 to 6 phases lie 2 to 3 units apart, offsets o of runs have deviation 0.35 and
last, rates r_k are 0.12 to 0.3 a record, speeds v of runs 1 to 8 (log-uniform), and phase k of a
run lasts 0.6 to 1.4 times 180 / (v (K - 1)) records. A run has converged a few records after it
enters its last phase.
"""

from dataclasses import dataclass

import numpy as np

DIMENSIONS, NUM_METRICS = 4, 14
SPACING = 5.0  # steps between two records
SINGLE = ("single", "odd", "short", "drift", "warp", "heavy", "changing", "cycle", "curve")
"""Families without a branch: every branch that is named in them is false."""
BRANCHING = ("fork", "detour", "ends", "late_end", "dead_end")
"""Families in which 30 % of the runs take a branch; only that of `detour` is a detour."""


@dataclass(frozen=True, eq=False)
class Planted:
    """Runs and the truth about them.

    Attributes:
        values: float64 [run, time, metric], NaN past a run's end.
        steps: float64 [time].
        convergence: float64 [run], in steps; NaN for a run that does not get there in time.
        states: int [run, time], the phase at each record, -1 past a run's end.
        takers: bool [run], runs that take the branch.
        odd: bool [run], runs on a path of their own.
    """

    values: np.ndarray
    steps: np.ndarray
    convergence: np.ndarray
    states: np.ndarray
    takers: np.ndarray
    odd: np.ndarray


def phases(family, seed, num_runs=40, num_records=200, share=0.3, num_phases=None, dwell=None):
    """Returns runs of one family.

    Args:
        family: one of `SINGLE` or `BRANCHING`.
        seed: whole number or sequence of them.
        num_runs: runs.
        num_records: records of a run.
        share: of the runs that take the branch.
        num_phases: phases of the main path; drawn from 3 to 6 by default.
        dwell: records per phase of a run of speed 1; by default 0.9 of the records by K - 1.
    """
    rng = np.random.default_rng(seed)
    if family == "drift":
        return _drift(rng, num_runs, num_records)
    count = int(rng.integers(3, 7)) if num_phases is None else num_phases
    slowest = 0.9 * num_records / (count - 1) if dwell is None else dwell
    centres = _centres(rng, count)
    takers = np.zeros(num_runs, bool)
    if family in BRANCHING:
        takers[rng.permutation(num_runs)[: round(share * num_runs)]] = True
    odd = np.zeros(num_runs, bool)
    if family == "odd":
        odd[rng.permutation(num_runs)[: rng.integers(1, 3)]] = True
    speeds = 8 ** rng.random(num_runs)
    usual, branch = _itineraries(rng, family, count)
    if family == "curve":
        return _curve(rng, centres[:count], speeds, num_records)
    routes = [branch if taken else usual for taken in takers]
    states, entered = _walk(rng, routes, slowest / speeds, num_records)
    targets, rates = _targets(rng, family, centres, states, speeds, odd)
    places = _relax(rng, targets, rates, heavy=family == "heavy")
    return _record(rng, family, places, states, entered, takers, odd)


def _centres(rng, count):
    """Centres [phase, dimension]: a path of steps of 2 to 3, and one beside each of its steps.

    Row count + p lies 2 to 3 from centre p - 1, as centre p does. All are at least 2 apart.
    """
    centres = [np.zeros(DIMENSIONS)]
    for p in range(1, 2 * count):
        start = centres[p - 1] if p <= count else centres[p - count - 1]
        while True:
            direction = rng.normal(size=DIMENSIONS)
            new = start + rng.uniform(2, 3) * direction / np.linalg.norm(direction)
            if min(np.linalg.norm(new - c) for c in centres) >= 1.99:
                break
        centres.append(new)
    return np.array(centres)


def _itineraries(rng, family, count):
    """The phases of the main path, and of those who take the branch."""
    usual = list(range(count))
    at_end = family in ("ends", "late_end", "dead_end")
    p = count - 1 if at_end else int(rng.integers(1, count if family == "detour" else count - 1))
    beside = count + p
    branch = [*usual[:p], beside, *usual[p + (family != "detour") :]]
    return usual, branch


def _walk(rng, routes, dwell, num_records):
    """True phases [run, time], and the record at which each phase of its route is entered."""
    states, entered = np.empty((len(routes), num_records), int), []
    for row, route, usual in zip(states, routes, dwell, strict=True):
        lasts = np.maximum(usual * rng.uniform(0.6, 1.4, len(route) - 1), 1)
        begins = np.r_[0, np.round(np.cumsum(lasts)).astype(int)]
        row[:] = np.array(route)[np.searchsorted(begins, np.arange(num_records), "right") - 1]
        entered.append(begins)
    return states, entered


def _targets(rng, family, centres, states, speeds, odd):
    """Where runs are drawn to at each record [run, time, dimension], and how fast [run, time]."""
    num_runs, num_records = states.shape
    by_phase = rng.uniform(0.12, 0.3, len(centres))
    rates = by_phase[states]
    if family == "warp":
        rates = 1 - (1 - rates) ** (speeds / np.sqrt(8))[:, None]
    offsets = np.repeat(rng.normal(size=(num_runs, 1, DIMENSIONS)), len(centres), axis=1)
    if family == "changing":
        offsets = rng.normal(size=offsets.shape)
    targets = centres[states] + 0.35 * offsets[np.arange(num_runs)[:, None], states]
    if family == "cycle":
        angle = 2 * np.pi * np.arange(num_records) / rng.uniform(15, 30, (num_runs, 1))
        orbit = np.stack([np.cos(angle), np.sin(angle)], -1)
        targets[..., :2] += (states == states.max())[..., None] * orbit
    for run in np.flatnonzero(odd):
        strange = centres + 4 * rng.normal(size=centres.shape)
        targets[run] = strange[states[run]]
    return targets, rates


def _relax(rng, targets, rates, heavy=False):
    """Places [run, time, dimension] of runs that follow their targets."""
    size = targets.shape
    noise = rng.standard_t(3, size) / np.sqrt(3) if heavy else rng.normal(size=size)
    places = np.empty_like(targets)
    places[:, 0] = targets[:, 0]
    for t in range(1, targets.shape[1]):
        pull = rates[:, t, None] * (targets[:, t] - places[:, t - 1])
        places[:, t] = places[:, t - 1] + pull + 0.05 * noise[:, t]
    return places


def _record(rng, family, places, states, entered, takers, odd):
    """The runs as they are recorded: metrics, times of convergence, ends."""
    num_runs, num_records = states.shape
    steps = SPACING * (1 + np.arange(num_records))
    arrival = np.array([begins[-1] for begins in entered]) + rng.uniform(2, 6, num_runs)
    if family == "late_end":
        last = np.array([begins[-1] / (len(begins) - 1) for begins in entered])
        arrival = arrival + takers * last * rng.uniform(0.6, 1.4, num_runs)
    if family == "dead_end":
        arrival = np.where(takers, np.inf, arrival)
    convergence = np.where(arrival < num_records, SPACING * (1 + arrival), np.nan)
    values = _metrics(rng, places)
    if family == "short":
        ends = rng.integers(num_records // 3, num_records + 1, num_runs)
        past = np.arange(num_records) >= ends[:, None]
        values[past], states = np.nan, np.where(past, -1, states)
        convergence = np.where(arrival < ends, convergence, np.nan)
    return Planted(values, steps, convergence, states, takers, odd)


def _metrics(rng, places):
    loadings = rng.normal(size=(DIMENSIONS, NUM_METRICS))
    clean = places @ loadings
    return clean + 0.02 * clean.std((0, 1)) * rng.normal(size=clean.shape)


def _drift(rng, num_runs, num_records):
    """One straight way at steady, nearly equal speeds: no states."""
    direction = rng.normal(size=DIMENSIONS)
    direction *= 6 / np.linalg.norm(direction)
    pace = rng.uniform(0.6, 1.4, num_runs) / num_records
    way = pace[:, None, None] * np.arange(num_records)[:, None] * direction
    wander = 0.05 * rng.normal(size=way.shape).cumsum(1) * 0.3
    places = way + wander + 0.35 * rng.normal(size=(num_runs, 1, DIMENSIONS))
    return _without_states(rng, places, 0.7 / pace)


def _curve(rng, centres, speeds, num_records):
    """A smooth curve through the centres at the runs' speeds: no states, and no second way."""
    from scipy.interpolate import make_interp_spline

    curve = make_interp_spline(np.linspace(0, 1, len(centres)), centres, k=2)
    progress = np.minimum(np.arange(num_records) * speeds[:, None] / (0.9 * num_records), 1)
    noise = rng.normal(size=(*progress.shape, DIMENSIONS))
    places = curve(progress) + 0.35 * rng.normal(size=(len(speeds), 1, DIMENSIONS))
    return _without_states(rng, places + 0.05 * noise, 0.9 * num_records / speeds)


def _without_states(rng, places, arrival):
    num_runs, num_records = places.shape[:2]
    steps, none = SPACING * (1 + np.arange(num_records)), np.zeros(num_runs, bool)
    convergence = np.where(arrival < num_records, SPACING * (1 + arrival), np.nan)
    states = np.zeros((num_runs, num_records), int)
    return Planted(_metrics(rng, places), steps, convergence, states, none, none)
