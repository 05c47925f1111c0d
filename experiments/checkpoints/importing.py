"""Sequences of checkpoints as a run folder: measured one at a time, cut short and resumed.

    DIR/training/import.json     what is imported, compared when it is resumed
                 import.jsonl    a line per checkpoint done (`seedmap.files.append_line`)

Both are gone once `config.json` and `metrics.nc` are in DIR (`experiments.runs.session`).
"""

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import pandas as pd
import xarray as xr

from seedmap import files, limits
from seedmap.errors import UserError
from seedmap.experiments.checkpoints.formats import fingerprint, open_checkpoint
from seedmap.experiments.checkpoints.layouts import find_layout
from seedmap.experiments.checkpoints.outcomes import Outcomes, read_outcomes
from seedmap.experiments.checkpoints.patterns import Entry, find_checkpoints, steps_by_run
from seedmap.experiments.checkpoints.rules import Layout, assign, number_of_heads
from seedmap.experiments.checkpoints.streaming import measure_checkpoint
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs import ids, session
from seedmap.experiments.runs.import_metrics import to_dataset
from seedmap.hmm.readers.header import Asked
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.long import long_table
from seedmap.hmm.readers.read import criterion_of
from seedmap.hmm.readers.run_table import run_table
from seedmap.identity import identify
from seedmap.trainer.storage.folder import check_same
from seedmap.transaction import claim

FORMAT = 2  # of `import.jsonl`: 1 had no numbers


@dataclass(frozen=True)
class Source:
    """Checkpoints to import, and the rules to read them by.

    Attributes:
        pattern: as in `patterns.find_checkpoints`.
        layout: name of a layout; found from the names of the tensors if None.
        rules: rule file, in place of a layout.
        heads: number of attention heads, where no config.json says it.
        outcomes: CSV file with losses and accuracies, see `outcomes.read_outcomes`.
    """

    pattern: str
    layout: str | None = None
    rules: Path | None = None
    heads: int | None = None
    outcomes: Path | None = None


class Row(NamedTuple):
    """Content of a line of `import.jsonl`.

    Attributes:
        run: name of the run.
        step: optimisation steps.
        path: of the checkpoint.
        files: `formats.fingerprint` of its files.
        counts: what its metrics were counted over.
        values: the metrics.
    """

    run: str
    step: int
    path: str
    files: int
    counts: dict[str, int]
    values: dict[str, float]


def import_checkpoints(
    source: Source,
    folder: Path,
    threshold: float,
    resume: bool = False,
    overwrite: bool = False,
    callback: Callable[[int, int], None] | None = None,
) -> None:
    """Makes a run folder of the 14 metrics of all checkpoints a pattern finds.

    Args:
        source: what to import.
        folder: the run folder to make.
        threshold: evaluation accuracy of convergence, where `eval_accuracy` is an outcome.
        resume: continue an interrupted import in the folder; begin one if there is none.
        overwrite: whether a run in the folder may be replaced.
        callback: called with the number of checkpoints done and of all.

    Raises:
        UserError: no checkpoint matches, one cannot be read or understood, or the folder is taken
            or of other settings.

    Warns:
        UserWarning: as `find_checkpoints` and `hmm.readers.run_table.run_table`.
    """
    entries = find_checkpoints(source.pattern)
    outcomes = read_outcomes(source.outcomes, steps_by_run(entries)) if source.outcomes else None
    with open_checkpoint(entries[0].path) as first:
        layout = find_layout(source.layout, source.rules, first)
        # Refuse before a folder is made.
        assign(first, layout, number_of_heads(first, source.heads))
    identity = _identity(source, layout, entries, threshold)
    config = _config(source, identity, folder)
    work = _work(identity)

    def check() -> None:
        session.check(folder, work, overwrite, resume)

    with claim(folder, work.command, check):
        if resume and session.is_complete(folder, work):
            return
        with session.begun(folder, work, resume):
            started = perf_counter()
            rows = _measure_all(entries, layout, source.heads, folder, identify(identity), callback)
            seconds = {"compile": 0.0, "train": perf_counter() - started}
            config |= {"wall_seconds": seconds, "counted": rows[0].counts}
            config, dataset = ids.stamped(config, _dataset(rows, outcomes, threshold))
            with session.collected(folder, work.command) as draft:
                run_folder.write_dataset(draft, dataset)
                files.write_json(draft / run_folder.CONFIG, config)


def _identity(
    source: Source, layout: Layout, entries: list[Entry], threshold: float
) -> dict[str, Any]:
    """Collects what decides the result, compared when an import is resumed."""
    rules = {str(i): _words(asdict(rule)) for i, rule in enumerate(layout.rules, start=1)}
    return {
        "pattern": source.pattern,
        "layout": layout.name,
        "rule": rules,
        "heads": source.heads,
        "outcomes": _checksum(source.outcomes) if source.outcomes else None,
        "threshold": threshold,
        "steps_of_run": {run: " ".join(map(str, s)) for run, s in steps_by_run(entries).items()},
    }


def _checksum(path: Path) -> str:
    return f"a file of checksum {zlib.crc32(path.read_bytes()):08x}"


def _words(rule: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {value!r}" for key, value in rule.items())


def _config(source: Source, identity: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {
        "experiment": folder.name,
        "imported_from": f"checkpoints {source.pattern}",
        "hyperparameters": {},
        "threshold": identity["threshold"],
        "import": identity,
        **run_folder.environment(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": {},
    }


def _work(identity: dict[str, Any]) -> session.Work:
    """Describes an import of this identity."""
    return session.Work(
        kind="an import",
        command="import checkpoints",
        record=run_folder.IMPORT,
        content={"format": FORMAT, **identity},
        progress=run_folder.IMPORTED,
        check_config=lambda folder, done: check_same(folder, done["import"], identity),
        check_record=lambda folder, before: _check_begun(folder, before, identity),
        fields=("import",),
    )


def _check_begun(folder: Path, before: dict[str, Any], identity: dict[str, Any]) -> None:
    """Refuses to go on with an import of another version or of other settings."""
    if before.get("format") != FORMAT:
        raise UserError(
            f"--resume: {folder} holds an import begun by another version of seedmap, whose lines "
            "have no numbers; finish it with that version, or begin anew with --overwrite"
        )
    check_same(folder, before, {"format": FORMAT, **identity})


def read_rows(path: Path, owner: str) -> list[Row]:
    """Reads `import.jsonl` up to the first line that is no good; that and all after it go.

    Warns:
        UserWarning: as `files.read_lines`.
    """
    return [Row(*limits.parse_json(text)) for text in files.read_lines(path, owner)]


def _measure_all(
    entries: list[Entry],
    layout: Layout,
    heads: int | None,
    folder: Path,
    owner: str,
    callback: Callable[[int, int], None] | None,
) -> list[Row]:
    """Measures all checkpoints but those that are done and whose files did not change."""
    path = folder / run_folder.TRAINING / run_folder.IMPORTED
    lines = read_rows(path, owner)
    done, number = {(row.run, row.step, row.path, row.files): row for row in lines}, len(lines)
    rows: list[Row] = []
    for entry in entries:
        content = fingerprint(entry.path)
        row = done.get((entry.run, entry.step, str(entry.path), content))
        if row is None:
            row = _measure(entry, content, layout, heads)
            _check_alike(rows, row)
            files.append_line(path, number, json.dumps(row), owner)
            number += 1
        rows.append(row)
        if callback is not None:
            callback(len(rows), len(entries))
    return rows


def _measure(entry: Entry, content: int, layout: Layout, heads: int | None) -> Row:
    with open_checkpoint(entry.path) as checkpoint:
        leaves = assign(checkpoint, layout, number_of_heads(checkpoint, heads))
        measured = measure_checkpoint(checkpoint, leaves)
    return Row(entry.run, entry.step, str(entry.path), content, measured.counts, measured.values)


def _check_alike(rows: list[Row], row: Row) -> None:
    """Refuses a checkpoint of another network than the first."""
    first = rows[0] if rows else row
    if row.counts != first.counts:
        raise UserError(
            f"{row.path} is of another network than {first.path}: expected "
            f"{_counted(first.counts)}, found {_counted(row.counts)}; import one network at a time"
        )


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)


def _dataset(rows: list[Row], outcomes: Outcomes | None, threshold: float) -> xr.Dataset:
    """Makes the run folder's dataset of all checkpoints."""
    by_run: dict[str, list[Row]] = {}
    for row in rows:
        by_run.setdefault(row.run, []).append(row)
    logs = [_log(run, of, outcomes) for run, of in by_run.items()]
    long = long_table(logs, Asked(step="step"))
    criterion = None if long.accuracy is None else criterion_of(long, None, threshold)
    return to_dataset(run_table(long, None, criterion))


def _log(run: str, rows: list[Row], outcomes: Outcomes | None) -> Log:
    """A run's metrics; a NaN among them is a divergence, an outcome that is not there is not."""
    columns: dict[str, list] = {"step": [row.step for row in rows]}
    columns |= {metric: [row.values[metric] for row in rows] for metric in rows[0].values}
    if outcomes is not None:
        columns |= outcomes.of(run, columns["step"])
    frame = pd.DataFrame(columns, range(1, len(rows) + 1), dtype=object)
    return Log(frame, f"run {run}", run, "checkpoint")
