"""`seedmap.Recorder`: the metrics of one run, appended as its loop goes; no checkpoint is kept.

    with Recorder("runs/mine", run="seed3") as recorder:
        for step in range(1000):
            ...
            if step % 10 == 0:
                recorder.record(step, model.state_dict(), train_loss=loss.item())

Then `seedmap fit runs/mine`. `hmm.readers.kinds.recorded` has the files, and reads them.
"""

import json
import math
import operator
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.checkpoints.layouts import find_layout
from seedmap.experiments.checkpoints.rules import Leaf, assign, number_of_heads
from seedmap.experiments.checkpoints.streaming import measure_checkpoint
from seedmap.experiments.recording.checks import check_folder, check_run, check_values
from seedmap.experiments.recording.parameters import as_checkpoint
from seedmap.hmm.readers.kinds.recorded import (
    FORMAT,
    IDENTITY,
    LINES,
    NETWORK,
    RECORDS,
    owner_of,
    parse_record,
    read_identity,
)
from seedmap.lock import let_go, take

_EXACT = 1e-9  # by which two computations of one record may differ


class Recorder:
    """Records the 14 metrics of Hu et al. (2023) of one run's weights, and values beside them.

    Every record is on disk when `record` returns. A run goes on where it was stopped: a record
    that was cut short is dropped, with a warning, and steps recorded before may be recorded again.
    Several processes may record runs of one folder at once, each another run.

    Args:
        folder: where all runs of a comparison go; `seedmap fit FOLDER` reads them.
        run: name of this run.
        layout: what the parameters are called, as of `seedmap import checkpoints --layout`.
            Default: recognised from their names.
        rules: rule file in place of a layout.
        heads: number of attention heads, which some layouts need.

    Raises:
        UserError: the name cannot be a folder's, the folder holds something else, another
            recorder holds the run, or its files are damaged.

    Example:
        >>> import tempfile, numpy as np
        >>> weights = {"fc.weight": np.eye(3, dtype="f4"), "fc.bias": np.zeros(3, "f4")}
        >>> with Recorder(tempfile.mkdtemp(), run="seed0") as recorder:
        ...     recorder.record(0, weights, eval_loss=2.3)
        ...     recorder.record(10, weights, eval_loss=1.9)
        >>> recorder.last_step
        10
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        run: str,
        *,
        layout: str | None = None,
        rules: str | os.PathLike[str] | None = None,
        heads: int | None = None,
    ) -> None:
        check_run(run)
        check_folder(Path(folder))
        self._folder = Path(folder) / RECORDS / run
        self._run, self._layout, self._heads = run, layout, heads
        self._rules = None if rules is None else Path(rules)
        self._leaves: list[Leaf] | None = None  # of the first record of this session
        self._held = take(self._folder, "record")
        try:
            self._identity = self._read_identity()
            self._earlier = self._read_records()
        except BaseException:
            self.close()
            raise
        self._number = len(self._earlier)
        self.last_step: int | None = max(self._earlier, default=None)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the run go, so that another recorder may take it."""
        if self._held is not None:
            let_go(self._held)
            self._held = None

    def record(self, step: int, parameters: Any, **values: Any) -> None:
        """Appends a record and waits until it is on disk.

        Args:
            step: optimisation steps done; more than at the record before. One that was recorded
                before the run was stopped may come again if its content is the same.
            parameters: the network's weights: a dict of arrays of NumPy, JAX, PyTorch (a state
                dict) or Keras (weights by their paths), nested at will; the same names and shapes
                in every record.
            **values: numbers to go with the metrics, such as eval_loss and eval_accuracy; None
                where one was not measured.

        Raises:
            UserError: an argument is out of its range, or the parameters are not recognised.
            OSError: the record cannot be written; the file is left as it was.
        """
        if self._held is None:
            raise UserError(f"{self._folder}: the recorder is closed; open the run anew")
        step = self._checked_step(step)
        checked = check_values(self._folder, values)
        record = {"step": step, **self._measure(parameters), **checked}
        if step in self._earlier:
            self._check_same(step, record)
            return
        assert self._identity is not None  # `_measure` has made it
        owner = owner_of(self._identity)
        files.append_line(self._folder / LINES, self._number, json.dumps(record), owner)
        self._number += 1
        self.last_step = step

    def drop_after(self, step: int) -> None:
        """Drops the records after a step, where training goes on from a checkpoint of that step.

        Raises:
            UserError: the recorder is closed.
            OSError: they cannot be dropped.
        """
        if self._held is None:
            raise UserError(f"{self._folder}: the recorder is closed; open the run anew")
        if self._identity is None:
            return
        path, owner = self._folder / LINES, owner_of(self._identity)
        lines, _ = files.intact_lines(path, owner)
        records = {record["step"]: record for record in map(parse_record, lines)}
        self._earlier = {at: record for at, record in records.items() if at <= step}
        files.keep_lines(path, owner, len(self._earlier))
        self._number = len(self._earlier)
        self.last_step = max(self._earlier, default=None)

    def _read_identity(self) -> dict[str, Any] | None:
        if (self._folder / IDENTITY).is_file():
            return read_identity(self._folder)
        if (self._folder / LINES).is_file():
            raise UserError(
                f"{self._folder} has no {IDENTITY}, which says what its records are of; restore "
                "it, or remove the folder"
            )
        return None

    def _read_records(self) -> dict[int, dict[str, Any]]:
        """The records of earlier sessions by their steps; what was cut short goes."""
        if self._identity is None:
            return {}
        lines = files.read_lines(self._folder / LINES, owner_of(self._identity))
        return {record["step"]: record for record in map(parse_record, lines)}

    def _checked_step(self, step: Any) -> int:
        try:
            number = -1 if isinstance(step, bool) else operator.index(step)
        except TypeError:
            number = -1
        if number < 0:
            raise UserError(f"{self._folder}: step is {step!r}; it must be a whole number, 0 or up")
        if self.last_step is not None and number <= self.last_step and number not in self._earlier:
            raise UserError(
                f"{self._folder}: step {number} comes after step {self.last_step}; steps must "
                "rise: record each once, or use drop_after(STEP) where training goes on from a "
                "checkpoint"
            )
        return number

    def _measure(self, parameters: Any) -> dict[str, float]:
        """The 14 metrics; of the first parameters says what they are, and compares later ones."""
        checkpoint = as_checkpoint(parameters, self._folder)
        shapes = {name: list(shape) for name, shape in checkpoint.shapes.items()}
        if self._identity is not None:
            self._check_parameters(shapes)
        if self._leaves is not None:
            return measure_checkpoint(checkpoint, self._leaves).values
        layout = find_layout(self._layout, self._rules, checkpoint)
        leaves = assign(checkpoint, layout, number_of_heads(checkpoint, self._heads))
        measured = measure_checkpoint(checkpoint, leaves)
        rules = [asdict(rule) | {"parts": list(rule.parts)} for rule in layout.rules]
        network = dict(zip(NETWORK, (layout.name, rules, self._heads, shapes), strict=True))
        if self._identity is None:
            identity = {"format": FORMAT, "run": self._run, **network, "counted": measured.counts}
            files.write_json(self._folder / IDENTITY, identity)
            self._identity = identity
        self._check_network(network)
        self._leaves = leaves
        return measured.values

    def _check_parameters(self, shapes: Mapping[str, list[int]]) -> None:
        assert self._identity is not None
        before = self._identity["parameters"]
        names = [name for name in (*before, *shapes) if before.get(name) != shapes.get(name)]
        if names:
            was, now = (of.get(names[0], "not there") for of in (before, shapes))
            raise UserError(
                f"{self._folder}: parameter {names[0]!r} is {now}, and was {was} at the first "
                "record; record one network as one run"
            )

    def _check_network(self, network: Mapping[str, Any]) -> None:
        assert self._identity is not None
        changed = [name for name in NETWORK if self._identity[name] != network[name]]
        if changed:
            raise UserError(
                f"{self._folder} was begun with another {changed[0]} "
                f"({str(self._identity[changed[0]])[:60]}, now {str(network[changed[0]])[:60]}); "
                "give the same again, or record another run"
            )

    def _check_same(self, step: int, record: Mapping[str, Any]) -> None:
        """Refuses a record of a step that was recorded before with another content."""
        before = self._earlier[step]
        changed = [
            name
            for name in {**before, **record}
            if not _are_close(before.get(name), record.get(name))
        ]
        if changed:
            raise UserError(
                f"{self._folder}: step {step} was recorded before with another {changed[0]} "
                f"({before.get(changed[0])}, now {record.get(changed[0])}); where training goes on "
                "from a checkpoint of an earlier step, call drop_after(STEP) first"
            )


def _are_close(value: float | None, other: float | None) -> bool:
    """Compares two numbers but for rounding; NaN is NaN."""
    if value is None or other is None:
        return value is other
    same = math.isclose(value, other, rel_tol=_EXACT, abs_tol=_EXACT)
    return same or (math.isnan(value) and math.isnan(other))
