"""Weights & Biases: the CSV export of a chart, and run objects of its API."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from seedmap.errors import UserError
from seedmap.hmm.readers.files import frame_of, head, read_csv, suffix_of
from seedmap.hmm.readers.kinds.kind import Kind
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.names import natural

_BETWEEN = " - "
_SPREAD = ("__MIN", "__MAX")


def _find(root: Path, files: Sequence[Path]) -> list[Path]:
    tables = [path for path in files if suffix_of(path) == ".csv"]
    return [path for path in tables if _is_chart(head(path).split("\n", 1)[0])]


def _is_chart(header: str) -> bool:
    return _BETWEEN in header and all(end in header for end in _SPREAD)


def _read(root: Path, files: Sequence[Path]) -> list[Log]:
    logs = [log for path in files for log in _runs_of(read_csv(path))]
    return sorted(logs, key=lambda log: natural(log.run or ""))


def _runs_of(table: Log) -> list[Log]:
    """A log for each run of a chart with columns `Step, RUN - METRIC, RUN - METRIC__MIN, ...`."""
    step, *columns = table.frame.columns
    logs = []
    for position, column in enumerate(columns, 1):
        run, between, metric = column.rpartition(_BETWEEN)
        if not between or column.endswith(_SPREAD) or metric == "_step":
            continue
        cells = table.frame.iloc[:, [0, position]].set_axis([step, metric], axis="columns")
        logged = cells[metric].str.strip() != ""
        logs.append(Log(cells[logged], table.where, run, table.word))
    return logs


def wandb_logs(runs: Iterable[Any]) -> list[Log]:
    """Returns the whole histories of run objects, `wandb.Api().runs(...)`.

    Args:
        runs: each with `name`, `id` and `scan_history()`; not `history()`, which samples.

    Raises:
        UserError: an object is no such run.
    """
    logs, names = [], set()
    for run in runs:
        if not hasattr(run, "scan_history"):
            raise UserError(
                f"from_wandb takes runs of wandb.Api().runs(...); got {type(run).__name__}"
            )
        name = str(run.name or run.id)
        name = f"{name} ({run.id})" if name in names else name
        names.add(name)
        records = [dict(record) for record in run.scan_history()]
        if records:  # a run that crashed at once has none
            logs.append(Log(frame_of(records), f"run {name}", name, "record"))
    return logs


WANDB_CHART = Kind("wandb-chart", "W&B's CSV export of a chart", _find, _read)
