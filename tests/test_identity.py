"""Ids: of what was asked and what came out, to the bit, and of nothing else."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from seedmap.identity import CHECKSUM, Mark, check_content, check_marks, identify, with_checksum

SETTINGS = {"seeds": (1, 2), "rate": 0.1, "inner": {"a": None, "b": True}}
ARRAYS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "name": np.array(["p", "q"])}
HASHED = (
    b'{"inner": {"a": null, "b": true}, "rate": 0.1, "seeds": [1, 2]}'
    b'\nname [2] ["p", "q"]'
    b"\nx [2, 3] float32 " + struct.pack("<6f", 0, 1, 2, 3, 4, 5)
)
ID = hashlib.sha256(HASHED).hexdigest()[:32]


def test_an_id_does_not_change_with_the_version():
    """Files are kept: another way to hash would make all of them strangers to each other."""
    assert identify(SETTINGS, ARRAYS) == ID


@pytest.mark.parametrize(
    ("settings", "arrays"),
    [
        (dict(reversed(SETTINGS.items())), ARRAYS),
        (SETTINGS | {"seeds": [1, 2]}, dict(reversed(ARRAYS.items()))),
        (SETTINGS | {"rate": np.float64(0.1)}, ARRAYS | {"name": np.array(["p", "q"], object)}),
        (SETTINGS, ARRAYS | {"x": ARRAYS["x"].astype(">f4")}),
        (SETTINGS, ARRAYS | {"x": np.asfortranarray(ARRAYS["x"])}),
    ],
)
def test_what_makes_no_difference(settings, arrays):
    assert identify(settings, arrays) == ID


def test_the_bits_of_a_nan_make_no_difference_but_those_of_all_else_do():
    nans = np.array([0x7FC00000, 0xFFC00000, 0x7FC00001], np.uint32).view(np.float32)
    assert len({identify({}, {"x": nan[None]}) for nan in nans}) == 1
    assert identify({}, {"x": np.zeros(1)}) != identify({}, {"x": -np.zeros(1)})


@pytest.mark.parametrize(
    ("settings", "arrays"),
    [
        (SETTINGS | {"rate": 0.1 + 2e-17}, ARRAYS),
        (SETTINGS | {"more": None}, ARRAYS),
        (SETTINGS, {}),
        (SETTINGS, {"y": ARRAYS["x"], "name": ARRAYS["name"]}),
        (SETTINGS, ARRAYS | {"x": ARRAYS["x"].reshape(3, 2)}),
        (SETTINGS, ARRAYS | {"x": ARRAYS["x"].astype(np.float64)}),
        (SETTINGS, ARRAYS | {"x": np.nextafter(ARRAYS["x"], np.float32(9))}),
        (SETTINGS, ARRAYS | {"name": np.array(["p", "r"])}),
    ],
)
def test_what_makes_a_difference(settings, arrays):
    assert identify(settings, arrays) != ID


def test_arrays_have_the_checksum_they_were_written_with_or_none():
    path, kept = Path("a.npz"), with_checksum(ARRAYS)
    checksum = kept.pop(CHECKSUM)
    check_content(path, kept, checksum, "fit again")
    changed = kept | {"x": np.nextafter(kept["x"], np.float32(9))}
    with pytest.raises(ValueError, match=r"^a\.npz was changed after it was .*, or fit again$"):
        check_content(path, changed, checksum, "fit again")
    with pytest.raises(ValueError, match=r"^a\.npz was changed"):
        check_content(path, kept | {"more": np.zeros(1)}, checksum, "fit again")
    check_content(path, changed, None, "fit again")


def test_files_with_another_id_or_none_are_named(tmp_path):
    one, other = Mark(tmp_path / "one", "1"), Mark(tmp_path / "other", "2")
    check_marks("fits", [one, one._replace(path=tmp_path / "same")], "fit again")
    for second in (other, other._replace(id=None)):
        with pytest.raises(ValueError, match=r"^\S+other and \S+one are of different fits: fit ag"):
            check_marks("fits", [one, one, second], "fit again")
