"""Studies of the same replicas, made in separate processes, compared replica by replica.

Two runs of one study differ in nothing we choose: what parts their replicas is what the tools do on
another device, with other flags, another number of threads, or in another batch of replicas.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.noise.folder import load_study
from seedmap.experiments.noise.measures.intervals import Interval, mean_interval
from seedmap.experiments.noise.measures.replicas import churn, logit_correlation, weight_distances
from seedmap.experiments.noise.measures.superiority import probability_better
from seedmap.experiments.noise.study import StudyResult
from seedmap.experiments.noise.summary import is_sampled, without_ends
from seedmap.experiments.noise.variants import Variant, rows_of
from seedmap.experiments.report.html import flatten
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.compare import run_names
from seedmap.trainer.metrics.replica_distance import DISTANCES

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


class Replica(NamedTuple):
    """All that is compared of one replica.

    Attributes:
        leaves: its final parameters by path.
        records: float [record] by name, of the trainer.
        step: int [record].
        loss: float [example], on the test examples.
        correct: float [example].
        logits: float [example, class]; None where the task tells no classes apart.
        diverged: the step at which it diverged, else -1.
    """

    leaves: dict[str, np.ndarray]
    records: dict[str, np.ndarray]
    step: np.ndarray
    loss: np.ndarray
    correct: np.ndarray
    logits: np.ndarray | None
    diverged: int


class Difference(NamedTuple):
    """How two replicas differ; the numbers are None where one of them diverged.

    Attributes:
        equal: whether their final weights are the same to the bit.
        first_apart: step of the first record in which anything recorded differs by a bit; None
            where all records are alike.
        record: what differs there.
        churn: share of test examples given another class; None without classes.
        l2_distance: between final weights of unit length.
        angle: between final weights, in radians.
        logit_correlation: Pearson's; None without classes, or where the logits of one do not vary.
        accuracy_difference: of the first less the second.
        loss_difference: likewise, of the mean test loss.
    """

    equal: bool
    first_apart: int | None
    record: str | None
    churn: float | None = None
    l2_distance: float | None = None
    angle: float | None = None
    logit_correlation: float | None = None
    accuracy_difference: float | None = None
    loss_difference: float | None = None


def take_replica(study: StudyResult, row: int) -> Replica:
    """One replica of a study, by its row among all."""
    records, predictions = study.dataset.isel(seed=row), study.predictions
    leaves = jax.tree_util.tree_leaves_with_path(study.params)
    return Replica(
        {jax.tree_util.keystr(path): np.asarray(leaf[row]) for path, leaf in leaves},
        {
            str(name): records[name].values
            for name in records.data_vars
            if records[name].dims == ("step",) and name not in (*DISTANCES, "state")
        },
        records.step.values,
        predictions.loss[row],
        predictions.correct[row],
        None if predictions.logits is None else predictions.logits[row],
        int(study.diverged[row]),
    )


def difference(one: Replica, other: Replica) -> Difference:
    """All differences between two replicas of one training.

    Raises:
        UserError: they are of different networks.
    """
    shapes = [{path: leaf.shape for path, leaf in r.leaves.items()} for r in (one, other)]
    if shapes[0] != shapes[1]:
        raise UserError("the replicas are of different networks; compare runs of one task")
    if _tested(one) != _tested(other):
        raise UserError("the replicas were tested on different examples; compare runs of one task")
    equal = all(_same_bits(leaf, other.leaves[path]).all() for path, leaf in one.leaves.items())
    found = Difference(equal, *_first_apart(one, other))
    if one.diverged >= 0 or other.diverged >= 0:
        return found
    stacked = {path: np.stack([leaf, other.leaves[path]]) for path, leaf in one.leaves.items()}
    distances = weight_distances(stacked)
    found = found._replace(
        l2_distance=float(distances.l2_RxR[0, 1]),
        angle=float(distances.angle_RxR[0, 1]),
        accuracy_difference=_mean(one.correct) - _mean(other.correct),
        loss_difference=_mean(one.loss) - _mean(other.loss),
    )
    if one.logits is None or other.logits is None:
        return found
    logits = np.stack([one.logits, other.logits])
    vary = all(np.ptp(part) > 0 for part in logits)
    return found._replace(
        churn=float(churn(logits.argmax(axis=-1))[0, 1]),
        logit_correlation=float(logit_correlation(logits)[0, 1]) if vary else None,
    )


def _tested(replica: Replica) -> tuple:
    logits = replica.logits
    return replica.loss.shape, None if logits is None else logits.shape


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values, dtype=np.float64))


def _same_bits(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two arrays of a shape and type hold the same bits; -0 and 0 are not the same."""
    if one.dtype != other.dtype:
        return np.zeros(one.shape, bool)
    bits = np.dtype(f"u{one.dtype.itemsize}")
    return np.ascontiguousarray(one).view(bits) == np.ascontiguousarray(other).view(bits)


def _first_apart(one: Replica, other: Replica) -> tuple[int | None, str | None]:
    """Step of the first record both have in which a value differs, and the name of the value."""
    step, at, at_other = np.intersect1d(one.step, other.step, return_indices=True)
    found = {
        name: step[np.argmin(same)]
        for name, values in one.records.items()
        if name in other.records
        and not (same := _same_bits(values[at], other.records[name][at_other])).all()
    }
    if not found:
        return None, None
    first = min(found, key=found.get)
    return int(found[first]), first


def summarise(found: Sequence[Difference]) -> dict[str, Any]:
    """Differences of replicas as means with 95 % intervals; without ends where there is but one.

    Returns:
        "replicas", "equal" (how many are, to the bit), "equal_but_for_records" (how many of these
        have other records), "first_apart" and "record" of each, "used" (how many did not diverge),
        and an interval or None for each of `MEASURES`.
    """
    used = [one for one in found if one.l2_distance is not None]
    return {
        "replicas": len(found),
        "equal": sum(one.equal for one in found),
        "equal_but_for_records": sum(one.equal and one.first_apart is not None for one in found),
        "first_apart": [one.first_apart for one in found],
        "record": [one.record for one in found],
        "used": len(used),
        **{
            name: interval([getattr(one, name) for one in used], within)
            for name, within in MEASURES.items()
        },
    }


def interval(
    values: Sequence[float | None], within: tuple[float, float]
) -> dict[str, float | None] | None:
    """Mean with its 95 % interval, cut to a range, for JSON; None without values."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    found = mean_interval(np.array(known)) if len(known) > 1 else Interval(known[0], None, None)
    if found.low is not None:
        found = found._replace(low=max(found.low, within[0]), high=min(found.high, within[1]))
    return found._asdict()


def compare_pair(one: Run, other: Run) -> list[dict[str, Any]]:
    """Replica against replica, a row for each variant that both runs have.

    Returns:
        Rows for JSON: "runs" (both names), "variant", what `summarise` gives, and "better", how
        often a replica of the first is the more accurate: P(A > B) + P(A = B) / 2 with its
        interval, over all pairs of replicas (None with fewer than two of either). Where replicas
        are no sample, as CONTROL's and those of precision alone, nothing has an interval.

    Raises:
        UserError: they have no variant in common.
    """
    places, found = [rows_of(run.study.variants) for run in (one, other)], []
    for variant in one.study.variants:
        if not any(_alike(variant, theirs) for theirs in other.study.variants):
            continue
        pairs = zip(places[0][variant.name], places[1][variant.name], strict=False)
        replicas = [
            (take_replica(one.study, row), take_replica(other.study, row_of_other))
            for row, row_of_other in pairs
        ]
        row = {
            "runs": [one.name, other.name],
            "variant": variant.name,
            **summarise([difference(*pair) for pair in replicas]),
            "better": _better(variant, *(_accuracies(r, variant.name) for r in (one, other))),
        }
        # CONTROL's are copies of one replica: as many times the same difference.
        found.append(row if variant.varied and is_sampled(variant) else without_ends(row))
    if not found:
        variants = [", ".join(v.name for v in run.study.variants) for run in (one, other)]
        raise UserError(
            f"{one.name} and {other.name} have no variant in common: {variants[0]} against "
            f"{variants[1]}; make them with the same --sources"
        )
    return found


def _alike(one: Variant, other: Variant) -> bool:
    """Whether two variants are the same but for the number of their replicas."""
    return one._replace(replicas=0) == other._replace(replicas=0)


def _accuracies(run: Run, variant: str) -> np.ndarray:
    rows = rows_of(run.study.variants)[variant]
    rows = rows[run.study.diverged[rows] < 0]
    return run.study.predictions.correct[rows].mean(axis=1, dtype=np.float64)


def _better(variant: Variant, one: np.ndarray, other: np.ndarray) -> dict[str, float] | None:
    """P(A > B); of copies of one replica, as CONTROL's are, there is none.

    Replicas of one number have the same keys in both runs: taken for independent, as here, the
    interval is wider than it need be.
    """
    if min(len(one), len(other)) < 2 or not variant.varied:
        return None
    return probability_better(one, other)._asdict()


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


def _check_same_training(one: Run, other: Run) -> None:
    fields = [_deciding(run.config) for run in (one, other)]
    for name in {**fields[0], **fields[1]}:
        values = [field.get(name) for field in fields]
        if values[0] != values[1]:
            raise UserError(
                f"{name} is {_short(values[0])} in {one.name} and {_short(values[1])} in "
                f"{other.name}; only runs of the same task, data and settings can be compared"
            )


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """What two runs must have in common: all that decides a replica but its environment."""
    hyperparameters, noise = config.get("hyperparameters", {}), config["noise"]
    return {
        "experiment": config["experiment"],
        "data (SHA-256)": noise.get("data"),
        **{name: value for name, value in hyperparameters.items() if name not in OWN_OF_A_RUN},
        "ulp_step": noise.get("ulp_step"),
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def environments(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """What differs between the environments of runs: {field: {run: value}}, None where not set."""
    found = {
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
    names = dict.fromkeys(name for fields in found.values() for name in fields)
    values = {name: {run: fields.get(name) for run, fields in found.items()} for name in names}
    return {name: each for name, each in values.items() if len(set(map(str, each.values()))) > 1}


def compare_studies(folders: Sequence[Path]) -> dict[str, Any]:
    """The comparison of every pair of runs, for `noise_compare.json`.

    Args:
        folders: of the studies.

    Returns:
        "experiment", "runs" (their names), "environment" (what differs, see `environments`),
        "pairs" (rows of `compare_pair`) and "notes".

    Raises:
        UserError: as `read_studies` and `compare_pair`.
    """
    runs = read_studies(folders)
    pairs = [
        row
        for i, one in enumerate(runs)
        for other in runs[i + 1 :]
        for row in compare_pair(one, other)
    ]
    return {
        "experiment": runs[0].config["experiment"],
        "runs": [run.name for run in runs],
        "environment": environments(runs),
        "pairs": pairs,
        "notes": notes_of(pairs),
    }


def notes_of(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader of compared replicas should know first."""
    notes = []
    if any(pair["used"] < pair["replicas"] for pair in pairs):
        notes.append(DIVERGED)
    if any(pair["replicas"] < 2 for pair in pairs):
        notes.append("a single replica on either side gives no interval")
    if any(pair["equal_but_for_records"] for pair in pairs):
        notes.append(
            "weights may be equal to the bit where a record is not: the sums of the record itself "
            "were rounded otherwise"
        )
    return notes
