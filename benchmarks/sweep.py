"""The sweep against hmmlearn: seconds and training log-likelihood, both sides in one process.

    python benchmarks/sweep.py                      # planted data; some 4 minutes
    python benchmarks/sweep.py --run FOLDER         # and the metrics of a run folder
    python benchmarks/sweep.py --run FOLDER --only precision   # float32 against float64

Both sides make the same number of iterations from the same number of restarts, weak prior against
hmmlearn's default; our restarts and theirs start differently. Ratios are hmmlearn's seconds over
ours. "cold" includes compilation, "warm" is the same sweep a second time.
"""

import argparse
import logging
import time
import warnings
from pathlib import Path

import jax
import numpy as np
from hmmlearn.hmm import GaussianHMM
from threadpoolctl import threadpool_limits

from seedmap import hmm
from seedmap.experiments.runs.dataset import raw_sequences
from seedmap.experiments.runs.folder import read_dataset

STATES = tuple(range(1, 9))


def planted(num_runs: int, num_steps: int, num_metrics: int, num_states: int) -> hmm.Sequences:
    """Runs that go round the states, 100 checkpoints in each on average."""
    rng = np.random.default_rng(0)
    means = rng.normal(0, 2, (num_states, num_metrics))
    roots = 0.4 * rng.normal(size=(num_states, num_metrics, num_metrics))
    states = (rng.random((num_runs, num_steps)) < 0.01).cumsum(1) % num_states
    noise = rng.normal(size=(num_runs, num_steps, num_metrics))
    return hmm.from_arrays(means[states] + np.einsum("rtij,rtj->rti", roots[states], noise))


def ours(sequences: hmm.Sequences, config: hmm.SweepConfig) -> tuple[hmm.Sweep, float]:
    """Sweep and seconds, the first run scored as if held out."""
    started = time.perf_counter()
    sweep = hmm.fit_sweep(sequences, sequences.select([0]), config, jax.random.key(0))
    return sweep, time.perf_counter() - started


def theirs(sequences: hmm.Sequences, config: hmm.SweepConfig, restarts: int):
    """Best log-likelihood by K, and seconds, of hmmlearn's fits.

    On nearly singular covariances some of its fits fail; they have no score.
    """
    values, lengths, best = sequences.observations(), sequences.lengths, {}
    started = time.perf_counter()
    for k in config.states:
        scores = []
        for restart in range(restarts):
            peer = GaussianHMM(
                k, "full", n_iter=config.iterations, tol=-np.inf, random_state=restart
            )
            try:
                scores.append(peer.fit(values, lengths).score(values, lengths))
            except ValueError:
                scores.append(np.nan)
        best[k] = np.nanmax(scores)
    return best, time.perf_counter() - started


def compare(name: str, sequences: hmm.Sequences, peer_restarts: int) -> None:
    """Prints the ratios of seconds, and by K our best log-likelihood less hmmlearn's."""
    config = hmm.SweepConfig(states=STATES, prior="weak", tolerance=-np.inf)
    sweep, cold = ours(sequences, config)
    warm = min(ours(sequences, config)[1] for _ in range(2))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best, seconds = theirs(sequences, config, peer_restarts)
    seconds *= config.restarts / peer_restarts
    print(
        f"{name}: {'x'.join(map(str, sequences.values.shape))}, K = 1..8 x {config.restarts} x 32"
    )
    scaled = "" if peer_restarts == config.restarts else f" ({peer_restarts} restarts, scaled up)"
    print(f"  seconds: cold {cold:.1f}, warm {warm:.1f}, hmmlearn {seconds:.1f}{scaled}")
    print(f"  ratio: cold {seconds / cold:.1f} (bar 10), warm {seconds / warm:.1f} (bar 25)")
    for k in config.states:
        top = max(fit.train_log_likelihood for fit in sweep.fits if fit.num_states == k)
        gain = (top - best[k]) / sequences.num_observations
        print(f"  K = {k}: {gain:+.4f} nats a checkpoint (bar -0.02)", flush=True)


def precision(sequences: hmm.Sequences) -> None:
    """Prints the chosen K in float32 and float64, and how many checkpoints decode alike."""
    train, held_out = hmm.split_runs(sequences.num_runs, 0.2, 3)
    for prior in ("held-out", "weak"):
        paths, chosen = [], []
        for wide in (False, True):
            jax.config.update("jax_enable_x64", wide)
            config = hmm.SweepConfig(states=STATES, prior=prior)
            split = (sequences.select(train), sequences.select(held_out))
            fit = hmm.select(hmm.fit_sweep(*split, config, jax.random.key(0)))
            paths.append(hmm.decode(fit.parameters, sequences).paths[sequences.mask])
            chosen.append((fit.num_states, fit.restart, fit.prior_scale))
        alike = (paths[0] == paths[1]).mean()
        print(f"float32 {chosen[0]}, float64 {chosen[1]} ({prior}): {alike:.2%} decoded alike")
    jax.config.update("jax_enable_x64", False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder, for a comparison on real metrics")
    parser.add_argument("--only", choices=["planted", "run", "precision"])
    parser.add_argument("--peer-restarts", type=int, default=5, help="scaled up if fewer than 5")
    args = parser.parse_args()
    logging.getLogger("hmmlearn").setLevel(logging.CRITICAL)
    if args.only in (None, "planted"):
        compare("planted", planted(40, 1000, 14, 6), args.peer_restarts)
        compare("small", planted(40, 100, 5, 4), args.peer_restarts)
    if args.run is not None:
        sequences = hmm.z_score(raw_sequences(read_dataset(args.run)))
        if args.only in (None, "run"):
            compare(str(args.run), sequences, args.peer_restarts)
        if args.only in (None, "precision"):
            precision(sequences)


if __name__ == "__main__":
    main()
