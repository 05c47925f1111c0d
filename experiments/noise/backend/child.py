"""A child of `seedmap noise backend`: trains one replica under the environment it was started in.

python -m seedmap.experiments.noise.backend.child SETTING FOLDER EXPERIMENT --flags

It reads the same command line as its parent, and says on standard output how far it is, a line of
JSON at a time; what is wrong it says on standard error.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seedmap.trainer import Progress


def train_child(argv: Sequence[str]) -> None:
    """Trains the replica, in as many copies as the setting has, into a study's folder."""
    from seedmap.experiments.commands.noise import settings
    from seedmap.experiments.commands.noise_backend import parse_backend
    from seedmap.experiments.noise.folder import prepare, train_study
    from seedmap.experiments.noise.study import NoiseConfig

    name, folder = argv[0], Path(argv[1])
    experiment, options, chosen = parse_backend(argv[2:])
    (setting,) = [setting for setting in chosen if setting.name == name]
    noise = NoiseConfig(sources="none", replicas=setting.copies)
    config = replace(options.training, seeds_at_once=setting.at_once)
    prepared = prepare(experiment, config, noise)

    def on_progress(progress: Progress) -> None:
        if progress.record is not None:
            _say(step=progress.step, steps=progress.steps, seconds=progress.seconds)

    train_study(
        prepared,
        settings(noise),
        folder,
        experiment.presets[options.place.preset].map.threshold,
        resume=True,
        save_seconds=options.session.save_seconds,
        on_progress=on_progress,
    )


def _say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    from seedmap.experiments.commands.main import guarded

    guarded(train_child, sys.argv[1:])
