"""Checkpoints measured one at a time, a log for each run, by one process or several at once.

    DIR/training/run-NAME/import.jsonl    a line per checkpoint done (`seedmap.files.append_line`)

A process that measures a run holds the lock of its folder; another one goes on to the next run. Its
checkpoints are measured side by side on as many threads as there are lanes, and logged in order.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from seedmap import files, limits
from seedmap.errors import UserError
from seedmap.experiments.checkpoints.formats import open_checkpoint
from seedmap.experiments.checkpoints.patterns import Entry
from seedmap.experiments.checkpoints.places import Place
from seedmap.experiments.checkpoints.rules import Layout, assign, number_of_heads
from seedmap.experiments.checkpoints.streaming import measure_checkpoint
from seedmap.experiments.runs.folder import IMPORTED, TRAINING
from seedmap.hmm.readers.names import natural
from seedmap.lock import InUseError, let_go, take

_NAMED = 5  # equal checkpoints that a warning names
_SHARE_OF_MEMORY = 0.25  # that the checkpoints under way may take, were they read at once


class Row(NamedTuple):
    """What is known of a checkpoint that was measured.

    Attributes:
        run: name of the run.
        step: optimisation steps.
        files: `formats.fingerprint` of its files.
        counts: what its metrics were counted over.
        values: the metrics.
        tensors: `streaming.Measured.tensors`; empty in rows of former versions.
    """

    run: str
    step: int
    files: int
    counts: dict[str, int]
    values: dict[str, float]
    tensors: Sequence[int] = ()


class Progress(NamedTuple):
    """How far an import has come.

    Attributes:
        done: checkpoints measured, before and now.
        total: checkpoints in all.
        bytes_done: of their weights.
        bytes_total: of all weights.
    """

    done: int
    total: int
    bytes_done: int
    bytes_total: int


class How(NamedTuple):
    """How checkpoints are measured.

    Attributes:
        layout: rules for the names of their tensors.
        heads: number of attention heads, where no config.json says it.
        owner: of the logs.
        callback: called with the progress, first before anything is measured.
        lanes: checkpoints measured side by side at most.
    """

    layout: Layout
    heads: int | None
    owner: str
    callback: Callable[[Progress], None] | None
    lanes: int = 1


def log_of(folder: Path, run: str) -> Path:
    """Returns the log of a run's rows, in the run folder to be."""
    return folder / TRAINING / f"run-{run}" / IMPORTED


def read_rows(path: Path, owner: str) -> list[Row]:
    """Reads a log up to the first line that is no good; that and all after it go.

    Warns:
        UserWarning: as `files.read_lines`.
    """
    return [Row(*limits.parse_json(text)) for text in files.read_lines(path, owner)]


def rows_in(folder: Path, owner: str) -> list[Row]:
    """Returns the rows of all logs in a folder, while others may write there."""
    logs = sorted((folder / TRAINING).glob(f"run-*/{IMPORTED}"))
    texts = (text for log in logs for text in files.intact_lines(log, owner)[0])
    return [Row(*limits.parse_json(text)) for text in texts]


def measure_all(place: Place, known: Iterable[Row], folder: Path, how: How) -> None:
    """Measures all checkpoints that are not measured yet, but those of runs that others measure.

    Args:
        place: the checkpoints.
        known: rows of an earlier import; those whose files did not change stand.
        folder: the run folder to be.
        how: see `How`.

    Raises:
        UserError: a checkpoint cannot be read or understood, or is of another network.
    """
    entries = place.entries
    keys = {entry: (entry.run, entry.step, place.fingerprint(entry)) for entry in entries}
    sizes = {entry: place.size(entry) for entry in entries}
    done = {_key(row): row for row in (*known, *rows_in(folder, how.owner))}
    first = next(iter(done.values()), None)

    def tell() -> None:
        if how.callback is not None:
            ready = [entry for entry in entries if keys[entry] in done]
            so_far = sum(sizes[entry] for entry in ready)
            how.callback(Progress(len(ready), len(entries), so_far, sum(sizes.values())))

    def measured(entry: Entry) -> Row:
        with place.fetched(entry) as path:
            return _measure(entry, path, keys[entry][2], how)

    tell()
    lanes = _lanes(place, how, max(sizes.values()))
    for run in dict.fromkeys(entry.run for entry in entries):
        left = [entry for entry in entries if entry.run == run and keys[entry] not in done]
        path = log_of(folder, run)
        if not left:
            continue
        with _claimed(path.parent) as claimed:
            if not claimed:
                continue
            lines = read_rows(path, how.owner)
            done |= {_key(row): row for row in lines}
            left = [entry for entry in left if keys[entry] not in done]
            with closing(_side_by_side(measured, left, lanes)) as rows:
                for number, (entry, row) in enumerate(zip(left, rows, strict=True), len(lines)):
                    first = first or row
                    check_alike(first, row, str(entry.path))
                    files.append_line(path, number, json.dumps(row), how.owner)
                    done[_key(row)] = row
                    tell()


def _lanes(place: Place, how: How, largest: int) -> int:
    """Returns how many checkpoints to measure side by side, the largest of so many bytes."""
    if place.one_by_one:
        return 1
    fitting = int(_SHARE_OF_MEMORY * limits.memory() / max(1, largest))
    return max(1, min(how.lanes, fitting))


def _side_by_side(
    measure: Callable[[Entry], Row], entries: Sequence[Entry], lanes: int
) -> Iterator[Row]:
    """Yields what is measured of the entries in their order, so many at a time."""
    if lanes == 1:
        yield from map(measure, entries)
        return
    pool = ThreadPoolExecutor(lanes)
    try:
        yield from pool.map(measure, entries)
    finally:  # when one fails, or on Ctrl-C, those under way are not waited for
        pool.shutdown(wait=False, cancel_futures=True)


class Gathered(NamedTuple):
    """What is measured by now.

    Attributes:
        rows: of all checkpoints that were ever measured, by run and step.
        missing: checkpoints that are not measured yet.
        removed: number of rows whose checkpoints are there no longer.
    """

    rows: list[Row]
    missing: list[Entry]
    removed: int


def gather(place: Place, known: Iterable[Row], folder: Path, owner: str) -> Gathered:
    """Returns the rows of all checkpoints; arguments as of `measure_all`.

    Raises:
        UserError: they are of different networks.
    """
    fingerprints = {(entry.run, entry.step): place.fingerprint(entry) for entry in place.entries}
    rows = {
        (row.run, row.step): row
        for row in (*known, *rows_in(folder, owner))
        if fingerprints.get((row.run, row.step), row.files) == row.files
    }
    ordered = sorted(rows.values(), key=lambda row: (natural(row.run), row.step))
    for row in ordered:
        check_alike(ordered[0], row, f"step {row.step} of run {row.run!r}")
    missing = [entry for entry in place.entries if (entry.run, entry.step) not in rows]
    return Gathered(ordered, missing, len(rows.keys() - fingerprints.keys()))


def _key(row: Row) -> tuple[str, int, int]:
    return row.run, row.step, row.files


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Holds the lock of a run's folder; gives whether it could be taken."""
    try:
        held = take(folder, "import checkpoints")
    except InUseError:
        yield False
        return
    try:
        yield True
    finally:
        let_go(held)


def _measure(entry: Entry, path: Path, content: int, how: How) -> Row:
    with open_checkpoint(path) as checkpoint:
        leaves = assign(checkpoint, how.layout, number_of_heads(checkpoint, how.heads))
        measured = measure_checkpoint(checkpoint, leaves)
    return Row(entry.run, entry.step, content, measured.counts, measured.values, measured.tensors)


def check_alike(first: Row, row: Row, where: str) -> None:
    """Refuses a checkpoint of another network than the first."""
    if row.counts != first.counts:
        raise UserError(
            f"{where} is of another network than step {first.step} of run {first.run!r}: "
            f"expected {_counted(first.counts)}, found {_counted(row.counts)}; import one network "
            "at a time"
        )


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)


def equal_checkpoints(rows: Sequence[Row]) -> str | None:
    """Returns a sentence that names checkpoints of equal content; None where all differ.

    Content is equal where all metrics are, to the last bit.
    """
    by_values: dict[tuple[float, ...], list[Row]] = {}
    for row in rows:
        if all(map(math.isfinite, row.values.values())):
            by_values.setdefault(tuple(row.values.values()), []).append(row)
    groups = [of for of in by_values.values() if len(of) > 1]
    if not groups:
        return None
    equal = [" = ".join(map(_name, of)) for of in groups]
    return f"checkpoints with the same content: {_first(equal)}"


def shared_tensors(rows: Sequence[Row]) -> str | None:
    """Returns a sentence that names checkpoints with some tensors of another; None without any.

    As where a shard is that of another step. Tensors that more than two checkpoints of different
    content have are no fault: frozen, or zero at the start.
    """
    different: dict[tuple[float, ...], Row] = {}
    for row in rows:
        different.setdefault(tuple(row.values.values()), row)
    holders: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for row in different.values():
        for tensor in enumerate(row.tensors):
            holders[tensor].append(_name(row))
    pairs = Counter(tuple(names) for names in holders.values() if len(names) == 2)
    if not pairs:
        return None
    total = len(rows[0].tensors)
    shared = [f"{count} of {total} in {' and '.join(of)}" for of, count in pairs.items()]
    return f"checkpoints with some of the same tensors: {_first(shared)}"


def _name(row: Row) -> str:
    return f"step {row.step} of run {row.run!r}"


def _first(phrases: Sequence[str]) -> str:
    more = f"; and {len(phrases) - _NAMED} more" if len(phrases) > _NAMED else ""
    return "; ".join(phrases[:_NAMED]) + more
