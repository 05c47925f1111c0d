"""Differences of the same replica between processes, within and between settings."""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.noise.backend.results import (
    AccuracySummary,
    BackendPlan,
    BackendSummary,
    PlannedSetting,
    SettingSummary,
)
from seedmap.experiments.noise.backend.settings import Child, Setting
from seedmap.experiments.noise.compare import (
    DIVERGED,
    MEASURES,
    PairSummary,
    notes_of,
    summarise_pair,
)
from seedmap.experiments.noise.difference import Difference, Replica, difference, take_replica
from seedmap.experiments.noise.estimates import Estimate, estimate
from seedmap.experiments.noise.folder import load_study
from seedmap.experiments.noise.measures.intervals import pair_interval, sd_interval
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.device import TrainingDevice
from seedmap.experiments.tasks.base import Experiment
from seedmap.results import from_json, to_json

OF_PAIRS = ("churn", "l2_distance", "angle", "logit_correlation")  # alike in both directions


def plan_of(experiment: Experiment, options: Any, settings: Sequence[Setting]) -> BackendPlan:
    """Returns what is to be trained, by the options of `seedmap noise backend`."""
    variables = {name: os.environ[name] for name in run_folder.ARITHMETIC if name in os.environ}
    replicas = options.backend.replicas
    return BackendPlan(
        experiment=experiment.name,
        hyperparameters=to_json(asdict(options.training)),
        variables=variables,
        replicas=replicas,
        settings=[planned(setting) for setting in settings],
        children=[f"{setting.name}-{r}" for r in range(replicas) for setting in settings],
    )


def planned(setting: Setting) -> PlannedSetting:
    """Returns a setting as the plan holds it."""
    return from_json(PlannedSetting, to_json(setting))


def measure(
    plan: BackendPlan, children: Sequence[Child], failed: Mapping[str, str]
) -> BackendSummary:
    """Takes all measures, from the folders of the children.

    Args:
        plan: as `plan_of` gives it.
        children: all processes.
        failed: why one has not trained, by the name of its folder.

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
    replicas = {name: [each.replica for each in own] for name, own in of_setting.items()}
    pairs = [_within(name, own) for name, own in replicas.items() if len(own) > 1]
    pairs += [
        _between(names, [replicas[name] for name in names])
        for names in itertools.combinations(replicas, 2)
    ]
    device = from_json(TrainingDevice, of_setting[done[0].setting.name][0].config["device"])
    return BackendSummary(
        experiment=plan.experiment,
        hyperparameters=plan.hyperparameters,
        variables=plan.variables,
        replicas=plan.replicas,
        settings=[
            _summarise_setting(setting, of_setting.get(setting.name, []))
            for setting in plan.settings
        ],
        device=device,
        pairs=pairs,
        failed=dict(failed),
        notes=_notes(plan, device, pairs, failed),
        children=plan.children,
    )


class _Trained(NamedTuple):
    """Results of a process: its replica, whether each further copy equals it, its config."""

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


def _summarise_setting(setting: PlannedSetting, trained: Sequence[_Trained]) -> SettingSummary:
    return SettingSummary(
        **vars(setting),
        trained=len(trained),
        accuracy=_accuracy([each.replica for each in trained]),
        seconds=[each.config["wall_seconds"]["train"] for each in trained],
        copies_alike=[alike for each in trained for alike in each.copies_alike],
    )


def _within(name: str, replicas: Sequence[Replica]) -> PairSummary:
    """Compares all pairs of processes of one setting."""
    indices = list(itertools.combinations(range(len(replicas)), 2))
    differences = [difference(replicas[i], replicas[j]) for i, j in indices]
    changes = dict.fromkeys(MEASURES)
    changes |= {key: _of_pairs(key, differences, indices, len(replicas)) for key in OF_PAIRS}
    return replace(summarise_pair((name, name), "same setting", differences), **changes)


def _of_pairs(
    name: str, differences: Sequence[Difference], indices: Sequence[tuple[int, int]], count: int
) -> Estimate | None:
    """Returns the mean over pairs, its interval over processes; None where one diverged."""
    values = [getattr(each, name) for each in differences]
    if None in values:
        return None
    matrix = np.zeros((count, count))
    for (i, j), value in zip(indices, values, strict=True):
        matrix[i, j] = matrix[j, i] = value
    return estimate(pair_interval(matrix), MEASURES[name])


def _between(names: tuple[str, str], replicas: Sequence[Sequence[Replica]]) -> PairSummary:
    """Compares processes of two settings, the first with the first, the second with the second."""
    differences = [difference(*pair) for pair in zip(*replicas, strict=False)]
    return summarise_pair(names, "two settings", differences)


def _accuracy(replicas: Sequence[Replica]) -> AccuracySummary | None:
    values = [float(r.correct.mean(dtype=np.float64)) for r in replicas if r.diverged < 0]
    if not values:
        return None
    sd = estimate(sd_interval(np.array(values))) if len(values) > 1 else None
    return AccuracySummary(float(np.mean(values)), sd, values)


def _notes(
    plan: BackendPlan,
    device: TrainingDevice,
    pairs: Sequence[PairSummary],
    failed: Mapping[str, str],
) -> list[str]:
    notes = [f"{name} has not trained: {why}" for name, why in failed.items()]
    of_gpus = [
        setting.name
        for setting in plan.settings
        if any(flag.startswith("--xla_gpu_") for flag in setting.flags)
    ]
    if device.platform == "cpu" and of_gpus:
        notes.append(f"these processes ran on a CPU, where {', '.join(of_gpus)} changes nothing")
    between = notes_of([pair for pair in pairs if pair.runs[0] != pair.runs[1]])
    if DIVERGED not in between and any(pair.used < pair.replicas for pair in pairs):
        notes.append(DIVERGED)
    return notes + between
