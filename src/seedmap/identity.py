"""Which files belong together: each carries the id of the training, the fit or the map it is of.

training_id = identify(settings, arrays)
check_marks("trainings", [Mark(one_path, its_id), Mark(other_path, its_id)], "train anew")
check_content(path, arrays, their_checksum, "train anew")

An id is a hash of what was asked for and of what came out, and of nothing else (no time, no
machine): equal work has equal ids everywhere, and everything else has another one. A file of arrays
has a checksum of them, too, which tells of one that was changed in place.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedmap.errors import UserError
from seedmap.results import to_json

DIGITS = 32  # of SHA-256, in hexadecimal
CHECKSUM = "checksum"
"""What a file calls that of its arrays: an attribute of NetCDF, an array of an .npz."""


class Mark(NamedTuple):
    """A file with the id it carries; None where it was written before files carried any."""

    path: Path
    id: str | None


def identify(settings: Any, arrays: Mapping[str, np.ndarray] | None = None) -> str:
    """Returns the id of settings and arrays, 32 hexadecimal digits.

    Args:
        settings: what `seedmap.results.to_json` takes; the order of a mapping does not matter.
        arrays: numbers, truth values or text by name; the bits of a NaN and the order of bytes do
            not matter, all other bits do.
    """
    digest = hashlib.sha256(json.dumps(to_json(settings), sort_keys=True).encode())
    for name, array in sorted((arrays or {}).items()):
        values = np.asarray(array)
        digest.update(f"\n{name} {list(values.shape)} ".encode())
        if values.dtype.kind in "OUS":
            digest.update(json.dumps(values.astype(str).tolist()).encode())
            continue
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), np.array(np.nan, values.dtype), values)
        digest.update(f"{values.dtype.name} ".encode())
        digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()[:DIGITS]


def check_marks(kind: str, marks: Sequence[Mark], mend: str) -> None:
    """Refuses files that do not belong together.

    Args:
        kind: what they are of: "trainings", "fits", "maps".
        marks: of all files, the one to compare the others with first.
        mend: what the reader of the message can do.

    Raises:
        UserError: two have different ids, or one has none; the message names both.
    """
    first, *others = marks
    for other in others:
        if other.id != first.id:
            raise UserError(f"{other.path} and {first.path} are of different {kind}: {mend}")


def fit_again(folder: Path) -> str:
    """Returns what mends a fit whose files cannot be used."""
    return f"fit {folder} again with overwrite"


def with_checksum(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of an .npz with that of their checksum."""
    return {**arrays, CHECKSUM: np.array(identify(None, arrays))}


def check_content(path: Path, arrays: Mapping[str, np.ndarray], checksum: Any, mend: str) -> None:
    """Refuses a file whose arrays are not those that were written.

    Args:
        path: of the file.
        arrays: all that it holds but for the checksum.
        checksum: that it carries, as text; None where it was written before files carried any.
        mend: what the reader of the message can do.

    Raises:
        UserError: they have another checksum.
    """
    if checksum is not None and identify(None, arrays) != str(checksum):
        raise UserError(f"{path} was changed after it was written: restore it, or {mend}")
