"""What a recorder is given: names of runs, folders, values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seedmap.errors import UserError, printable
from seedmap.experiments.runs.folder import METRICS, TRAINING
from seedmap.experiments.runs.import_metrics import OWN
from seedmap.files import without_draft
from seedmap.hmm.readers.kinds.recorded import RECORDS
from seedmap.hmm.readers.names import our_name
from seedmap.metric_names import PAPER_METRICS

_LONGEST = 100  # characters of a run's name


def check_run(run: Any) -> None:
    """Raises UserError for what cannot be a run's name, which is a folder's."""
    legal = (
        isinstance(run, str)
        and 0 < len(run) <= _LONGEST
        and run == printable(run).strip() == without_draft(run)
        and not run.startswith(".")
        and not {"/", "\\"} & set(run)
    )
    if not legal:
        raise UserError(
            f"run is {str(run)[:_LONGEST]!r}; it must be a name of 1 to {_LONGEST} printable "
            "characters without slashes, that begins with no dot and does not end in .part"
        )


def check_folder(folder: Path) -> None:
    """Raises UserError for a folder in which runs cannot be recorded; changes nothing."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder to record in")
    taken = any((folder / name).exists() for name in (METRICS, TRAINING))
    if taken and not (folder / RECORDS).is_dir():
        raise UserError(
            f"{folder} holds a run that was trained or imported; name another folder to record in"
        )


def check_values(where: Path, values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the values that go with a record's metrics as floats, those that are None left out.

    Raises:
        UserError: a name is one of a metric or of the run folder's own, or a value is no finite
            number; the message begins with `where`.
    """
    checked = {}
    for name, value in values.items():
        if our_name(name) in PAPER_METRICS:
            raise UserError(
                f"{where}: {name!r} is a metric, which is computed from the parameters; give the "
                "value another name"
            )
        if not name.strip() or name in (*OWN, "run"):
            raise UserError(f"{where}: {name!r} is a name of the run folder's own; give it another")
        number = _number(value)
        if value is not None and not np.isfinite(number):
            shown = f"{value!r}"[:60]
            raise UserError(f"{where}: {name} is {shown}; it must be a finite number, or None")
        if value is not None:
            checked[name] = number
    return checked


def _number(value: Any) -> float:
    """Returns a number, also of an array without axes, as float; NaN of anything else."""
    if isinstance(value, str | bytes) or getattr(value, "ndim", 0) != 0:
        return np.nan
    try:
        return float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, OverflowError):
        return np.nan
