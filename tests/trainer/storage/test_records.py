"""Records: whatever happens to the file, what is read is the longest good beginning."""

import os
import warnings

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seedmap.trainer.storage.records import (
    RecordLayout,
    Records,
    append_records,
    intact_rows,
    keep_rows,
    read_records,
)

LAYOUT = RecordLayout(("a", "b"), 3, "float32")
SIZE = LAYOUT.row.itemsize
COUNT = 6
NUMBERS = st.integers(0, COUNT - 1)


def values(number, name):
    return np.arange(3, dtype=np.float32) + 10 * number + (100 if name == "b" else 0)


def fill(path, owner="one part 0", count=COUNT):
    records = Records(path, LAYOUT, owner)
    new = [{name: values(number, name) for name in LAYOUT.names} for number in range(count)]
    append_records(records, 0, new[:2])
    append_records(records, 2, new[2:])
    return records


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The records, rows of another training in the same places, and a file to damage."""
    base = tmp_path_factory.mktemp("records")
    records = fill(base / "records.bin")
    other = fill(base / "other.bin", "another part 0")
    return records, records.path.read_bytes(), other.path.read_bytes()


def check(made, content, count):
    """Of a file with this content exactly so many records are read, and the rest is told of."""
    records = made[0]
    records.path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert intact_rows(records) == count
        read = read_records(records)
    behind = len(content) - count * SIZE
    told = f"the {behind} bytes after its first {count} records"
    assert [told in str(each.message) for each in caught] == [True] * (2 if behind else 0)
    for name in LAYOUT.names:
        assert read[name].shape == (3, count)
        for number in range(count):
            np.testing.assert_array_equal(read[name][:, number], values(number, name))


def rows(content):
    return [content[i : i + SIZE] for i in range(0, len(content), SIZE)]


def test_whole(made):
    check(made, made[1], COUNT)


@given(st.integers(0, COUNT * SIZE))
def test_cut_short(made, at):
    check(made, made[1][:at], at // SIZE)


@given(st.integers(0, 8 * COUNT * SIZE - 1))
def test_one_bit_flipped(made, at):
    content = bytearray(made[1])
    content[at // 8] ^= 1 << at % 8
    check(made, bytes(content), at // 8 // SIZE)


@given(NUMBERS, NUMBERS)
def test_two_swapped(made, one, other):
    content = rows(made[1])
    content[one], content[other] = content[other], content[one]
    check(made, b"".join(content), COUNT if one == other else min(one, other))


@given(NUMBERS, st.integers(0, COUNT))
def test_one_duplicated(made, which, at):
    """Wherever the copy lies, at its own place it is the record itself."""
    content = rows(made[1])
    content.insert(at, content[which])
    good = which + 1 if at in (which, which + 1) else at
    check(made, b"".join(content), good)


@given(NUMBERS)
def test_one_dropped(made, which):
    content = rows(made[1])
    del content[which]
    check(made, b"".join(content), which)


@given(NUMBERS, st.integers(1, COUNT))
def test_spliced_from_another_training(made, at, count):
    content, other = rows(made[1]), rows(made[2])
    content[at : at + count] = other[at : at + count]
    check(made, b"".join(content), at)


@given(st.integers(0, COUNT))
def test_two_processes_that_append_by_turns(made, at):
    """Both begin at one save point: the second's row has a number that is there already."""
    content = rows(made[1])
    turns = [row for row in content[at:] for _ in range(2)]
    check(made, b"".join(content[:at] + turns), min(at + 1, COUNT))


def test_what_is_kept_can_be_appended_to(tmp_path):
    records = fill(tmp_path / "records.bin")
    os.truncate(records.path, 4 * SIZE + 5)
    keep_rows(records, 4)
    append_records(records, 4, [{name: values(4, name) for name in LAYOUT.names}])
    assert intact_rows(records) == 5
    assert intact_rows(records._replace(path=tmp_path / "none")) == 0
