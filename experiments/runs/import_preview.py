"""What an import would read, and the full command for it: `seedmap import PATH --dry-run`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

import numpy as np

from seedmap.errors import UserError, printable
from seedmap.experiments.runs.import_metrics import OWN, ImportSettings
from seedmap.hmm.readers.criterion import Criterion
from seedmap.hmm.readers.long import LongTable
from seedmap.hmm.readers.names import is_clock, plain
from seedmap.hmm.readers.read import ReadLog, asked_of, criterion_of, read_long
from seedmap.hmm.readers.run_table import every, run_table, shared_columns
from seedmap.metric_names import PAPER_METRICS

_MOST_RUNS = 40  # that are listed
_COUNTS = {"step", "epoch", "global_step", "iteration"}  # no metrics, whatever the step column is


def preview(path: Path, settings: ImportSettings, out: Path | None) -> str:
    """Returns what an import would read, as text.

    Args:
        path: the file or folder.
        settings: how to read it.
        out: the run folder to be.

    Raises:
        UserError: as `hmm.readers.read.read_long`.
    """
    asked = asked_of(
        list(settings.metrics) or None,
        settings.columns,
        settings.run,
        settings.step,
        settings.converged,
    )
    read = read_long(path, asked, settings.kind)
    table = read.table if settings.every is None else every(read.table, settings.every)
    criterion = criterion_of(table, settings.converged, settings.threshold)
    metrics = list(settings.metrics) or default_metrics(table, criterion)
    filled = replace(
        settings,
        metrics=metrics,
        kind=read.kind,
        run=settings.run or table.run_column,
        step=settings.step or table.step_name,
        converged=None if criterion is None else str(criterion),
        threshold=None,
    )
    lines = [
        f"{path}: {read.kind}, {len(table.runs)} runs",
        "",
        *_run_lines(table),
        "",
        *_column_lines(read, table, metrics),
        "",
        f"step: {table.step_name}",
        f"run: {table.run_column or 'a file or folder each'}",
        f"accuracy: {table.accuracy or 'none found'}",
        f"convergence: {_convergence(table, criterion, metrics)}",
        "",
        command(path, filled, out or Path("runs") / path.resolve().stem),
    ]
    return "\n".join(map(printable, lines)) + "\n"


def default_metrics(table: LongTable, criterion: Criterion | None) -> list[str]:
    """Returns the metrics of Hu et al. 2023 that all runs have; without any, what may be one.

    That is every column that all runs have and that is not constant, but for clocks, counts of
    steps, accuracies, what convergence is measured by, and states that came with the runs.
    """
    shared = shared_columns(table)
    paper = [name for name in PAPER_METRICS if name in shared]
    no_metric = {*OWN, table.accuracy, criterion.column if criterion else None}
    varied = table.frame.nunique()
    return paper or [
        name
        for name in shared
        if name not in no_metric
        and varied[name] > 1
        and not is_clock(name)
        and plain(name) not in _COUNTS
    ]


def _run_lines(table: LongTable) -> Iterator[str]:
    width = max(4, *(len(name) for name in table.runs[:_MOST_RUNS])) + 2
    yield f"{'run':<{width}}{'records':>8}  steps"
    for i, name in enumerate(table.runs[:_MOST_RUNS]):
        steps = table.steps[table.codes == i]
        yield f"{name:<{width}}{len(steps):>8}  {steps[0]:.15g} to {steps[-1]:.15g}"
    if len(table.runs) > _MOST_RUNS:
        yield f"... and {len(table.runs) - _MOST_RUNS} more"


def _column_lines(read: ReadLog, table: LongTable, metrics: Sequence[str]) -> Iterator[str]:
    recorded = table.recorded()
    names = list(map(str, recorded.columns))
    width = max(6, *(len(name) for name in names), 0) + 2
    yield f"{'column':<{width}}{'runs':>5}{'values':>9}"
    for name in names:
        values = int(table.frame[name].notna().sum())
        mark = "  metric" if name in metrics else ""
        yield f"{name:<{width}}{int(recorded[name].sum()):>5}{values:>9}{mark}"
    unread = sorted({name for of in table.unread.values() for name in of})
    text = sorted({name for of in table.text.values() for name in of})
    for what, left in (("text, not read", text), ("not asked for", unread)):
        if left:
            yield f"{what}: {', '.join(left)}"


def _convergence(table: LongTable, criterion: Criterion | None, metrics: Sequence[str]) -> str:
    if criterion is None:
        columns = [str(name) for name in table.frame.columns]
        named = next((name for name in columns if "loss" in plain(name)), "eval_loss")
        return f"not recorded; name what it is, such as --converged '{named} < 1.6'"
    try:
        runs = run_table(table, list(metrics), criterion)
    except UserError as error:
        return f"{criterion}; {error}"
    reached = int(np.isfinite(runs.convergence).sum())
    return f"{criterion}, met by {reached} of {len(runs.convergence)} runs"


def command(path: Path, settings: ImportSettings, out: Path) -> str:
    """Returns the command that imports so, with every flag filled in."""
    words = ["seedmap", "import", quote(_not_a_kind(path)), "--out", quote(str(out))]
    for flag, value in (
        ("--kind", settings.kind),
        ("--run-column", settings.run),
        ("--step-column", settings.step),
        ("--converged", settings.converged),
    ):
        if value is not None:
            words += [flag, quote(value)]
    if settings.every is not None:
        words += ["--every", f"{settings.every:.15g}"]
    if settings.columns:
        words += ["--columns", *(quote(f"{a}={b}") for a, b in settings.columns.items())]
    if settings.metrics:
        words += ["--metrics", *map(quote, settings.metrics)]
    return " ".join(words)


def _not_a_kind(path: Path) -> str:
    """The path as `seedmap import` takes it, which knows two names as kinds."""
    return f"./{path}" if str(path) in ("metrics", "checkpoints") else str(path)
