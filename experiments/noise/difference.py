"""Differences between two replicas of one training: bits, records and predictions."""

from typing import NamedTuple

import jax
import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.noise.measures.replicas import churn, logit_correlation, weight_distances
from seedmap.experiments.noise.study import StudyResult
from seedmap.trainer.metrics.replica_distance import DISTANCES


class Replica(NamedTuple):
    """Results of one replica that are compared.

    Attributes:
        leaves: its final parameters by path.
        records: float [record] by name, of the trainer.
        step: int [record].
        loss: float [example], on the test examples.
        correct: float [example].
        logits: float [example, class]; None where the task has no classes.
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
    """Differences between two replicas; the numbers are None where one of them diverged.

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


def take_replica(study: StudyResult, row: int | np.integer) -> Replica:
    """Returns one replica of a study, by its row among all."""
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


def difference(first: Replica, second: Replica) -> Difference:
    """Returns all differences between two replicas of one training.

    Raises:
        UserError: they are of different networks.
    """
    shapes = [{path: leaf.shape for path, leaf in r.leaves.items()} for r in (first, second)]
    if shapes[0] != shapes[1]:
        raise UserError("the replicas are of different networks; compare runs of one task")
    if _tested(first) != _tested(second):
        raise UserError("the replicas were tested on different examples; compare runs of one task")
    pairs = {path: (leaf, second.leaves[path]) for path, leaf in first.leaves.items()}
    equal = all(_same_bits(*pair).all() for pair in pairs.values())
    result = Difference(equal, *_first_apart(first, second))
    if first.diverged >= 0 or second.diverged >= 0:
        return result
    distances = weight_distances({path: np.stack(pair) for path, pair in pairs.items()})
    result = result._replace(
        l2_distance=float(distances.l2_RxR[0, 1]),
        angle=float(distances.angle_RxR[0, 1]),
        accuracy_difference=_mean(first.correct) - _mean(second.correct),
        loss_difference=_mean(first.loss) - _mean(second.loss),
    )
    if first.logits is None or second.logits is None:
        return result
    logits = np.stack([first.logits, second.logits])
    vary = all(np.ptp(of_replica) > 0 for of_replica in logits)
    return result._replace(
        churn=float(churn(logits.argmax(axis=-1))[0, 1]),
        logit_correlation=float(logit_correlation(logits)[0, 1]) if vary else None,
    )


def _tested(replica: Replica) -> tuple:
    logits = replica.logits
    return replica.loss.shape, None if logits is None else logits.shape


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values, dtype=np.float64))


def _same_bits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Tells where two arrays of a shape and type hold the same bits; -0 and 0 differ."""
    if first.dtype != second.dtype:
        return np.zeros(first.shape, bool)
    bits = np.dtype(f"u{first.dtype.itemsize}")
    return np.ascontiguousarray(first).view(bits) == np.ascontiguousarray(second).view(bits)


def _first_apart(first: Replica, second: Replica) -> tuple[int | None, str | None]:
    """Returns step and name of the first recorded value that differs, of the records both have."""
    step, at, at_second = np.intersect1d(first.step, second.step, return_indices=True)
    steps = {
        name: step[np.argmin(same)]
        for name, values in first.records.items()
        if name in second.records
        and not (same := _same_bits(values[at], second.records[name][at_second])).all()
    }
    if not steps:
        return None, None
    name = min(steps, key=steps.get)
    return int(steps[name]), name
