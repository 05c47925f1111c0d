"""What the same replica has become in its processes: within each setting, and between them."""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.noise.backend.settings import Child, Setting
from seedmap.experiments.noise.compare import (
    DIVERGED,
    MEASURES,
    Difference,
    Replica,
    difference,
    notes_of,
    summarise,
    take_replica,
)
from seedmap.experiments.noise.folder import load_study
from seedmap.experiments.noise.measures.intervals import pair_interval, sd_interval
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.tasks.base import Experiment

OF_PAIRS = ("churn", "l2_distance", "angle", "logit_correlation")  # alike in both directions


def plan_of(experiment: Experiment, options: Any, settings: Sequence[Setting]) -> dict[str, Any]:
    """What is to be trained, as JSON: two studies of the same plan may share their children."""
    variables = {name: os.environ[name] for name in run_folder.ARITHMETIC if name in os.environ}
    return {
        "experiment": experiment.name,
        "hyperparameters": asdict(options.training),
        "variables": variables,
        "replicas": options.backend.replicas,
        "settings": [asdict(setting) for setting in settings],
    }


def measure(
    plan: Mapping[str, Any], children: Sequence[Child], failed: Mapping[str, str]
) -> dict[str, Any]:
    """All measures, from the folders of the children, for `backend.json`.

    Args:
        plan: as `plan_of` gives it.
        children: all processes.
        failed: why one has not trained, by the name of its folder.

    Returns:
        The plan with "settings" filled in (how many processes have trained, their accuracy, seconds
        of training, how many copies in one program are alike), "pairs" (rows as of
        `experiments.noise.compare.compare_pair`, "runs" being settings: the same twice for the
        processes of one, whose "replicas" then are pairs of processes), "failed", "device" and
        "notes".

    Raises:
        UserError: fewer than two processes have trained.
    """
    done = [child for child in children if child.folder.name not in failed]
    if len(done) < 2:
        name, why = next(iter(failed.items()))
        raise UserError(f"fewer than two processes have trained; {name} ended with: {why}")
    of_setting: dict[str, list[_Trained]] = {}
    for child in done:
        of_setting.setdefault(child.setting.name, []).append(_read(child))
    replicas = {name: [one.replica for one in found] for name, found in of_setting.items()}
    pairs = [_within(name, found) for name, found in replicas.items() if len(found) > 1]
    pairs += [
        _between(names, [replicas[name] for name in names])
        for names in itertools.combinations(replicas, 2)
    ]
    device = of_setting[done[0].setting.name][0].config["device"]
    return {
        **plan,
        "device": device,
        "settings": [
            {**setting, **_of_setting(of_setting.get(setting["name"], []))}
            for setting in plan["settings"]
        ],
        "pairs": pairs,
        "failed": dict(failed),
        "notes": _notes(plan, device, pairs, failed),
    }


class _Trained(NamedTuple):
    """What a process has left: its replica, whether each further copy is the same, its config."""

    replica: Replica
    copies_alike: list[bool]
    config: dict[str, Any]


def _read(child: Child) -> _Trained:
    study = load_study(child.folder)
    config = run_folder.read_json(
        child.folder, run_folder.CONFIG, "noise backend", ("device", "wall_seconds")
    )
    first, *others = (take_replica(study, row) for row in range(child.setting.copies))
    return _Trained(first, [difference(first, copy).equal for copy in others], config)


def _of_setting(found: Sequence[_Trained]) -> dict[str, Any]:
    return {
        "trained": len(found),
        "accuracy": _accuracy([one.replica for one in found]),
        "seconds": [one.config["wall_seconds"]["train"] for one in found],
        "copies_alike": [alike for one in found for alike in one.copies_alike],
    }


def _within(name: str, replicas: Sequence[Replica]) -> dict[str, Any]:
    """The processes of one setting, every pair of them."""
    places = list(itertools.combinations(range(len(replicas)), 2))
    found = [difference(replicas[i], replicas[j]) for i, j in places]
    row = {"runs": [name, name], "variant": "same setting", **summarise(found), "better": None}
    row |= {key: None for key in MEASURES if key not in OF_PAIRS}
    return row | {key: _of_pairs(key, found, places, len(replicas)) for key in OF_PAIRS}


def _of_pairs(
    name: str, found: Sequence[Difference], places: Sequence[tuple[int, int]], count: int
) -> dict[str, float | None] | None:
    """Mean over pairs with its interval over processes; None where one of them diverged."""
    values = [getattr(one, name) for one in found]
    if None in values:
        return None
    matrix = np.zeros((count, count))
    for (i, j), value in zip(places, values, strict=True):
        matrix[i, j] = matrix[j, i] = value
    value, low, high = pair_interval(matrix)
    low, high = (max(low, MEASURES[name][0]), min(high, MEASURES[name][1]))
    known = np.isfinite([low, high]).all()
    return {"value": value, "low": low if known else None, "high": high if known else None}


def _between(names: Sequence[str], replicas: Sequence[Sequence[Replica]]) -> dict[str, Any]:
    """Processes of two settings, the first against the first, the second against the second."""
    found = [difference(*pair) for pair in zip(*replicas, strict=False)]
    return {"runs": list(names), "variant": "two settings", **summarise(found), "better": None}


def _accuracy(replicas: Sequence[Replica]) -> dict[str, Any] | None:
    values = [float(r.correct.mean(dtype=np.float64)) for r in replicas if r.diverged < 0]
    if not values:
        return None
    sd = sd_interval(np.array(values))._asdict() if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd, "values": values}


def _notes(plan, device, pairs, failed) -> list[str]:
    notes = [f"{name} has not trained: {why}" for name, why in failed.items()]
    of_gpus = [
        setting["name"]
        for setting in plan["settings"]
        if any(flag.startswith("--xla_gpu_") for flag in setting["flags"])
    ]
    if device["platform"] == "cpu" and of_gpus:
        notes.append(f"these processes ran on a CPU, where {', '.join(of_gpus)} changes nothing")
    between = notes_of([pair for pair in pairs if pair["runs"][0] != pair["runs"][1]])
    if DIVERGED not in between and any(pair["used"] < pair["replicas"] for pair in pairs):
        notes.append(DIVERGED)
    return notes + between
