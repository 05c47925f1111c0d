"""Fits of a map's selection per second, against hmmlearn's Gaussian fits of the same runs.

    python benchmarks/selection.py FOLDER

Both sides in one process on all cores they take, K = 1 .. 8: ours are the starts and halves of
`sweep_states`, a second time, so that everything is compiled; hmmlearn's one start each on the
metrics z-scored over all runs, its full covariances, as many iterations at most. Prints fits per
second and the ratio.
"""

import argparse
import logging
import time
import warnings

import numpy as np
from hmmlearn.hmm import GaussianHMM

import seedmap as sm
from seedmap.hmm.autoregressive.alignment import align_runs
from seedmap.hmm.autoregressive.choice import Plan, sweep_states
from seedmap.hmm.autoregressive.fits import precision
from seedmap.hmm.features import apply_scale, fit_scale, scale_metrics


def ours(sequences) -> float:
    """Fits per second of the selection, compiled before."""
    scale = fit_scale(sequences)
    with precision():
        aligned = align_runs(apply_scale(scale, sequences), np.arange(sequences.num_runs), 0)
        for _ in range(2):
            made: list[int] = []
            started = time.perf_counter()
            sweep_states(aligned.material, Plan(), aligned.tempering, made.append)
            seconds = time.perf_counter() - started
    return sum(made) / seconds


def theirs(sequences, iterations: int) -> float:
    """Fits per second of hmmlearn."""
    values = scale_metrics(fit_scale(sequences), sequences)
    stacked, started = values.observations(), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in Plan().states:
            GaussianHMM(k, "full", n_iter=iterations, random_state=0).fit(stacked, values.lengths)
    return len(Plan().states) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="run folder")
    sequences = sm.load(parser.parse_args().folder).sequences
    logging.getLogger("hmmlearn").setLevel(logging.CRITICAL)
    fast, slow = ours(sequences), theirs(sequences, Plan().iterations)
    print(f"ours {fast:.1f} fits/s, hmmlearn {slow:.2f} fits/s: {fast / slow:.0f} times")


if __name__ == "__main__":
    main()
