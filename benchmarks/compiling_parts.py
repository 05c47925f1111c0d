"""Where the time goes that compiling for a TPU takes: by operation, and by part of a training.

    python benchmarks/compiling_parts.py --on tpu:v5e:2x2                      # with the extra plan
    python benchmarks/compiling_parts.py --on tpu:v5e:2x2 --experiment cifar10 --seeds 1

Operations are those of one layer: a float32 product of 2048 x 128 and 128 x 512 as in modular
addition, a 3 x 3 convolution of 128 images of 16 x 16 x 128 as in ResNet18, forward alone and with
its gradients, of 1, 3 and 10 seeds side by side. Parts of a training: its steps, and the whole with
metrics and evaluation. Seconds are of the processor, the size that of the compiled program.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from seedmap.experiments import load_experiment
from seedmap.experiments.plan.jobs import job_of
from seedmap.experiments.plan.programs import training_programs
from seedmap.experiments.plan.targets import Target, devices_of, environment, parse_target

LAYERS: dict[str, tuple[Callable[..., Any], tuple[int, ...], tuple[int, ...]]] = {
    "product": (jnp.matmul, (2048, 128), (128, 512)),
    "convolution": (
        partial(
            jax.lax.conv_general_dilated,
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
        (128, 16, 16, 128),
        (3, 3, 128, 128),
    ),
}
SIDE_BY_SIDE = (1, 3, 10)


def operations(target: Target) -> Iterator[tuple[str, Any]]:
    """Layers, lowered for a device of the target."""
    placed = SingleDeviceSharding(devices_of(target)[0])
    for name, (layer, of_inputs, of_weights) in LAYERS.items():

        def loss(x, w, layer=layer):
            return jnp.sum(jnp.square(layer(x, w)))

        for seeds in SIDE_BY_SIDE:
            arguments = [
                jax.ShapeDtypeStruct((seeds, *shape), jnp.float32, sharding=placed)
                for shape in (of_inputs, of_weights)
            ]
            for what, function in (("forward", layer), ("and gradients", jax.grad(loss, (0, 1)))):
                with jax.default_matmul_precision("highest"):
                    lowered = jax.jit(jax.vmap(function)).lower(*arguments)
                yield f"{name}, {seeds} seeds, {what}", lowered


def lowered_parts(name: str, seeds: int, target: Target) -> Iterator[tuple[str, Any]]:
    """Parts of the training of an experiment's first preset, lowered for the target."""
    experiment = load_experiment(name)
    chosen = next(iter(experiment.presets.values()))
    job = job_of(experiment, chosen.training, chosen.map.threshold)
    programs = training_programs(job, devices_of(target), seeds)
    for program in (programs.steps, programs.training):
        yield f"{name}, {seeds} seeds a device, {program.name}", program.trace().lower()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", default="tpu:v5e:2x2", help="target, as of `seedmap plan`")
    parser.add_argument("--experiment", help="parts of its training instead of operations")
    parser.add_argument("--seeds", type=int, default=1, help="side by side on a device")
    options = parser.parse_args()
    target = parse_target(options.on)
    os.environ.update(environment(target), JAX_ENABLE_COMPILATION_CACHE="false")
    lowered = operations(target)
    if options.experiment:
        lowered = lowered_parts(options.experiment, options.seeds, target)
    print(f"| compiled for {target.text} | processor, s | program, MB |\n|---|---|---|")
    for name, program in lowered:
        before = time.process_time()
        compiled = program.compile()
        seconds = time.process_time() - before
        size = compiled.memory_analysis().generated_code_size_in_bytes / 2**20
        print(f"| {name} | {seconds:.1f} | {size:.1f} |", flush=True)


if __name__ == "__main__":
    main()
