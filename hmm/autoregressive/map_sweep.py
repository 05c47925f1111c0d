"""What a map's number of states was chosen among, as JSON: `sweep.json`."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seedmap import files, limits
from seedmap.errors import UserError
from seedmap.hmm.autoregressive.choice import SizeCandidate, candidate_row
from seedmap.hmm.autoregressive.engine import MapFit, MapSettings
from seedmap.hmm.autoregressive.map_model import score_runs
from seedmap.hmm.sequences import Sequences
from seedmap.identity import Mark, check_marks, fit_again
from seedmap.results import from_json, to_json

FORMAT = "seedmap-map-sweep"
VERSION = 3  # 2: fits are of runs without their lasting offsets; 3: paths are the model's own


@dataclass(frozen=True)
class StartScore:
    """One start of EM; the log-likelihood in nats, of all fitted runs, divided by tau.

    As in `SizeRow`, runs are those without their lasting offsets.
    """

    num_states: int
    restart: int
    train_log_likelihood: float


@dataclass(frozen=True)
class SizeRow:
    """What speaks for and against a number of states, see `hmm.candidate_row`.

    Attributes:
        num_states: K.
        num_parameters: p.
        bic: tempered, in nats; low is good.
        icl: likewise.
        log_likelihood: of the best start, in nats per record, of runs without lasting offsets.
        scores: of every start, likewise.
        iterations: of EM, of the best start.
        agreement: mean of `halves`; None where none were fitted.
        halves: adjusted Rand index of the decodings of all runs by the fits to two halves of them.
        chance: the same of segmentations drawn at random.
        eligible: whether halves agree enough.
        reason: why it was chosen or not.
    """

    num_states: int
    num_parameters: int
    bic: float
    icl: float
    log_likelihood: float
    scores: list[float]
    iterations: int
    agreement: float | None
    halves: list[float]
    chance: float
    eligible: bool
    reason: str


@dataclass(frozen=True)
class MapSweep:
    """The content of a map's `sweep.json`.

    Attributes:
        format: `FORMAT`.
        version: `VERSION`.
        emission: "autoregressive".
        config: the fields of `MapSettings`.
        metrics: names.
        train_runs: names of the runs fitted.
        validation_runs: names of the runs held out.
        odd_runs: names of those that fit no state well and were left off.
        num_observations_train: records of the fitted runs, the first of each left out.
        num_observations_validation: likewise of the runs held out.
        tempering: tau.
        num_states: chosen.
        half: number of states at half the tempering.
        double: number of states at twice the tempering, at most 1.
        fits: every start.
        sizes: every number of states.
        validation_run_log_likelihood: of each run held out, in nats, divided by tau.
        fit_id: of the fit, which all its files carry.
    """

    format: str
    version: int
    emission: str
    config: dict[str, Any]
    metrics: list[str]
    train_runs: list[str]
    validation_runs: list[str]
    odd_runs: list[str]
    num_observations_train: int
    num_observations_validation: int
    tempering: float
    num_states: int
    half: int
    double: int
    fits: list[StartScore]
    sizes: list[SizeRow]
    validation_run_log_likelihood: list[float]
    fit_id: str | None


def size_row(candidate: SizeCandidate) -> SizeRow:
    """Returns what speaks for and against a candidate, as `sweep.json` has it."""
    return from_json(SizeRow, to_json(candidate_row(candidate)))


def map_sweep(
    made: MapFit, settings: MapSettings, sequences: Sequences, fit_id: str | None = None
) -> MapSweep:
    """Collects what there is to save of a map's choice.

    Args:
        made: the map.
        settings: it was made with.
        sequences: all runs, metrics as recorded.
        fit_id: of the fit.
    """
    records = dict(zip(sequences.runs, (sequences.lengths - 1).tolist(), strict=True))
    fitted_or_odd = {*made.fitted, *made.odd}
    away = [name for name in sequences.runs if name not in fitted_or_odd]
    scores = np.zeros(0)
    if away:
        scores = score_runs(made.model, sequences.select(_rows(sequences, away)))
    num_train = sum(records[name] for name in made.fitted)
    sizes = [size_row(candidate) for candidate in made.candidates]
    fits = [
        StartScore(row.num_states, restart, score * num_train)
        for row in sizes
        for restart, score in enumerate(row.scores)
    ]
    return MapSweep(
        format=FORMAT,
        version=VERSION,
        emission="autoregressive",
        config=to_json(asdict(settings)),
        metrics=list(sequences.metrics),
        train_runs=list(made.fitted),
        validation_runs=away,
        odd_runs=list(made.odd),
        num_observations_train=num_train,
        num_observations_validation=sum(records[name] for name in away),
        tempering=made.model.tempering,
        num_states=made.num_states,
        half=made.half,
        double=made.double,
        fits=fits,
        sizes=sizes,
        validation_run_log_likelihood=scores.tolist(),
        fit_id=fit_id,
    )


def _rows(sequences: Sequences, names: list[str]) -> list[int]:
    return [sequences.runs.index(name) for name in names]


def save_map_sweep(path: str | os.PathLike, sweep: MapSweep, fit_id: str | None = None) -> None:
    """Writes a map's choice, whole or not at all, with the id of its fit where one is given."""
    files.write_json(Path(path), replace(sweep, fit_id=fit_id or sweep.fit_id), indent=1)


def load_map_sweep(
    path: str | os.PathLike, of: Mark | None = None, mend: str | None = None
) -> MapSweep:
    """Reads what `save_map_sweep` wrote.

    Args:
        path: the file.
        of: another file of the fit that it must be of; None: of any.
        mend: what the reader of a message about a damaged file can do; None: fit its folder again.

    Raises:
        UserError: the file is not a map's choice of this version, or of another fit.
    """
    mend = mend or fit_again(Path(path).parent)
    try:
        content = limits.read_json(Path(path))
        _check_format(content)
        sweep = from_json(MapSweep, content)
    except (OSError, UserError) as error:
        raise UserError(
            f"{path} is not a sweep that this version wrote ({error}); {mend}"
        ) from None
    if of is not None:
        check_marks("fits", [of, Mark(Path(path), sweep.fit_id)], mend)
    return sweep


def _check_format(content: Any) -> None:
    """Raises UserError unless this is a file of our version."""
    header = content if isinstance(content, Mapping) else {}
    if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
        raise UserError(f"it is {header.get('format')} version {header.get('version')}")
