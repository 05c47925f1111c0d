"""Where EM starts: each restart from the best of several short runs on few checkpoints.

The first iterations of EM say little of where it ends, while the optima it ends in differ by tenths
of a nat a checkpoint (sparse parities, K = 5..8). Short runs on thinned data are cheap and tell
them apart, and what they have learned is kept: "em-EM" (Biernacki, Celeux and Govaert, Choosing
starting values for the EM algorithm, 2003). On 40 runs of 1000 checkpoints all short runs do the
work of 6 iterations of EM, on 40 runs of 200 that of 32.

Thinned runs hide what happens in few checkpoints, so restart 0 has no part in this: it starts from
k-means, as the same optimum that k-means leads to is at times out of the reach of the short runs
(sparse parities, K = 4).
"""

from dataclasses import replace

import jax
import numpy as np

from seedmap.hmm.em.candidates import start
from seedmap.hmm.em.loop import Progress, iterate, unstarted
from seedmap.hmm.em.model import Data, Layout, Model, Prior
from seedmap.hmm.em.threads import num_threads, side_by_side
from seedmap.hmm.sequences import Sequences

_CHECKPOINTS = 2000  # of all training runs, about, that short runs see
_CANDIDATES = 16
SHORT_ITERATIONS = 8


def thin(sequences: Sequences) -> Sequences:
    """Every n-th checkpoint of every run, from the first on, n the same for all."""
    step = _every(sequences.num_observations)
    return replace(
        sequences,
        values=sequences.values[:, ::step],
        lengths=-(-sequences.lengths // step),
    )


def thinned_length(num_runs: int, num_records: int) -> int:
    """Returns the records of each thinned run, of so many runs of so many records."""
    return -(-num_records // _every(num_runs * num_records))


def _every(num_observations: int) -> int:
    return max(1, num_observations // _CHECKPOINTS)


def best_start(
    layout: Layout,
    data: Data,
    run_weights: jax.Array,
    prior: Prior,
    keys: jax.Array,
    restarts: np.ndarray,
    factor: np.ndarray,
) -> Model:
    """Models to start EM from, each the most likely end of its fit's short runs.

    A fit's start is a function of its key and of the number of its restart, whatever other fits
    there are. A short run that degenerates counts only if all do.

    Args:
        layout: The fits.
        data: The training runs, thinned.
        run_weights: float [F, run], 0 for a run that a fit may not see, else 1.
        prior: The prior.
        keys: One key a fit, see `hmm.em.candidates.restart_keys`.
        restarts: int [F], number of the restart.
        factor: float [D, D], Cholesky factor of the starting covariance.
    """

    def candidate(number: int) -> tuple[Model, Progress]:
        model = start(layout, data, run_weights, keys, restarts, factor, number)
        progress = unstarted(model)
        return model, iterate(layout, data, run_weights, prior, -np.inf, progress, SHORT_ITERATIONS)

    first = candidate(0)  # alone: it compiles what the others run
    others = side_by_side(candidate, list(range(1, _CANDIDATES)), num_threads(data))
    starts, ends = zip(*jax.device_get([first, *others]), strict=True)
    scores = np.stack([np.where(end.degenerate, -np.inf, end.objective) for end in ends])
    best = np.where(np.asarray(restarts) == 0, _CANDIDATES, scores.argmax(0))
    return _pick(layout, [*(end.model for end in ends), starts[0]], best)


def _pick(layout: Layout, models: list[Model], best: np.ndarray) -> Model:
    """Of every fit the parameters in models[best[fit]]."""
    flat = best[layout.fit]

    def pick(best, *arrays):
        return np.stack(arrays)[best, np.arange(len(best))]

    return jax.tree.map(pick, Model._make((best, best, flat, flat)), *models)
