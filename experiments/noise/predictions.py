"""Predictions of trained replicas, and of networks on the line between two, on test examples."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.noise.measures.barrier import line_errors
from seedmap.experiments.runs.folder import PREDICTIONS
from seedmap.identity import CHECKSUM, check_content, with_checksum
from seedmap.trainer import Data, Task, Variables, make_streams
from seedmap.trainer.step import evaluate, score_examples
from seedmap.trainer.task import draw_data


class Predictions(NamedTuple):
    """Of every replica, on the test examples that all of them share.

    Attributes:
        loss: float32 [replica, example], in nats where it is a cross-entropy.
        correct: float32 [replica, example], 1.0 where the replica is right (a share of its parts
            where an example has several).
        logits: float32 [replica, example, class]; None where the task has no classes.
        label: int32 [example], or [root, example] where there are several roots, whose examples
            are their own; None likewise.
        groups: subgroups by name, bool [example].
        training_id: of the study, as its files carry it; None where they do not.
    """

    loss: np.ndarray
    correct: np.ndarray
    logits: np.ndarray | None
    label: np.ndarray | None
    groups: dict[str, np.ndarray]
    training_id: str | None = None

    @property
    def classes(self) -> np.ndarray | None:
        """The class each example is taken for: int [replica, example]."""
        return None if self.logits is None else self.logits.argmax(axis=-1)

    def of_root(self, number: int, rows: slice) -> "Predictions":
        """Returns those of one of several roots, whose replicas have these rows."""
        return self._replace(
            loss=self.loss[rows],
            correct=self.correct[rows],
            logits=None if self.logits is None else self.logits[rows],
            label=None if self.label is None else self.label[number],
        )


def joined_predictions(of_roots: Sequence[Predictions]) -> Predictions:
    """Returns the predictions of all roots; those of one as they are."""
    if len(of_roots) == 1:
        return of_roots[0]

    def joined(name: str, join: Callable) -> np.ndarray | None:
        values = [getattr(each, name) for each in of_roots]
        return None if values[0] is None else join(values)

    return of_roots[0]._replace(
        loss=joined("loss", np.concatenate),
        correct=joined("correct", np.concatenate),
        logits=joined("logits", np.concatenate),
        label=joined("label", np.stack),
    )


def predict_rows(
    task: Task, model: Variables, groups: Mapping[str, np.ndarray], root: int = 0
) -> Predictions:
    """Predicts with all replicas, one after the other, in float32 whatever they trained in.

    Products are exact to float32 on every device: GPUs and TPUs would round their operands.

    Args:
        task: what they learned.
        model: leaves [replica, ...].
        groups: subgroups of the test examples.
        root: number of the root key of the study.
    """
    test = shared_data(task, root).test

    def classify(model: Variables):
        scored = score_examples(task.score, model, test)
        return scored, score_examples(task.classify, model, test) if task.classify else None

    with jax.default_matmul_precision("highest"):
        (loss, correct), classified = jax.jit(lambda rows: jax.lax.map(classify, rows))(model)
    logits, label = (None, None) if classified is None else classified
    return Predictions(
        np.asarray(loss),
        np.asarray(correct),
        None if logits is None else np.asarray(logits),
        None if label is None else np.asarray(label[0]),
        {name: np.asarray(members, bool) for name, members in groups.items()},
    )


def errors_between(
    task: Task, first: Variables, second: Variables, points: int, root: int = 0
) -> np.ndarray:
    """Computes test errors of the networks (1 - a) t_1 + a t_2 for a = 0, ..., 1, equally spaced.

    Running statistics of batch norm are interpolated like parameters; products are in float32.

    Args:
        task: what was learned.
        first: leaves [pair, ...], t_1.
        second: leaves [pair, ...], t_2.
        points: values of a.
        root: number of the root key of the study.

    Returns:
        float [pair, point], shares of test examples got wrong; the first is of t_1.
    """
    test = shared_data(task, root).test

    def error(model: Variables) -> jax.Array:
        return 1 - evaluate(task, model, test)[1]

    def line(pair):
        return line_errors(error, *pair, points)

    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(lambda pairs: jax.lax.map(line, pairs))((first, second)))


def shared_data(task: Task, root: int) -> Data:
    """Returns the examples that all replicas of a study have."""
    return draw_data(task, make_streams([0], (), root).data[0], task.pool)


def save_predictions(folder: Path, predictions: Predictions) -> None:
    """Writes `predictions.npz`; groups as rows of one array beside their names."""
    arrays = {name: value for name, value in predictions._asdict().items() if name != "groups"}
    arrays = {name: np.asarray(value) for name, value in arrays.items() if value is not None}
    if predictions.groups:
        arrays["group"] = np.stack(list(predictions.groups.values()))
        arrays["group_name"] = np.array(list(predictions.groups), dtype="U")
    files.write_npz(folder / PREDICTIONS, with_checksum(arrays))


def load_predictions(folder: Path) -> Predictions:
    """Reads `predictions.npz`; nothing is unpickled.

    Raises:
        UserError: it is missing, not what `save_predictions` writes, or was changed.
    """
    path = folder / PREDICTIONS
    if not path.is_file():
        raise UserError(
            f"{folder} has no {PREDICTIONS}; make it with `seedmap noise EXPERIMENT --overwrite`"
        )
    try:
        with path.open("rb") as file, files.open_npz(file) as archive:
            arrays = dict(archive)
        checksum = arrays.pop(CHECKSUM, None)
        groups = dict(zip(arrays.get("group_name", ()), arrays.get("group", ()), strict=True))
        predictions = Predictions(
            arrays["loss"],
            arrays["correct"],
            arrays.get("logits"),
            arrays.get("label"),
            {str(name): members for name, members in groups.items()},
            str(arrays["training_id"]) if "training_id" in arrays else None,
        )
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be read ({error}); make it anew with `seedmap noise EXPERIMENT`"
        ) from None
    check_content(
        path, arrays, checksum, "make it anew with `seedmap noise EXPERIMENT --overwrite`"
    )
    return predictions
