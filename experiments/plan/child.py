"""A child of `seedmap plan`: compiles for a target under the variables that its compiler needs.

python -P -m seedmap.experiments.plan.child EXPERIMENT --flags

It reads the same command line as its parent, answers `compiling` with what is next, and at last
`plan` with the content of `plan.json` (`processes.child`).
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from seedmap.experiments.processes.child import answers, end_with_parent


def plan_child(argv: Sequence[str], answer: Callable[..., None]) -> None:
    """Makes the plan."""
    from seedmap.experiments.commands.plan import parse_plan
    from seedmap.experiments.plan.jobs import job_of
    from seedmap.experiments.plan.planning import make_plan
    from seedmap.results import to_json

    experiment, options, target = parse_plan(argv)
    preset = options.output.preset
    plan = make_plan(
        job_of(experiment, options.training, experiment.presets[preset].map.threshold),
        target,
        options.fit,
        lambda what: answer(compiling=what),
        experiment=experiment.name,
        preset=preset,
        hyperparameters=to_json(asdict(options.training)),
    )
    answer(plan=to_json(plan))


def main() -> None:
    """Plans as the command line says."""
    from seedmap.experiments.commands.main import guarded

    end_with_parent()
    answer = answers()
    guarded(lambda argv: plan_child(argv, answer), sys.argv[1:])


if __name__ == "__main__":
    main()
