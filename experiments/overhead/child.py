"""A process that times one network under one mode (`processes.child` says how it is started).

python -P -m seedmap.experiments.overhead.child JOB

Its only argument is a `Job` in JSON; XLA's flags and the like are in its environment. It answers
first what it is ready to run, then, for every number of steps that it is sent, the `seconds` they
took; `error` if something fails.
"""

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from seedmap.experiments.overhead.networks import NETWORKS, build, num_parameters
from seedmap.experiments.overhead.step import make_step, random_batch, side_by_side, start
from seedmap.experiments.processes.child import answers, end_with_parent

WARM_UP = 3  # steps before the first that count; the last two of them are the trial


@dataclass(frozen=True)
class Job:
    """Network, mode and steps that a process is to time.

    Attributes:
        network: its name.
        batch_size: examples in a step.
        image_size: rows and columns.
        num_seeds: seeds side by side; None for one, without an axis for it.
        bfloat16: see `modes.Mode`.
    """

    network: str
    batch_size: int
    image_size: int
    num_seeds: int | None = None
    bfloat16: bool = False

    def json(self) -> str:
        """Writes it for the command line."""
        return json.dumps(dataclasses.asdict(self))


def platform() -> dict[str, Any]:
    """Describes the device that JAX computes on."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "cpu_cores": os.cpu_count(),
    }


def prepare(job: Job) -> tuple[Callable[[int], float], dict[str, Any]]:
    """Compiles and warms up.

    Returns:
        A function from a number of steps to the seconds that they take, and what is known by now:
        `parameters`, `compile_seconds`, `step_seconds` of the trial, `bytes` of memory taken and
        `bytes_limit` of what there is.
    """
    network = NETWORKS[job.network]
    model = build(network, job.image_size, job.bfloat16)
    batch = random_batch(job.batch_size, job.image_size, network.num_classes)
    states = [start(model, job.num_seeds)]
    step = make_step(model) if job.num_seeds is None else side_by_side(make_step(model))
    began = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=0).lower(states[0], *batch).compile()
    compile_seconds = time.perf_counter() - began

    def run(num_steps: int) -> float:
        """Times one call a step, as in training loops; the state is handed on in place."""
        state = jax.block_until_ready(states.pop())
        began = time.perf_counter()
        for _ in range(num_steps):
            state, loss = compiled(state, *batch)
        states.append(jax.block_until_ready((state, loss))[0])
        return time.perf_counter() - began

    run(1)
    trial = run(WARM_UP - 1) / (WARM_UP - 1)
    known = {"parameters": num_parameters(model), "compile_seconds": compile_seconds}
    return run, known | {"step_seconds": trial} | _memory()


def _memory() -> dict[str, int]:
    """Returns the most bytes this process took and how many there are, of the device or host."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats and "bytes_limit" in stats:
        return {"bytes": stats["peak_bytes_in_use"], "bytes_limit": stats["bytes_limit"]}
    unit = 1 if sys.platform == "darwin" else 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"bytes": most, "bytes_limit": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")}


def _one_line(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]


def main() -> None:
    """Answers until its input ends."""
    next_line, answer = end_with_parent(), answers()
    try:
        if len(sys.argv) == 1:
            answer(**platform())
            return
        run, known = prepare(Job(**json.loads(sys.argv[1])))
        answer(**known)
        while True:
            answer(seconds=run(int(next_line())))
    except Exception as error:  # whatever it is, the parent reports it and goes on
        answer(error=_one_line(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
