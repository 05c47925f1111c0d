"""`seedmap noise backend EXPERIMENT`: one replica in processes of its own, setting by setting."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import tyro

from seedmap.errors import UserError
from seedmap.experiments.commands.experiment_flags import (
    Config,
    Flat,
    Output,
    folder_of,
    parse_experiment,
)
from seedmap.experiments.commands.parsing import UsageError
from seedmap.experiments.noise.backend.settings import (
    Child,
    Setting,
    children_of,
    is_trained,
    parse_settings,
    run_child,
)
from seedmap.experiments.tasks.base import Experiment
from seedmap.text import duration
from seedmap.transaction import claim

_REFUSED = {
    "seeds": "--replicas sets the number of processes for each setting",
    "vary": "only the tools vary",
    "seeds_at_once": "the settings vmapped and one-at-a-time set it",
}


@dataclass(frozen=True)
class BackendSession:
    """Saving and resuming of a study; neither changes the results."""

    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Continue the study in --out; processes that have trained are kept."""
    save_seconds: float = 60.0
    """Seconds between two save points."""


@dataclass(frozen=True)
class BackendConfig:
    """Settings under which the replica is trained."""

    settings: tuple[str, ...] = ("default", "deterministic")
    """Any of default, deterministic, exclude-nondeterministic (GPU kernels), one-thread (CPU),
    unoptimised, vmapped, one-at-a-time, and flags:--xla_NAME=VALUE for any flags of XLA."""
    replicas: int = 3
    """Processes for each setting, at least 2."""


@dataclass(frozen=True, kw_only=True)
class BackendOptions(Generic[Config]):
    """Options of `seedmap noise backend`."""

    output: Flat[Output]
    backend: Flat[BackendConfig] = field(default_factory=BackendConfig)
    session: Flat[BackendSession] = field(default_factory=BackendSession)
    training: Flat[Config]


def parse_backend(argv: Sequence[str]) -> tuple[Experiment, BackendOptions, list[Setting]]:
    """Parses the command line, for the command and for each of its children.

    Raises:
        UserError: something in it is wrong.
    """
    from seedmap.experiments.runs.settings import check_saving, check_training

    experiment, options = parse_experiment(BackendOptions, "noise backend", argv)
    settings = parse_settings(options.backend.settings)
    if options.backend.replicas < 2:
        raise UsageError(
            f"--replicas is {options.backend.replicas}; comparing processes needs at least 2"
        )
    default = experiment.presets[options.output.preset].training
    for name, instead in _REFUSED.items():
        if getattr(options.training, name) != getattr(default, name):
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} does not go with `seedmap noise backend`: {instead}")
    check_saving(options.session.save_seconds)
    check_training(options.training, fewest=1)
    return experiment, options, settings


def backend_command(argv: Sequence[str]) -> None:
    """Runs `seedmap noise backend EXPERIMENT`."""
    experiment, options, settings = parse_backend(argv)
    from seedmap.experiments.noise.backend.folder import begin, placed, take_away
    from seedmap.experiments.noise.backend.study import measure, plan_of
    from seedmap.experiments.noise.report.backend import terminal, write_backend

    output, session = options.output, options.session
    if session.resume and output.out is None:
        raise UsageError("--resume needs --out: name the folder to continue")
    folder = folder_of(experiment, output)
    plan = plan_of(experiment, options, settings)
    with claim(folder, "noise backend"):
        plan = begin(folder, plan, output.overwrite, session.resume)
        children = placed(folder, plan, children_of(settings, options.backend.replicas, folder))
        try:
            failed = run_children(children, argv)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"; continue with --resume --out {folder}") from None
        except UserError:  # a child refuses its settings
            take_away(folder)
            raise
        # Nothing was computed here before the last child was done: a GPU is theirs alone.
        summary = measure(plan, children, failed)
        page = write_backend(folder, summary)
        print(terminal(summary))
        print(f"Report: {page}")


def run_children(children: Sequence[Child], argv: Sequence[str]) -> dict[str, str]:
    """Runs all children that have not trained yet, one after the other.

    Returns:
        Why a child has not trained, by the name of its folder.
    """
    from seedmap.experiments.report.progress import process_bar

    failed = {}
    with process_bar() as show:
        for done, child in enumerate(children):
            if not is_trained(child.folder):
                why = run_child(child, argv, _follow(done, len(children), show))
                if why is not None:
                    failed[child.folder.name] = why
    return failed


def _follow(
    done: int, children: int, show: Callable[[int, int], None]
) -> Callable[[dict[str, Any]], None]:
    """Makes the handler of a child's messages: prints the cost once, then moves the bar."""
    printed = []

    def on_message(message: dict[str, Any]) -> None:
        step, steps = message["step"], message["steps"]
        if not (done or printed):
            printed.append(print(cost(children, message), file=sys.stderr))
        show(done * steps + step, children * steps)

    return on_message


def cost(children: int, message: dict[str, Any]) -> str:
    """Estimates the time of all children from the first one's pace at its first record."""
    seconds = message["seconds"] / message["step"]
    total = seconds * children * message["steps"]
    return (
        f"{children} processes x {message['steps']} steps x {1000 * seconds:.3g} ms a step = "
        f"{duration(total)} of training; start and compilation of each come on top, and the "
        "pace differs between settings"
    )
