"""A sweep's scores as JSON: every fit, which runs it saw, and which number of states was chosen."""

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from seedmap import files
from seedmap.errors import UserError
from seedmap.hmm.selection.config import SweepConfig
from seedmap.hmm.selection.cross_validation import CrossValidation
from seedmap.hmm.selection.fits import Fit, Sweep

FORMAT = "seedmap-sweep"
VERSION = 1
_RUN_SCORES = ("train_run_log_likelihood", "validation_run_log_likelihood")


def _fit_scores(fit: Fit) -> dict[str, Any]:
    return {f.name: getattr(fit, f.name) for f in fields(Fit) if f.name != "parameters"}


def save_sweep(path: str | os.PathLike, sweep: Sweep, chosen: Fit) -> None:
    """Writes the scores of all fits; parameters are not kept (`save_hmm` keeps the chosen fit's).

    The file holds `format`, `version`, `config`, `metrics`, `train_runs`, `validation_runs`,
    `num_observations_train`, `num_observations_validation`, `num_states`, `restart` and
    `prior_scale` (of the chosen fit), `fits`: for each the fields of `Fit` but the parameters, and
    `cross_validation`: the fields of `CrossValidation`. Numbers that are not finite are null.

    Args:
        path: the file, written whole or not at all.
        sweep: the fits.
        chosen: the selected fit.
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
    }
    files.write_json(Path(path), content, indent=1)


def _load_fit(scores: dict[str, Any]) -> Fit:
    values: dict[str, Any] = {
        name: np.nan if value is None else value for name, value in scores.items()
    }
    for name in _RUN_SCORES:
        values[name] = np.array(values[name], dtype=float)  # null becomes NaN
    return Fit(**values | {"parameters": None})


def _load_score(score: dict[str, Any]) -> CrossValidation:
    values = np.array(score["run_log_likelihood"], dtype=float)
    return CrossValidation(score["num_states"], score["prior_scale"], values)


def load_sweep(path: str | os.PathLike) -> tuple[Sweep, Fit]:
    """Reads what `save_sweep` wrote.

    Returns:
        The sweep and its chosen fit; the fits' `parameters` are None.

    Raises:
        UserError: the file is not a sweep of this version.
    """
    try:
        content = json.loads(Path(path).read_text())
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise UserError(f"it is {content['format']} version {content['version']}")
        config = content["config"] | {"states": tuple(content["config"]["states"])}
        fits = tuple(_load_fit(scores) for scores in content["fits"])
        sweep = Sweep(
            config=SweepConfig(**config),
            fits=fits,
            metrics=tuple(content["metrics"]),
            train_runs=tuple(content["train_runs"]),
            validation_runs=tuple(content["validation_runs"]),
            num_observations_train=content["num_observations_train"],
            num_observations_validation=content["num_observations_validation"],
            cross_validation=tuple(map(_load_score, content.get("cross_validation", ()))),
        )
        chosen = (content["num_states"], content["restart"])
        return sweep, next(fit for fit in fits if (fit.num_states, fit.restart) == chosen)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        StopIteration,
        RecursionError,
    ) as error:
        raise UserError(
            f"{path} is not a sweep that this version wrote ({error}); fit again with `seedmap fit "
            f"{Path(path).parent} --overwrite`"
        ) from None
