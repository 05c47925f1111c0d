"""`seedmap plan`: what a run needs on a TPU or GPU, by their own compilers, without either."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Generic

import tyro

from seedmap.experiments.commands.experiment_flags import Config, Flat, Output, parse_experiment
from seedmap.experiments.tasks.base import Experiment, FitConfig
from seedmap.transaction import claim


@dataclass(frozen=True)
class PlanOutput(Output):
    """Preset of the defaults, what to compile for, and the folder to write."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder to write plan.json, plan.html and a figure to; by default nothing is written."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace the plan in the folder."""
    on: str = "cpu"
    """Devices to compile for: tpu:v5e:2x2, tpu:v5p:2x2x1, tpu:v6e:2x2 (chip and topology),
    gpu:a100, gpu:h100, gpu:h200, or cpu."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions(Generic[Config]):
    """Options of `seedmap plan`."""

    output: Flat[PlanOutput]
    training: Flat[Config]
    fit: Flat[FitConfig] = field(default_factory=FitConfig)


def parse_plan(argv: Sequence[str]) -> tuple[Experiment, PlanOptions, "Target"]:  # noqa: F821
    """Parses the command line, for the command and for its child.

    Raises:
        UserError: something in it is wrong.
    """
    from seedmap.experiments.plan.targets import parse_target

    experiment, options = parse_experiment(PlanOptions, "plan", argv, ("training", "fit"))
    return experiment, options, parse_target(options.output.on)


def plan_command(argv: Sequence[str]) -> None:
    """Runs `seedmap plan EXPERIMENT --on TARGET`."""
    _, options, target = parse_plan(argv)
    from seedmap.experiments.plan.processes import plan_elsewhere
    from seedmap.experiments.plan.report import check_folder, write_plan
    from seedmap.experiments.plan.summary import summary_text
    from seedmap.experiments.plan.targets import check_extra
    from seedmap.experiments.report.progress import compile_bar
    from seedmap.experiments.runs.settings import check_fit, check_training

    check_extra(target)
    check_training(options.training, fewest=1)
    check_fit(options.fit)

    def plan():
        with compile_bar() as on_program:
            return plan_elsewhere(argv, target, on_program)

    output = options.output
    if output.out is None:
        print(summary_text(plan()))
        return
    with claim(output.out, "plan", partial(check_folder, output.out, output.overwrite)):
        made = plan()
        page = write_plan(output.out, made)
    print(summary_text(made))
    print(f"Report: {page}")
