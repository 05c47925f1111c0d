"""A sweep's scores as JSON: every fit, which runs it saw, and which number of states was chosen."""

import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, make_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seedmap import files, limits
from seedmap.errors import UserError
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.cross_validation import CrossValidation
from seedmap.hmm.selection.fits import Fit, Sweep
from seedmap.identity import Mark, check_marks, fit_again
from seedmap.results import ABSENT, Absent, from_json

FORMAT = "seedmap-sweep"
VERSION = 1
_RUN_SCORES = ("train_run_log_likelihood", "validation_run_log_likelihood")
_IN_JSON: dict[Any, Any] = {
    int: int,
    bool: bool,
    float: float | None,
}  # the other fields of `Fit` are arrays


def _score_fields() -> list[tuple[str, Any] | tuple[str, Any, Any]]:
    """Returns the fields of `Fit` but its parameters, as the file has them: null for NaN."""
    kinds = [
        (f, _IN_JSON.get(f.type, list[float | None])) for f in fields(Fit) if f.name != "parameters"
    ]
    return [
        (f.name, kind) if f.default is MISSING else (f.name, kind | Absent, ABSENT)
        for f, kind in kinds
    ]


_FitScores: Any = make_dataclass("FitScores", _score_fields(), frozen=True)


@dataclass(frozen=True)
class _Score:
    """The fields of `CrossValidation`."""

    num_states: int
    prior_scale: float
    run_log_likelihood: list[float | None]


@dataclass(frozen=True)
class _SweepFile:
    """The content of a sweep's file; numbers that are not finite are None.

    Attributes:
        format: `FORMAT`.
        version: `VERSION`.
        config: the fields of `SweepConfig`.
        metrics: names.
        train_runs: names.
        validation_runs: names.
        num_observations_train: number of training checkpoints.
        num_observations_validation: number of validation checkpoints.
        num_states: of the chosen fit.
        restart: likewise.
        fits: the fields of `Fit` but the parameters, of each.
        prior_scale: of the chosen fit.
        cross_validation: with the prior "held-out".
        fit_id: of the fit, which all its files carry.
    """

    format: str
    version: int
    config: dict[str, Any]
    metrics: tuple[str, ...]
    train_runs: tuple[str, ...]
    validation_runs: tuple[str, ...]
    num_observations_train: int
    num_observations_validation: int
    num_states: int
    restart: int
    fits: list[_FitScores]
    prior_scale: float | Absent | None = ABSENT  # this and the rest: not in files of older versions
    cross_validation: list[_Score] | Absent = ABSENT
    fit_id: str | Absent | None = ABSENT


def _fit_scores(fit: Fit) -> dict[str, Any]:
    return {f.name: getattr(fit, f.name) for f in fields(Fit) if f.name != "parameters"}


def save_sweep(
    path: str | os.PathLike, sweep: Sweep, chosen: Fit, fit_id: str | None = None
) -> None:
    """Writes the scores of all fits; parameters are not kept (`save_hmm` keeps the chosen fit's).

    Args:
        path: the file, written whole or not at all.
        sweep: the fits.
        chosen: the selected fit.
        fit_id: as of `SavedHMM`.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": asdict(sweep.config),
        "metrics": sweep.metrics,
        "train_runs": sweep.train_runs,
        "validation_runs": sweep.validation_runs,
        "num_observations_train": sweep.num_observations_train,
        "num_observations_validation": sweep.num_observations_validation,
        "num_states": chosen.num_states,
        "restart": chosen.restart,
        "prior_scale": chosen.prior_scale,
        "fits": [_fit_scores(fit) for fit in sweep.fits],
        "cross_validation": [asdict(score) for score in sweep.cross_validation],
        "fit_id": fit_id,
    }
    files.write_json(Path(path), content, indent=1)


def _load_fit(scores: Any) -> Fit:
    given: Mapping[str, Any] = {k: v for k, v in vars(scores).items() if v is not ABSENT}
    values: dict[str, Any] = {k: np.nan if v is None else v for k, v in given.items()}
    for name in _RUN_SCORES:
        values[name] = np.array(values[name], dtype=float)  # null becomes NaN
    return Fit(**values | {"parameters": None})


def _load_score(score: _Score) -> CrossValidation:
    values = np.array(score.run_log_likelihood, dtype=float)
    return CrossValidation(score.num_states, score.prior_scale, values)


def load_sweep(
    path: str | os.PathLike, of: Mark | None = None, mend: str | None = None
) -> tuple[Sweep, Fit]:
    """Reads what `save_sweep` wrote.

    Args:
        path: the file.
        of: another file of the fit that it must be of; None: of any.
        mend: what the reader of a message about a damaged file can do; None: fit its folder again.

    Returns:
        The sweep and its chosen fit; the fits' `parameters` are None.

    Raises:
        UserError: the file is not a sweep of this version, or of another fit.
    """
    mend = mend or fit_again(Path(path).parent)
    try:
        content = from_json(_SweepFile, limits.read_json(Path(path)))
        if (content.format, content.version) != (FORMAT, VERSION):
            raise UserError(f"it is {content.format} version {content.version}")
        config = content.config | {"states": tuple(content.config["states"])}
        fits = tuple(_load_fit(scores) for scores in content.fits)
        sweep = Sweep(
            config=SweepConfig(**config),
            fits=fits,
            metrics=content.metrics,
            train_runs=content.train_runs,
            validation_runs=content.validation_runs,
            num_observations_train=content.num_observations_train,
            num_observations_validation=content.num_observations_validation,
            cross_validation=tuple(map(_load_score, content.cross_validation or ())),
        )
        chosen = (content.num_states, content.restart)
        chosen_fit = next(fit for fit in fits if (fit.num_states, fit.restart) == chosen)
    except (OSError, ValueError, KeyError, TypeError, StopIteration, RecursionError) as error:
        raise UserError(
            f"{path} is not a sweep that this version wrote ({error}); {mend}"
        ) from None
    if of is not None:
        check_marks("fits", [of, Mark(Path(path), content.fit_id or None)], mend)
    return sweep, chosen_fit
