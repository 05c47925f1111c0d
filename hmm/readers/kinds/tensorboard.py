"""TensorBoard: event files, read by its own library, and the CSV files that its page exports."""

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from seedmap import limits
from seedmap.errors import UserError
from seedmap.hmm.readers.files import frame_of, head, read_csv, stem_of, suffix_of
from seedmap.hmm.readers.kinds.kind import Kind, run_names
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.names import natural

_PARTS = {"train", "validation", "val", "eval", "test"}  # folders of one run, as Keras makes them
_EXPORT = ["Wall time", "Step", "Value"]


def _find(root: Path, files: Sequence[Path]) -> list[Path]:
    return [path for path in files if "tfevents" in path.name]


def _read(root: Path, files: Sequence[Path]) -> list[Log]:
    folders = sorted({path.parent for path in files}) if root.is_dir() else [root]
    runs = [folder.parent if _is_part(folder, folders) else folder for folder in folders]
    unique = list(dict.fromkeys(runs))
    base = root if root.is_dir() else root.parent
    names = dict(zip(unique, run_names(base, [run / "x" for run in unique], "x"), strict=True))
    if root.is_file():
        names = {root: root.parent.name}
    logs = []
    for folder, run in zip(folders, runs, strict=True):
        prefix = f"{folder.name}/" if run != folder else ""
        by_step: dict[int, dict[str, float]] = {}
        for tag, step, value in _scalars(folder):
            by_step.setdefault(step, {})[f"{prefix}{tag}"] = value  # logged again: the later stands
        if by_step:
            steps = sorted(by_step)
            frame = frame_of([{"step": step} | by_step[step] for step in steps], steps)
            logs.append(Log(frame, str(folder), names[run], "step"))
    return sorted(logs, key=lambda log: natural(log.run or ""))


def _is_part(folder: Path, folders: Sequence[Path]) -> bool:
    """Tells whether a folder is one of several of a run."""
    siblings = [other for other in folders if other.parent == folder.parent]
    return len(siblings) > 1 and {other.name for other in siblings} <= _PARTS


def _scalars(path: Path) -> Iterator[tuple[str, int, float]]:
    """Tag, step and value of every scalar of a folder or file, in the order they were logged."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        raise UserError(
            f"{path}: TensorBoard's event files need tensorboard: pip install 'seedmap[trackers]'"
        ) from None
    size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))
    limits.check_memory(f"{path}: what is read at once", size * limits.TEXT_FACTOR)
    logger, before = logging.getLogger("tensorboard"), logging.getLogger("tensorboard").level
    logger.setLevel(logging.ERROR)  # it tells of every restart
    try:
        # Its defaults keep 10 000 scalars of a tag, and 10 tensors.
        events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
    finally:
        logger.setLevel(before)
    tags = events.Tags()
    for tag in tags["scalars"]:
        for event in events.Scalars(tag):
            yield tag, event.step, event.value
    for tag in tags["tensors"]:  # as TensorFlow 2 and Keras write scalars
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            for event in events.Tensors(tag):
                yield tag, event.step, float(make_ndarray(event.tensor_proto))


def _find_exports(root: Path, files: Sequence[Path]) -> list[Path]:
    tables = [path for path in files if suffix_of(path) == ".csv"]
    return [path for path in tables if head(path).split("\n", 1)[0].strip().split(",") == _EXPORT]


def _read_exports(root: Path, files: Sequence[Path]) -> list[Log]:
    """Reads files of one tag each, named `run-RUN-tag-TAG.csv` as the page names them."""
    logs = []
    for path in files:
        match = re.fullmatch(r"(?:run[-_])?(.+?)[-_]tag[-_](.+)", stem_of(path))
        run, tag = match.groups() if match else (path.parent.name, stem_of(path))
        table = read_csv(path, run)
        frame = table.frame[["Step", "Value"]].set_axis(["step", tag], axis="columns")
        logs.append(Log(frame, table.where, run, table.word))
    return sorted(logs, key=lambda log: natural(log.run or ""))


TENSORBOARD = Kind("tensorboard", "TensorBoard's event files", _find, _read)
TENSORBOARD_CSV = Kind(
    "tensorboard-csv", "CSV files that TensorBoard's page exports", _find_exports, _read_exports
)
