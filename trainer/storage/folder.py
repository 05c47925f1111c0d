"""A training's folder: what it takes to watch a training, to resume it and to collect its results.

    FOLDER/part-0/job.json        what is trained, compared when it is resumed
                  records.bin     the metrics of all seeds, a row per record
                  checkpoints/    the state at the last two save points (Orbax)
                  log.jsonl       a line per chunk of records

Each process of a training over several hosts has a part of its own, with its own seeds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from seedmap import files, limits
from seedmap.errors import UserError
from seedmap.identity import Mark, check_marks, identify
from seedmap.results import to_json
from seedmap.trainer.storage import records
from seedmap.trainer.storage.checkpoints import Saved, checkpoints, load_latest
from seedmap.trainer.storage.records import RecordLayout, Records

FORMAT = 2
ARITHMETIC = 2
"""Version of what the same settings compute, to the bit: 1 had other orders of examples, and groups
of replicas by the machine. A training is resumed by the version it was begun with only."""
JOB, RECORDS, CHECKPOINTS, LOG = "job.json", "records.bin", "checkpoints", "log.jsonl"


@dataclass(frozen=True)
class Job:
    """What a part trains, as `job.json` holds it.

    Attributes:
        platform: of the devices it is trained on, as JAX names it.
        identity: everything that decides the results; a resumed training must have the same.
        seeds: seed numbers of this part, one per replica.
        hyperparameters: name to the replicas' values.
        part: number of the part, from 0.
        num_parts: number of parts.
        steps: optimisation steps in all.
        record_every: steps between records.
        per_epoch: steps of a pass over the training data.
        seeds_at_once: replicas vmapped together.
        num_devices: devices of this part.
        layout: what a row of `records.bin` holds.
    """

    platform: str
    identity: dict[str, Any]
    seeds: tuple[int, ...]
    hyperparameters: dict[str, list[float]]
    part: int
    num_parts: int
    steps: int
    record_every: int
    per_epoch: int
    seeds_at_once: int
    num_devices: int
    layout: RecordLayout

    @property
    def training(self) -> str:
        """Returns the id of the training, which all its parts share."""
        content = {"num_parts": self.num_parts, "recorded": self.layout.names}
        return identify(content | {"identity": self.identity})

    @property
    def id(self) -> str:
        """Returns the id of this part of the training, which its records and checkpoints carry."""
        return identify({"training": self.training, "part": self.part, "seeds": self.seeds})


def records_of(folder: Path, job: Job) -> Records:
    """Returns the file of a part's records."""
    return Records(folder / RECORDS, job.layout, job.id)


def part_folder(folder: Path, number: int) -> Path:
    """Returns the folder of one part of a training."""
    return folder / f"part-{number}"


def write_job(folder: Path, job: Job) -> None:
    """Makes a part's folder with its `job.json`."""
    fields = {name: getattr(job, name) for name in Job.__dataclass_fields__}
    layout = {"layout": job.layout._asdict()}
    content = {"format": FORMAT, "jax": jax.__version__, **fields, **layout}
    files.make_folder(folder)
    files.write_json(folder / JOB, content)


def read_job(folder: Path) -> Job:
    """Reads `job.json`.

    Raises:
        UserError: there is none, or it is not of a format this version knows.
    """
    path = folder / JOB
    if not path.is_file():
        raise UserError(f"{folder} holds no training to go on with: it has no {JOB}")
    try:
        content = limits.read_json(path)
        if content["format"] != FORMAT:
            raise UserError(f"it has format {content['format']}, this one reads {FORMAT}")
        fields = {name: content[name] for name in Job.__dataclass_fields__}
        layout = fields.pop("layout")
        layout = RecordLayout(tuple(layout["names"]), layout["num_replicas"], layout["dtype"])
        return Job(**fields | {"seeds": tuple(fields["seeds"]), "layout": layout})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged, or of another version of seedmap ({error}); restore it, finish "
            "the training with the version that began it, or train anew elsewhere"
        ) from None


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Lifts the settings of inner mappings, at any depth, up: "outer.inner"."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value) if isinstance(value, dict) else None
        flat |= {f"{name}.{k}": v for k, v in inner.items()} if inner else {name: value}
    return flat


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def check_arithmetic(folder: Path, job: Job) -> None:
    """Raises UserError for a training that was begun by a version with another arithmetic."""
    if job.identity.get("arithmetic") != ARITHMETIC:
        raise UserError(
            f"resume: {folder} was begun by a version of seedmap with other orders of examples or "
            "groups of seeds, which this one cannot go on with; train anew in another folder"
        )


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to resume a training with other settings.

    Raises:
        UserError: with every setting that differs, before and now.
    """
    before, now = _flat(to_json(before)), _flat(to_json(now))
    names = sorted(set(before) | set(now))
    changed = [
        f"{name} was {_short(before.get(name))} and is {_short(now.get(name))}"
        for name in names
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise UserError(
            f"resume: {folder} was begun with other settings: {'; '.join(changed)}; give the "
            "same again, or train anew in another folder"
        )


def restore(folder: Path, job: Job) -> Saved | None:
    """Finds the last intact save point; None to begin anew.

    A save point counts if its checkpoint and all records up to it are intact. Records after it are
    dropped: they will be made again, to the bit.
    """
    rows = records_of(folder, job)
    intact = records.intact_rows(rows)
    with checkpoints(folder / CHECKPOINTS) as manager:
        saved = load_latest(manager, job.id, at_most=intact * job.record_every)
    step = saved.step if saved else 0
    records.keep_rows(rows, step // job.record_every)
    return saved


def log(folder: Path, **content: Any) -> None:
    """Appends a line to `log.jsonl`, with the time."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")} | content
    files.append(folder / LOG, json.dumps(line).encode() + b"\n")


def read_jobs(folder: Path) -> dict[Path, Job]:
    """Reads the jobs of all parts of a training, by the parts' folders in order.

    Raises:
        UserError: there is none, some are missing, or they are not of one training.
    """
    first = part_folder(folder, 0)
    if not (first / JOB).is_file():
        raise UserError(f"{folder} holds no training: there is no {first.name}/{JOB}")
    job = read_job(first)
    folders = [part_folder(folder, i) for i in range(job.num_parts)]
    missing = [entry.name for entry in folders if not (entry / JOB).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {', '.join(missing)} of {len(folders)} parts: copy them there from "
            "the hosts that trained them"
        )
    jobs = {first: job} | {entry: read_job(entry) for entry in folders[1:]}
    check_marks(
        "trainings",
        [Mark(entry / JOB, each.training) for entry, each in jobs.items()],
        "copy all parts of one training there",
    )
    wrong = [entry for number, (entry, each) in enumerate(jobs.items()) if each.part != number]
    if wrong:
        raise UserError(
            f"{wrong[0] / JOB} is of part {jobs[wrong[0]].part}: copy the parts there again, each "
            "under its own name"
        )
    return jobs


def split(seeds: Sequence[int], number: int, num_parts: int) -> slice:
    """Returns the replicas that a part trains: even shares, the first ones larger by one.

    Raises:
        UserError: there are fewer replicas than parts.
    """
    if len(seeds) < num_parts:
        raise UserError(f"{len(seeds)} seeds cannot be shared by {num_parts} processes: add seeds")
    edges = np.cumsum(
        [0] + [len(share) for share in np.array_split(np.arange(len(seeds)), num_parts)]
    )
    return slice(int(edges[number]), int(edges[number + 1]))
