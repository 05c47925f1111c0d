"""Losses and accuracies of runs trained elsewhere, from a CSV file, to go with their metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.checkpoints.patterns import parse_step
from seedmap.hmm.readers.run_table import Rows, Run, listed, make_run
from seedmap.hmm.readers.tables import Table, csv_table
from seedmap.trainer import PAPER_METRICS


@dataclass(frozen=True)
class Outcomes:
    """Values recorded besides the weights.

    Attributes:
        names: of the columns.
        runs: run name to its rows, sorted by step.
    """

    names: tuple[str, ...]
    runs: Mapping[str, Run]

    def of(self, run: str, steps: Sequence[int]) -> dict[str, list[float]]:
        """Returns name to the values of a run at some steps, NaN where there is none."""
        mine = self.runs[run]
        at = {int(step): i for i, step in enumerate(mine.steps)}
        nothing = np.full(len(at), np.nan)
        return {
            name: [
                float(mine.columns.get(name, nothing)[at[step]]) if step in at else float("nan")
                for step in steps
            ]
            for name in self.names
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
        table = csv_table(path)
    except ValueError as error:
        raise UserError(f"--outcomes: {error}") from None
    header = [name.strip() for name in table.header]
    lacking = [name for name in ("run", "step") if name not in header]
    if lacking:
        raise UserError(
            f"--outcomes: {path} has no column {' and no '.join(map(repr, lacking))} but "
            f"{listed(header)}; name the columns run, step, eval_loss, eval_accuracy"
        )
    taken = [name for name in header if name in PAPER_METRICS]
    if taken:
        raise UserError(
            f"--outcomes: {path} has a column {taken[0]!r}, which is computed from the weights; "
            "remove it"
        )
    by_run: dict[str, list[int]] = {}
    for row, name in enumerate(table.cells[header.index("run")]):
        by_run.setdefault(name.strip(), []).append(row)
    runs = {name: _run(name, table, header, by_run[name]) for name in steps if name in by_run}
    empty = [
        name for name in steps if name not in runs or not set(runs[name].steps) & {*steps[name]}
    ]
    if empty:
        raise UserError(
            f"--outcomes: {path} has no row for a checkpoint of run {empty[0]!r}; its runs are "
            f"{listed(by_run)}"
        )
    names = tuple(dict.fromkeys(name for run in runs.values() for name in run.columns))
    if not names:
        raise UserError(f"--outcomes: {path} has no numeric column; add eval_loss, eval_accuracy")
    return Outcomes(names, runs)


def _run(name: str, table: Table, header: list[str], own: list[int]) -> Run:
    """Parses a run's own rows."""
    rows = Rows(f"--outcomes: {table.rows.where}", "line", [table.rows.numbers[i] for i in own])
    steps = []
    for row, text in enumerate(table.cells[header.index("step")][i] for i in own):
        try:
            steps.append(parse_step(text))
        except ValueError as error:
            raise UserError(f"{rows.at(row)}: {error}") from None
    kept = [i for i, column in enumerate(header) if column not in ("run", "step")]
    columns = [[table.cells[i][row] for row in own] for i in kept]
    return make_run(name, rows, ["step", *(header[i] for i in kept)], [steps, *columns])
