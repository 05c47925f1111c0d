"""Maps of other numbers of states than the chosen one, and refits: where branches are sought."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Real

from seedmap.hmm.autoregressive.choice import Material
from seedmap.hmm.autoregressive.engine import MapFit, material_of
from seedmap.hmm.autoregressive.fits import Job, make_fits, precision
from seedmap.hmm.autoregressive.map_model import FittedRuns
from seedmap.hmm.autoregressive.starts import draw_labels
from seedmap.hmm.parameters import canonical_order, relabel
from seedmap.hmm.training_map.bootstrap import resample_counts
from seedmap.hmm.training_map.branch_candidates import smallest_group
from seedmap.hmm.training_map.branches import STATES, Branch, find_branches

_ITERATIONS = 50
_RESAMPLED_ITERATIONS = 30
_SIZES, _RESAMPLES = 5, 6  # what a key is for, see `hmm.autoregressive.choice`


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
        The branches, named ones first; none where the runs are too few for the test.
    """
    rows = made.rows
    if len(rows) < 2 * smallest_group(len(rows)):
        return ()
    features = made.features
    x = np.where(features.present[:, :, None], features.x, np.nan)
    return find_branches(
        x[rows],
        {k: paths[rows] for k, paths in decodings.items() if k in STATES},
        lambda k: decode_resamples(made, k, seed=seed),
        made.fitted,
        steps[rows],
        convergence[rows],
        seed,
    )


def decode_at_sizes(
    made: MapFit, states: Sequence[int], restarts: int = 3, seed: int = 0
) -> dict[int, Int[np.ndarray, "run time"]]:
    """Returns the decoding of all runs by the best fit of each number of states.

    Numbers of states that the map's sweep has tried are not fitted again; that of the map has its
    consensus. States are in order of first visit.

    Args:
        made: the map.
        states: numbers of states.
        restarts: starts of those that the sweep has not tried.
        seed: of the starts.

    Returns:
        By number of states, int32 [run, time], -1 on padding.
    """
    known = {c.num_states: c.fit.paths for c in made.candidates}
    names = [(k, restart) for k in states if k not in known for restart in range(restarts)]
    with precision():
        material = material_of(made.features, made.fitted)
        jobs = [
            _job(made, material, k, (seed, _SIZES, restart), material.run_weights, _ITERATIONS)
            for k, restart in names
        ]
        fits = make_fits(material.records, material.lengths, jobs)
    for k in states:
        mine = [fit for fit, name in zip(fits, names, strict=True) if name[0] == k]
        if mine:
            known[k] = max(mine, key=lambda fit: fit.score).paths
    return {k: _in_order(made, known[k], k) for k in states}


def decode_resamples(
    made: FittedRuns, num_states: int, num_resamples: int = 20, seed: int = 0
) -> list[Int[np.ndarray, "run time"]]:
    """Returns decodings of the fitted runs by fits to resamples of them, each from a fresh start.

    Args:
        made: the map.
        num_states: of the fits.
        num_resamples: how many.
        seed: of resamples and starts.

    Returns:
        int32 [run, time] each, of the runs of `made.fitted`, in labels of its own.
    """
    with precision():
        material = material_of(made.features, made.fitted)
        rows = np.flatnonzero(material.run_weights)
        counts = np.zeros((num_resamples, len(material.run_weights)))
        counts[:, rows] = resample_counts(len(rows), num_resamples, seed)
        jobs = [
            _job(made, material, num_states, (seed, _RESAMPLES, i), row, _RESAMPLED_ITERATIONS)
            for i, row in enumerate(counts)
        ]
        fits = make_fits(material.records, material.lengths, jobs)
    return [fit.paths[rows].astype(np.int32) for fit in fits]


def _in_order(made: MapFit, paths: np.ndarray, k: int) -> np.ndarray:
    """The map's own paths where it has k states, else `paths` in order of first visit."""
    if k == made.num_states:
        return made.paths
    return relabel(paths, canonical_order(paths, k)).astype(np.int32)


def _job(
    made: MapFit | FittedRuns, material: Material, k: int, key, weights: np.ndarray, most: int
) -> Job:
    labels = draw_labels(material.shares, k, key)
    return Job(k, labels, weights, made.model.tempering, most)
