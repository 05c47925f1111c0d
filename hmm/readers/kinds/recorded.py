"""What `seedmap.Recorder` writes: a folder a run, with what it is of and a line a record.

    DIR/records/RUN/recording.json    the network: its layout, parameters and what was counted
                    records.log       a record a line (`seedmap.files.append_line`)

A run that is still being written is read up to its last whole record.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seedmap import files, limits
from seedmap.errors import UserError
from seedmap.hmm.readers.files import frame_of
from seedmap.hmm.readers.kinds.kind import Kind, run_names
from seedmap.hmm.readers.log import Log
from seedmap.hmm.readers.names import natural
from seedmap.identity import identify

FORMAT = 1
RECORDS, IDENTITY, LINES = "records", "recording.json", "records.log"
NETWORK = ("layout", "rules", "heads", "parameters")
"""Fields of `recording.json` that all records of a run share."""
_FIELDS = ("format", "run", *NETWORK, "counted")


def is_recorded(folder: Path) -> bool:
    """Tells whether a folder holds runs that `seedmap.Recorder` has written."""
    return any((folder / RECORDS).glob(f"*/{IDENTITY}"))


def read_identity(run: Path) -> dict[str, Any]:
    """Reads `recording.json` in a run's folder.

    Raises:
        UserError: it is damaged, or of another version.
    """
    path = run / IDENTITY
    try:
        content = limits.read_json(path)
    except UserError as error:
        raise UserError(f"{path} is not JSON ({error}); restore it, or remove {run}") from None
    if not isinstance(content, dict) or not {*_FIELDS} <= content.keys():
        raise UserError(f"{path} is damaged: it lacks fields; restore it, or remove {run}")
    if content["format"] != FORMAT:
        raise UserError(
            f"{path} has format {content['format']}, this version reads {FORMAT}; read it with the "
            "version of seedmap that wrote it"
        )
    return content


def owner_of(identity: dict[str, Any]) -> str:
    """Returns the owner of a run's lines, by which none of another run is taken for one."""
    return identify(identity)


def parse_record(text: str) -> dict[str, float]:
    """Returns the content of a line: the step, the metrics and the values."""
    return limits.parse_json(text)


def _find(root: Path, files: Sequence[Path]) -> list[Path]:
    if is_recorded(root):
        return list(files)  # what else is there was made of the records
    return [path for path in files if path.name == IDENTITY]


def _read(root: Path, paths: Sequence[Path]) -> list[Log]:
    paths = [path for path in paths if path.name == IDENTITY]
    identities = {path: read_identity(path.parent) for path in paths}
    _check_alike(identities)
    names = [str(identity["run"]) for identity in identities.values()]
    if len(set(names)) < len(names):  # several recorded folders at once
        names = run_names(root, paths, IDENTITY)
    logs = [
        _log(path.parent / LINES, owner_of(identity), name)
        for name, (path, identity) in zip(names, identities.items(), strict=True)
    ]
    logs = [log for log in logs if len(log.frame)]  # of others no record is whole yet
    if not logs:
        raise UserError(f"{root} holds no record yet; wait until its runs have recorded some")
    return sorted(logs, key=lambda log: natural(log.run or ""))


def _log(path: Path, owner: str, run: str) -> Log:
    lines, behind = files.intact_lines(path, owner)
    if b"\n" in behind:  # else a record is just being written
        warnings.warn(
            f"{path}: what follows its first {len(lines)} records is damaged or of another run, "
            "and not read",
            stacklevel=2,
        )
    records = [parse_record(text) for text in lines]
    return Log(frame_of(records, range(1, len(records) + 1)), str(path), run, "record")


def _check_alike(identities: dict[Path, dict[str, Any]]) -> None:
    """Refuses runs of different networks."""
    first, *others = identities
    for other in others:
        expected, counted = identities[first]["counted"], identities[other]["counted"]
        if counted != expected:
            raise UserError(
                f"{other.parent} is of another network than {first.parent}: its metrics are over "
                f"{counted}, those of the other over {expected}; record one network in a folder"
            )


RECORDED = Kind("recorder", "runs that seedmap.Recorder wrote", _find, _read)
