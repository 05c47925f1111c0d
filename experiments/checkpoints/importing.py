"""Sequences of checkpoints as a run folder: measured one at a time, cut short and resumed.

    DIR/training/import.json     what is imported, compared when it is resumed
                 import.jsonl    a line per checkpoint done, with its checksum

Both are gone once `config.json` and `metrics.nc` stand in DIR.
"""

import json
import os
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from seedmap.errors import UserError
from seedmap.experiments.checkpoints.formats import fingerprint, open_checkpoint
from seedmap.experiments.checkpoints.layouts import find_layout
from seedmap.experiments.checkpoints.outcomes import Outcomes, read_outcomes
from seedmap.experiments.checkpoints.patterns import Found, find_checkpoints, steps_by_run
from seedmap.experiments.checkpoints.rules import Layout, assign, number_of_heads
from seedmap.experiments.checkpoints.streaming import measure_checkpoint
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.import_metrics import to_dataset
from seedmap.hmm.readers.run_table import Rows, Run, make_run, run_table
from seedmap.trainer.storage import folder as store

IDENTITY = "import.json"


@dataclass(frozen=True)
class Source:
    """What is imported.

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
    """What a line of `import.jsonl` holds.

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
        resume: go on with an import that was cut short there; begin one if none was.
        overwrite: whether a run that stands there may be replaced.
        callback: called with the number of checkpoints done and of all.

    Raises:
        UserError: nothing is found, a checkpoint cannot be read or understood, or the folder is
            taken or of other settings.

    Warns:
        UserWarning: as `find_checkpoints` and `hmm.readers.run_table.run_table`.
    """
    found = find_checkpoints(source.pattern)
    outcomes = read_outcomes(source.outcomes, steps_by_run(found)) if source.outcomes else None
    with open_checkpoint(found[0].path) as first:
        layout = find_layout(source.layout, source.rules, first)
        assign(
            first, layout, number_of_heads(first, source.heads)
        )  # refuse before a folder is made
    identity = _identity(source, layout, found, threshold)
    config = _config(source, identity, folder)
    if resume:
        _check_import(folder)
        if _is_complete(folder, identity):
            return
    with run_folder.claimed(folder, overwrite, config, resume):
        _begin(folder, resume, identity)
        started = perf_counter()
        rows = _measure_all(found, layout, source.heads, folder, callback)
        config["wall_seconds"] = {"compile": 0.0, "train": perf_counter() - started}
        _finish(folder, rows, outcomes, config)


def _identity(
    source: Source, layout: Layout, found: list[Found], threshold: float
) -> dict[str, Any]:
    """What decides the result, compared when an import is resumed."""
    rules = {str(i): _words(asdict(rule)) for i, rule in enumerate(layout.rules, start=1)}
    return {
        "pattern": source.pattern,
        "layout": layout.name,
        "rule": rules,
        "heads": source.heads,
        "outcomes": _checksum(source.outcomes) if source.outcomes else None,
        "threshold": threshold,
        "steps_of_run": {run: " ".join(map(str, s)) for run, s in steps_by_run(found).items()},
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


def _check_import(folder: Path) -> None:
    """Refuses to go on where a training was cut short: it would be lost."""
    training = folder / run_folder.TRAINING
    if (training / run_folder.CONFIG).exists() or any(training.glob("part-*")):
        raise UserError(
            f"--resume: {folder} holds a training cut short, not an import; name another folder"
        )


def _is_complete(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether the import that stands in the folder is the one asked for, and done."""
    training = folder / run_folder.TRAINING
    if training.exists() or not (folder / run_folder.METRICS).exists():
        return False
    made_by = "import checkpoints"
    before = run_folder.read_json(folder, run_folder.CONFIG, made_by, ("import",))
    store.check_same(folder, before["import"], identity)
    return True


def _begin(folder: Path, resume: bool, identity: dict[str, Any]) -> None:
    """Makes `training/` with what is imported, or checks that it is the same."""
    training = folder / run_folder.TRAINING
    if not resume:
        run_folder.clear(folder, (run_folder.TRAINING,))
    training.mkdir(exist_ok=True)
    if (training / run_folder.IMPORTED).exists():
        store.check_same(
            folder, run_folder.read_json(training, IDENTITY, "import checkpoints"), identity
        )
    else:
        run_folder.write_json(training / IDENTITY, identity)


def read_rows(path: Path) -> list[Row]:
    """The lines of `import.jsonl` up to the first that is damaged; that and all after it go."""
    rows, kept = [], 0
    content = path.read_bytes() if path.exists() else b""
    for line in content.splitlines(keepends=True):
        checksum, _, text = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
            break
        rows.append(Row(*json.loads(text)))
        kept += len(line)
    if kept < len(content):
        os.truncate(path, kept)
    return rows


def _append(path: Path, row: Row) -> None:
    """Appends a line and waits until it is on disk."""
    text = json.dumps(row).encode()
    with path.open("ab") as file:
        file.write(b"%08x %s\n" % (zlib.crc32(text), text))
        file.flush()
        os.fsync(file.fileno())


def _measure_all(
    found: list[Found],
    layout: Layout,
    heads: int | None,
    folder: Path,
    callback: Callable[[int, int], None] | None,
) -> list[Row]:
    """Metrics of all checkpoints; those that are done and whose files did not change are kept."""
    path = folder / run_folder.TRAINING / run_folder.IMPORTED
    done = {(row.run, row.step, row.path, row.files): row for row in read_rows(path)}
    rows: list[Row] = []
    for one in found:
        files = fingerprint(one.path)
        row = done.get((one.run, one.step, str(one.path), files))
        if row is None:
            row = _measure(one, files, layout, heads)
            _check_alike(rows, row)
            _append(path, row)
        rows.append(row)
        if callback is not None:
            callback(len(rows), len(found))
    return rows


def _measure(one: Found, files: int, layout: Layout, heads: int | None) -> Row:
    with open_checkpoint(one.path) as checkpoint:
        leaves = assign(checkpoint, layout, number_of_heads(checkpoint, heads))
        measured = measure_checkpoint(checkpoint, leaves)
    return Row(one.run, one.step, str(one.path), files, measured.counts, measured.values)


def _check_alike(rows: list[Row], row: Row) -> None:
    """Refuses a checkpoint of another network than the first."""
    first = rows[0] if rows else row
    if row.counts != first.counts:
        raise UserError(
            f"{row.path} is of another network than {first.path}: expected {_told(first.counts)}, "
            f"found {_told(row.counts)}; import one network at a time"
        )


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)


def _finish(
    folder: Path, rows: list[Row], outcomes: Outcomes | None, config: dict[str, Any]
) -> None:
    """Writes the run's own files, all inside `training/` first: cut short, it is done again."""
    by_run: dict[str, list[Row]] = {}
    for row in rows:
        by_run.setdefault(row.run, []).append(row)
    dataset = to_dataset(run_table([_run(run, of, outcomes) for run, of in by_run.items()], None))
    config["counted"] = rows[0].counts
    draft = folder / run_folder.TRAINING / "collected"
    run_folder.clear(draft.parent, (draft.name,))
    draft.mkdir()
    run_folder.write_dataset(draft, dataset)
    run_folder.write_json(draft / run_folder.CONFIG, config)
    run_folder.clear(folder, run_folder.OWN - {run_folder.TRAINING})
    for made in draft.iterdir():
        made.rename(folder / made.name)
    run_folder.clear(folder, (run_folder.TRAINING,))


def _run(name: str, rows: list[Row], outcomes: Outcomes | None) -> Run:
    columns: dict[str, list[float]] = {"step": [row.step for row in rows]}
    columns |= {metric: [row.values[metric] for row in rows] for metric in rows[0].values}
    if outcomes is not None:
        columns |= outcomes.of(name, columns["step"])
    numbers = range(1, len(rows) + 1)
    return make_run(
        name, Rows(f"run {name}", "checkpoint", numbers), list(columns), [*columns.values()]
    )
