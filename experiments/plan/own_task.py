"""`seedmap.plan`: what a run of one's own task would need on a device that need not be there."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from seedmap.experiments.plan.planning import make_plan
from seedmap.experiments.plan.programs import Job
from seedmap.experiments.plan.results import Plan
from seedmap.experiments.plan.targets import Target, check_extra, environment, parse_target
from seedmap.experiments.runs.settings import check_fit
from seedmap.experiments.tasks.base import FitConfig
from seedmap.trainer import Replicas, Task, weight_metrics
from seedmap.trainer.metrics.arguments import Metric
from seedmap.trainer.recipe import Optimizer
from seedmap.trainer.replicas import DIFFER_IN_ALL, checked_recipe


def plan(
    task: Task,
    optimizer: Optimizer,
    seeds: Sequence[int],
    *,
    on: str,
    batch_size: int,
    steps: int,
    record_every: int,
    replicas: Replicas = DIFFER_IN_ALL,
    metrics: Metric | Sequence[Metric] = weight_metrics,
    threshold: float | None = None,
    early_stop: str = "never",
    precision: str = "float32",
    seeds_at_once: int | None = None,
    fit: FitConfig | None = None,
    on_program: Callable[[str], None] | None = None,
) -> Plan:
    """Compiles what `train` and the fit of a map would run for other devices; nothing is run.

    It compiles in this process: the training, EM and decoding of its records, and the filter.

    Args:
        task: what to learn.
        optimizer: as of `train`, and so are seeds, batch_size, steps, record_every, replicas,
            metrics, threshold, early_stop, precision and seeds_at_once.
        seeds: see above.
        on: devices to compile for, as of `seedmap plan`: "tpu:v5e:2x2", "gpu:h100", "cpu".
        batch_size: see above.
        steps: see above.
        record_every: see above.
        replicas: see above.
        metrics: see above.
        threshold: see above.
        early_stop: see above.
        precision: see above.
        seeds_at_once: see above.
        fit: how the map is fitted, as the flags of `seedmap plan` say it
            (`seedmap.experiments.tasks.base.FitConfig`). Default: its defaults, 1 to 8 states.
        on_program: called with what is compiled next.

    Returns:
        Plan: memory, seeds that fit, operations, bytes, the least time and every program, as in
            `plan.json`.

    Raises:
        UserError: the target is unknown or its compiler is not installed, one seed does not fit, or
            an argument is out of its range.

    Example:
        made = seedmap.plan(task, optax.adam(1e-2), range(4096), on="tpu:v5e:2x2", batch_size=50,
                            steps=1000, record_every=50)
        made.most_seeds.on_target, made.bound_seconds.run
    """
    target = parse_target(on)
    check_extra(target)
    fit = FitConfig() if fit is None else fit
    check_fit(fit)
    recipe, hyper = checked_recipe(
        task,
        optimizer,
        seeds,
        replicas,
        batch_size=batch_size,
        steps=steps,
        record_every=record_every,
        metrics=metrics,
        threshold=threshold,
        early_stop=early_stop,
        precision=precision,
        seeds_at_once=seeds_at_once,
    )
    job = Job(recipe, len(seeds), steps, seeds_at_once, tuple(replicas.vary), tuple(hyper))
    with _reached(target):
        return make_plan(job, target, fit, on_program or (lambda what: None))


@contextmanager
def _reached(target: Target) -> Iterator[None]:
    """Sets the variables that a target's compiler needs; JAX's own devices stay as they are."""
    variables = {k: v for k, v in environment(target).items() if k != "JAX_PLATFORMS"}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
