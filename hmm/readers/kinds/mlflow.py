"""MLflow: the file store `mlruns/EXPERIMENT/RUN/metrics/NAME`, and runs of its client."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from seedmap.errors import UserError
from seedmap.hmm.readers.files import frame_of, read_text
from seedmap.hmm.readers.kinds.kind import Kind
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.names import natural

_META, _METRICS = "meta.yaml", "metrics"


def _find(root: Path, files: Sequence[Path]) -> list[Path]:
    metas = {path.parent for path in files if path.name == _META}
    return [path for path in files if _run_folder(path) in metas]


def _run_folder(path: Path) -> Path | None:
    """The run's folder of a metric's file; a slash in a name makes a folder of it."""
    for folder in path.parents:
        if folder.name == _METRICS:
            return folder.parent
    return None


def _read(root: Path, files: Sequence[Path]) -> list[Log]:
    by_run: dict[Path, list[Path]] = {}
    for path in files:
        folder = _run_folder(path)
        if folder is not None and not _is_deleted(folder):
            by_run.setdefault(folder, []).append(path)
    logs: list[Log] = []
    for folder, paths in by_run.items():
        points = [
            (path.relative_to(folder / _METRICS).as_posix(), *_point(path, number, line))
            for path in paths
            for number, line in enumerate(read_text(path).splitlines(), 1)
            if line.strip()
        ]
        logs.append(_log(_name(folder), folder.name, f"{folder}", points, logs))
    return sorted(logs, key=lambda log: natural(log.run or ""))


def _point(path: Path, number: int, line: str) -> tuple[int, float]:
    """Step and value of a line `TIMESTAMP VALUE STEP`."""
    try:
        _, value, step, *_ = line.split()
        return int(step), float(value)
    except ValueError:
        raise UserError(
            f"{path}, line {number} is not 'timestamp value step' as MLflow writes it; mend it"
        ) from None


def _meta(folder: Path, key: str) -> str | None:
    """A value of a run's `meta.yaml`, each of which stands on a line of its own."""
    match = re.search(rf"^{key}: *(.*)$", read_text(folder / _META), re.MULTILINE)
    return match[1].strip("'\" ") if match else None


def _is_deleted(folder: Path) -> bool:
    return _meta(folder, "lifecycle_stage") == "deleted"


def _name(folder: Path) -> str:
    tag = folder / "tags" / "mlflow.runName"
    return (read_text(tag) if tag.is_file() else _meta(folder, "run_name")) or folder.name


def _log(
    name: str,
    run_id: str,
    where: str,
    points: Iterable[tuple[str, int, float]],
    before: Sequence[Log],
) -> Log:
    """A run's log; of runs of one name the later ones get their id beside it."""
    by_step: dict[int, dict[str, float]] = {}
    for metric, step, value in points:
        by_step.setdefault(step, {})[metric] = value  # logged again: the later stands
    steps = sorted(by_step)
    frame = frame_of([{"step": step} | by_step[step] for step in steps], steps)
    taken = any(log.run == name for log in before)
    return Log(frame, where, f"{name} ({run_id})" if taken else name, "step")


def mlflow_logs(runs: Iterable[Any], client: Any) -> list[Log]:
    """Returns the whole histories of runs of a tracking store.

    Args:
        runs: as `mlflow.search_runs(output_format="list")` gives them.
        client: an `mlflow.MlflowClient`.

    Raises:
        UserError: an object is no run of MLflow's.
    """
    logs: list[Log] = []
    for run in runs:
        if not hasattr(run, "info") or not hasattr(run, "data"):
            raise UserError(
                "from_mlflow takes runs of mlflow.search_runs(output_format='list'); got "
                f"{type(run).__name__}"
            )
        run_id = run.info.run_id
        name = str(getattr(run.info, "run_name", None) or run_id)
        points = [
            (metric, int(point.step), float(point.value))
            for metric in run.data.metrics
            for point in client.get_metric_history(run_id, metric)
        ]
        if points:
            logs.append(_log(name, run_id, f"run {name}", points, logs))
    return logs


MLFLOW = Kind("mlflow", "MLflow's file store, mlruns", _find, _read)
