"""What it costs to imitate the noise of tools: training steps with each kind over plain ones.

    python benchmarks/noise.py        # parities, smallcnn (quick), modular-stabilised

Every kind is another compiled program of the same replicas; the programs take turns, and the ratio
of each round's time to the plain one's is what is told (median, lowest and highest).
"""

import argparse
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from seedmap.experiments import load_experiment
from seedmap.trainer import Perturbations, make_streams, make_trainer

CASES = {  # experiment: preset, hyperparameters, replicas
    "parities": ("paper", {}, 4),
    "smallcnn": ("quick", {"batch_size": 32, "train_size": 320}, 1),
    "modular-stabilised": ("cpu", {}, 4),
}
STEPS, ROUNDS = 20, 7


def kinds(count: int) -> dict[str, tuple[Perturbations, bool]]:
    """Perturbations of `count` replicas, and whether replicas are compared with the first."""
    zeros = jnp.zeros(count, jnp.uint32)
    bits = jnp.full(count, 23, jnp.int32)
    accumulation = Perturbations(accumulation=zeros + 1)
    return {
        "plain": (Perturbations(), False),
        "digests (compared)": (Perturbations(), True),
        "accumulation": (accumulation, False),
        "precision": (Perturbations(mantissa_bits=bits), False),
        "ulp": (Perturbations(ulp_step=bits * 0, ulp_number=zeros), False),
    }


def measure(name: str) -> dict[str, np.ndarray]:
    """Seconds of `STEPS` steps of all replicas, by kind: [round]."""
    preset, changes, count = CASES[name]
    experiment = load_experiment(name)
    config = replace(experiment.presets[preset].training, **changes)
    setup = experiment.setup(config)
    pool = setup.task.pool or ()
    walks = {}
    for kind, (perturb, compare) in kinds(count).items():
        trainer = make_trainer(
            setup.task,
            setup.optimizer,
            config.batch_size,
            STEPS,
            (),
            compare=compare,
        )
        state = trainer.init(make_streams(range(count)), {}, perturb)
        walk = trainer.walk.lower(state, pool).compile()
        walks[kind] = [walk, jax.block_until_ready(walk(state, pool))]
    seconds = {kind: [] for kind in walks}
    for _ in range(ROUNDS):
        for kind, entry in walks.items():
            started = time.perf_counter()
            entry[1] = jax.block_until_ready(entry[0](entry[1], pool))
            seconds[kind].append(time.perf_counter() - started)
    return {kind: np.array(times) for kind, times in seconds.items()}


def main() -> None:
    """Prints a table of ratios for each experiment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="*", default=list(CASES), help=", ".join(CASES))
    for name in parser.parse_args().experiments:
        measured = measure(name)
        print(
            f"{name}: {1e3 * np.median(measured['plain']) / STEPS / CASES[name][2]:.3g} ms a step"
        )
        for kind, times in measured.items():
            ratio = times / measured["plain"]
            print(f"  {kind:20s} {np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})")


if __name__ == "__main__":
    main()
