"""Times of a training, from a log that is damaged in part."""

import pytest

from seedmap import limits
from seedmap.errors import UserError
from seedmap.trainer.storage.results import _seconds

LINES = [
    b'{"compile_seconds": 1.5}',
    b"[" * 100_000,
    b'{"seconds": ' + b"9" * 5000 + b"}",
    b"\xff{",
    b"[1]",
    b'{"seconds": "2"}',
    b'{"seconds": 2.5}',
    b'{"sec',
]


def test_lines_that_are_damaged_cost_their_times_alone(tmp_path):
    assert _seconds(tmp_path) == (0.0, 0.0)
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(LINES))
    assert _seconds(tmp_path) == (1.5, 2.5)


def test_a_log_of_terabytes_is_not_read(tmp_path):
    with (tmp_path / "log.jsonl").open("wb") as file:
        file.truncate(limits.memory())
    with pytest.raises(UserError, match=r"log\.jsonl: what is read at once needs .* GB"):
        _seconds(tmp_path)
