"""Studies of the same replicas, made in separate processes, compared replica by replica.

Two runs of one study differ in nothing we choose: what parts their replicas is what the tools do on
another device, with other flags, another number of threads, or in another batch of replicas.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.noise.difference import Difference, difference, take_replica
from seedmap.experiments.noise.estimates import Estimate, estimate
from seedmap.experiments.noise.folder import load_study
from seedmap.experiments.noise.measures.intervals import mean_interval
from seedmap.experiments.noise.measures.superiority import probability_better
from seedmap.experiments.noise.results import without_ends
from seedmap.experiments.noise.study import StudyResult
from seedmap.experiments.noise.variants import Variant, is_sampled, rows_by_root
from seedmap.experiments.report.html import flatten
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.compare import run_names

OWN_OF_A_RUN = ("seeds", "seeds_at_once", "data_dir")
"""Hyperparameters that decide nothing about a replica: how many there are, and from where."""

MEASURES = {  # by name, with the range that its interval is cut to
    "churn": (0.0, 1.0),
    "l2_distance": (0.0, 2.0),
    "angle": (0.0, np.pi),
    "logit_correlation": (-1.0, 1.0),
    "accuracy_difference": (-1.0, 1.0),
    "loss_difference": (-np.inf, np.inf),
}


DIVERGED = "replicas that diverged are left out of all measures but the bits"


class Run(NamedTuple):
    """A study as read from its folder, with the name a comparison calls it by."""

    name: str
    config: Mapping[str, Any]
    study: StudyResult


@dataclass(frozen=True)
class PairSummary:
    """Replicas of two runs, or of two settings, compared replica by replica.

    Attributes:
        runs: names of both.
        variant: whose replicas they are.
        replicas: how many are compared.
        equal: how many have the same final weights to the bit.
        equal_but_for_records: how many of these have other records.
        first_apart: step of the first record that differs, of each; None where none does.
        record: what differs there.
        used: how many did not diverge.
        churn: share of test examples given another class, the mean over replicas.
        l2_distance: between final weights of unit length.
        angle: between final weights, in radians.
        logit_correlation: Pearson's.
        accuracy_difference: of the first less the second.
        loss_difference: likewise, of the mean test loss.
        better: P(A > B) + P(A = B) / 2, how often a replica of the first is the more accurate, over
            all pairs of replicas; None with fewer than two of either.
    """

    runs: tuple[str, str]
    variant: str
    replicas: int
    equal: int
    equal_but_for_records: int
    first_apart: list[int | None]
    record: list[str | None]
    used: int
    churn: Estimate | None
    l2_distance: Estimate | None
    angle: Estimate | None
    logit_correlation: Estimate | None
    accuracy_difference: Estimate | None
    loss_difference: Estimate | None
    better: Estimate | None = None


@dataclass(frozen=True)
class StudyComparison:
    """The content of `noise_compare.json`.

    Attributes:
        experiment: what all runs trained.
        runs: their names.
        environment: what differs between their environments, {field: {run: value}}, None where not
            set.
        pairs: every two runs, variant by variant.
        notes: what a reader should know first.
    """

    experiment: str
    runs: list[str]
    environment: dict[str, dict[str, Any]]
    pairs: list[PairSummary]
    notes: list[str]


def summarise_pair(
    runs: tuple[str, str], variant: str, differences: Sequence[Difference]
) -> PairSummary:
    """Returns differences of replicas as means with 95 % intervals; no ends where there is but one.

    Args:
        runs: names of both.
        variant: whose replicas they are.
        differences: of each two replicas.
    """
    used = [each for each in differences if each.l2_distance is not None]
    return PairSummary(
        runs=runs,
        variant=variant,
        replicas=len(differences),
        equal=sum(each.equal for each in differences),
        equal_but_for_records=sum(
            each.equal and each.first_apart is not None for each in differences
        ),
        first_apart=[each.first_apart for each in differences],
        record=[each.record for each in differences],
        used=len(used),
        **{
            name: _mean_estimate([getattr(each, name) for each in used], within)
            for name, within in MEASURES.items()
        },
    )


def _mean_estimate(values: Sequence[float | None], within: tuple[float, float]) -> Estimate | None:
    """Returns the mean with its 95 % interval, cut to a range; None without values."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if len(known) == 1:
        return Estimate(known[0], None, None)
    return estimate(mean_interval(np.array(known)), within)


def compare_pair(first: Run, second: Run) -> list[PairSummary]:
    """Compares replica against replica, a row for each variant that both runs have.

    Where replicas are no sample, as CONTROL's and those of precision alone, nothing has an
    interval.

    Raises:
        UserError: they have no variant in common.
    """
    positions = [rows_by_root(run.study.variants, run.study.roots) for run in (first, second)]
    rows = []
    for variant in first.study.variants:
        if not any(_alike(variant, theirs) for theirs in second.study.variants):
            continue
        name = variant.name
        differences = [
            difference(take_replica(first.study, i), take_replica(second.study, j))
            for of_root in zip(positions[0][name], positions[1][name], strict=True)
            for i, j in zip(*of_root, strict=False)
        ]
        row = replace(
            summarise_pair((first.name, second.name), name, differences),
            better=_better(variant, *(_accuracies(run, name) for run in (first, second))),
        )
        # CONTROL's are copies of one replica: as many times the same difference.
        rows.append(row if variant.varied and is_sampled(variant) else without_ends(row))
    if not rows:
        variants = [", ".join(v.name for v in run.study.variants) for run in (first, second)]
        raise UserError(
            f"{first.name} and {second.name} have no variant in common: {variants[0]} against "
            f"{variants[1]}; make them with the same --sources"
        )
    return rows


def _alike(first: Variant, second: Variant) -> bool:
    """Tells whether two variants are the same but for the number of their replicas."""
    return first._replace(replicas=0) == second._replace(replicas=0)


def _accuracies(run: Run, variant: str) -> np.ndarray:
    rows = rows_by_root(run.study.variants, run.study.roots)[variant].ravel()
    rows = rows[run.study.diverged[rows] < 0]
    return run.study.predictions.correct[rows].mean(axis=1, dtype=np.float64)


def _better(variant: Variant, first: np.ndarray, second: np.ndarray) -> Estimate | None:
    """Estimates P(A > B); None for CONTROL, whose replicas are copies.

    Replicas of one number have the same keys in both runs: taken for independent, as here, the
    interval is wider than it need be.
    """
    if min(len(first), len(second)) < 2 or not variant.varied:
        return None
    return estimate(probability_better(first, second))


def read_studies(folders: Sequence[Path]) -> list[Run]:
    """Reads studies to compare, at least two different ones of the same task and data.

    Raises:
        UserError: there are fewer than two, one comes twice or is no study, or two differ in
            their task, hyperparameters or data; the message says in which field.
    """
    runs = [
        Run(name, _config(folder), load_study(folder))
        for name, folder in zip(run_names(folders), folders, strict=True)
    ]
    for run in runs[1:]:
        _check_same_training(runs[0], run)
    return runs


def _config(folder: Path) -> dict[str, Any]:
    config = run_folder.read_json(folder, run_folder.CONFIG, "noise EXPERIMENT", ("experiment",))
    for name in ("hyperparameters", "versions", "device", "variables"):
        if not isinstance(config.get(name, {}), dict):
            raise UserError(
                f"{folder / run_folder.CONFIG}: {name!r} is no mapping; restore it, or make the "
                "study anew with `seedmap noise EXPERIMENT`"
            )
    return config


def _check_same_training(first: Run, second: Run) -> None:
    fields = [_deciding(run.config) for run in (first, second)]
    for name in {**fields[0], **fields[1]}:
        values = [field.get(name) for field in fields]
        if values[0] != values[1]:
            raise UserError(
                f"{name} is {_short(values[0])} in {first.name} and {_short(values[1])} in "
                f"{second.name}; only runs of the same task, data and settings can be compared"
            )


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all that decides a replica but its environment; two runs must share it."""
    hyperparameters, noise = config.get("hyperparameters", {}), config["noise"]
    return {
        "experiment": config["experiment"],
        "data (SHA-256)": noise.get("data"),
        **{name: value for name, value in hyperparameters.items() if name not in OWN_OF_A_RUN},
        "ulp_step": noise.get("ulp_step"),
        "roots": noise.get("roots", 1),
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def environments(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Returns the differences of the runs' environments: {field: {run: value}}, None if not set."""
    fields_of = {
        run.name: dict(
            flatten(
                {
                    "versions": run.config.get("versions", {}),
                    "device": run.config.get("device", {}),
                    "variables": run.config.get("variables", {}),
                    "seeds_at_once": run.config.get("seeds_at_once"),
                    "git_commit": run.config.get("git_commit"),
                }
            )
        )
        for run in runs
    }
    names = dict.fromkeys(name for fields in fields_of.values() for name in fields)
    values = {name: {run: fields.get(name) for run, fields in fields_of.items()} for name in names}
    return {name: each for name, each in values.items() if len(set(map(str, each.values()))) > 1}


def compare_studies(folders: Sequence[Path]) -> StudyComparison:
    """Compares every pair of runs, replica by replica.

    Args:
        folders: of the studies.

    Raises:
        UserError: as `read_studies` and `compare_pair`.
    """
    runs = read_studies(folders)
    pairs = [row for two in itertools.combinations(runs, 2) for row in compare_pair(*two)]
    return StudyComparison(
        experiment=runs[0].config["experiment"],
        runs=[run.name for run in runs],
        environment=environments(runs),
        pairs=pairs,
        notes=notes_of(pairs),
    )


def notes_of(pairs: Sequence[PairSummary]) -> list[str]:
    """Returns what a reader of compared replicas should know first."""
    notes = []
    if any(pair.used < pair.replicas for pair in pairs):
        notes.append(DIVERGED)
    if any(pair.replicas < 2 for pair in pairs):
        notes.append("a single replica on either side gives no interval")
    if any(pair.equal_but_for_records for pair in pairs):
        notes.append(
            "weights may be equal to the bit where a record is not: the sums of the record itself "
            "were rounded otherwise"
        )
    return notes
