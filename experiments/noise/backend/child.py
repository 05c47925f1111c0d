"""A child of `seedmap noise backend`: trains one replica under the environment it was started in.

python -P -m seedmap.experiments.noise.backend.child SETTING FOLDER EXPERIMENT --flags

It reads the same command line as its parent and answers how far it is (`processes.child`).
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from seedmap.experiments.processes.child import answers, end_with_parent
from seedmap.trainer import Progress


def train_child(argv: Sequence[str], answer: Callable[..., None]) -> None:
    """Trains the replica, in as many copies as the setting has, into a study's folder."""
    from seedmap.experiments.commands.noise import settings
    from seedmap.experiments.commands.noise_backend import parse_backend
    from seedmap.experiments.noise.folder import prepare, train_study
    from seedmap.experiments.noise.study import NoiseConfig

    name, folder = argv[0], Path(argv[1])
    experiment, options, chosen = parse_backend(argv[2:])
    (setting,) = [setting for setting in chosen if setting.name == name]
    noise = NoiseConfig(sources="none", roots=1, replicas=setting.copies)
    config = replace(options.training, seeds_at_once=setting.at_once)
    prepared = prepare(experiment, config, noise)

    def on_progress(progress: Progress) -> None:
        if progress.record is not None:
            answer(step=progress.step, steps=progress.steps, seconds=progress.seconds)

    train_study(
        prepared,
        settings(noise),
        folder,
        experiment.presets[options.output.preset].map.threshold,
        resume=True,
        save_seconds=options.session.save_seconds,
        on_progress=on_progress,
    )


def main() -> None:
    """Trains as the command line says."""
    from seedmap.experiments.commands.main import guarded

    end_with_parent()
    answer = answers()
    guarded(lambda argv: train_child(argv, answer), sys.argv[1:])


if __name__ == "__main__":
    main()
