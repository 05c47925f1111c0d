"""The JSON files that the code of Hu et al. 2023 writes: a file a checkpoint, a folder a run.

A file holds, for every weight matrix, its metrics: under "w" in layer order (MLPs, convolutional
networks) or under "q", "k", "v", "in_proj", "ffn_in" and "ffn_out" (transformers; one entry a head
where heads were told apart). Beside them stand mean, median and variance of all weights ("w_all")
and biases ("b_all"), and losses and accuracies where they were recorded. A metric of a checkpoint
is the mean over its matrices. The time is in the file's name only, in one of six ways. As in the
released code, a variance of singular values is NaN for a matrix that has only one, and is left out
of the mean; and a matrix with a number that is not finite is null: here that leaves the checkpoint
without matrix metrics, so that the run counts as diverged from there.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedmap import limits
from seedmap.errors import UserError
from seedmap.hmm.readers.files import frame_of
from seedmap.hmm.readers.kinds.kind import Kind
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.names import listed, natural

GROUPS = ("w", "q", "k", "v", "in_proj", "ffn_in", "ffn_out")
MATRIX_METRICS = (
    *("l1", "l2", "code_sparsity", "trace", "spectral", "computational_sparsity"),
    *("mean_singular_value", "var_singular_value"),
)
_OVERALL = ("mean", "median", "var")
_NAMES = tuple(
    re.compile(pattern)
    for pattern in (
        r"epoch(?P<epoch>\d+)\.json",
        r"step(?P<step>\d+)\.json",
        r"stats_step(?P<step>\d+)(\.json)?",
        r"stats_(?P<step>\d+)_losses(\.json)?",
        r"stats_(?P<seed>\d+)_(?P<step>\d+)(\.json)?",
        r"stats_(?P<epoch>\d+)epoch_.*_(?P<seed>\d+)seed(\.json)?",
    )
)


class _FileName(NamedTuple):
    """What a file's name says."""

    seed: str | None
    unit: str  # "step" or "epoch"
    time: int


def _find(root: Path, files: Sequence[Path]) -> list[Path]:
    return [
        path
        for path in files
        if _parse_name(path.name) is not None and root in (path.parent, path.parent.parent)
    ]


def _read(root: Path, files: Sequence[Path]) -> list[Log]:
    """Reads a folder a run, or files that name their seed."""
    runs: dict[str, dict[Path, _FileName]] = {}
    for path in files:
        stamp = _parse_name(path.name)
        if stamp is not None:
            own = None if path.parent == root else path.parent.name
            named = None if stamp.seed is None else f"seed{stamp.seed}"
            name = "_".join(filter(None, [own, named])) or root.name
            runs.setdefault(name, {})[path] = stamp
    return [_log(name, runs[name]) for name in sorted(runs, key=natural)]


def _parse_name(name: str) -> _FileName | None:
    """What a file's name says, None for a file that is not a checkpoint's."""
    match = next(filter(None, (pattern.fullmatch(name) for pattern in _NAMES)), None)
    if match is None:
        return None
    fields = match.groupdict()
    unit = "epoch" if fields.get("epoch") is not None else "step"
    return _FileName(fields.get("seed"), unit, int(fields[unit]))


def _log(run: str, files: Mapping[Path, _FileName]) -> Log:
    first, stamp = next(iter(files.items()))
    for path, other in files.items():
        if other.unit != stamp.unit:
            raise UserError(
                f"{path.parent} holds {first.name} and {path.name}: a run counts in epochs or in "
                "steps; rename or part them"
            )
    records = [{stamp.unit: other.time} | _checkpoint(path) for path, other in files.items()]
    frame = frame_of(records).set_axis([path.name for path in files], axis="index")
    return Log(frame, str(first.parent), run, "file")


def _checkpoint(path: Path) -> dict[str, float]:
    """Metrics and outcomes of one file."""
    try:
        content = limits.read_json(path)
    except UserError as error:
        raise UserError(f"{path} is not JSON ({error}); copy it anew, or remove it") from None
    if not isinstance(content, dict) or not set(GROUPS) & set(content):
        keys = listed(content) if isinstance(content, dict) else type(content).__name__
        raise UserError(
            f"{path} is not of the code of Hu et al.: expected weights under {', '.join(GROUPS)}, "
            f"found {keys}"
        )
    return (
        _matrix_means(path, list(_matrices(path, content)))
        | _overall(path, content)
        | dict(_outcomes(content))
    )


def _matrices(path: Path, content: Mapping[str, Any]) -> Iterator[Mapping[str, Any] | None]:
    """The entry of every matrix: its metrics, or None."""
    for group in GROUPS:
        layers = content.get(group, [])
        if not isinstance(layers, list):
            raise UserError(
                f"{path}: {group!r} must hold a list of layers, found {_as_json(layers)}; write "
                "the file anew"
            )
        for layer in layers:
            named = isinstance(layer, Mapping) and "l1" not in layer  # {layer: its matrices}
            for entry in layer.values() if named else [layer]:
                for matrix in entry if isinstance(entry, list) else [entry]:
                    if not isinstance(matrix, Mapping | None):
                        raise UserError(
                            f"{path}: a matrix in {group!r} must be null or an object of its "
                            f"metrics, found {_as_json(matrix)}; write the file anew"
                        )
                    yield matrix


def _as_json(value: Any) -> str:
    """A value as JSON has it, for a message."""
    return json.dumps(value)[:40]


def _matrix_means(path: Path, matrices: list[Mapping[str, Any] | None]) -> dict[str, float]:
    """Means over the matrices, of those metrics that some have."""
    recorded = [matrix for matrix in matrices if matrix is not None]
    if len(recorded) < len(matrices):
        return dict.fromkeys(MATRIX_METRICS, np.nan)
    means: dict[str, float] = {}
    for name in MATRIX_METRICS:
        values = [matrix[name] for matrix in recorded if name in matrix]
        if not all(isinstance(value, int | float) for value in values):
            raise UserError(f"{path}: a matrix's {name!r} is not a number; write the file anew")
        values = list(map(float, values))
        if name == "var_singular_value":
            values = [value for value in values if not np.isnan(value)]
        if values:
            means[name] = float(np.mean(values))
    return means


def _overall(path: Path, content: Mapping[str, Any]) -> dict[str, float]:
    """Mean, median and variance of all weights and of all biases, where there are any."""
    moments: dict[str, float] = {}
    for key, letter in (("w_all", "w"), ("b_all", "b")):
        numbers = content.get(key)
        if key == "b_all" and numbers == {}:
            continue
        if not isinstance(numbers, Mapping) or not set(_OVERALL) <= set(numbers):
            raise UserError(
                f"{path}: {key!r} must hold {', '.join(_OVERALL)}; found {_as_json(numbers)}"
            )
        moments |= {f"{kind}_{letter}": numbers[kind] for kind in _OVERALL}
    return moments


def _outcomes(content: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Losses and accuracies; an accuracy may stand alone in a mapping."""
    for key, value in content.items():
        if key in GROUPS or key in ("w_all", "b_all"):
            continue
        if isinstance(value, Mapping):
            value = value.get("accuracy")
        if isinstance(value, int | float):
            yield key, value


PAPER = Kind("paper", "the JSON files of the code of Hu et al. 2023", _find, _read)
