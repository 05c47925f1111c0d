"""Losses and accuracies of runs trained elsewhere, from a CSV file, to go with their metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.checkpoints.patterns import parse_step
from seedmap.hmm.readers.files import read_csv
from seedmap.hmm.readers.header import Asked
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.long import LongTable, long_table
from seedmap.hmm.readers.names import listed
from seedmap.trainer import PAPER_METRICS


@dataclass(frozen=True)
class Outcomes:
    """Values recorded besides the weights.

    Attributes:
        table: of the runs that have checkpoints.
    """

    table: LongTable

    def of(self, run: str, steps: Sequence[int]) -> dict[str, list[float | None]]:
        """Returns name to the values of a run at some steps, None where there is none."""
        mine = self.table.frame.loc[run].reindex([float(step) for step in steps])
        return {
            str(name): [None if np.isnan(value) else float(value) for value in mine[name]]
            for name in mine.columns
        }


def read_outcomes(path: Path, steps: Mapping[str, Sequence[int]]) -> Outcomes:
    """Reads a CSV file with columns `run`, `step` and any numeric ones (eval_loss, ...).

    Runs are named as {run} in the pattern, steps written as 512 or 20k. Rows of runs and steps
    without a checkpoint are ignored; empty cells are missing values.

    Args:
        path: the file.
        steps: run to the steps it has checkpoints of.

    Raises:
        UserError: the file cannot be read, a column is missing or not numeric, a step comes
            twice, or a run has no row at any of its checkpoints.
    """
    try:
        log = read_csv(path)
    except UserError as error:
        raise UserError(f"--outcomes: {error}") from None
    frame = log.frame.set_axis([str(name).strip() for name in log.frame.columns], axis="columns")
    log = replace(log, frame=frame, where=f"--outcomes: {log.where}")
    lacking = [name for name in ("run", "step") if name not in frame]
    if lacking:
        raise UserError(
            f"--outcomes: {path} has no column {' and no '.join(map(repr, lacking))} but "
            f"{listed(frame.columns)}; name the columns run, step, eval_loss, eval_accuracy"
        )
    taken = [name for name in frame.columns if name in PAPER_METRICS]
    if taken:
        raise UserError(
            f"--outcomes: {path} has a column {taken[0]!r}, which is computed from the weights; "
            "remove it"
        )
    runs = frame["run"].str.strip()
    ours = replace(log, frame=frame.assign(run=runs)[runs.isin(list(steps)).to_numpy()])
    ours = replace(ours, frame=ours.frame.assign(step=_steps(ours)))
    at = {run: set(of["step"]) for run, of in ours.frame.groupby("run")}
    if at:
        table = long_table([ours], Asked(run="run", step="step"))
    empty = [run for run, wanted in steps.items() if not at.get(run, set()) & {*wanted}]
    if empty:
        raise UserError(
            f"--outcomes: {path} has no row for a checkpoint of run {empty[0]!r}; its runs are "
            f"{listed(dict.fromkeys(runs))}"
        )
    if not len(table.frame.columns):
        raise UserError(f"--outcomes: {path} has no numeric column; add eval_loss, eval_accuracy")
    return Outcomes(table)


def _steps(log: Log) -> list[int]:
    """Parses the steps of all rows."""
    steps = []
    for row, text in enumerate(log.frame["step"]):
        try:
            steps.append(parse_step(text))
        except ValueError as error:
            raise UserError(f"{log.at(row)}: {error}") from None
    return steps
