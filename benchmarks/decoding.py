"""Decoding one checkpoint after the other against all at once (associative scan), in one process.

    python benchmarks/decoding.py            # some 10 minutes
    python benchmarks/decoding.py --longest 10000

Sequential is what `hmm.inference` runs, after the densities; filter and smoother at once are
Dynamax's `parallel_inference`, Viterbi max-plus products of the transitions (Särkkä and
García-Fernández, 2021). Seconds are medians after a warm-up; a ratio above 1 means that the
associative scan is faster. Before they are timed, both sides must agree on 99 % of all numbers.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from dynamax.hidden_markov_model import parallel_inference

from seedmap.hmm import inference

MOST_NUMBERS = 10**8  # in the array [run, time, state, state] of the scan's elements


def max_plus(first: jax.Array, second: jax.Array) -> jax.Array:
    """Best way through two steps, [time, state, state], less the best of all.

    Without that, sums over a long run leave float32 no digits to tell paths apart.
    """
    best = (first[:, :, :, None] + second[:, None]).max(2)
    return best - best.max((1, 2), keepdims=True)


@jax.jit
def viterbi_at_once(initial, transition, log_likelihoods, mask):
    """The state through which the best path goes, at every time; `mask` must be all True."""

    def decode(logs):
        steps = jnp.log(transition) + logs[1:, None]
        first = jnp.broadcast_to((jnp.log(initial) + logs[0])[:, None], steps.shape[1:]).T
        ahead = jax.lax.associative_scan(max_plus, jnp.concatenate([first[None], steps]))[:, 0]
        last = jnp.zeros_like(steps[:1])
        behind = jax.lax.associative_scan(
            lambda a, b: max_plus(b, a), jnp.concatenate([steps, last]), reverse=True
        ).max(2)
        return (ahead + behind).argmax(1)

    return jax.vmap(decode)(log_likelihoods)


@jax.jit
def filter_at_once(initial, transition, log_likelihoods):
    many = jax.vmap(parallel_inference.hmm_filter, (None, None, 0))
    return many(initial, transition, log_likelihoods).filtered_probs


@jax.jit
def smooth_at_once(initial, transition, log_likelihoods):
    many = jax.vmap(parallel_inference.hmm_smoother, (None, None, 0))
    return many(initial, transition, log_likelihoods).smoothed_probs


def one_by_one(initial, transition, log_likelihoods):
    return inference._filter(initial, transition, log_likelihoods).filtered_probs


def model(num_states: int, num_runs: int, num_steps: int):
    """A sticky HMM and log-densities with maximum 0, as `hmm.inference` makes them."""
    rng = np.random.default_rng(0)
    transition = 0.98 * np.eye(num_states) + 0.02 / num_states
    logs = -0.5 * rng.normal(0, 3, (num_runs, num_steps, num_states)) ** 2
    logs -= logs.max(-1, keepdims=True)
    initial = np.full(num_states, 1 / num_states)
    mask = np.ones((num_runs, num_steps), bool)
    return (jnp.asarray(x, jnp.float32) for x in (initial, transition, logs)), jnp.asarray(mask)


def seconds(function, arguments, repeats: int) -> float:
    """Median time of a call that is compiled already."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def compare(num_states: int, num_runs: int, num_steps: int) -> None:
    """Prints a row: seconds of both sides and their ratio, for all three."""
    numbers, mask = model(num_states, num_runs, num_steps)
    arguments, cells = tuple(numbers), []
    pairs = {
        "filter": (one_by_one, filter_at_once, arguments),
        "smoother": (inference._smooth, smooth_at_once, arguments),
        "Viterbi": (inference._modes, viterbi_at_once, (*arguments, mask)),
    }
    repeats = 11 if num_runs * num_steps <= 10**5 else 3
    for name, (sequential, at_once, given) in pairs.items():
        decoded, expected = (np.asarray(f(*given)) for f in (at_once, sequential))
        alike = np.mean(np.abs(decoded - expected) < 1e-3)  # float32 parts near-ties
        if alike < 0.99:
            raise AssertionError(f"{name}: the two sides agree on {alike:.2%} only")
        slow, fast = (seconds(f, given, repeats) for f in (sequential, at_once))
        cells.append(f"{1e3 * slow:.3g} / {1e3 * fast:.3g} = {slow / fast:.2f}")
    print(f"| {num_states} | {num_runs} | {num_steps} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--longest", type=int, default=10**5, help="checkpoints of a run")
    args = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}; ms one by one / ms at once = ratio")
    print("| K | runs | T | filter | smoother | Viterbi |\n|---|---|---|---|---|---|")
    for num_states in (4, 8):
        for num_runs in (1, 40):
            for num_steps in (100, 1000, 10_000, 100_000):
                fits = num_states**2 * num_runs * num_steps <= MOST_NUMBERS
                if num_steps <= args.longest and fits:
                    compare(num_states, num_runs, num_steps)


if __name__ == "__main__":
    main()
