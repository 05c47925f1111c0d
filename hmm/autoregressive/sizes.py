"""Maps of other numbers of states than the chosen one, and refits: where branches are sought."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Real

from seedmap.hmm.autoregressive.alignment import align_runs
from seedmap.hmm.autoregressive.engine import MapFit
from seedmap.hmm.autoregressive.fits import Job, make_fits, precision
from seedmap.hmm.autoregressive.map_model import FittedRuns
from seedmap.hmm.autoregressive.starts import draw_labels
from seedmap.hmm.features import Features
from seedmap.hmm.parameters import canonical_order, relabel
from seedmap.hmm.training_map.bootstrap import resample_counts
from seedmap.hmm.training_map.branch_candidates import smallest_group
from seedmap.hmm.training_map.branches import STATES, Branch, count_places, find_branches

_ITERATIONS = 50
_RESAMPLED_ITERATIONS = 30
_SEARCHED = 5  # starts at most: the critical z of a branch is for as many
_SIZES = 5  # what a key is for, see `hmm.autoregressive.choice`


def search_branches(
    made: FittedRuns,
    decodings: Mapping[int, Int[np.ndarray, "run time"]],
    steps: Real[np.ndarray, "run time"],
    convergence: Float[np.ndarray, " run"],
    seed: int = 0,
) -> tuple[Branch, ...]:
    """Seeks branches among the fitted runs of a map (`hmm.training_map.branches`).

    Args:
        made: the map.
        decodings: by number of states, int [run, time], of `decode_at_sizes`; those of 4 to 10
            states are searched.
        steps: [run, time], when records were made.
        convergence: [run], NaN where it never came.
        seed: of nulls, permutations and refits.

    Returns:
        The branches, named ones first; none where the runs or the states are too few.
    """
    rows = made.rows
    sought = {k: paths[rows] for k, paths in decodings.items() if k in STATES}
    if len(rows) < 2 * smallest_group(len(rows)) or not sought:
        return ()
    return find_branches(
        _where_present(made.features)[rows],
        sought,
        lambda k: decode_resamples(made, decodings[k], k, seed=seed),
        made.fitted,
        steps[rows],
        convergence[rows],
        seed,
    )


def decode_at_sizes(
    made: MapFit, states: Sequence[int], restarts: int = 3, seed: int = 0
) -> dict[int, Int[np.ndarray, "run time"]]:
    """Returns the decoding of all runs by one fit of each number of states.

    That fit is, of the 5 likeliest starts, the one in whose map most states pass the tests of a
    branch's place: a short branch is a state of its own in some starts, often not in the likeliest.
    Of equal ones it is the likeliest. Numbers of states that the map's sweep has tried are not
    fitted again; that of the map has its own paths. The others decode the runs without their
    lasting offsets (`align_runs`). States are in order of first visit.

    Args:
        made: the map.
        states: numbers of states.
        restarts: starts of those that the sweep has not tried.
        seed: of the starts; that of the map.

    Returns:
        By number of states, int32 [run, time], -1 on padding.
    """
    known = {c.num_states: list(c.starts) for c in made.candidates}
    further = [k for k in states if k not in known]
    if further:
        known |= _fit_sizes(made, further, restarts, seed)
    return {k: _in_order(made, _with_most_places(made, known[k], k, seed), k) for k in states}


def _fit_sizes(made: MapFit, states: list[int], restarts: int, seed: int) -> dict[int, list]:
    """Decodings of all runs, without their lasting offsets, by each start, best first."""
    with precision():
        material = align_runs(made.features, made.fitted_runs.rows, seed).material
        weights, tempering = material.run_weights, made.model.tempering
        jobs = [
            Job(
                k,
                draw_labels(material.shares, k, (seed, _SIZES, restart)),
                weights,
                tempering,
                _ITERATIONS,
            )
            for k in states
            for restart in range(restarts)
        ]
        fits = make_fits(material.records, material.mask, jobs)
    mine = {k: [fit for fit in fits if len(fit.parameters.initial) == k] for k in states}
    return {k: [f.paths for f in sorted(mine[k], key=lambda f: -f.score)] for k in states}


def _with_most_places(made: MapFit, decodings: list[np.ndarray], k: int, seed: int) -> np.ndarray:
    """Of decodings, best first, the one with the most states that pass the tests of places."""
    rows = made.fitted_runs.rows
    if k not in STATES or k == made.num_states or len(rows) < 2 * smallest_group(len(rows)):
        return decodings[0]
    x = _where_present(made.features)[rows]
    return max(decodings[:_SEARCHED], key=lambda paths: count_places(x, paths[rows], k, seed))


def decode_resamples(
    made: FittedRuns,
    paths: Int[np.ndarray, "run time"],
    num_states: int,
    num_resamples: int = 20,
    seed: int = 0,
) -> list[Int[np.ndarray, "fitted time"]]:
    """Returns decodings of the fitted runs by fits to resamples of them, from the same states.

    Whether a fit finds these states by itself is another question, of the starts, not of the runs.
    Fits and decodings are of the runs without their lasting offsets, which are not drawn anew.

    Args:
        made: the map.
        paths: int [run, time], the decoding of all runs that each fit starts from, -1 on padding.
        num_states: of that decoding and of the fits.
        num_resamples: how many.
        seed: of the resamples; that of the map.

    Returns:
        int32 [fitted, time] each, of the runs of `made.fitted`, in labels of its own.
    """
    with precision():
        material = align_runs(made.features, made.rows, seed).material
        rows = np.flatnonzero(material.run_weights)
        counts = np.zeros((num_resamples, len(material.run_weights)))
        counts[:, rows] = resample_counts(len(rows), num_resamples, seed)
        labels, tempering = paths.astype(np.int8), made.model.tempering
        jobs = [Job(num_states, labels, row, tempering, _RESAMPLED_ITERATIONS) for row in counts]
        fits = make_fits(material.records, material.mask, jobs)
    return [fit.paths[rows].astype(np.int32) for fit in fits]


def _where_present(features: Features) -> np.ndarray:
    """The runs as the model sees them [run, time, component], NaN where nothing was recorded."""
    return np.where(features.present[:, :, None], features.x, np.nan)


def _in_order(made: MapFit, paths: np.ndarray, k: int) -> np.ndarray:
    """The map's own paths where it has k states, else `paths` in order of first visit."""
    if k == made.num_states:
        return made.paths
    return relabel(paths, canonical_order(paths, k)).astype(np.int32)
