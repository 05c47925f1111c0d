"""Tables: CSV, TSV, JSON lines and JSON, Parquet; a file of all runs, a file or a folder a run."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from seedmap import limits
from seedmap.errors import UserError, printable
from seedmap.hmm.readers.files import (
    frame_of,
    head,
    read_csv,
    read_json_lines,
    read_text,
    stem_of,
    suffix_of,
)
from seedmap.hmm.readers.kinds.kind import Kind, run_names
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.names import natural

# Names that loggers give the one file of a run, which others may stand beside.
_LOGGERS = ("progress", "metrics", "results", "history", "log", "training_log", "train")


def _of_suffix(*suffixes: str) -> Callable[[Path, Sequence[Path]], list[Path]]:
    def find(root: Path, files: Sequence[Path]) -> list[Path]:
        return _one_a_run(root, [path for path in files if suffix_of(path) in suffixes])

    return find


def _one_a_run(root: Path, files: list[Path]) -> list[Path]:
    """The files of runs: those in the folder itself, else those further in."""
    top = [path for path in files if path.parent == root]
    if top:
        by_stem: dict[str, Path] = {}
        for path in top:
            if by_stem.setdefault(stem_of(path), path) != path:
                both = " and ".join(sorted([by_stem[stem_of(path)].name, path.name]))
                raise UserError(f"{root}: {both} would be one run's name; rename one of them")
        return top
    folders = {path.parent for path in files}
    for name in _LOGGERS:
        named = [path for path in files if stem_of(path) == name]
        if {path.parent for path in named} == folders:
            return named
    return files


def _read(reader: Callable[[Path, str | None], Log]) -> Callable[[Path, Sequence[Path]], list[Log]]:
    def read(root: Path, files: Sequence[Path]) -> list[Log]:
        if root.is_file():
            return [reader(root, None)]
        named = zip(run_names(root, files), files, strict=True)
        return [reader(path, run) for run, path in sorted(named, key=lambda of: natural(of[0]))]

    return read


def _find_json(root: Path, files: Sequence[Path]) -> list[Path]:
    """JSON files whose beginning may be that of a list of records, of lists, or of JSON lines."""
    likely = [path for path in files if suffix_of(path) == ".json" and _is_records(path)]
    return _one_a_run(root, likely)


def _is_records(path: Path) -> bool:
    start = "".join(head(path)[:4000].split())
    lines = head(path).strip().split("\n")
    many = len(lines) > 1 and lines[0].rstrip().endswith("}") and lines[1].startswith("{")
    return start.startswith("[{") or many or (start.startswith('{"') and '":[' in start[:200])


def _read_json(path: Path, run: str | None) -> Log:
    """Reads a list of records, an object of lists (as Keras's history), or JSON lines."""
    try:
        content = limits.parse_json(read_text(path))
    except UserError:
        return read_json_lines(path, run)
    if isinstance(content, list) and all(isinstance(record, dict) for record in content):
        return Log(frame_of(content), str(path), run, "record")
    lists = content if isinstance(content, dict) else {}
    columns = {printable(name): of for name, of in lists.items() if isinstance(of, list)}
    if not columns or len({len(cells) for cells in columns.values()}) > 1:
        raise UserError(
            f"{path} is neither a list of records nor an object of lists of one length; write "
            'JSON lines, {"step": 10, "loss": 3.5}'
        )
    frame = pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()})
    if "step" not in frame and "epoch" not in frame:  # of Keras: one entry an epoch
        frame.insert(0, "epoch", range(len(frame)))
    return Log(frame, str(path), run, "entry")


def _read_parquet(path: Path, run: str | None) -> Log:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path}: Parquet needs pyarrow: pip install 'seedmap[trackers]'") from None
    try:
        held = pyarrow.parquet.ParquetFile(path).metadata
        limits.check_count(f"{path}: its columns", held.num_columns)
        limits.check_memory(str(path), held.num_rows * held.num_columns * 16)
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be read as Parquet ({reason}); write it anew") from None
    frame = table.to_pandas()
    return Log(_with_nan(with_index(frame), table), str(path), run, "row")


def _with_nan(frame: pd.DataFrame, table) -> pd.DataFrame:
    """The frame with what is missing as None in columns that hold a NaN, too, which Parquet can."""
    for name in frame.columns:
        if frame[name].dtype.kind == "f" and name in table.column_names:
            missing = table.column(name).is_null().to_numpy()
            if (frame[name].isna().to_numpy() & ~missing).any():
                cells = frame[name].astype(object)
                frame[name] = cells.mask(missing, None)
    return frame


def with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns a frame with the named levels of its index as columns, and rows counted from 0."""
    levels = [name for name in frame.index.names if name is not None and name not in frame.columns]
    frame = frame.reset_index(level=levels) if levels else frame
    named = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    return named.set_axis(np.arange(len(named)), axis="index")


CSV = Kind(
    "csv",
    "CSV and TSV: Lightning, Stable-Baselines3, YOLO, Keras's CSVLogger, pandas",
    _of_suffix(".csv", ".tsv"),
    _read(read_csv),
)
JSONL = Kind("jsonl", "JSON lines", _of_suffix(".jsonl", ".ndjson"), _read(read_json_lines))
JSON = Kind("json", "JSON: a list of records, or Keras's history", _find_json, _read(_read_json))
PARQUET = Kind(
    "parquet", "Parquet, as W&B's history", _of_suffix(".parquet", ".pq"), _read(_read_parquet)
)
