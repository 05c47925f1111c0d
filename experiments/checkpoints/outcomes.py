"""Losses and accuracies of runs trained elsewhere, from a CSV file, to go with their metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.checkpoints.patterns import parse_step
from hmm.run_table import Rows, Run, listed, make_run
from hmm.tables import csv_lines
from trainer import METRICS


@dataclass(frozen=True)
class Outcomes:
    """What was recorded beside the weights.

    Attributes:
        names: of the columns.
        runs: run name to its rows, sorted by step.
    """

    names: tuple[str, ...]
    runs: Mapping[str, Run]

    def of(self, run: str, steps: Sequence[int]) -> dict[str, list[float]]:
        """Name to the values of a run at some steps, NaN where there is none."""
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
        ValueError: the file is missing or no CSV, a column is missing or not numeric, a step comes
            twice, or a run has no row at any of its checkpoints.
    """
    if not path.is_file():
        raise ValueError(f"--outcomes: there is no file {path}; name a CSV file")
    lines = csv_lines(path)
    if not lines:
        raise ValueError(f"--outcomes: {path} is empty; write run,step,eval_loss")
    (_, header), *body = lines
    header = [name.strip() for name in header]
    lacking = [name for name in ("run", "step") if name not in header]
    if lacking:
        raise ValueError(
            f"--outcomes: {path} has no column {' and no '.join(map(repr, lacking))} but "
            f"{listed(header)}; name the columns run, step, eval_loss, eval_accuracy"
        )
    taken = [name for name in header if name in METRICS]
    if taken:
        raise ValueError(
            f"--outcomes: {path} has a column {taken[0]!r}, which is computed from the weights; "
            "remove it"
        )
    by_run: dict[str, list[tuple[int, list[str]]]] = {}
    for line, cells in body:
        if len(cells) != len(header):
            raise ValueError(
                f"--outcomes: {path}, line {line} has {len(cells)} cells, expected {len(header)}"
            )
        by_run.setdefault(cells[header.index("run")].strip(), []).append((line, cells))
    runs = {name: _run(path, name, header, by_run[name]) for name in steps if name in by_run}
    empty = [
        name for name in steps if name not in runs or not set(runs[name].steps) & {*steps[name]}
    ]
    if empty:
        raise ValueError(
            f"--outcomes: {path} has no row for a checkpoint of run {empty[0]!r}; its runs are "
            f"{listed(by_run)}"
        )
    names = tuple(dict.fromkeys(name for run in runs.values() for name in run.columns))
    if not names:
        raise ValueError(f"--outcomes: {path} has no numeric column; add eval_loss, eval_accuracy")
    return Outcomes(names, runs)


def _run(path: Path, name: str, header: list[str], body: list[tuple[int, list[str]]]) -> Run:
    """Parses the rows of one run."""
    at = header.index("step")
    kept = [i for i, column in enumerate(header) if column not in ("run", "step")]
    steps = []
    for line, cells in body:
        try:
            steps.append(parse_step(cells[at]))
        except ValueError as error:
            raise ValueError(f"--outcomes: {path}, line {line}: {error}") from None
    columns = [[cells[i] for _, cells in body] for i in kept]
    rows = Rows(f"--outcomes: {path}", "line", [line for line, _ in body])
    return make_run(name, rows, ["step", *(header[i] for i in kept)], [steps, *columns])
