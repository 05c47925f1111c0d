"""Sequences of checkpoints as a run folder: measured one at a time, cut short and resumed.

    DIR/training/import.json    what is imported, compared when it is resumed; see also `measuring`
    DIR/measured.jsonl          afterwards, a line per checkpoint: the next import knows it

`training/` is gone once `config.json` and `metrics.nc` are in DIR (`experiments.runs.session`).
"""

import json
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import xarray as xr

from seedmap import files, limits
from seedmap.errors import UserError
from seedmap.experiments.checkpoints.formats import open_checkpoint
from seedmap.experiments.checkpoints.hub import MAIN, on_the_hub
from seedmap.experiments.checkpoints.layouts import find_layout
from seedmap.experiments.checkpoints.measuring import (
    Gathered,
    How,
    Progress,
    Row,
    equal_checkpoints,
    gather,
    measure_all,
    shared_tensors,
)
from seedmap.experiments.checkpoints.outcomes import Outcomes, read_outcomes
from seedmap.experiments.checkpoints.patterns import steps_by_run
from seedmap.experiments.checkpoints.places import Place, first_fetched, on_disk
from seedmap.experiments.checkpoints.rules import Layout, assign, number_of_heads
from seedmap.experiments.processes.cores import num_lanes
from seedmap.experiments.runs import folder as run_folder, ids, session
from seedmap.experiments.runs.import_metrics import relative, to_dataset
from seedmap.hmm.readers.criterion import DEFAULT_ACCURACY, parse_criterion
from seedmap.hmm.readers.header import Asked
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.long import long_table
from seedmap.hmm.readers.names import listed, our_name
from seedmap.hmm.readers.read import criterion_of
from seedmap.hmm.readers.run_table import run_table
from seedmap.identity import identify
from seedmap.lock import InUseError, lock
from seedmap.results import to_json
from seedmap.timings import timed
from seedmap.trainer import PAPER_METRICS
from seedmap.trainer.storage.folder import check_same
from seedmap.transaction import claim, settle

FORMAT = 3  # of `training/`: 1 had no numbers, 2 one log of all runs
_NAMED = 5  # checkpoints that a message names
_PATIENCE = 10.0  # seconds that a process waits for another one to begin the import


@dataclass(frozen=True)
class Source:
    """Checkpoints to import, and the rules to read them by.

    Attributes:
        pattern: as in `patterns.find_checkpoints`.
        layout: name of a layout; found from the names of the tensors if None.
        rules: rule file, in place of a layout.
        heads: number of attention heads, where no config.json says it.
        outcomes: CSV file with losses and accuracies, see `outcomes.read_outcomes`.
        skip_unfinished: leave out checkpoints that are not there whole, with a warning.
        hub: repositories of the Hugging Face hub, in place of a pattern; see `hub.on_the_hub`.
        revisions: their revisions.
        converged: when a run has converged, such as "eval_loss < 1.8"; of the outcomes or metrics.
    """

    pattern: str = ""
    layout: str | None = None
    rules: Path | None = None
    heads: int | None = None
    outcomes: Path | None = None
    skip_unfinished: bool = False
    hub: str | None = None
    revisions: str | None = None
    converged: str | None = None


def import_checkpoints(
    source: Source,
    folder: Path,
    threshold: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    share: bool = False,
    measure: bool = True,
    callback: Callable[[Progress], None] | None = None,
) -> bool:
    """Makes a run folder of the 14 metrics of all checkpoints a pattern finds.

    Args:
        source: what to import.
        folder: the run folder to make.
        threshold: evaluation accuracy of convergence, where `eval_accuracy` is an outcome; by
            default 0.9.
        resume: continue an interrupted import in the folder, or add checkpoints that have come
            since; begin one if there is none.
        overwrite: whether a run in the folder may be replaced.
        share: measure the runs that no other process measures; `collect_import` puts all together.
        measure: whether to measure what is not measured yet, not only to put together.
        callback: called with the progress.

    Returns:
        Whether the run is complete; False where other processes have parts of it.

    Raises:
        UserError: no checkpoint matches, one is not there whole, cannot be read or understood,
            `converged` is not understood, or the folder is taken or of other settings.

    Warns:
        UserWarning: checkpoints are equal, or left out; as `find_checkpoints` and
            `hmm.readers.run_table.run_table`.
    """
    with first_fetched(_place(source)) as (place, path):
        steps = steps_by_run(place.entries)
        outcomes = read_outcomes(source.outcomes, steps) if source.outcomes else None
        layout = _layout(source, path)  # refuse before a folder is made
        number = _number_of(source, threshold, outcomes)
        identity = _identity(source, layout, number, folder)
        work = _work(identity, source)
        lanes = 1 if share else num_lanes()  # else processes are the lanes
        how = How(layout, source.heads, identify(identity), callback, lanes)
        with _claimed(folder, work, overwrite, resume, share):
            known = _known(folder, identity) if resume or share else []
            before = gather(place, known, folder, how.owner)
            if resume and session.is_complete(folder, work) and not (known and before.missing):
                return True
            _check_not_fitted(folder, bool(known) and not overwrite)
            with _begun(folder, work, resume, share):
                started = perf_counter()
                if measure:
                    with timed("metrics"):
                        measure_all(place, known, folder, how)
                if share:
                    return False
                gathered = gather(place, known, folder, how.owner)
                _check_complete(gathered, len(place.entries), folder)
                _warn_of_rows(gathered)
                config = _config(source, identity, folder)
                config |= {"wall_seconds": {"compile": 0.0, "train": perf_counter() - started}}
                config |= {"counted": gathered.rows[0].counts}
                made = _dataset(gathered.rows, outcomes, source.converged, number)
                config, dataset = ids.stamped(config, made)
                with session.collected(folder, work.command) as draft:
                    run_folder.write_dataset(draft, dataset)
                    lines = "".join(json.dumps(row) + "\n" for row in gathered.rows)
                    files.write_text(draft / run_folder.MEASURED, lines)
                    files.write_json(draft / run_folder.CONFIG, config)
        return True


def collect_import(folder: Path) -> None:
    """Puts together what several processes have measured with `share`.

    Raises:
        UserError: some checkpoints are not measured yet, or as `import_checkpoints`.
    """
    record = run_folder.read_json(
        folder / run_folder.TRAINING, run_folder.IMPORT, "import checkpoints", ("source",)
    )
    given = record["source"]
    paths = {name: Path(given[name]) for name in ("rules", "outcomes") if given.get(name)}
    source = Source(**given | paths)
    threshold = None if source.converged else record["threshold"]
    import_checkpoints(source, folder, threshold, resume=True, measure=False)


def _check_complete(gathered: Gathered, total: int, folder: Path) -> None:
    if gathered.missing:
        names = ", ".join(str(entry.path) for entry in gathered.missing[:_NAMED])
        raise UserError(
            f"{folder}: {len(gathered.missing)} of {total} checkpoints are not measured yet ("
            f"{names}{', ...' if len(gathered.missing) > _NAMED else ''}); continue with the "
            "command that began the import"
        )


def _warn_of_rows(gathered: Gathered) -> None:
    sentences = [text for of in (equal_checkpoints, shared_tensors) if (text := of(gathered.rows))]
    if sentences:
        warnings.warn("; ".join(sentences), stacklevel=3)
    if gathered.removed:
        warnings.warn(
            f"{gathered.removed} checkpoints that were measured before are there no longer; their "
            "metrics are kept",
            stacklevel=3,
        )


def _place(source: Source) -> Place:
    if source.hub is not None:
        return on_the_hub(source.hub, source.revisions or MAIN)
    return on_disk(source.pattern, source.skip_unfinished)


def _layout(source: Source, path: Path) -> Layout:
    """Returns the layout of a checkpoint, all of whose tensors it places."""
    with open_checkpoint(path) as checkpoint:
        layout = find_layout(source.layout, source.rules, checkpoint)
        assign(checkpoint, layout, number_of_heads(checkpoint, source.heads))
    return layout


def _known(folder: Path, identity: dict[str, Any]) -> list[Row]:
    """Returns the rows of the complete import of the same in a folder; none without one."""
    path = folder / run_folder.MEASURED
    if not path.is_file():
        return []
    config = run_folder.read_json(folder, run_folder.CONFIG, "import checkpoints", ("import",))
    if _without_steps(config) != to_json(identity):
        return []
    try:
        return [Row(*limits.parse_json(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); remove it, and every checkpoint is measured anew"
        ) from None


def _check_not_fitted(folder: Path, adding: bool) -> None:
    """Refuses to replace a fit where checkpoints are only added."""
    if adding and (folder / run_folder.SWEEP).is_file():
        raise UserError(
            f"--resume: {folder} is fitted, and new checkpoints have come since; add --overwrite "
            "to import them and fit again"
        )


def _number_of(source: Source, threshold: float | None, outcomes: Outcomes | None) -> float:
    """Returns the number that convergence is told by."""
    if source.converged is None:
        return DEFAULT_ACCURACY if threshold is None else threshold
    if threshold is not None:
        raise UserError("converged and threshold are both given; leave one")
    asked = parse_criterion(source.converged)
    known = [*([] if outcomes is None else outcomes.table.frame.columns), *PAPER_METRICS]
    if our_name(asked.column) not in known:
        raise UserError(
            f"converged: {asked.column!r} is no column of --outcomes and no metric; there are "
            f"{listed(known)}"
        )
    return asked.value


@contextmanager
def _claimed(
    folder: Path, work: session.Work, overwrite: bool, resume: bool, share: bool
) -> Iterator[None]:
    """Claims the folder, alone or with others that import the same."""

    def check() -> None:
        session.check(folder, work, overwrite, resume or share)

    if not share:
        with claim(folder, work.command, check):
            yield
        return
    check()
    with lock(folder, work.command, shared=True):
        yield


@contextmanager
def _begun(folder: Path, work: session.Work, resume: bool, share: bool) -> Iterator[None]:
    """Begins the import in its folder; of several processes the first does."""
    if not share:
        with session.begun(folder, work, resume):
            yield
        return
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            with lock(folder, work.command, part=0):
                settle(folder)
                session.begin(folder, work, resume=True)
                break
        except InUseError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
    yield


def _identity(source: Source, layout: Layout, threshold: float, folder: Path) -> dict[str, Any]:
    """Collects what decides the result, but which checkpoints there are."""
    converged = {} if source.converged is None else {"converged": source.converged}
    rules = {str(i): _words(asdict(rule)) for i, rule in enumerate(layout.rules, start=1)}
    return {
        "pattern": _told(source, folder),
        "layout": layout.name,
        "rule": rules,
        "heads": source.heads,
        "outcomes": _checksum(source.outcomes) if source.outcomes else None,
        "threshold": threshold,
        **converged,
    }


def _told(source: Source, folder: Path) -> str:
    """Says where the checkpoints are, without a path of the machine."""
    if source.hub is None:
        return relative(Path(source.pattern), folder)
    return f"{source.hub}@{source.revisions or MAIN}"


def _checksum(path: Path) -> str:
    return f"a file of checksum {zlib.crc32(path.read_bytes()):08x}"


def _words(rule: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {value!r}" for key, value in rule.items())


def _config(source: Source, identity: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {
        "experiment": folder.name,
        "imported_from": f"checkpoints {identity['pattern']}",
        "hyperparameters": {},
        "threshold": identity["threshold"],
        "import": identity,
        **run_folder.environment(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": {},
    }


def _work(identity: dict[str, Any], source: Source) -> session.Work:
    """Describes an import of this identity; `collect_import` finds the source in its record."""
    given = {name: str(of) if isinstance(of, Path) else of for name, of in vars(source).items()}
    return session.Work(
        kind="an import",
        command="import checkpoints",
        record=run_folder.IMPORT,
        content={"format": FORMAT, **identity, "source": given},
        progress=f"**/{run_folder.IMPORTED}",
        check_config=lambda folder, done: check_same(folder, _without_steps(done), identity),
        check_record=lambda folder, before: _check_begun(folder, before, identity),
        fields=("import",),
    )


def _without_steps(config: dict[str, Any]) -> dict[str, Any]:
    """Returns what a complete import was of; former versions held the steps of every run."""
    return {name: of for name, of in config["import"].items() if name != "steps_of_run"}


def _check_begun(folder: Path, before: dict[str, Any], identity: dict[str, Any]) -> None:
    """Refuses to go on with an import of another version or of other settings."""
    if before.get("format") != FORMAT:
        raise UserError(
            f"--resume: {folder} holds an import begun by another version of seedmap, whose files "
            "are others; finish it with that version, or begin anew with --overwrite"
        )
    begun = {name: of for name, of in before.items() if name != "source"}
    check_same(folder, begun, {"format": FORMAT, **identity})


def _dataset(
    rows: list[Row], outcomes: Outcomes | None, converged: str | None, threshold: float
) -> xr.Dataset:
    """Makes the run folder's dataset of all checkpoints."""
    by_run: dict[str, list[Row]] = {}
    for row in rows:
        by_run.setdefault(row.run, []).append(row)
    logs = [_log(run, of, outcomes) for run, of in by_run.items()]
    long = long_table(logs, Asked(step="step"))
    criterion = None
    if converged is not None:
        criterion = criterion_of(long, converged)
    elif long.accuracy is not None:
        criterion = criterion_of(long, None, threshold)
    return to_dataset(run_table(long, None, criterion))


def _log(run: str, rows: list[Row], outcomes: Outcomes | None) -> Log:
    """A run's metrics; a NaN among them is a divergence, an outcome that is not there is not."""
    columns: dict[str, list] = {"step": [row.step for row in rows]}
    columns |= {metric: [row.values[metric] for row in rows] for metric in rows[0].values}
    if outcomes is not None:
        columns |= outcomes.of(run, columns["step"])
    frame = pd.DataFrame(columns, range(1, len(rows) + 1), dtype=object)
    return Log(frame, f"run {run}", run, "checkpoint")
